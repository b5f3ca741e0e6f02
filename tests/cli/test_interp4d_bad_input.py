"""What ``cmrsr interp4d`` says to bad input and bad requests: one line, the exit code of the table, nothing written."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cmrsr.cli import run
from tests.cine import beating_frames, interp_engine
from tests.cli.bad_inputs import BAD, BadInput
from tests.cli.test_interp4d_runs import save_cine
from tests.cli.test_sr_bad_input import Capture, only_line, tree
from tests.conftest import save_nifti
from tests.io.dicom.dicom_files import images, write_series

__all__ = ["interp_engine"]


def one_frame(folder: Path) -> None:
    save_cine(folder / "still_cine.nii", beating_frames(1, 3, 24, 20))


def one_frame_dicom(folder: Path) -> None:
    write_series(folder / "still", images(1, 3, 32, 24))


def volume(folder: Path) -> None:
    """Three axes, of which any may be time."""
    save_cine(folder / "volume_cine.nii", beating_frames(1, 3, 24, 20)[0][None])
    path = folder / "volume_cine.nii"
    data = bytearray(path.read_bytes())
    data[40:50] = np.array([3, 20, 24, 3, 1], "<i2").tobytes()
    path.write_bytes(data)


def frames_of_two_sizes(folder: Path) -> None:
    for t, size in enumerate((24, 24, 24, 28)):

        def later(ds: Dataset, _: int, z: int, t: int = t) -> None:
            ds.TriggerTime, ds.SOPInstanceUID = str(40 * t), f"1.2.{t + 1}.{z + 1}"

        write_series(folder / "mixed" / str(t), images(1, 2, 32, size), SeriesDescription="cine", edit=later)


MORE = {
    "volume": BadInput(volume, 4, "volume_cine.nii: shape .* --time-axis"),
    "one frame": BadInput(one_frame, 4, "still_cine: one volume without a time axis, expected a 4-D series"),
    "one frame dicom": BadInput(one_frame_dicom, 4, "perfusion_rest: one volume without a time axis"),
    "frames of two sizes": BadInput(frames_of_two_sizes, 4, "28|24"),
}
EVERY = BAD | MORE


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save_cine(tmp_path / "good_cine.nii", beating_frames(5, 3, 24, 20))


@pytest.mark.parametrize("name", EVERY)
def test_bad_input_alone(name: str, interp_engine: Path, tmp_path: Path, capfd: Capture) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    EVERY[name].make(folder)
    before = tree(tmp_path)
    for out in ([], ["-o", str(tmp_path / "new" / "out")]):
        assert run(["interp4d", str(folder), "--engine", str(interp_engine), *out]) == EVERY[name].exit_code
        assert re.search(EVERY[name].message, only_line(capfd))
        assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [*MORE, "nan in frame 7", "missing frame", "phase images"])
def test_bad_input_beside_a_good_series(
    name: str, interp_engine: Path, tmp_path: Path, capfd: Capture, good: Path
) -> None:
    (tmp_path / "study" / "bad").mkdir(parents=True)
    shutil.move(good, tmp_path / "study" / "good_cine.nii")
    EVERY[name].make(tmp_path / "study" / "bad")
    out = tmp_path / "out"
    arguments = ["interp4d", str(tmp_path / "study"), "--engine", str(interp_engine), "-o", str(out), "--no-report"]
    assert run(arguments) == 8
    cases = {case["case"]: case for case in json.loads((out / "run.json").read_text())["cases"]}
    assert cases.pop("good_cine")["status"] == "ok"
    (failed,) = cases.values()
    assert (failed["status"], failed["exit_code"], failed["outputs"]) == ("failed", EVERY[name].exit_code, [])
    assert re.search(EVERY[name].message, failed["message"])
    written = ["audit.jsonl", "good_cine_interp4d.json", "good_cine_interp4d.nii.gz", "run.json"]
    assert sorted(p.name for p in out.iterdir()) == written
    assert f"✕ {failed['message']}" in capfd.readouterr().err.splitlines()


def test_a_hole_is_told_as_a_table(interp_engine: Path, tmp_path: Path, capfd: Capture) -> None:
    """Which slice lacks which frame; with --on-missing the rest is used."""
    BAD["missing frame"].make(tmp_path)
    arguments = ["interp4d", str(tmp_path / "cine"), "--engine", str(interp_engine), "-o", str(tmp_path / "out")]
    assert run(arguments) == 4
    line = only_line(capfd)
    assert "slice 2 at" in line
    assert "frame 2 missing" in line
    assert run([*arguments, "--on-missing", "drop-frame", "-q", "--no-report"]) == 0
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 8 * 3


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--factor", "1"], 2, "--factor 1: expected 2 to 60"),
        (["--factor", "1000"], 2, "--factor 1000: expected 2 to 60"),
        (["--factor", "2.5"], 2, "--factor"),
        (["--frames", "1"], 2, "--frames 1: expected 2 to 1000"),
        (["--frames", "9", "--factor", "2"], 2, "give --factor K (frames per interval) or --frames M"),
        (["--steps", "0"], 2, "--steps 0: expected 1 to 1000"),
        (["--samples", "0"], 2, "--samples 0"),
        (["--batch-size", "0"], 2, "--batch-size 0"),
        (["--time-axis", "7"], 2, "--time-axis 7"),
        (["--time-axis", "none"], 4, "--time-axis none, but the shape (20, 24, 3, 5) has a time axis"),
        (["--roi", "heart"], 2, "No such option: --roi"),
        (["--shard", "3/2"], 2, "--shard 3/2: expected I/N"),
        (["--device", "foo"], 2, "--device foo"),
        (["--engine", "nowhere"], 5, "no engine 'nowhere'"),
        (["--engine", "perfgen-s"], 5, "perfgen-s"),
        (["--format", "png"], 2, "--format"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_requests(
    options: list[str], code: int, message: str, interp_engine: Path, tmp_path: Path, good: Path, capfd: Capture
) -> None:
    before = tree(tmp_path)
    assert run(["interp4d", str(good), "--engine", str(interp_engine), *options]) == code
    assert message in only_line(capfd)
    assert tree(tmp_path) == before


def test_too_many_frames(interp_engine: Path, tmp_path: Path, capfd: Capture) -> None:
    """Each factor is fine in itself."""
    source = save_cine(tmp_path / "long_cine.nii", beating_frames(20, 1, 8, 8))
    assert run(["interp4d", str(source), "--engine", str(interp_engine), "--factor", "60"]) == 2
    assert "--factor 60 of long_cine (20 frames): expected at most 1000 frames" in only_line(capfd)


def test_an_output_that_cannot_be(interp_engine: Path, tmp_path: Path, good: Path, capfd: Capture) -> None:
    before = tree(tmp_path)
    for source, out, message in (
        (good.parent, good.parent / "out", "is inside the input"),
        (good, good, "is the input"),
        (good, good / "out", "cannot be written"),
    ):
        assert run(["interp4d", str(source), "--engine", str(interp_engine), "-o", str(out)]) == 7
        assert message in only_line(capfd)
        assert tree(tmp_path) == before


def test_an_output_over_another_input(interp_engine: Path, tmp_path: Path, good: Path, capfd: Capture) -> None:
    other = tmp_path / "good_cine_interp4d.nii.gz"
    save_nifti(other, beating_frames(5, 3, 24, 20))
    before = tree(tmp_path)
    assert run(["interp4d", str(good), str(other), "--engine", str(interp_engine), "-o", str(tmp_path)]) == 7
    assert "good_cine_interp4d.nii.gz: the output would overwrite an input" in only_line(capfd)
    assert tree(tmp_path) == before
