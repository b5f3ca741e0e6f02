"""Frames are hidden from every method, restored and scored as the protocol's words say."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.series import Series
from cmrsr.physics.optical_flow import linear_blend
from cmrsr.runtime.bundle import load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.interp4d.evaluation import protocol as interp_protocol
from cmrsr.tasks.interp4d.evaluation.methods import (
    ESTIMATE,
    LINEAR,
    NEAREST,
    WARP,
    Restored,
    parse_interp_settings,
    plan_split,
)
from cmrsr.tasks.interp4d.evaluation.protocol import Case, Protocol, SeriesResult, evaluate_case
from cmrsr.tasks.interp4d.evaluation.published import PADDED_PSNR, STANDARDS
from cmrsr.tasks.interp4d.evaluation.score import CLEAN_PSNR, GRADIENT, HEART_PSNR, PSNR, SSIM
from cmrsr.tasks.interp4d.evaluation.split import every
from cmrsr.tasks.interp4d.plan import InterpOptions
from cmrsr.tasks.interp4d.run import Engines, interpolate
from tests.cine import beating_frames, interp_engine
from tests.conftest import oblique_affine

__all__ = ["interp_engine"]

OURS, STAGE_1 = "ours, 1 step", "without stage 2, 1 step"
METHODS = [NEAREST, LINEAR, WARP, ESTIMATE, STAGE_1, OURS]
ROUNDING = 1e-3  # dB: float32 images
CHOICE = DeviceChoice(precision="f32", threads=1)


def case_of(frames: NDArray[Any], **more: Any) -> Case:
    times = np.arange(len(frames)) * 50.0
    series = Series.from_array(frames, affine=oblique_affine(), times_ms=times, kind="cine")
    return Case(name="p1", patient="p1", series=series, **more)


@pytest.fixture
def engines(interp_engine: Path) -> Iterator[Engines]:
    made = Engines(load(str(interp_engine), "interp4d"), CHOICE)
    yield made
    made.close()


def evaluate(case: Case, engines: Engines, settings: str = "1x1", **protocol: Any) -> SeriesResult:
    return evaluate_case(case, Protocol(**protocol), parse_interp_settings(settings), engines)


def decibel(result: NDArray[Any], truth: NDArray[Any], peak: float) -> float:
    return float(20 * np.log10(peak) - 10 * np.log10(np.mean((result.astype(np.float64) - truth) ** 2)))


def test_blends_are_scored_against_the_hidden_frames(engines: Engines) -> None:
    frames = beating_frames(8)
    result = evaluate(case_of(frames), engines)
    assert list(result.metrics) == METHODS
    assert result.frames == [1, 2, 3, 5, 6, 7]
    assert_allclose(result.tau, [0.25, 0.5, 0.75] * 2)
    taus = [0.25, 0.5, 0.75]
    blends = [*linear_blend(frames[0], frames[4], taus), *linear_blend(frames[4], frames[0], taus)]
    expected = [decibel(blend, frames[t], frames.max()) for blend, t in zip(blends, result.frames, strict=True)]
    assert_allclose(result.metrics[LINEAR][PSNR], expected, atol=ROUNDING)
    nearest = [
        decibel(frames[k], frames[t], frames.max()) for k, t in zip([0, 0, 4, 4, 4, 0], result.frames, strict=True)
    ]
    assert_allclose(result.metrics[NEAREST][PSNR], nearest, atol=ROUNDING)
    assert list(result.metrics[OURS]) == [PSNR, SSIM, GRADIENT]


def test_ours_is_what_the_command_makes_of_the_known_frames(engines: Engines, interp_engine: Path) -> None:
    frames = beating_frames(12)
    result = evaluate(case_of(frames), engines)
    for method, consistency in ((OURS, True), (STAGE_1, False)):
        made, _ = interpolate(
            case_of(frames[::4]).series, engine=str(interp_engine), choice=CHOICE,
            options=InterpOptions(factor=4, consistency=consistency),
        )  # fmt: skip
        expected = [decibel(made.frame(t), frames[t], frames.max()) for t in result.frames]
        assert_allclose(result.metrics[method][PSNR], expected, atol=ROUNDING)
    assert not np.allclose(result.metrics[OURS][PSNR], result.metrics[STAGE_1][PSNR], atol=ROUNDING)


@pytest.mark.parametrize("protocol", [{}, {"name": "ed-es", "es": 6}, {"name": "uvi", "es": 6}])
def test_hidden_frames_never_reach_a_method(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, protocol: dict[str, Any]
) -> None:
    seen: list[dict[str, NDArray[Any]]] = []
    real = interp_protocol.restorations

    def spied(*arguments: Any) -> Iterator[tuple[str, Iterator[Restored]]]:
        seen.append({})
        for name, restored in real(*arguments):
            held = list(restored)
            seen[-1][name] = np.stack([one.volume for one in held])
            yield name, iter(held)

    monkeypatch.setattr(interp_protocol, "restorations", spied)
    frames = beating_frames(8)
    changed = frames.copy()
    changed[[1, 2, 3]] += np.random.default_rng(0).uniform(0, 300, frames[1:4].shape).astype(np.float32)
    results = [evaluate(case_of(some), engines, **protocol) for some in (frames, changed)]
    assert list(seen[0]) == METHODS
    for name in METHODS:
        assert_array_equal(seen[0][name], seen[1][name], err_msg=name)
    assert results[0].metrics[LINEAR][PSNR][0] > results[1].metrics[LINEAR][PSNR][0] + 1


def test_uneven_times_place_the_hidden_frames(engines: Engines) -> None:
    frames = beating_frames(6)
    case = case_of(frames)
    case = replace(case, series=replace(case.series, times_ms=np.array([0.0, 10, 40, 50, 60, 70])))
    result = evaluate(case, engines, keep=2, cyclic=False)
    assert_allclose(result.tau, [0.25, 0.5])
    expected = decibel(linear_blend(frames[0], frames[2], [0.25])[0], frames[1], frames.max())
    assert_allclose(result.metrics[LINEAR][PSNR][0], expected, atol=ROUNDING)
    assert any("the last 1 frames lie beyond" in note for note in result.notes)


def test_repeated_frames_are_not_scored(engines: Engines) -> None:
    frames = beating_frames(8)
    frames[1] = frames[0]
    result = evaluate(case_of(frames), engines)
    assert result.frames == [2, 3, 5, 6, 7]
    assert len(result.tau) == len(result.metrics[OURS][SSIM]) == 5
    assert result.notes[-1].endswith("were not scored: 2")
    frames[:] = frames[:1]
    with pytest.raises(UnusableError, match="every hidden frame is the same"):
        evaluate(case_of(frames), engines)


@pytest.mark.parametrize(
    ("phases", "es", "known", "words"),
    [
        ((1, 4), None, (1, 4), "as the scan says"),
        ((1, 4), 6, (1, 5), "as asked for"),
        (None, None, (0, 4), "differs most"),
        ((6, 2), None, (6, 2), "as the scan says"),
    ],
)
def test_end_diastole_and_end_systole(
    engines: Engines, phases: tuple[int, int] | None, es: int | None, known: tuple[int, int], words: str
) -> None:
    result = evaluate(case_of(beating_frames(8), phases=phases), engines, name="ed-es", es=es)
    assert result.split.known == known
    assert words in result.notes[0]
    assert (np.array(result.frames) - known[0]).tolist()[0] == 1


def test_the_uvi_protocol_scores_the_middle_with_and_without_zeros(engines: Engines) -> None:
    frames = beating_frames(6, 3, 140, 132)
    result = evaluate(case_of(frames, phases=(0, 3)), engines, name="uvi")
    standard = STANDARDS["uvi"]
    assert list(result.metrics[OURS]) == [PADDED_PSNR, PSNR, SSIM, GRADIENT]
    assert result.primary == PADDED_PSNR
    scaled = standard.apply(case_of(frames).series)
    first, truth, last = (scaled.frame(t) for t in (0, 1, 3))
    expected = decibel((2 * first + last) / 3, truth, 1.0)
    assert_allclose(result.metrics[LINEAR][PSNR][0], expected, atol=ROUNDING)
    added = 10 * np.log10(standard.n_voxels / truth.size)
    for method in METHODS:
        assert_allclose(result.metrics[method][PADDED_PSNR] - result.metrics[method][PSNR], added)


def test_the_heart_window_is_scored_beside_the_image(engines: Engines) -> None:
    frames = beating_frames(8)
    result = evaluate(case_of(frames), engines, crop=24)
    assert list(result.metrics[OURS]) == [PSNR, SSIM, HEART_PSNR, "SSIM heart", GRADIENT]
    assert (result.metrics[LINEAR][HEART_PSNR] < result.metrics[LINEAR][PSNR]).all()  # all motion is in the heart


def test_a_single_slice_has_no_through_plane_error(engines: Engines) -> None:
    result = evaluate(case_of(beating_frames(8, 1)), engines)
    assert list(result.metrics[OURS]) == [PSNR, SSIM]
    assert_allclose(result.metrics[OURS][PSNR], result.metrics[STAGE_1][PSNR])


def test_samples_say_how_sure_they_are(engines: Engines) -> None:
    result = evaluate(case_of(beating_frames(8)), engines, "1x1,2x3")
    assert list(result.metrics) == [*METHODS, "ours, mean of 3 × 2 steps"]
    foretold, error = result.sureness["spread of the samples of ours, mean of 3 × 2 steps"]
    assert foretold > 0
    assert error > 0
    assert not any(name.startswith("spread") and "1 step" in name for name in result.sureness)


def test_what_a_method_foretells_is_compared_with_its_error(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = beating_frames(8)
    stds = [np.full(frames.shape[1:], value, np.float32) for value in (1, 2, 3, 4, 5, 6)]

    def made_up(*_: Any) -> Iterator[tuple[str, Iterator[Restored]]]:
        hidden = frames[[1, 2, 3, 5, 6, 7]]
        yield LINEAR, (Restored(frame + 4, {"guess": std}) for frame, std in zip(hidden, stds, strict=True))

    monkeypatch.setattr(interp_protocol, "restorations", made_up)
    result = evaluate(case_of(frames), engines)
    assert result.sureness == {f"guess of {LINEAR}": pytest.approx((np.sqrt(91 / 6), 4))}
    assert_allclose(result.metrics[LINEAR][PSNR], 20 * np.log10(frames.max() / 4))
    assert_allclose(result.metrics[LINEAR][GRADIENT], 0, atol=1e-6)


def test_the_plan_knows_how_long_every_gap_is(engines: Engines) -> None:
    clock, split = np.arange(8.0), every(7, 4, cyclic=True)
    known = Series.from_array(beating_frames(7)[::4], affine=oblique_affine())
    plan = plan_split(known, split, clock, engines.bundle, InterpOptions(frames=2))
    assert [one.tau for one in plan.intervals] == [(0.25, 0.5, 0.75), pytest.approx((1 / 3, 2 / 3))]
    assert plan.n_new == plan.n_frames == 5
    assert [plan.gaps(one) for one in plan.intervals] == [(3, 4, 3), (4, 3, 4)]


def test_the_frames_without_noise_are_scored_too(engines: Engines) -> None:
    clean = beating_frames(8)
    frames = clean + np.random.default_rng(0).normal(0, 20, clean.shape).astype(np.float32)
    frames[[0, 4]] = clean[[0, 4]]
    case = case_of(frames, clean=case_of(clean).series)
    result = evaluate(case, engines)
    expected = decibel(linear_blend(clean[0], clean[4], [0.25])[0], clean[1], frames.max())
    assert_allclose(result.metrics[LINEAR][CLEAN_PSNR][0], expected, atol=ROUNDING)
    assert result.metrics[LINEAR][PSNR][0] < expected - 1


def test_the_example_is_the_largest_change(engines: Engines) -> None:
    frames = beating_frames(8, 4)
    frames[6, 2] += 200
    result = evaluate(case_of(frames), engines)
    assert (result.shown_frame, result.shown_plane) == (6, 2)
    assert list(result.shown) == ["truth", *METHODS]
    assert {image.shape for image in result.shown.values()} == {(22, 22)}  # 60 % of the shorter side


@pytest.mark.parametrize(
    "wrong",
    [{"keep": 1}, {"keep": 61}, {"crop": 8}, {"crop": 32, "name": "uvi"}, {"es": 3}, {"es": 0, "name": "ed-es"}],
)
def test_bad_protocols_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--"):
        Protocol(**wrong)


def test_a_projection_is_no_setting_here() -> None:
    with pytest.raises(UsageError, match="without r, m or @"):
        parse_interp_settings("1x1@0.5")
