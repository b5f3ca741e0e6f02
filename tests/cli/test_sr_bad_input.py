"""What ``cmrsr sr`` says to bad input and bad requests: one line, the exit code of the table, and nothing written."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cmrsr.cli import run
from tests.cli.bad_inputs import BAD
from tests.conftest import save_nifti
from tests.engines import acquired_frames, write_engine

Capture = pytest.CaptureFixture[str]


def tree(folder: Path) -> dict[str, float]:
    """Everything below a folder with its modification time."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def only_line(capture: Capture) -> str:
    captured = capture.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("cmrsr: ")
    assert "Traceback" not in line
    return line


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.nii.gz"
    save_nifti(path, acquired_frames())
    return path


@pytest.mark.parametrize("name", BAD)
def test_bad_input_alone(name: str, engine: Path, tmp_path: Path, capfd: Capture) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    BAD[name].make(folder)
    before = tree(tmp_path)
    for out in ([], ["-o", str(tmp_path / "new" / "out")]):
        assert run(["sr", str(folder), "--engine", str(engine), *out]) == BAD[name].exit_code
        assert re.search(BAD[name].message, only_line(capfd))
        assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.in_batch])
def test_bad_input_beside_a_good_series(name: str, engine: Path, tmp_path: Path, capfd: Capture, good: Path) -> None:
    (tmp_path / "study" / "bad").mkdir(parents=True)
    shutil.move(good, tmp_path / "study" / "good.nii.gz")
    BAD[name].make(tmp_path / "study" / "bad")
    out = tmp_path / "out"
    assert run(["sr", str(tmp_path / "study"), "--engine", str(engine), "-o", str(out), "--no-report"]) == 8
    record = json.loads((out / "run.json").read_text())
    assert (record["state"], record["exit_code"]) == ("complete", 8)
    cases = {case["case"]: case for case in record["cases"]}
    assert cases.pop("good")["status"] == "ok"
    assert sorted(p.name for p in out.glob("good*")) == ["good_sr.json", "good_sr.nii.gz"]
    (failed,) = cases.values()
    assert (failed["status"], failed["exit_code"], failed["outputs"]) == ("failed", BAD[name].exit_code, [])
    assert re.search(BAD[name].message, failed["message"])
    assert sorted(p.name for p in out.iterdir()) == ["audit.jsonl", "good_sr.json", "good_sr.nii.gz", "run.json"]
    lines = [line for line in capfd.readouterr().err.splitlines() if re.search(BAD[name].message, line)]
    assert lines == [f"✕ {failed['message']}"]


def test_a_batch_that_fails_altogether_keeps_its_record(engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("nan in frame 7", "constant frame"):
        BAD[name].make(folder)
    assert run(["sr", str(folder), "--engine", str(engine), "-q"]) == 4
    assert len(json.loads((tmp_path / "study_cmrsr" / "run.json").read_text())["cases"]) == 2


def test_a_failure_spares_the_results_of_earlier_runs(engine: Path, tmp_path: Path, good: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    assert run(["sr", str(good), "--engine", str(engine), "-o", str(out), "-q"]) == 0
    before = tree(out)
    BAD["nan in frame 7"].make(tmp_path)
    assert run(["sr", str(tmp_path / "nan.nii.gz"), "--engine", str(engine), "-o", str(out)]) == 4
    assert "nan" in only_line(capfd)
    assert tree(out) == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--steps", "0"], 2, "--steps 0: expected at least 1"),
        (["--steps", "x"], 2, "--steps"),
        (["--samples", "-1"], 2, "--samples -1"),
        (["--realism", "0.5"], 2, "--realism 0.5 with --steps 1"),
        (["--realism", "2", "--steps", "5"], 2, "--realism 2.0: expected a number from 0"),
        (["--save-samples"], 2, "--save-samples with --steps 1"),
        (["--save-samples", "--steps", "5", "--samples", "30"], 2, "30 samples, expected at most 29"),
        (["--roi", "nonsense"], 2, "--roi nonsense: expected full, heart or X,Y,W,H"),
        (["--roi", "1,2,3"], 2, "--roi 1,2,3"),
        (["--roi", "0,0,64,64"], 2, "at least 16 pixels inside the matrix 32x40 of good"),
        (["--shard", "3/2"], 2, "--shard 3/2: expected I/N"),
        (["--device", "foo"], 2, "--device foo: expected auto, cpu, cuda"),
        (["--device", "cuda", "--backend", "openvino"], 2, "leave one of them out"),
        (["--threads", "0"], 2, "--threads 0"),
        (["--consistency", "2"], 2, "--consistency 2.0: expected auto, off or a weight from 0 to 1"),
        (["--consistency", "much"], 2, "--consistency much"),
        (["--time-axis", "7"], 2, "--time-axis 7"),
        (["--phase-axis", "z"], 2, "--phase-axis"),
        (["--format", "png"], 2, "--format"),
        (["--unknown"], 2, "No such option: --unknown"),
        (["--engine", "nowhere"], 5, "no engine 'nowhere'"),
        (["--engine"], 2, "--engine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_requests(
    options: list[str], code: int, message: str, engine: Path, tmp_path: Path, good: Path, capfd: Capture
) -> None:
    before = tree(tmp_path)
    assert run(["sr", str(good), "--engine", str(engine), *options]) == code
    assert message in only_line(capfd)
    assert tree(tmp_path) == before


def test_missing_and_superfluous_arguments(capfd: Capture) -> None:
    assert run(["sr"]) == 2
    assert "Missing argument 'INPUT...'" in only_line(capfd)
    assert run(["super"]) == 2
    assert "No such command 'super'" in only_line(capfd)
    assert run(["info", "now"]) == 3
    assert "now: no such file or folder" in only_line(capfd)


def test_an_input_that_is_not_there(engine: Path, tmp_path: Path, capfd: Capture) -> None:
    assert run(["sr", str(tmp_path / "nope"), "--engine", str(engine)]) == 3
    assert "nope: no such file or folder" in only_line(capfd)


def test_an_engine_with_one_byte_changed(tmp_path: Path, good: Path, capfd: Capture) -> None:
    graph = write_engine(tmp_path / "engine") / "step.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    before = tree(tmp_path)
    assert run(["sr", str(good), "--engine", str(graph.parent)]) == 5
    assert "engine tiny is damaged" in only_line(capfd)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda good: good / "out", "cannot be written"),
        (lambda good: good / "a" / "b", "cannot be written"),
        (lambda good: good, "is the input"),
        (lambda good: good.parent, "is the input"),
        (lambda good: good.parent / "out", "is inside the input"),
        (lambda good: good.parent / "a" / ".." / "b", "is inside the input"),
    ],
    ids=["below a file", "far below a file", "a file", "the folder", "inside", "inside by a detour"],
)
def test_an_output_that_cannot_be(
    place: Callable[[Path], Path], message: str, engine: Path, tmp_path: Path, good: Path, capfd: Capture
) -> None:
    before = tree(tmp_path)
    source = good if "file" in message or place(good).is_relative_to(good) else good.parent
    assert run(["sr", str(source), "--engine", str(engine), "-o", str(place(good))]) == 7
    assert message in only_line(capfd)
    assert tree(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission(engine: Path, tmp_path: Path, good: Path, capfd: Capture) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    assert run(["sr", str(good), "--engine", str(engine), "-o", str(tmp_path / "locked" / "out")]) == 7
    assert "cannot be written" in only_line(capfd)


def test_an_output_over_another_input(engine: Path, tmp_path: Path, good: Path, capfd: Capture) -> None:
    """``good_sr.nii.gz`` is a series of the batch, and where the result of ``good.nii.gz`` would go."""
    save_nifti(tmp_path / "good_sr.nii.gz", acquired_frames())
    before = tree(tmp_path)
    inputs = [str(good), str(tmp_path / "good_sr.nii.gz")]
    assert run(["sr", *inputs, "--engine", str(engine), "-o", str(tmp_path)]) == 7
    assert "good_sr.nii.gz: the output would overwrite an input" in only_line(capfd)
    assert tree(tmp_path) == before


def test_a_strict_device_that_is_absent(
    engine: Path, tmp_path: Path, good: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmrsr.runtime.engine.cuda_provider", lambda: False)
    before = tree(tmp_path)
    assert run(["sr", str(good), "--engine", str(engine), "--device", "cuda", "--strict-device"]) == 6
    assert "--device cuda: no NVIDIA driver is installed here" in only_line(capfd)
    assert tree(tmp_path) == before


def test_a_folder_of_strangers_in_the_output(engine: Path, tmp_path: Path, capfd: Capture) -> None:
    """A DICOM result takes a folder of its own, and leaves one that holds anything else alone."""
    from tests.io.dicom.dicom_files import images, write_series

    write_series(tmp_path / "scan", images(4, 1, 32, 24))
    stranger = tmp_path / "out" / "5_perfusion_rest_sr" / "thesis.tex"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("years of work")
    assert run(["sr", str(tmp_path / "scan"), "--engine", str(engine), "-o", str(tmp_path / "out")]) == 7
    assert "holds other files" in only_line(capfd)
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [stranger]


def test_debug_shows_the_traceback(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no such file"):
        run(["--debug", "sr", str(tmp_path / "nope"), "--engine", str(engine)])
    assert "CMRSR_DEBUG" not in os.environ


def test_a_defect_is_one_line_too(
    engine: Path, good: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    before = tree(tmp_path)
    monkeypatch.setattr("cmrsr.tasks.sr.files.plan_sr", broken)
    assert run(["sr", str(good), "--engine", str(engine)]) == 1
    line = only_line(capfd)
    assert "unexpected ZeroDivisionError: division by zero; run again with --debug and report it" in line
    assert tree(tmp_path) == before
