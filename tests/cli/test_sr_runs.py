"""``cmrsr sr`` on good input: the files it writes, their geometry and bits, and what a second run does."""

import json
import re
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

import cmrsr
from cmrsr.cli import run
from cmrsr.cli.batch_command import REPORT_THREAD
from cmrsr.io.discover import discover
from cmrsr.io.outputs import sha256_file
from cmrsr.io.series import Series
from cmrsr.tasks.sr.run import run_sr
from cmrsr.user_warnings import warn_user
from tests.conftest import oblique_affine, save_nifti
from tests.engines import acquired_frames, write_engine
from tests.io.dicom.dicom_files import write_series

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Cli:
    """``cmrsr sr`` with the tiny engine."""

    engine: Path

    def __call__(self, *arguments: object, code: int = 0) -> None:
        assert run(["sr", *map(str, arguments), "--engine", str(self.engine)]) == code


@pytest.fixture
def sr(engine: Path) -> Cli:
    return Cli(engine)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A NIfTI series of two slices."""
    save_nifti(tmp_path / "p1.nii.gz", acquired_frames(4, 2))
    return tmp_path / "p1.nii.gz"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two NIfTI series and one DICOM series, in folders."""
    folder = tmp_path / "study"
    save_nifti(folder / "p2.nii.gz", acquired_frames(3, 1))
    save_nifti(folder / "sub" / "p10.nii.gz", acquired_frames(4, 2))
    write_series(
        folder / "scanner", acquired_frames(4, 2, 40, 32).round().astype(np.uint16), InPlanePhaseEncodingDirection="COL"
    )
    return folder


def load(path: Path) -> NDArray[np.float64]:
    return np.asarray(nib.load(path).dataobj, dtype=np.float64)


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def digests(folder: Path) -> dict[str, str]:
    """The images below a folder and their bytes."""
    return {str(p.relative_to(folder)): sha256_file(p) for p in folder.rglob("*") if p.suffix in (".gz", ".dcm")}


def series_in(path: Path) -> Series:
    (found,), _, _ = discover([path])
    return found.open()


# ---- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("always")
def test_what_libraries_warn_of_is_not_reported_to_the_user(
    sr: Cli, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Neither in the sidecar, run.json and the report nor on the console; what we warn of is in all of them."""

    def noisy(*arguments: Any, **options: Any) -> Any:
        warnings.warn("invalid value encountered in divide", RuntimeWarning, stacklevel=1)
        warnings.warn("invalid value for VR UI", DeprecationWarning, stacklevel=1)
        warn_user("the noise is coloured")
        return run_sr(*arguments, **options)

    monkeypatch.setattr("cmrsr.tasks.sr.files.run_sr", noisy)
    monkeypatch.delenv("CMRSR_DEBUG", raising=False)
    out = tmp_path / "out"
    with warnings.catch_warnings():  # undone by it: how warnings are shown
        sr(one, "-o", out)
    sidecar, record = (json.loads((out / name).read_text()) for name in ("p1_sr.json", "run.json"))
    assert sidecar["warnings"] == record["cases"][0]["warnings"] == ["the noise is coloured"]
    told = (out / "report.html").read_text(), capsys.readouterr().err, (out / "audit.jsonl").read_text()
    for text in told:
        assert "the noise is coloured" in text
        assert "invalid value" not in text


def test_nifti_in_nifti_out(sr: Cli, one: Path, tmp_path: Path) -> None:
    sr(one)
    out = tmp_path / "p1_cmrsr"
    assert sorted(p.name for p in out.iterdir()) == [
        "audit.jsonl", "p1_sr.json", "p1_sr.nii.gz", "report.html", "run.json",
    ]  # fmt: skip
    before, after = nib.load(one), nib.load(out / "p1_sr.nii.gz")
    assert after.shape == before.shape
    assert after.get_data_dtype() == before.get_data_dtype()
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    np.testing.assert_allclose(after.header.get_zooms(), before.header.get_zooms(), rtol=1e-6)
    assert after.header.get_xyzt_units() == before.header.get_xyzt_units()
    assert 0 < np.abs(load(out / "p1_sr.nii.gz") - load(one)).mean() < 0.1 * load(one).mean()


def test_dicom_in_dicom_out(sr: Cli, study: Path, tmp_path: Path) -> None:
    sr(study / "scanner", "-o", tmp_path / "out")
    folder = tmp_path / "out" / "5_perfusion_rest_sr"
    before, after = series_in(study / "scanner"), series_in(folder)
    assert after.shape == before.shape
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    np.testing.assert_allclose(after.times_ms, before.times_ms)
    assert 0 < np.abs(after.array() - before.array()).mean() < 0.1 * before.array().mean()
    old, new = (pydicom.dcmread(sorted(f.iterdir())[0]) for f in (study / "scanner", folder))
    assert new.StudyInstanceUID == old.StudyInstanceUID
    assert new.FrameOfReferenceUID == old.FrameOfReferenceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID
    assert new.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert "engine tiny 1" in new.DerivationDescription
    assert "steps=1" in new.DerivationDescription


def test_formats_can_be_exchanged(sr: Cli, one: Path, study: Path, tmp_path: Path) -> None:
    sr(one, "-o", tmp_path / "a", "--format", "dicom")
    sr(study / "scanner", "-o", tmp_path / "b", "--format", "nifti")
    to_dicom, to_nifti = series_in(tmp_path / "a" / "p1_sr"), series_in(tmp_path / "b" / "5_perfusion_rest_sr.nii.gz")
    for source, result in ((series_in(one), to_dicom), (series_in(study / "scanner"), to_nifti)):
        assert result.shape == source.shape
        np.testing.assert_allclose(result.affine, source.affine, atol=1e-3)


def test_samples_write_their_spread(sr: Cli, one: Path, study: Path, tmp_path: Path) -> None:
    options = ("--steps", 5, "--samples", 3, "--no-report", "-o", tmp_path / "out")
    sr(one, study / "scanner", *options)
    std = load(tmp_path / "out" / "p1_sr_std.nii.gz")
    assert std.shape == load(one).shape
    assert std.min() > 0
    map_path = tmp_path / "out" / "study" / "scanner" / "5_perfusion_rest_sr_std.dcm"
    parametric = pydicom.dcmread(map_path)
    assert parametric.SOPClassUID == "1.2.840.10008.5.1.4.1.1.30"
    assert parametric.NumberOfFrames == 8
    sidecar = read(tmp_path / "out" / "p1_sr.json")
    assert sidecar["plan"]["spread_factor"] == 1.5
    assert set(sidecar["outputs"]) == {"p1_sr.nii.gz", "p1_sr_std.nii.gz"}


def test_several_steps_take_eight_samples_and_keep_the_image(
    sr: Cli, one: Path, tmp_path: Path, capfd: Capture
) -> None:
    """The image is that of one step, but for the fifth of it that is the mean of the samples; no sample is written."""
    sr(one, "-o", tmp_path / "one", "--no-report")
    assert "evaluations" not in capfd.readouterr().err
    sr(one, "-o", tmp_path / "out", "--no-report", "--steps", 5)
    said = capfd.readouterr().err
    assert "8 samples of 5 steps for the standard deviation map, 41 evaluations an image" in said
    assert "the image written is the posterior mean" in said
    sidecar = read(tmp_path / "out" / "p1_sr.json")
    assert (sidecar["parameters"]["samples"], sidecar["plan"]["evaluations_per_image"]) == (8, 41)
    assert sidecar["plan"]["samples_share"] == 0.2
    assert set(sidecar["outputs"]) == {"p1_sr.nii.gz", "p1_sr_std.nii.gz"}
    sr(one, "-o", tmp_path / "old", "--no-report", "--steps", 5, "--samples", 1, "--realism", 1)
    best, written, sample = (load(tmp_path / name / "p1_sr.nii.gz") for name in ("one", "out", "old"))
    assert np.abs(written - best).max() < 0.4 * np.abs(sample - best).max()


def test_realism_has_its_cost_printed_and_kept(sr: Cli, one: Path, tmp_path: Path, capfd: Capture) -> None:
    sr(one, "-o", tmp_path / "out", "--no-report", "--steps", 2, "--samples", 2, "--realism", 0.5)
    assert "moved by 0.5 towards one sample (at most 0.97 dB of PSNR lost)" in capfd.readouterr().err
    sidecar = read(tmp_path / "out" / "p1_sr.json")
    assert sidecar["parameters"]["realism"] == 0.5
    assert sidecar["plan"]["realism_cost_db"] == pytest.approx(10 * np.log10(1.25))


def test_single_samples_are_written_on_request(sr: Cli, one: Path, study: Path, tmp_path: Path) -> None:
    """As files of their own; their spread is that of the result, and without the option they go again."""
    out = tmp_path / "out"
    options = ("--steps", 5, "--samples", 3, "--no-report", "-o", out)
    sr(one, study / "scanner", *options, "--save-samples")
    samples = np.stack([load(out / f"p1_sr_sample{k}.nii.gz") for k in (1, 2, 3)])
    inside = (samples > 0).all(0)
    spread = 1.5 * samples.std(0, ddof=1)
    rounding = 1.5 * 0.5 * np.sqrt(3)  # the samples are integers, as the input is
    np.testing.assert_allclose(load(out / "p1_sr_std.nii.gz")[inside], spread[inside], rtol=0, atol=rounding)
    assert spread.max() > 50 * rounding
    folder = out / "study" / "scanner"
    headers = [
        pydicom.dcmread(folder / f"5_perfusion_rest_sr{end}" / "IM_0001.dcm")
        for end in ("", "_sample1", "_sample2", "_sample3")
    ]
    for keyword in ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SOPInstanceUID"):
        assert len({str(ds[keyword].value) for ds in headers}) == 4
    assert len({ds.StudyInstanceUID for ds in headers}) == len({ds.FrameOfReferenceUID for ds in headers}) == 1
    assert headers[2].SeriesDescription.endswith("SR SAMPLE 2")
    sr(one, study / "scanner", *options)
    assert not list(out.rglob("*_sample*"))


def test_one_step_has_no_spread_to_show(sr: Cli, one: Path, tmp_path: Path, capfd: Capture) -> None:
    sr(one, "--samples", 3, "-o", tmp_path / "out", "--no-report")
    assert not (tmp_path / "out" / "p1_sr_std.nii.gz").exists()
    assert "use --steps 5" in capfd.readouterr().err
    assert any("use --steps 5" in w for w in read(tmp_path / "out" / "p1_sr.json")["warnings"])


def test_a_window_keeps_its_place(sr: Cli, one: Path, tmp_path: Path) -> None:
    sr(one, "--roi", "4,8,20,24", "-o", tmp_path / "out", "--no-report")
    image = nib.load(tmp_path / "out" / "p1_sr.nii.gz")
    assert image.shape == (20, 24, 2, 4)
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], oblique_affine() @ [4, 8, 0, 1], atol=1e-4)
    plan = read(tmp_path / "out" / "p1_sr.json")["plan"]
    assert plan["window_xywh"] == [4, 8, 20, 24]
    np.testing.assert_allclose(plan["affine"], image.affine, atol=1e-4)


def test_a_dicom_window_keeps_its_place(sr: Cli, study: Path, tmp_path: Path) -> None:
    sr(study / "scanner", "--roi", "4,8,20,24", "-o", tmp_path / "out", "--no-report")
    before, after = series_in(study / "scanner"), series_in(tmp_path / "out" / "5_perfusion_rest_sr")
    assert after.shape == (4, 2, 24, 20)
    np.testing.assert_allclose(after.affine @ [0, 0, 0, 1], before.affine @ [4, 8, 0, 1], atol=1e-3)
    np.testing.assert_allclose(after.affine[:3, :3], before.affine[:3, :3], atol=1e-5)


def test_the_sidecar_is_enough_to_repeat_the_run(sr: Cli, one: Path, tmp_path: Path) -> None:
    sr(one, "--steps", 2, "--seed", 7, "-o", tmp_path / "out", "--no-report")
    sidecar = read(tmp_path / "out" / "p1_sr.json")
    assert sidecar["software"] == f"cmrsr {cmrsr.__version__}"
    assert sidecar["command"].startswith(f"cmrsr sr {one} --steps 2 --seed 7 ")
    assert "not a medical device" in sidecar["notice"]
    assert sidecar["input"]["shape_tzyx"] == [4, 2, 40, 32]
    assert sidecar["input"]["times_ms"] == [0, 750, 1500, 2250]
    assert sidecar["engine"]["name"] == "tiny"
    assert sidecar["parameters"] == {
        "steps": 2, "samples": 8, "seed": 7, "phase_axis": "auto", "consistency": None, "roi": "full", "realism": 0.0,
    }  # fmt: skip
    assert sidecar["device"]["backend"] == "openvino"
    assert sidecar["warnings"] == []
    assert sidecar["plan"]["phase_axis"] == "y"
    assert set(sidecar["seconds"]) == {"survey", "engine", "frames", "total"}
    names = ("p1_sr.nii.gz", "p1_sr_std.nii.gz")
    assert sidecar["outputs"] == {name: sha256_file(tmp_path / "out" / name) for name in names}


def test_nothing_is_still_loading_when_a_run_has_failed(
    sr: Cli, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """What draws the report is imported beside the first case; an interpreter that ends meanwhile says so at length."""
    monkeypatch.setattr("cmrsr.cli.sr._report_case", lambda: time.sleep(0.5))
    sr(one, "-o", tmp_path / "out", "--device", "cuda", "--strict-device", code=6)
    assert REPORT_THREAD not in [thread.name for thread in threading.enumerate()]
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_fallback_is_recorded_for_every_case(
    sr: Cli, study: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for the second series, which takes over the engine of the first."""
    monkeypatch.setattr("cmrsr.runtime.engine.cuda_provider", lambda: False)
    sr(study, "--device", "cuda", "-o", tmp_path / "out", "--no-report")
    for sidecar in (tmp_path / "out").rglob("*_sr.json"):
        record = read(sidecar)
        assert any("--device cuda: no NVIDIA driver is installed here" in w for w in record["warnings"])
        assert record["device"]["device"] == "cpu"
    assert capfd.readouterr().err.count("no NVIDIA driver is installed here") == 3


def test_the_record_of_the_run(sr: Cli, study: Path, tmp_path: Path) -> None:
    sr(study)
    out = tmp_path / "study_cmrsr"
    record = read(out / "run.json")
    assert (record["task"], record["state"], record["exit_code"], record["shard"]) == ("sr", "complete", 0, None)
    assert [case["case"] for case in record["cases"]] == ["p2", "scanner/5_perfusion_rest", "sub/p10"]
    for case in record["cases"]:
        assert (case["status"], case["warnings"]) == ("ok", [])
        assert all(Path(path).exists() for path in case["outputs"])
    assert len((out / "audit.jsonl").read_text().splitlines()) == 3
    page = (out / "report.html").read_text()
    assert page.count("<section") == 3
    assert page.count("data:image/png") >= 9
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)  # nothing is fetched from elsewhere


def test_quiet_and_verbose(sr: Cli, one: Path, tmp_path: Path, capfd: Capture) -> None:
    sr(one, "-o", tmp_path / "a", "-q")
    assert capfd.readouterr() == ("", "")
    sr(one, "-o", tmp_path / "b", "-v", "--no-report")
    text = capfd.readouterr().err
    assert f"→ {tmp_path / 'b' / 'p1_sr.nii.gz'}" in text
    assert "phase encoding along y (spectrum), 16 of 40 lines acquired" in text
    assert "openvino cpu" in text
    sr(one, "-o", tmp_path / "c")
    text = capfd.readouterr().err
    assert "phase encoding" not in text
    assert f"report: {tmp_path / 'c' / 'report.html'}" in text


def test_what_is_left_out_is_said(sr: Cli, one: Path, tmp_path: Path, capfd: Capture) -> None:
    save_nifti(tmp_path / "p1_label.nii.gz", acquired_frames(4, 2) > 100)
    sr(tmp_path, "-o", tmp_path.parent / f"{tmp_path.name}_out", "--no-report")
    assert "cmrsr: left out: 1 x label map, such as" in capfd.readouterr().err


def test_pictures_that_cannot_be_drawn_do_not_cost_the_batch(
    sr: Cli, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no ink")

    monkeypatch.setattr("cmrsr.report.figures.before_after", broken)
    sr(study, "-o", tmp_path / "out")
    assert (
        "the pictures could not be drawn (ZeroDivisionError: no ink)" in (tmp_path / "out" / "report.html").read_text()
    )


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 1, 9, 11), (3, 2, 16, 40)])
def test_tiny_series_with_report(sr: Cli, tmp_path: Path, shape: tuple[int, int, int, int]) -> None:
    frames = np.random.default_rng(1).uniform(100, 900, shape)
    save_nifti(tmp_path / "small.nii.gz", frames)
    sr(tmp_path / "small.nii.gz", "--phase-axis", "x", "--steps", 2, "--samples", 2)
    assert load(tmp_path / "small_cmrsr" / "small_sr.nii.gz").shape == shape[::-1]
    assert "<figure>" in (tmp_path / "small_cmrsr" / "report.html").read_text()


# ---- the same bits ---------------------------------------------------------------------------------------------------

NOISY = ("--steps", 3, "--samples", 2, "--seed", 3, "--no-report")


@pytest.mark.parametrize("options", [("--batch-size", 1), ("--batch-size", 8, "--threads", 2), ("--threads", 1)])
def test_batch_size_and_threads_do_not_change_a_bit(
    sr: Cli, one: Path, tmp_path: Path, options: tuple[object, ...]
) -> None:
    sr(one, "-o", tmp_path / "a", "--batch-size", 3, *NOISY)
    sr(one, "-o", tmp_path / "b", *options, *NOISY)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_order_and_shards_do_not_change_a_bit(sr: Cli, study: Path, tmp_path: Path, capfd: Capture) -> None:
    sr(study, "-o", tmp_path / "whole", *NOISY)
    for i in (1, 2):
        sr(study, "-o", tmp_path / "shards", "--shard", f"{i}/2", *NOISY)
    assert digests(tmp_path / "whole") == digests(tmp_path / "shards")
    assert "shard 1 of 2" in capfd.readouterr().err
    listed = [str(p) for p in (study / "sub", study / "scanner", study / "p2.nii.gz")]
    for name, lines in (("forth", listed), ("back", listed[::-1])):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        sr(tmp_path / f"{name}.txt", "-o", tmp_path / name, *NOISY)
    assert digests(tmp_path / "forth") == digests(tmp_path / "back") == digests(tmp_path / "whole")


def test_another_place_and_name_do_not_change_the_voxels(sr: Cli, one: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "q.nii.gz"
    other.parent.mkdir()
    shutil.copy(one, other)
    sr(one, "-o", tmp_path / "a", *NOISY)
    sr(other, "-o", tmp_path / "b", *NOISY)
    np.testing.assert_array_equal(load(tmp_path / "a" / "p1_sr.nii.gz"), load(tmp_path / "b" / "q_sr.nii.gz"))


def test_array_jobs_share_the_batch(
    sr: Cli, study: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    done = []
    for task in range(3):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        sr(study, "-o", tmp_path / "out", "--no-report")
        done += [c["case"] for c in read(tmp_path / "out" / f"run-{task + 1}-of-3.json")["cases"]]
    assert sorted(done) == ["p2", "scanner/5_perfusion_rest", "sub/p10"]
    assert "(--shard 1/1 takes all)" in capfd.readouterr().err


# ---- a second run ----------------------------------------------------------------------------------------------------


def statuses(out: Path) -> dict[str, str]:
    return {case["case"]: case["status"] for case in read(out / "run.json")["cases"]}


def test_a_second_run_skips_what_is_done(sr: Cli, study: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    sr(study, "-o", out)
    before, page = digests(out), (out / "report.html").read_bytes()
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*_sr*")}
    outputs = {c["case"]: c["outputs"] for c in read(out / "run.json")["cases"]}
    capfd.readouterr()
    sr(study, "-o", out)
    assert set(statuses(out).values()) == {"skipped"}
    assert {c["case"]: c["outputs"] for c in read(out / "run.json")["cases"]} == outputs
    assert digests(out) == before
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*_sr*")} == stamps
    assert (out / "report.html").read_bytes() == page  # the report of the run that did the work
    assert capfd.readouterr().err.count("done before") == 3


def delete(out: Path) -> None:
    (out / "p2_sr.nii.gz").unlink()


def change(out: Path) -> None:
    with (out / "p2_sr.nii.gz").open("ab") as stream:
        stream.write(b"!")


def forget(out: Path) -> None:
    (out / "p2_sr.json").unlink()


@pytest.mark.parametrize("damage", [delete, change, forget])
def test_a_damaged_result_is_done_again(
    sr: Cli, study: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:  # fmt: skip
    out = tmp_path / "out"
    sr(study, "-o", out, "--no-report")
    before = digests(out)
    damage(out)
    sr(study, "-o", out, "--no-report")
    assert statuses(out) == {"p2": "ok", "scanner/5_perfusion_rest": "skipped", "sub/p10": "skipped"}
    assert digests(out) == before


def test_a_missing_dicom_image_is_noticed(sr: Cli, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sr(study, "-o", out, "--no-report")
    before = digests(out)
    next((out / "scanner" / "5_perfusion_rest_sr").iterdir()).unlink()
    sr(study, "-o", out, "--no-report")
    assert statuses(out) == {"p2": "skipped", "scanner/5_perfusion_rest": "ok", "sub/p10": "skipped"}
    assert digests(out) == before  # also the identifiers: a re-run is idempotent


@pytest.mark.parametrize(
    "options",
    [("--seed", 1, "--steps", 2), ("--roi", "0,0,32,32"), ("--consistency", 0.5), ("--precision", "f32"), ("--force",)],
)
def test_changed_options_do_it_again(sr: Cli, one: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    out = tmp_path / "out"
    sr(one, "-o", out, "--no-report")
    sr(one, "-o", out, "--no-report", *options)
    assert statuses(out) == {"p1": "ok"}
    if options != ("--force",):
        sr(one, "-o", out, "--no-report", *options)
        assert statuses(out) == {"p1": "skipped"}


def test_another_engine_or_input_does_it_again(sr: Cli, one: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sr(one, "-o", out, "--no-report")
    Cli(write_engine(tmp_path / "engine", version="2"))(one, "-o", out, "--no-report")
    assert statuses(out) == {"p1": "ok"}
    save_nifti(one, acquired_frames(5, 2))
    Cli(tmp_path / "engine")(one, "-o", out, "--no-report")
    assert statuses(out) == {"p1": "ok"}
    assert load(out / "p1_sr.nii.gz").shape[3] == 5


def test_how_the_work_is_cut_up_is_no_reason_to_do_it_again(sr: Cli, one: Path, tmp_path: Path) -> None:
    sr(one, "-o", tmp_path / "out", "--no-report")
    sr(one, "-o", tmp_path / "out", "--no-report", "--batch-size", 2, "--threads", 1, "-v")
    assert statuses(tmp_path / "out") == {"p1": "skipped"}


def test_results_of_other_settings_do_not_linger(sr: Cli, one: Path, tmp_path: Path) -> None:
    """An uncertainty, or images of another format, would be taken for a part of the new result."""
    out = tmp_path / "out"
    sr(one, "-o", out, "--no-report", "--steps", 2, "--samples", 2)
    sr(one, "-o", out, "--no-report", "--format", "dicom")
    assert sorted(p.name for p in out.glob("p1*")) == ["p1_sr", "p1_sr.json"]
    sr(one, "-o", out, "--no-report")
    assert sorted(p.name for p in out.glob("p1*")) == ["p1_sr.json", "p1_sr.nii.gz"]


def test_results_are_no_input_of_the_next_run(sr: Cli, study: Path, tmp_path: Path) -> None:
    """The folder above both the study and its results."""
    sr(study, "--no-report")
    sr(tmp_path, "-o", tmp_path.parent / f"{tmp_path.name}_again", "--no-report")
    assert len(statuses(tmp_path.parent / f"{tmp_path.name}_again")) == 3
