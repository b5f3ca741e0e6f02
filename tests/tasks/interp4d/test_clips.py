"""Clips whose pixels say which frame and slice they come from: what a clip claims to be is read from its images."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.physics.optical_flow import estimate
from cmrsr.tasks.interp4d.training import clips
from cmrsr.tasks.interp4d.training.clips import ClipConfig, Clips, draw_clips, draw_volumes
from cmrsr.tasks.interp4d.training.data import Stack

Array = NDArray[np.float32]
SIDE = 16
CONFIG = ClipConfig(crop=SIDE, n_frames=3, gap=(2, 5))  # whole images: nothing of a label is cut off
F32 = 2e-5


def labelled(n_t: int = 9, n_z: int = 4, *, cyclic: bool = True) -> Stack:
    """Every image has three levels: 1000, 20 t + 100 and 40 z + 600."""
    shown = np.full((n_t, n_z, SIDE, SIDE), 1000.0, np.float32)
    shown[..., : SIDE // 2] = 20 * np.arange(n_t)[:, None, None, None] + 100
    shown[:, :, : SIDE // 2, SIDE // 2 :] = 40 * np.arange(n_z)[:, None, None] + 600
    return Stack(shown=shown, cyclic=cyclic)


def label(image: Array) -> tuple[int, int]:
    """Time and slice of a labelled image, whatever its brightness and orientation."""
    dark, middle, bright = np.unique(np.round(image * (1000 / image.max())))
    assert bright == 1000
    return int(dark - 100) // 20, int(middle - 600) // 40


def times(images: Array) -> NDArray[np.int_]:
    """Of images (batch, n, y, x)."""
    return np.array([[label(image)[0] for image in row] for row in images])


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No enlarged images, true times, noise that is new in every frame."""
    monkeypatch.setattr(clips, "ZOOM", 1.0)
    monkeypatch.setattr(clips, "TIMING", 0.0)
    monkeypatch.setattr(clips, "PERSISTENCE", (1e-6, 1e-6))


def draw(stack: Stack, size: int = 60, seed: int = 0, config: ClipConfig = CONFIG) -> Clips:
    return draw_clips([stack], config, size, np.random.default_rng(seed))


def test_shapes() -> None:
    drawn = draw(labelled(), 4)
    assert drawn.known.shape == (4, 2, SIDE, SIDE)
    assert drawn.base.shape == drawn.bend.shape == drawn.target.shape == (4, 3, SIDE, SIDE)
    assert drawn.tau.shape == (4, 3)
    volumes = draw_volumes([labelled()], replace(CONFIG, crop=12, n_frames=1), 2, 3, np.random.default_rng(0))
    assert volumes.known.shape == (6, 2, 12, 12)
    assert volumes.target.shape == (6, 1, 12, 12)
    for found in (drawn, volumes):
        assert {getattr(found, name).dtype for name in clips.PARTS} == {np.dtype(np.float32)}


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("cyclic", [True, False])
def test_targets_are_the_frames_at_their_times(cyclic: bool) -> None:
    n_t = 12
    drawn = draw(labelled(n_t, cyclic=cyclic))
    steps, round_the_end = [], False
    for (a, b), found, tau in zip(times(drawn.known), times(drawn.target), drawn.tau, strict=True):
        steps.append((b - a + 6) % n_t - 6 if cyclic else b - a)  # the shorter way round
        round_the_end |= steps[-1] != b - a
        wanted = a + tau * steps[-1]
        np.testing.assert_allclose(wanted, wanted.round(), atol=1e-5)
        np.testing.assert_array_equal(wanted.round() % n_t if cyclic else wanted.round(), found)
        assert ((tau > 0) & (tau < 1)).all()
        if abs(steps[-1]) > 3:  # as many times as are asked for: each once
            assert len(set(found)) == 3
    assert {abs(step) for step in steps} == {2, 3, 4, 5}
    assert round_the_end == cyclic
    assert 0.3 < np.mean(np.array(steps) < 0) < 0.7  # time runs backwards in half of them
    assert set(times(drawn.known).ravel()) == set(range(n_t))


@pytest.mark.usefixtures("plain")
def test_of_frames_that_change_evenly_the_blend_is_the_target() -> None:
    drawn = draw(labelled(cyclic=False))
    tau = drawn.tau[..., None, None]
    blend = (1 - tau) * drawn.known[:, :1] + tau * drawn.known[:, 1:]
    np.testing.assert_allclose(blend, drawn.target, atol=F32)
    np.testing.assert_allclose(drawn.bend, 0, atol=F32)
    np.testing.assert_allclose(drawn.base, drawn.target, atol=5e-3)  # eight bits move a little


@pytest.mark.usefixtures("plain")
def test_stated_times_are_early_or_late_most_of_all_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = 0.07
    monkeypatch.setattr(clips, "TIMING", timing)
    drawn = draw(labelled(cyclic=False), 200)
    late = []
    for (a, b), found, stated in zip(times(drawn.known), times(drawn.target), drawn.tau, strict=True):
        true = (found - a) / (b - a)
        shift = (stated - true) / (4 * true * (1 - true))
        np.testing.assert_allclose(shift, shift[0], atol=1e-5)  # one heart, all of its frames
        late.append(shift[0])
        assert np.array_equal(np.argsort(stated, stable=True), np.argsort(true, stable=True))
        assert ((stated > 0) & (stated < 1)).all()
    assert np.abs(late).max() == pytest.approx(2 * timing, abs=1e-5)  # no farther
    assert np.std(late) == pytest.approx(timing, rel=0.2)
    assert abs(np.mean(late)) < 0.3 * timing
    stated = drawn.tau[..., None, None]
    blend = (1 - stated) * drawn.known[:, :1] + stated * drawn.known[:, 1:]
    np.testing.assert_allclose(drawn.base, blend, atol=5e-3)  # the estimate is for the time that is stated


class _Recorder:
    """Stands in the place of ``estimate`` and keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[Array | None, ...]] = []
        self.scales: list[float] = []

    def __call__(self, before: Array, a: Array, b: Array, after: Array, tau: Array, scale: float) -> Any:
        self.given.append((before, a, b, after))
        self.scales.append(scale)
        return estimate(before, a, b, after, tau, scale)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    recorder = _Recorder()
    monkeypatch.setattr(clips, "estimate", recorder)
    return recorder


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("cyclic", [True, False])
def test_neighbours_are_as_far_as_the_known_frames_and_never_beyond_an_open_end(
    recorder: _Recorder, cyclic: bool
) -> None:
    drawn = draw(labelled(12, cyclic=cyclic), 120)
    missing = np.zeros(2)
    for (before, a, b, after), known in zip(recorder.given, drawn.known, strict=True):
        assert a is not None
        assert b is not None
        assert (label(a), label(b)) == (label(known[0]), label(known[1]))
        start, end = label(a)[0], label(b)[0]
        for i, (found, wanted) in enumerate(((before, 2 * start - end), (after, 2 * end - start))):
            if found is None:
                missing[i] += 1
            elif cyclic:  # the step from one to the other is the shorter way or the longer
                assert (label(found)[0] - wanted) % 12 == 0
            else:
                assert label(found)[0] == wanted
        if cyclic:
            assert (before is None) == (after is None)
    share = missing / len(drawn.known)
    if cyclic:
        assert np.allclose(share, clips.ALONE, atol=0.1)
    else:
        assert (share > clips.ALONE + 0.05).all()


@pytest.mark.usefixtures("plain")
def test_slices_of_a_volume_are_neighbours_at_the_same_times() -> None:
    drawn = draw_volumes([labelled()], CONFIG, 40, 3, np.random.default_rng(0))
    directions = []
    for i in range(0, 120, 3):
        labels = [[label(image) for image in (*drawn.known[j], *drawn.target[j])] for j in range(i, i + 3)]
        slices = np.array([[z for _, z in row] for row in labels])
        assert (slices == slices[:, :1]).all()
        step = np.diff(slices[:, 0])
        assert abs(step[0]) == 1
        assert step[1] == step[0]
        directions.append(step[0])
        assert all([t for t, _ in row] == [t for t, _ in labels[0]] for row in labels)
        assert (drawn.tau[i : i + 3] == drawn.tau[i]).all()
        assert len({float(drawn.known[j].max()) for j in range(i, i + 3)}) == 1  # one gain for the volume
    assert set(directions) == {-1, 1}


def test_the_same_generator_gives_the_same_clips() -> None:
    def drawn(seed: int) -> list[Array]:
        found = draw(labelled(), 5, seed)
        return [getattr(found, name) for name in clips.PARTS]

    assert all(np.array_equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(drawn(1), drawn(2), strict=True))


def test_all_stacks_and_all_orientations_are_drawn() -> None:
    marked = np.full((6, 1, SIDE, SIDE), 100.0, np.float32)
    marked[..., 1, 4] = 1000  # one bright pixel of which all eight images under turns and flips differ
    other = np.full((6, 1, SIDE, SIDE), 1.0, np.float32)
    drawn = draw_clips(
        [Stack(shown=marked), Stack(shown=other)], replace(CONFIG, gap=(2, 2)), 150, np.random.default_rng(0)
    )
    peaks = [np.argwhere(image > 2 * image.min()) for image in drawn.known[:, 0]]
    assert 0.3 < np.mean([len(peak) == 0 for peak in peaks]) < 0.7
    found = {tuple(peak[0]) for peak in peaks if len(peak) == 1}
    assert found >= {(a, b) for a, b in [(1, 4), (1, 11), (14, 4), (14, 11), (4, 1), (11, 1), (4, 14), (11, 14)]}


@pytest.mark.usefixtures("plain")
def test_brightness_is_that_of_the_first_known_frame(recorder: _Recorder) -> None:
    fading = labelled()
    fading = replace(fading, shown=fading.shown * np.linspace(1, 0.5, 9)[:, None, None, None])
    drawn = draw(fading, 200)
    robust = np.quantile(drawn.known[:, 0, ::2, ::2], 0.995, axis=(1, 2))
    low, high = clips.BRIGHTNESS
    assert low - F32 <= robust.min() < low + 0.05
    assert high - 0.05 < robust.max() <= high + F32
    levels = 1000 * np.linspace(1, 0.5, 9)
    assert np.isclose(np.array(recorder.scales)[:, None], levels).any(1).all()  # shown white to the motion search


def noisy(n_t: int = 12) -> Stack:
    """Half black, half bright; the noise lies far from the black."""
    clean = labelled(n_t, 2).shown
    noise = np.random.default_rng(3).uniform(-30, 30, clean.shape)
    return Stack(shown=(clean + noise).astype(np.uint16), clean=clean.astype(np.uint16))


@pytest.mark.usefixtures("plain")
def test_without_noise_the_known_frames_are_the_clean_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "NOISE", (1e-12, 1e-12))
    monkeypatch.setattr(clips, "LASTING", (1e-12, 1e-12))
    stack = noisy()
    assert stack.clean is not None
    bare = Stack(shown=stack.clean)
    for name in clips.PARTS:
        found, wanted = getattr(draw(stack), name), getattr(draw(bare), name)
        np.testing.assert_allclose(found, wanted, atol=F32)


@pytest.mark.usefixtures("plain")
def test_targets_have_no_noise_where_the_clean_image_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "NOISE", (1.0, 1.0))
    monkeypatch.setattr(clips, "LASTING", (1e-12, 1e-12))
    drawn = draw(noisy())
    for known, target in zip(drawn.known, drawn.target, strict=True):
        assert all(len(np.unique(image.round(4))) == 3 for image in target)  # three levels: the label
        assert all(len(np.unique(image.round(4))) > 100 for image in known)
    shown = draw(Stack(shown=noisy().shown))  # without a clean image the frames are taken as they are
    assert len(np.unique(shown.target[0, 0].round(4))) > 100


@pytest.mark.usefixtures("plain")
def test_noise_factors_cover_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "LASTING", (1e-12, 1e-12))
    drawn = draw(noisy(), 150)
    spread = []
    for known in drawn.known[:, 0]:
        levels = known * (1000 / np.median(known[known > 0.8 * known.max()]))
        bright = levels[levels > 900]
        spread.append(bright.std() / (60 / np.sqrt(12)))
    low, high = clips.NOISE
    assert min(spread) < 2 * low
    assert 0.8 * high < max(spread) < 1.3 * high
    assert np.median(spread) == pytest.approx(np.sqrt(low * high), rel=0.5)  # log-uniform


@pytest.mark.usefixtures("plain")
def test_lasting_noise_is_the_same_in_all_frames_of_half_of_the_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "NOISE", (1e-12, 1e-12))
    monkeypatch.setattr(clips, "LASTING", (1.0, 1.0))
    drawn = draw(noisy(), 80)
    lasting = 0
    for known, target in zip(drawn.known, drawn.target, strict=True):
        static = np.stack([*known, *target])
        static = static[:, static[0] > 0.85 * static[0].max()]  # where the label is 1000 at all times
        np.testing.assert_allclose(static, static[:1].repeat(len(static), 0), atol=F32)
        lasting += static[0].std() > 1e-3
    assert 0.3 < lasting / 80 < 0.7


@pytest.mark.usefixtures("plain")
def test_noise_of_the_known_frames_fades_into_half_of_the_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linearly with the distance in time, to nothing at a share of the gap."""
    monkeypatch.setattr(clips, "NOISE", (1.0, 1.0))
    monkeypatch.setattr(clips, "LASTING", (1e-12, 1e-12))
    monkeypatch.setattr(clips, "PERSISTENCE", (0.6, 0.6))
    drawn = draw(noisy(), 60)
    fading = []
    for known, target, tau in zip(drawn.known, drawn.target, drawn.tau, strict=True):
        still = known[0] > 0.85 * known[0].max()  # where the label is 1000 at all times
        inputs = np.stack([known[0][still], known[1][still], np.ones(still.sum())], 1)
        weights, *_ = np.linalg.lstsq(inputs, target[:, still].T.astype(float), rcond=None)
        wanted = np.maximum(0, 1 - np.stack([tau, 1 - tau]) / 0.6)
        fading.append(bool(np.abs(weights[:2]).max() > 0.01))
        np.testing.assert_allclose(weights[:2], wanted * fading[-1], atol=1e-3)
    assert 0.3 < np.mean(fading) < 0.7


def test_half_of_the_clips_are_enlarged() -> None:
    """An exponential ramp has the same relative slope everywhere, and less of it the more it is enlarged."""
    slope = 0.05
    ramp = np.exp(slope * np.arange(48)) * np.ones((6, 1, 48, 1))
    drawn = draw(Stack(shown=ramp.astype(np.float32)), 200, config=replace(CONFIG, crop=16, gap=(2, 2)))
    assert drawn.known.shape[2:] == (16, 16)
    found = []
    for image in drawn.known[:, 0]:
        along = [np.abs(np.log(image).mean(axis)[[0, -1]] @ [-1, 1]) / 15 for axis in (0, 1)]
        found.append(max(along) / slope)
    zoom = 1 / np.array(found)
    assert zoom.min() > 0.98
    assert clips.ZOOM - 0.1 < zoom.max() < clips.ZOOM + 0.02
    assert 0.35 < np.mean(np.abs(zoom - 1) < 0.01) < 0.65


def test_nothing_is_negative_and_blank_frames_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "ALONE", 1.0)
    dark = np.maximum(np.random.default_rng(0).normal(20, 30, (6, 1, 24, 24)), 0)  # noise takes some below zero
    drawn = draw(Stack(shown=dark.astype(np.uint16), clean=np.full((6, 1, 24, 24), 20, np.uint16)), 40)
    assert min(drawn.known.min(), drawn.target.min()) == 0
    shown = np.zeros((3, 1, 24, 24), np.float32)
    shown[1] = 500
    assert np.isfinite(draw(Stack(shown=shown), 20, config=replace(CONFIG, gap=(2, 2))).base).all()
