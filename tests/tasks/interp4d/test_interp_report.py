"""What the page of ``cmrsr interp4d`` says and shows of a case."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.batch.run import CaseResult
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.report import movies
from cmrsr.report.case import ReportCase
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.tasks.interp4d.files import InterpDetails, Shown
from cmrsr.tasks.interp4d.plan import InterpOptions, plan_interp
from cmrsr.tasks.interp4d.report import report_case, timeline_of
from cmrsr.tasks.interp4d.run import InterpFrame
from tests.cine import beating_frames, interp_engine
from tests.conftest import oblique_affine

__all__ = ["interp_engine"]

TITLES = ["Movie", "Profile over time", "Uncertainty of every frame", "From one acquired frame to the next"]


@pytest.fixture
def bundle(interp_engine: Path) -> Bundle:
    return load(str(interp_engine), "interp4d")


@pytest.fixture
def uncalibrated(bundle: Bundle) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"expected_error": None}))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """What the figures were given, by their names; defects are raised."""
    monkeypatch.setenv("CMRSR_DEBUG", "1")
    given: dict[str, tuple[Any, ...]] = {}
    for name in ("movie", "profile", "uncertainty", "unsampled", "interval"):
        draw = getattr(movies, name)

        def noted(*args: Any, _name: str = name, _draw: Any = draw, **kwargs: Any) -> Any:
            given[_name] = args
            return _draw(*args, **kwargs)

        monkeypatch.setattr(movies, name, noted)
    return given


def _series(n_z: int = 3, *, times: bool = True, n_t: int = 6) -> Series:
    return Series.from_array(
        beating_frames(n_t, n_z), affine=oblique_affine(), times_ms=np.arange(n_t) * 150.0 if times else None
    )


def _case(
    bundle: Bundle, series: Series, options: InterpOptions, *, illustrated: bool = True
) -> tuple[ReportCase, InterpDetails]:
    """The page's case of a linear interpolation, and its details. Of the scale, the new frames lie 1 % off the
    estimate, 2 % is their standard deviation and 3 % their expected error."""
    plan = plan_interp(series, survey(series), bundle, options)
    details = InterpDetails(
        series=series, plan=plan, device="openvino cpu f32",
        shown=Shown(
            series, plan, (20.0, 18.0), sampled=options.samples > 1,
            calibrated=bundle.manifest.expected_error is not None,
        ),
    )  # fmt: skip
    for t, position in enumerate(plan.position):
        first = int(position)
        sources = (first,) if position == first else (first, (first + 1) % series.n_frames)
        frames = [series.frame(i) for i in sources]
        tau = position - first
        output = (1 - tau) * frames[0] + tau * frames[-1]
        guess, std, expected = (np.float32(plan.scale * (tau > 0) * share) for share in (0.01, 0.02, 0.03))
        details.shown.add(
            t,
            InterpFrame(
                output, sources, tau, output - guess if tau else None,
                std * np.ones_like(output) if options.samples > 1 else None, expected * np.ones_like(output),
            ),
            frames,
        )  # fmt: skip
    result = CaseResult(
        name="a", status="ok", outputs=(Path("a_interp4d.nii.gz"),), seconds=2.0, details=details,
        notes=("times from TriggerTime", details.device), warnings=plan.notes,
    )  # fmt: skip
    return report_case(result, bundle, options, illustrated=illustrated), details


# ---- facts -----------------------------------------------------------------------------------------------------------


def test_the_facts_of_a_case(bundle: Bundle) -> None:
    case, _ = _case(bundle, _series(), InterpOptions(factor=4, steps=5, samples=8, seed=2), illustrated=False)
    assert case.facts == (
        ("Frames", "6 → 24 (18 new)"),
        ("Asked for", "factor 4"),
        ("Series", "cyclic: after the last frame comes the first"),
        ("Time step", "150 ms → 37.5 ms"),
        ("Matrix", "36 × 40, 3 slices"),
        ("Spacing", "1.80 × 1.80 × 10.00 mm (x × y × z)"),
        ("Consistency across slices", "on"),
        ("Engine", "tiny"),
        ("Steps", "5"),
        ("Samples", "8"),
        ("Seed", "2"),
        ("Device", "openvino cpu f32"),
        ("Time", "2.0 s"),
    )
    assert case.columns == (
        ("Matrix", "36 × 40"), ("Slices", "3"), ("Frames", "6 → 24"), ("Time step", "150 ms → 37.5 ms"),
    )  # fmt: skip
    assert case.n_images == 18 * 3
    assert case.notes == ("times from TriggerTime",)  # the device is a fact
    assert case.pictures == ()


def test_the_facts_of_other_wishes(bundle: Bundle) -> None:
    facts = dict(_case(bundle, _series(), InterpOptions(frames=20, consistency=False), illustrated=False)[0].facts)
    assert facts["Asked for"] == "20 frames"
    assert facts["Frames"] == "6 → 20 (18 new, 2 of the 6 acquired are among them)"
    assert facts["Time step"] == "150 ms → 45.0 ms"
    assert facts["Consistency across slices"] == "off"
    case, _ = _case(bundle, _series(1, times=False), InterpOptions(factor=2, cyclic=False), illustrated=False)
    facts = dict(case.facts)
    assert facts["Series"] == "open: first to last frame"
    assert facts["Frames"] == "6 → 11 (5 new)"
    assert facts["Time step"] == "unknown: the file gives no times"
    assert facts["Consistency across slices"] == "off, too few slices"
    assert any("consistency across slices needs 3" in warning for warning in case.warnings)
    uneven = replace(_series(), times_ms=np.array([0.0, 140, 300, 450, 600, 760]))
    facts = dict(_case(bundle, uneven, InterpOptions(factor=2), illustrated=False)[0].facts)
    assert facts["Time step"] == "about 150 ms → about 75.0 ms"


def test_a_case_that_failed_has_its_message_only(bundle: Bundle) -> None:
    case = report_case(CaseResult(name="b", status="failed", message="found NaN"), bundle, InterpOptions(factor=2))
    assert (case.name, case.message, case.facts, case.pictures) == ("b", "found NaN", (), ())


@pytest.mark.parametrize("cyclic", [True, False])
def test_the_time_line_of_a_series(bundle: Bundle, cyclic: bool) -> None:
    _, details = _case(bundle, _series(), InterpOptions(factor=3, cyclic=cyclic), illustrated=False)
    timeline = timeline_of(details)
    assert_allclose(timeline.frames, np.arange(18 if cyclic else 16) * 50)
    assert_allclose(timeline.acquired, np.arange(6) * 150)
    assert_allclose(timeline.end, 900 if cyclic else 800)


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cyclic", [True, False])
@pytest.mark.parametrize(("n_z", "times", "samples"), [(3, True, 1), (1, False, 4)])
def test_every_kind_of_series_has_its_pictures(
    bundle: Bundle, drawn: dict[str, tuple[Any, ...]], cyclic: bool, n_z: int, times: bool, samples: int
) -> None:
    from PIL import Image

    options = InterpOptions(factor=4, cyclic=cyclic, steps=5, samples=samples)
    case, details = _case(bundle, _series(n_z, times=times), options)
    assert [picture.title for picture in case.pictures] == TITLES
    movie = Image.open(BytesIO(case.pictures[0].data))
    assert movie.n_frames == len(details.shown.frames) == (24 if cyclic else 21)
    assert [acquired for acquired, _ in drawn["movie"][2]] == details.shown.acquired.tolist()
    said = case.pictures[0].caption
    assert ("the file gives no times" in said) == (not times)
    assert f"of {n_z}" in said
    assert ("twice" in case.pictures[1].caption) == cyclic


def test_one_sample_has_its_expected_error_in_percent(bundle: Bundle, drawn: dict[str, tuple[Any, ...]]) -> None:
    case, _ = _case(bundle, _series(), InterpOptions(factor=4))
    said = case.pictures[2].caption
    assert "calibrated on virtual patients" in said
    assert "--steps 5 --samples 8" in said  # how to get the spread of samples as well
    assert "Spread:" not in said
    assert "unsampled" not in drawn
    _, curves, acquired = drawn["uncertainty"]
    assert list(curves) == ["expected error"]
    assert_allclose(curves["expected error"], np.where(acquired, 0, 3))
    columns, name, _ = drawn["interval"]
    assert_allclose(columns[1][3], 3, rtol=1e-6)
    assert name == "expected error"
    assert "Below: how far the new frames are likely to be off" in case.pictures[3].caption


def test_without_calibration_one_sample_has_no_uncertainty_and_says_how_to_get_it(
    uncalibrated: Bundle, drawn: dict[str, tuple[Any, ...]]
) -> None:
    case, details = _case(uncalibrated, _series(), InterpOptions(factor=4))
    assert case.pictures[2].title == "Where to look with care"
    assert "No uncertainty was sampled: run with --steps 5 --samples 8" in case.pictures[2].caption
    assert "uncertainty" not in drawn
    assert_allclose(drawn["interval"][0][1][3], 1, rtol=1e-4)
    assert drawn["interval"][1] == "network’s change"
    _, change, refinement, acquired = drawn["unsampled"]
    assert_allclose(change, 100 * details.shown.change / details.plan.scale, rtol=1e-6)
    assert_allclose(refinement, np.where(acquired, 0, 1))  # percent
    assert np.flatnonzero(acquired).tolist() == list(range(0, 24, 4))


def test_samples_have_their_uncertainty_in_percent(bundle: Bundle, drawn: dict[str, tuple[Any, ...]]) -> None:
    case, _ = _case(bundle, _series(), InterpOptions(factor=4, steps=5, samples=4))
    said = case.pictures[2].caption
    assert "over 4 samples of the same frame, calibrated" in said
    assert "Expected error:" in said
    assert "One step" not in said
    assert "--samples" not in said
    assert "unsampled" not in drawn
    _, curves, acquired = drawn["uncertainty"]
    assert list(curves) == ["expected error", "spread of 4 samples"]
    assert_allclose(curves["expected error"], np.where(acquired, 0, 3))
    assert_allclose(curves["spread of 4 samples"], np.where(acquired, 0, 2))
    columns = drawn["interval"][0]
    assert_allclose(columns[1][3], 2, rtol=1e-6)
    assert drawn["interval"][1] == "uncertainty"


def test_samples_of_an_engine_without_calibration(uncalibrated: Bundle, drawn: dict[str, tuple[Any, ...]]) -> None:
    unknown = replace(uncalibrated, manifest=uncalibrated.manifest.model_copy(update={"spread": {}}))
    said = _case(unknown, _series(), InterpOptions(factor=2, steps=1, samples=4))[0].pictures[2].caption
    assert "not calibrated" in said
    assert "One step gives all but the same frame" in said
    assert "Expected error" not in said
    assert list(drawn["uncertainty"][1]) == ["spread of 4 samples"]


@pytest.mark.parametrize("factor", [2, 4, 12])
def test_the_interval_with_the_largest_change_is_shown(
    bundle: Bundle, drawn: dict[str, tuple[Any, ...]], factor: int
) -> None:
    frames = beating_frames()
    frames += 100 * np.arange(6)[:, None, None, None]  # back from the last to the first: over the seam
    series = Series.from_array(frames, affine=oblique_affine(), times_ms=np.arange(6) * 150.0)
    case, details = _case(bundle, series, InterpOptions(factor=factor))
    columns = drawn["interval"][0]
    heads = [head for head, *_ in columns]
    assert heads == ["acquired 6", *["new"] * min(factor - 1, 4), "acquired 1"]
    assert [columns[0][1], columns[-1][1]] == ["750 ms", "900 ms"]
    x, y, w, h = details.shown.window
    for column, frame in ((0, 5), (-1, 0)):
        assert_allclose(columns[column][2], frames[frame, 1, y : y + h, x : x + w])
        assert columns[column][3] is None
    taus = [float(np.mean(c[2] - columns[0][2]) / np.mean(columns[-1][2] - columns[0][2])) for c in columns]
    assert taus == sorted(taus)
    assert taus[1] >= 1 / factor - 1e-5
    assert "6 and 1, differ most" in case.pictures[3].caption


def test_a_long_series_of_which_some_frames_are_shown(bundle: Bundle, drawn: dict[str, tuple[Any, ...]]) -> None:
    case, details = _case(bundle, _series(), InterpOptions(factor=60))
    assert len(details.shown.frames) == 240
    assert len(case.pictures) == 4
    assert len(drawn["uncertainty"][1]["expected error"]) == 360  # the charts know all frames
    assert "48 of the 360 frames are played" in case.pictures[0].caption


def test_a_series_without_a_new_frame(bundle: Bundle, drawn: dict[str, tuple[Any, ...]]) -> None:
    case, _ = _case(bundle, _series(), InterpOptions(frames=3))
    assert [picture.title for picture in case.pictures] == TITLES[:2]
    assert dict(case.facts)["Frames"] == "6 → 3 (0 new, 3 of the 6 acquired are among them)"
