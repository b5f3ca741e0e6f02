"""What the page of ``cmrsr sr`` says of a case."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cmrsr.batch.run import CaseResult
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.runtime.bundle import load
from cmrsr.tasks.sr.files import Shown, SrDetails
from cmrsr.tasks.sr.plan import SrOptions, plan_sr
from cmrsr.tasks.sr.report import report_case
from cmrsr.tasks.sr.run import SrFrame
from tests.conftest import oblique_affine
from tests.engines import acquired_frames

OPTIONS = SrOptions(steps=5, samples=8, seed=3, phase_axis="y", roi=(4, 8, 20, 24))


def _result(engine: Path, options: SrOptions, n_z: int = 2) -> CaseResult:
    frames = acquired_frames(12, n_z)
    series = Series.from_array(frames, affine=oblique_affine(), times_ms=np.arange(12) * 750.0)
    plan = plan_sr(series, survey(series), load(str(engine), "sr"), options)
    details = SrDetails(series=series, plan=plan, shown=Shown(series, plan), device="openvino cpu f32")
    return CaseResult(name="a", status="ok", outputs=(Path("a_sr.nii.gz"),), seconds=12.0, details=details)


def test_the_facts_of_a_case(engine: Path) -> None:
    case = report_case(_result(engine, OPTIONS), load(str(engine), "sr"), OPTIONS, illustrated=False)
    assert case.facts == (
        ("Matrix", "20 × 24, 2 slices, 12 frames"),
        ("Spacing", "1.80 × 1.80 × 10.00 mm (x × y × z)"),
        ("Phase axis", "y (--phase-axis)"),
        ("Acquired band", "16 of 40 lines (40 %)"),
        ("Engine", "tiny"),
        ("Steps", "5"),
        ("Samples", "8"),
        ("Seed", "3"),
        ("Device", "openvino cpu f32"),
        ("Time", "12.0 s"),
        ("Image written", "posterior mean"),
        ("Consistency", "weight 0"),
        ("Window", "x 4, y 8, 20 × 24 of 32 × 40"),
    )
    assert dict(case.columns) == {
        "Matrix": "20 × 24", "Slices": "2", "Frames": "12", "Acquired band": "16 of 40 lines (40 %)",
    }  # fmt: skip
    assert (case.n_images, case.seconds, case.outputs) == (24, 12.0, ("a_sr.nii.gz",))


def test_the_whole_image_needs_no_window(engine: Path) -> None:
    options = SrOptions(phase_axis="y")
    case = report_case(_result(engine, options, n_z=1), load(str(engine), "sr"), options, illustrated=False)
    assert dict(case.facts)["Matrix"] == "32 × 40, 1 slice, 12 frames"
    assert dict(case.facts)["Window"] == ""


def test_a_case_that_failed_has_its_message_only(engine: Path) -> None:
    failed = CaseResult(name="b", status="failed", message="found NaN", warnings=("odd",))
    case = report_case(failed, load(str(engine), "sr"), OPTIONS)
    assert (case.name, case.status, case.message, case.warnings) == ("b", "failed", "found NaN", ("odd",))
    assert (case.facts, case.columns, case.n_images, case.pictures) == ((), (), None, ())


def test_the_image_written_and_what_more_steps_bought_are_put_in_words(engine: Path) -> None:
    """The standard deviation over the range of each frame, next to what the network changed; one step bought none."""
    bundle = load(str(engine), "sr")
    result = _result(engine, OPTIONS)
    _, height, width = shape = (2, *result.details.plan.shape_yx)
    volume = np.broadcast_to(np.linspace(0, 200, height * width).reshape(height, width), shape).astype(np.float32)
    captions = []
    for std in (None, np.full_like(volume, 4)):
        for t in range(12):
            result.details.shown.add(t, SrFrame(volume + 10, volume, std))
        captions.append(report_case(result, bundle, OPTIONS).pictures[0].caption)
    without, caption = captions
    assert "More steps" not in without
    assert "2.0 % of the range of a frame" in caption
    assert "changed of the input (5.0 %)" in caption
    realistic = replace(OPTIONS, realism=1)
    facts = dict(report_case(result, bundle, realistic, illustrated=False).facts)
    assert facts["Image written"] == "posterior mean, moved by 1 towards one sample: at most 3.01 dB of PSNR lost"
