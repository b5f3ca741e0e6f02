"""Temporal super-resolution of a series in memory: the numbers against numpy, and what may not change the bits."""

import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim
from cmrsr.diffusion.noise import keyed_noise
from cmrsr.diffusion.schedule import Schedule
from cmrsr.errors import CmrsrWarning, EngineError
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.physics.optical_flow import curvature, estimate
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.tasks.interp4d import run as interp4d
from cmrsr.tasks.interp4d.expected_error import expected_error
from cmrsr.tasks.interp4d.plan import InterpOptions, InterpPlan, plan_interp
from cmrsr.tasks.interp4d.run import Engines, InterpFrame, interpolate, n_evaluations, run_interp
from tests.cine import (
    BEND_SHARE,
    PULL,
    RESIDUAL_STD,
    STRIDE,
    beating_frames,
    cine_series,
    interp_engine,
    write_interp_engine,
)
from tests.conftest import oblique_affine

__all__ = ["cine_series", "interp_engine"]

Array = NDArray[np.float32]
HUMP = 8 / 9  # 4 tau (1 - tau) at thirds: how much of a residual is added there, see cmrsr.diffusion.residual
F32 = 2e-5  # of the largest value: float32 sums of a few products


@pytest.fixture(scope="module")
def bundle(interp_engine: Path) -> Bundle:
    return load(str(interp_engine), "interp4d")


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> Iterator[Engines]:
    """Of one thread, compiled once for all tests."""
    with closing(Engines(bundle, DeviceChoice(precision="f32", threads=1))) as engines:
        yield engines


def series_of(frames: Array, times: Any = None) -> Series:
    return Series.from_array(frames, affine=oblique_affine(), times_ms=times, kind="cine")


def run(series: Series, engines: Engines, **options: Any) -> tuple[InterpPlan, list[InterpFrame]]:
    chosen = InterpOptions(**{"factor": 2} | options if "frames" not in options else options)
    plan = plan_interp(series, survey(series), engines.bundle, chosen)
    return plan, list(run_interp(series, plan, engines, chosen))


def outputs(series: Series, engines: Engines, **options: Any) -> Array:
    return np.stack([frame.output for frame in run(series, engines, **options)[1]])


def close(found: Array, wanted: Array, tolerance: float = F32) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * float(np.abs(wanted).max()))


def stage_one(plan: InterpPlan, series: Series, first: int, z: int, tau: tuple[float, ...]) -> tuple[Array, Array]:
    """Estimate and its curvature part of one slice of an interval, (n, y, x), in units of the scale."""
    interval = next(i for i in plan.intervals if i.first == first)
    around = [
        None if i is None else series.frame(i)[z] / np.float32(plan.scale) for i in plan.neighbours(interval)
    ]  # fmt: skip
    before, a, b, after = around
    assert a is not None
    assert b is not None
    guess, bend = estimate(before, a, b, after, tau, 1.0, plan.gaps(interval))
    np.testing.assert_array_equal(bend, curvature(before, a, b, after, tau, plan.gaps(interval)))
    return guess, bend


# ---- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 32), (41, 35)], ids=["whole strides", "padded"])
@pytest.mark.parametrize("cyclic", [True, False])
def test_one_step_is_the_estimate_plus_what_both_networks_say(
    engines: Engines, shape: tuple[int, int], cyclic: bool
) -> None:
    """The tiny stage 1 adds a share of the bend, stage 2 pulls towards the mean of both known frames."""
    series = series_of(beating_frames(5, 3, *shape), np.array([0.0, 100, 220, 300, 400]))
    plan, frames = run(series, engines, factor=3, cyclic=cyclic)
    assert plan.padded[0] % STRIDE == 0
    tau = (1 / 3, 2 / 3)
    for first in range(5 if cyclic else 4):
        mean = (series.frame(first) + series.frame((first + 1) % 5)) / 2
        for z in range(3):
            guess, bend = stage_one(plan, series, first, z, tau)
            for i in range(2):
                frame = frames[3 * first + 1 + i]
                wanted = (1 - PULL) * (guess[i] + HUMP * BEND_SHARE * bend[i]) * plan.scale + PULL * mean[z]
                close(frame.output[z], np.maximum(wanted, 0))
                assert frame.guess is not None
                close(frame.guess[z], np.maximum(guess[i] * plan.scale, 0))
                assert frame.sources == (first, (first + 1) % 5)
                assert frame.tau == pytest.approx(tau[i])
                assert frame.std is None


def test_steps_and_samples_are_ddim_from_keyed_noise(engines: Engines) -> None:
    """Mean and calibrated standard deviation of three five-step samples, against the sampler in numpy."""
    series = series_of(beating_frames(4, 2, 24, 20))
    plan, frames = run(series, engines, factor=3, steps=5, samples=3, seed=11, consistency=False)
    for at, first, i in ((1, 0, 0), (2, 0, 1), (7, 2, 0), (11, 3, 1)):
        for z in range(2):
            guess, bend = (part[i] for part in stage_one(plan, series, first, z, (1 / 3, 2 / 3)))

            def denoise(x_t: NDArray[Any], condition: float, bend: Array = bend) -> NDArray[Any]:
                return (1 - condition) * x_t - bend * (BEND_SHARE / RESIDUAL_STD)

            # the noise is that of the frame of the result
            noises = [keyed_noise(11, plan.digest, at, z, k, plan.padded)[:24, :20] for k in range(3)]
            images = [guess + HUMP * RESIDUAL_STD * ddim(denoise, noise, Schedule(), 5) for noise in noises]
            close(frames[at].output[z], np.maximum(np.mean(images, 0) * plan.scale, 0), 1e-4)
            std = frames[at].std
            assert std is not None
            close(std[z], np.std(images, 0, ddof=1) * plan.scale * 1.5, 1e-3)  # 1.5: the bundle's calibration


def test_what_the_networks_are_given(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny graphs do not look at everything, so here is what reaches them, in units of the scale."""
    given: dict[str, list[tuple[Array, ...]]] = {"step": [], "volume": []}

    step, volume = Engines.step, Engines.volume

    class SpiedStep:
        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def start(self, x_t: Array, fixed: dict[str, Array], coefficients: list[Array], *rest: Any) -> Any:
            given["step"].append((x_t, *fixed.values(), *coefficients))
            return self._engine.start(x_t, fixed, coefficients, *rest)

    def spied_volume(self: Engines, shape: tuple[int, int, int]) -> Any:
        return lambda *inputs: given["volume"].append(inputs) or volume(self, shape)(*inputs)

    monkeypatch.setattr(Engines, "step", lambda self, *sizes: SpiedStep(step(self, *sizes)))
    monkeypatch.setattr(Engines, "volume", spied_volume)
    series = series_of(beating_frames(4, 3, 21, 24))
    plan, _ = run(series, engines, factor=3, batch_size=2, seed=5, cyclic=False)
    noise, known, base, bend, tau, coefficients = given["step"][
        1
    ]  # of the first interval slice 2, which fills the batch
    assert noise.shape == base.shape == bend.shape == (2, 2, 24, 24)
    assert known.shape == (2, 2, 24, 24)
    guess, curved = stage_one(plan, series, 0, 2, (1 / 3, 2 / 3))
    ends = [series.frame(t)[2] / plan.scale for t in (0, 1)]
    for row in range(2):
        for found, wanted in ((known, ends), (base, guess), (bend, curved)):
            np.testing.assert_allclose(found[row, :, :21], wanted, atol=1e-6)
            np.testing.assert_array_equal(found[:, :, 21:], found[:, :, 20:17:-1])  # by reflection to the stride
        for i in range(2):
            np.testing.assert_array_equal(noise[row, i], keyed_noise(5, plan.digest, 1 + i, 2, 0, (24, 24)))
        np.testing.assert_allclose(tau[row], [1 / 3, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(coefficients, [1, 0, -1, 1, 0], atol=1e-6)  # one step: x0 = -f
    assert len(given["step"]) == 3 * 2
    assert len(given["volume"]) == 3 * 2
    (shown,) = given["volume"][0]
    assert shown.shape == (1, 3, 3, 24, 24)
    np.testing.assert_allclose(shown[0, 0, 2, :21], guess[0] + HUMP * BEND_SHARE * curved[0], atol=1e-5)
    np.testing.assert_allclose(shown[0, 1:, 2, :21], ends, atol=1e-6)


@pytest.mark.parametrize("options", [{"factor": 4}, {"frames": 9}, {"factor": 2, "cyclic": False}, {"frames": 4}])
def test_acquired_frames_pass_as_they_are(engines: Engines, options: dict[str, Any]) -> None:
    frames = beating_frames(6, 3, 24, 20) * np.float32(np.pi)
    plan, found = run(series_of(frames, np.arange(6) * 140.0), engines, **options)
    assert len(found) == plan.n_frames
    acquired = 0
    for position, frame in zip(plan.position, found, strict=True):
        if position == round(position):
            acquired += 1
            assert frame.acquired
            assert frame.sources == (round(position),)
            assert (frame.tau, frame.guess) == (0.0, None)
            np.testing.assert_array_equal(frame.output, frames[round(position)])
        else:
            assert not frame.acquired
            assert frame.sources[0] + frame.tau == pytest.approx(position)
    assert acquired == plan.n_frames - plan.n_new > 0


def test_an_engine_says_how_much_of_the_residual_is_added(bundle: Bundle, engines: Engines, tmp_path: Path) -> None:
    diffusion = bundle.manifest.diffusion.model_dump() | {"residual_weight": 0.25}
    quarter = load(str(write_interp_engine(tmp_path / "x", diffusion=diffusion)))
    series = series_of(beating_frames(4, 3, 24, 20))
    _, whole = run(series, engines, factor=3, consistency=False)
    with closing(Engines(quarter, DeviceChoice(precision="f32", threads=1))) as other:
        _, less = run(series, other, factor=3, consistency=False)
    for a, b in zip(whole, less, strict=True):
        if a.guess is not None:
            above = (a.guess > 0) & (a.output > 0)
            close((b.output - a.guess)[above], 0.25 * (a.output - a.guess)[above], 1e-3)
            assert np.abs(a.output - a.guess).max() > 1


def test_uncertainty_is_zero_where_a_frame_was_acquired(engines: Engines) -> None:
    _, frames = run(series_of(beating_frames(4, 1, 24, 20)), engines, steps=5, samples=2, consistency=False)
    for frame in frames:
        assert frame.std is not None
        assert frame.std.shape == frame.output.shape
        assert frame.std.any() != frame.acquired
        assert (frame.std >= 0).all()


def test_the_expected_error_follows_the_change_between_the_known_frames(engines: Engines) -> None:
    series = series_of(beating_frames(4, 1, 24, 20))
    plan, frames = run(series, engines, factor=3)
    calibration = engines.bundle.manifest.expected_error
    assert calibration is not None
    for frame in frames:
        assert frame.expected is not None
        if frame.acquired:
            assert not frame.expected.any()
        else:
            known = np.stack([series.frame(i) for i in frame.sources], 1) / np.float32(plan.scale)
            wanted = expected_error(known, (frame.tau,), calibration)[0] * plan.scale
            close(frame.expected, wanted)


def test_an_engine_without_calibration_expects_nothing(tmp_path: Path) -> None:
    bare = load(str(write_interp_engine(tmp_path / "x", expected_error=None)))
    with closing(Engines(bare, DeviceChoice(threads=1))) as engines:
        _, frames = run(series_of(beating_frames(4, 1, 24, 20)), engines)
    assert [frame.expected for frame in frames] == [None] * 8
    assert [frame.std for frame in frames] == [None] * 8


def test_samples_of_one_step_are_equal_and_warn(engines: Engines) -> None:
    series = series_of(beating_frames(3, 3, 24, 20))
    with pytest.warns(CmrsrWarning, match="use --steps 5"):
        _, frames = run(series, engines, samples=3)
    for frame, single in zip(frames, run(series, engines)[1], strict=True):
        assert frame.std is not None
        assert not frame.std.any()
        np.testing.assert_array_equal(frame.output, single.output)


def test_the_intensity_scale_is_kept_and_nothing_is_negative(engines: Engines) -> None:
    frames = beating_frames(5, 3, 24, 20)
    close(outputs(series_of(7 * frames), engines), 7 * outputs(series_of(frames), engines))
    dark = np.maximum(frames - 300, 0)  # black but for the beating pool, where a cubic falls below zero
    found = run(series_of(dark), engines)[1]
    assert min(frame.output.min() for frame in found) == 0
    assert min(frame.guess.min() for frame in found if frame.guess is not None) == 0
    assert outputs(series_of(frames - 300), engines).min() < -100  # signed images stay signed


# ---- what follows from what is asked for -----------------------------------------------------------------------------


def test_a_series_backwards_gives_the_result_backwards(engines: Engines) -> None:
    frames = beating_frames(5, 3, 24, 20)
    there = outputs(series_of(frames), engines, factor=3, cyclic=False)
    back = outputs(series_of(frames[::-1]), engines, factor=3, cyclic=False)
    close(back[::-1], there, 1e-3)  # coordinates are rounded to 32nds of a pixel


def test_where_a_beat_begins_makes_no_difference(engines: Engines) -> None:
    frames = beating_frames(5, 3, 24, 20)
    rolled = outputs(series_of(np.roll(frames, -2, 0)), engines, factor=2)
    close(rolled, np.roll(outputs(series_of(frames), engines, factor=2), -4, 0))


HALVES = 0.006  # of the largest value: frames half-way between frames that were themselves interpolated


def test_twice_of_three_times_is_six_times(engines: Engines) -> None:
    """Common times at which both interpolate the acquired frames agree; those between are guessed from guesses."""
    frames = beating_frames(8, 3, 32, 32)
    thirds = outputs(series_of(frames), engines, factor=3)
    sixths = outputs(series_of(frames), engines, factor=6)
    twice = outputs(series_of(thirds), engines, factor=2)
    assert len(twice) == len(sixths) == 48
    close(twice[::2], sixths[::2], 1e-5)
    close(twice[1::2], sixths[1::2], HALVES)
    closer = np.abs(twice[1::2] - sixths[1::2]).mean() / np.abs(np.diff(sixths[::2], axis=0)).mean()
    assert closer < 0.05


def test_the_beating_heart_is_met_better_than_by_the_blend(engines: Engines) -> None:
    truth = beating_frames(16, 3, 48, 48)
    found = outputs(series_of(truth[::2]), engines, factor=2)
    blend = (truth[::2] + np.roll(truth[::2], -1, 0)) / 2
    errors = [np.square(x - truth[1::2]).mean() for x in (found[1::2], blend)]
    assert errors[0] < 0.25 * errors[1]


def test_two_frames(engines: Engines) -> None:
    """End-diastole and end-systole: there and back, or there alone."""
    ends = beating_frames(6, 3, 24, 20)[[0, 3]]
    _, frames = run(series_of(ends), engines, factor=3)
    assert [f.sources for f in frames] == [(0,), (0, 1), (0, 1), (1,), (1, 0), (1, 0)]
    close(frames[4].output, frames[2].output, 2e-3)  # the way back is the same
    close(frames[5].output, frames[1].output, 2e-3)
    _, open_frames = run(series_of(ends), engines, factor=3, cyclic=False)
    assert [f.sources for f in open_frames] == [(0,), (0, 1), (0, 1), (1,)]
    for a, b in zip(open_frames, frames[:4], strict=True):
        np.testing.assert_array_equal(a.output, b.output)


@pytest.mark.parametrize("n_z", [1, 2])
def test_few_slices_skip_stage_two(engines: Engines, n_z: int) -> None:
    frames = beating_frames(4, n_z, 24, 20)
    plan, found = run(series_of(frames), engines)
    assert "consistency across slices" in plan.notes[0]
    _, without = run(series_of(frames), engines, consistency=False)
    for a, b in zip(found, without, strict=True):
        np.testing.assert_array_equal(a.output, b.output)


def test_stage_two_can_be_left_out(engines: Engines) -> None:
    frames = beating_frames(4, 3, 24, 20)
    corrected, free = (outputs(series_of(frames), engines, consistency=c) for c in (True, False))
    pulled = (1 - PULL) * free[1::2] + PULL * (frames + np.roll(frames, -1, 0)) / 2
    close(corrected[1::2], pulled)
    assert np.abs(corrected - free).max() > 0.3


# ---- what may not change the bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_do_not_change_the_bits(engines: Engines, batch_size: int) -> None:
    series = series_of(beating_frames(3, 4, 24, 20))
    options: dict[str, Any] = {"factor": 3, "steps": 5, "samples": 2}
    for a, b in zip(
        run(series, engines, **options)[1], run(series, engines, batch_size=batch_size, **options)[1], strict=True
    ):
        np.testing.assert_array_equal(a.output, b.output)
        np.testing.assert_array_equal(a.std, b.std)


def test_threads_do_not_change_the_bits(engines: Engines, bundle: Bundle) -> None:
    series = series_of(beating_frames(4, 3, 40, 36))
    with closing(Engines(bundle, DeviceChoice(precision="f32", threads=4))) as four:
        np.testing.assert_array_equal(outputs(series, four, steps=5), outputs(series, engines, steps=5))


def test_backends_agree(engines: Engines, bundle: Bundle) -> None:
    series = series_of(beating_frames(4, 3, 40, 36))
    with closing(Engines(bundle, DeviceChoice(backend="onnxruntime"))) as other:
        close(outputs(series, other, steps=3), outputs(series, engines, steps=3))


def test_the_seed_matters_to_samples_not_to_the_mean_of_one_step(engines: Engines) -> None:
    series = series_of(beating_frames(3, 1, 24, 20))
    one, other = (outputs(series, engines, seed=s, consistency=False) for s in (0, 1))
    np.testing.assert_array_equal(one, other)
    one, again, other = (outputs(series, engines, seed=s, steps=5, consistency=False) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one[1::2] != other[1::2]).mean() > 0.5
    np.testing.assert_array_equal(one[::2], other[::2])


def test_tiles_are_the_whole(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny stage 2 looks at single pixels, so any way to cut the volume gives the same."""
    large = series_of(beating_frames(2, 3, 139, 150))
    assert large.shape[2] > interp4d.TILE
    tiled = run(large, engines)[1][1].output
    monkeypatch.setattr(interp4d, "TILE", 256)
    close(tiled, run(large, engines)[1][1].output)
    small = series_of(beating_frames(2, 3, 41, 36))
    whole = run(small, engines)[1][1].output
    for tile, overlap in ((16, 8), (24, 4), (40, 32)):
        monkeypatch.setattr(interp4d, "TILE", tile)
        monkeypatch.setattr(interp4d, "OVERLAP", overlap)
        close(run(small, engines)[1][1].output, whole)


def test_tiles_of_stage_two_have_one_size(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the graph is compiled once, however large the matrix, and for a multiple of its stride."""
    monkeypatch.setattr(interp4d, "TILE", 32)
    monkeypatch.setattr(interp4d, "OVERLAP", 8)
    asked: list[tuple[int, int, int]] = []
    volume = Engines.volume

    def spy(self: Engines, shape: tuple[int, int, int]) -> Any:
        asked.append(shape)
        return volume(self, shape)

    monkeypatch.setattr(Engines, "volume", spy)
    with closing(Engines(bundle, DeviceChoice(threads=1))) as engines:
        run(series_of(beating_frames(2, 3, 70, 21)), engines)
    assert set(asked) == {(3, 32, 24)}


# ---- memory and progress ---------------------------------------------------------------------------------------------


class _Frames:
    """A reader that knows which of the frames it gave are still held by someone."""

    def __init__(self, frames: Array) -> None:
        self.frames, self.living, self.most = frames, 0, 0
        self.reads: list[int] = []

    def __call__(self, t: int) -> Array:
        frame = self.frames[t].copy()
        self.reads.append(t)
        self.living += 1
        self.most = max(self.most, self.living)
        weakref.finalize(frame, self._gone)
        return frame

    def _gone(self) -> None:
        self.living -= 1


@pytest.mark.parametrize("cyclic", [True, False])
def test_few_frames_are_held_at_a_time(engines: Engines, cyclic: bool) -> None:
    frames = beating_frames(14, 1, 16, 16)
    reader = _Frames(frames)
    series = replace(series_of(frames), reader=reader)
    options = InterpOptions(factor=2, cyclic=cyclic, consistency=False)
    plan = plan_interp(series, survey(series), engines.bundle, options)
    assert reader.most <= 4  # of the survey and of the plan
    reader.most, reader.reads = 0, []
    for frame in run_interp(series, plan, engines, options):
        assert frame.output.shape == (1, 16, 16)
    del frame
    assert reader.most <= 5  # four around an interval, one that is being replaced
    assert len(reader.reads) <= 14 + (4 if cyclic else 0)  # the ends of a beat are read again
    assert reader.living == 0


def test_frames_come_as_they_are_ready(engines: Engines) -> None:
    """The first interval is computed when it is asked for, not the whole series."""
    frames = beating_frames(9, 1, 16, 16)
    reader = _Frames(frames)
    series = replace(series_of(frames), reader=reader)
    options = InterpOptions(factor=2, consistency=False)
    plan = plan_interp(series, survey(series), engines.bundle, options)
    reader.reads = []
    result = run_interp(series, plan, engines, options)
    next(result)
    next(result)
    assert sorted(reader.reads) == [0, 1, 2, 8]
    result.close()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_progress_adds_up(engines: Engines, batch_size: int) -> None:
    series = series_of(beating_frames(4, 3, 16, 16))
    told: list[int] = []
    options = InterpOptions(frames=9, steps=2, samples=2, batch_size=batch_size)
    plan = plan_interp(series, survey(series), engines.bundle, options)
    for _ in run_interp(series, plan, engines, options, on_evaluation=told.append):
        pass
    assert sum(told) == n_evaluations(series, plan, options) == plan.n_new * 3 * 2 * 2
    assert min(told) > 0


# ---- the engines -----------------------------------------------------------------------------------------------------


def test_a_graph_is_compiled_once_for_a_shape(bundle: Bundle) -> None:
    with closing(Engines(bundle, DeviceChoice(threads=1, precision="f32"))) as engines:
        assert engines.description == {}
        assert engines.step(2, 3, (16, 24)) is engines.step(2, 3, (16, 24))
        assert engines.step(2, 1, (16, 24)) is not engines.step(2, 3, (16, 24))
        assert engines.volume((3, 16, 24)) is engines.volume((3, 16, 24))
        assert engines.description == {"backend": "openvino", "device": "cpu", "precision": "f32"}
    assert engines.description == {}


# ---- the call from Python --------------------------------------------------------------------------------------------


def test_interpolate_returns_a_series(cine_series: Series, interp_engine: Path, engines: Engines) -> None:
    choice = DeviceChoice(precision="f32", threads=1)
    found, std = interpolate(cine_series, engine=str(interp_engine), choice=choice)
    assert found.shape == (12, 3, 40, 36)
    assert std is None
    np.testing.assert_allclose(found.times_ms, np.arange(12) * 75)
    np.testing.assert_array_equal(found.affine, cine_series.affine)
    np.testing.assert_array_equal(found.array(), outputs(cine_series, engines))
    options = InterpOptions(frames=4, steps=2, samples=2)
    sampled, std = interpolate(cine_series, engine=str(interp_engine), options=options, choice=choice)
    assert std is not None
    assert std.shape == sampled.shape == (4, 3, 40, 36)
    assert [bool(s.any()) for s in std] == [False, True, False, True]


def test_interpolate_warns_of_what_the_plan_notes(interp_engine: Path) -> None:
    with pytest.warns(CmrsrWarning, match=r"1 slice\(s\): consistency across slices"):
        interpolate(series_of(beating_frames(4, 1, 16, 16)), engine=str(interp_engine))
    with pytest.raises(EngineError, match="no engine 'tssc-xl'"):
        interpolate(series_of(beating_frames(4, 3, 16, 16)), engine="tssc-xl")


@pytest.mark.parametrize("shape", [(8, 8), (9, 40), (15, 9)])
def test_small_images(engines: Engines, shape: tuple[int, int]) -> None:
    found = outputs(series_of(beating_frames(3, 3, *shape)), engines)
    assert found.shape == (6, 3, *shape)
    assert np.isfinite(found).all()
