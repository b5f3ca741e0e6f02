"""Advice is followed before it is given: whoever does what a message proposes gets further."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cmrsr.cli import run
from tests.conftest import save_nifti
from tests.engines import acquired_frames
from tests.io.dicom.dicom_files import images, write_series

Capture = pytest.CaptureFixture[str]
Arguments = list[str | Path]
FRAMES = acquired_frames(3)
OURS = '{"software": "cmrsr 0.1.0"}'


@dataclass(frozen=True, kw_only=True)
class Advice:
    """make: the situation in a new folder, and the arguments that lead to the message with this exit code.

    follow: does what the message says, and gives the arguments of the next try, which ends well. n: series done then.
    """

    make: Callable[[Path], Arguments]
    code: int
    message: str
    follow: Callable[[Path], Arguments]
    n: int = 1


def scan(path: Path) -> Path:
    save_nifti(path, FRAMES)
    return path


def label(path: Path) -> Path:
    save_nifti(path, FRAMES > 100)
    return path


def lists_a_missing_file(folder: Path) -> Arguments:
    scan(folder / "a.nii.gz")
    (folder / "list.txt").write_text("a.nii.gz\ngone.nii.gz\n")
    return [folder / "list.txt"]


def correct_the_list(folder: Path) -> Arguments:
    (folder / "list.txt").write_text("a.nii.gz\n")
    return [folder / "list.txt"]


def labels_only(folder: Path) -> Arguments:
    label(folder / "in" / "x_label.nii.gz")
    return [folder / "in"]


def results_only(folder: Path) -> Arguments:
    scan(folder / "in" / "x_sr.nii.gz")
    outputs = {"software": "cmrsr 0.1.0", "outputs": {"x_sr.nii.gz": "digest"}}
    (folder / "in" / "x_sr.json").write_text(json.dumps(outputs))
    return [folder / "in"]


def folder_of_results_only(folder: Path) -> Arguments:
    scan(folder / "in" / "old_cmrsr" / "x_sr.nii.gz")
    (folder / "in" / "old_cmrsr" / "run.json").write_text(OURS)
    return [folder / "in"]


def truth_only(folder: Path) -> Arguments:
    scan(folder / "in" / "truth" / "clean.nii.gz")
    (folder / "in" / "truth.json").write_text(OURS)
    return [folder / "in"]


def damaged_dicom(folder: Path) -> Arguments:
    path = write_series(folder / "in", images(3, 1, 32, 24))[0]
    scan(folder / "in" / "a.nii.gz")
    (folder / "in" / "bad.dcm").write_bytes(path.read_bytes()[:200])
    return [folder / "in"]


def leave_it_out(folder: Path) -> Arguments:
    (folder / "in" / "bad.dcm").unlink()
    return [folder / "in"]


def localisers_only(folder: Path) -> Arguments:
    write_series(folder / "in", images(1, 2, 32, 24), SeriesDescription="localizer")
    return [folder / "in"]


def missing_frame(folder: Path) -> Arguments:
    write_series(folder / "in", images(5, 2, 32, 24))[5].unlink()
    return [folder / "in"]


def time_first(folder: Path) -> Arguments:
    nib.save(nib.Nifti1Image(np.round(FRAMES[:, 0]).astype(np.int16), np.eye(4)), folder / "x.nii.gz")
    return [folder / "x.nii.gz"]


def taken_output(folder: Path) -> Arguments:
    scan(folder / "a.nii.gz")
    (folder / "file").write_text("x")
    return [folder / "a.nii.gz", "-o", folder / "file" / "out"]


def over_an_input(folder: Path) -> Arguments:
    scan(folder / "in" / "a.nii.gz")
    scan(folder / "in" / "a_sr.nii.gz")
    return [folder / "in" / "a.nii.gz", folder / "in" / "a_sr.nii.gz", "-o", folder / "in"]


ADVICE = {
    "correct the list": Advice(
        make=lists_a_missing_file, code=8, message="gone.nii.gz: no such file or folder, named in a list: correct the",
        follow=correct_the_list,
    ),
    "check the path": Advice(
        make=lambda folder: [scan(folder / "a.nii.gz").with_name("b.nii.gz")], code=3, message="check the path",
        follow=lambda folder: [folder / "a.nii.gz"],
    ),
    "name a label map": Advice(
        make=labels_only, code=3, message="1 x label map, such as {}/in/x_label.nii.gz; name the file itself",
        follow=lambda folder: [folder / "in" / "x_label.nii.gz"],
    ),
    "name a result": Advice(
        make=results_only, code=3, message="earlier result of cmrsr, such as {}/in/x_sr.nii.gz; name the file itself",
        follow=lambda folder: [folder / "in" / "x_sr.nii.gz"],
    ),
    "name a folder of results": Advice(
        make=folder_of_results_only, code=3, message="such as {}/in/old_cmrsr; name the folder itself to use it",
        follow=lambda folder: [folder / "in" / "old_cmrsr"],
    ),
    "name a folder of truth": Advice(
        make=truth_only, code=3, message="such as {}/in/truth; name the folder itself to use it",
        follow=lambda folder: [folder / "in" / "truth"],
    ),
    "name another folder": Advice(
        make=lambda folder: [(scan(folder / "in" / "a.nii.gz").parent / "empty").mkdir() or folder / "in" / "empty"],
        code=3, message="it is empty; name another folder", follow=lambda folder: [folder / "in"],
    ),
    "leave a damaged file out": Advice(
        make=damaged_dicom, code=8, message="bad.dcm: ", follow=leave_it_out, n=2,
    ),
    "name a localiser": Advice(
        make=localisers_only, code=3, message="2 x a localiser (few images of different planes, or called so), such as",
        follow=lambda folder: [folder / "in" / "I000"],
    ),
    "--on-missing": Advice(
        make=missing_frame, code=4, message="--on-missing drop-frame",
        follow=lambda folder: [folder / "in", "--on-missing", "drop-frame"],
    ),
    "--time-axis": Advice(
        make=time_first, code=4, message="add --time-axis 0, 1 or 2",
        follow=lambda folder: [folder / "x.nii.gz", "--time-axis", "0"],
    ),
    "-o outside the input": Advice(
        make=lambda folder: [scan(folder / "in" / "a.nii.gz").parent, "-o", folder / "in" / "out"], code=7,
        message="is inside the input {}/in; name a folder outside it with -o",
        follow=lambda folder: [folder / "in", "-o", folder / "out"],
    ),
    "-o another folder": Advice(
        make=taken_output, code=7, message="name another folder with -o",
        follow=lambda folder: [folder / "a.nii.gz", "-o", folder / "out"],
    ),
    "-o not over the input": Advice(
        make=over_an_input, code=7, message="would overwrite an input; name another folder with -o",
        follow=lambda folder: [folder / "in", "-o", folder / "out"], n=2,
    ),
    "--shard": Advice(
        make=lambda folder: [scan(folder / "a.nii.gz"), "--shard", "5/4"], code=2, message="for instance 1/4",
        follow=lambda folder: [folder / "a.nii.gz", "--shard", "1/1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ADVICE)
def test_advice_leads_further(name: str, engine: Path, tmp_path: Path, capfd: Capture) -> None:
    advice = ADVICE[name]
    options: Arguments = ["--engine", engine, "--no-report"]
    assert run(["sr", *map(str, [*advice.make(tmp_path), *options])]) == advice.code
    said = capfd.readouterr().err
    assert advice.message.replace("{}", str(tmp_path)) in said
    for old in tmp_path.rglob("*_cmrsr"):
        if not (old / "run.json").exists() or old.parent == tmp_path:
            shutil.rmtree(old, ignore_errors=True)
    assert run(["sr", *map(str, [*advice.follow(tmp_path), *options])]) == 0
    (record,) = (read(p) for p in tmp_path.rglob("run*.json") if "command" in read(p))
    assert len(record["cases"]) == advice.n
    assert {case["status"] for case in record["cases"]} == {"ok"}


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_the_folder_of_a_single_dicom_file(engine: Path, tmp_path: Path, capfd: Capture) -> None:
    paths = write_series(tmp_path / "in", images(4, 1, 32, 24))
    assert run(["sr", str(paths[0]), "--engine", str(engine), "--no-report"]) == 0
    assert "name its folder to read the whole series" in capfd.readouterr().err
    assert run(["sr", str(paths[0].parent), "--engine", str(engine), "--no-report"]) == 0
    (sidecar,) = (tmp_path / "in_cmrsr").glob("*_sr.json")
    assert read(sidecar)["input"]["shape_tzyx"][0] == 4


def test_the_other_format_of_a_result_that_cannot_be_written(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("Invalid value for VR UI")

    write_series(tmp_path / "in", images(4, 1, 32, 24))
    monkeypatch.setattr("cmrsr.io.dicom.write.series.save_dicom", broken)
    assert run(["sr", str(tmp_path / "in"), "--engine", str(engine), "--no-report"]) == 7
    assert "write the other format with --format" in capfd.readouterr().err
    assert run(["sr", str(tmp_path / "in"), "--engine", str(engine), "--no-report", "--format", "nifti"]) == 0


def test_an_uneven_array_job(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    scan(tmp_path / "a.nii.gz")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    command = ["sr", str(tmp_path / "a.nii.gz"), "--engine", str(engine), "--no-report"]
    assert run(command) == 2
    assert "give --shard I/N (1/1 for everything)" in capfd.readouterr().err
    assert run([*command, "--shard", "1/1"]) == 0
