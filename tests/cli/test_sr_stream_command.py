"""``cmrsr sr --stream``: what it follows, how it ends, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmrsr.cli import run
from tests.conftest import save_nifti
from tests.engines import acquired_frames

PATIENCE_S = 60
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two frames of one series."""
    for k, image in enumerate(acquired_frames(2)):
        save_nifti(tmp_path / "incoming" / f"perf_{k}.nii.gz", image[None])
    return tmp_path / "incoming"


def record(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text()))


def results(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*_sr.nii.gz"))


@contextmanager
def on_standard_input(lines: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    reading, writing = os.pipe()
    os.write(writing, lines.encode())
    os.close(writing)
    with os.fdopen(reading) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        yield


def test_a_folder_is_followed_until_nothing_comes(engine: Path, folder: Path, capsys: Capture) -> None:
    assert run(["sr", str(folder), "--stream", "--idle", "0.05", "--engine", str(engine), "-v"]) == 0
    out = folder.with_name("incoming_cmrsr")
    assert results(out) == ["perf_0_sr.nii.gz", "perf_1_sr.nii.gz"]
    found = record(out)
    assert (found["state"], found["frames"]["ok"], found["task"]) == ("complete", 2, "sr")
    assert found["parameters"]["stream"] is True
    assert sorted(p.name for p in out.iterdir()) == sorted([*results(out), "run.json", "stream.jsonl"])
    said = capsys.readouterr().err
    assert said.count("ms (waiting") == 2
    assert "2 frames" in said


def test_quiet_says_nothing(engine: Path, folder: Path, capsys: Capture) -> None:
    assert run(["sr", str(folder), "--stream", "--idle", "0.05", "--engine", str(engine), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_names_on_standard_input(
    engine: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("cmrsr.tasks.sr.stream.run.AT_REST_S", 0.05)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    with on_standard_input("incoming/perf_1.nii.gz\nincoming/gone.nii.gz\n", monkeypatch):
        assert run(["sr", "-", "--stream", "-o", str(out), "--engine", str(engine)]) == 8
    assert results(out) == ["incoming/perf_1_sr.nii.gz"]
    assert "gone.nii.gz" in capsys.readouterr().err
    assert [f["frame"] for f in record(out)["failures"]] == ["incoming/gone.nii.gz"]


def test_a_second_run_finds_everything_done(engine: Path, folder: Path, capsys: Capture) -> None:
    arguments = ["sr", str(folder), "--stream", "--idle", "0.05", "--engine", str(engine)]
    assert run(arguments) == 0
    assert run(arguments) == 0
    assert "0 frames, 2 done before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}", "{folder}", "--stream"], "expected one folder"),
        (["{folder}/perf_0.nii.gz", "--stream"], "expected a folder"),
        (["-", "--stream"], "with -o"),
        (["{folder}", "--stream", "--roi", "heart"], "--roi heart"),
        (["{folder}", "--stream", "--shard", "1/2"], "--shard"),
        (["{folder}", "--stream", "--time-axis", "0"], "--time-axis"),
        (["{folder}", "--stream", "--on-missing", "drop-frame"], "--on-missing"),
        (["{folder}", "--stream", "--idle", "0"], "--idle 0"),
        (["{folder}", "--stream", "--idle", "nan"], "--idle nan"),
        (["{folder}", "--idle", "3"], "without --stream"),
        (["{folder}", "--stream", "--steps", "0"], "--steps 0"),
        (["{folder}", "--stream", "--steps", "5", "--save-samples"], "--save-samples with --stream"),
        (["{folder}", "--stream", "--realism", "0.5"], "--realism 0.5 with --steps 1"),
    ],
)
def test_what_makes_no_sense_is_refused(engine: Path, folder: Path, capsys: Capture, arguments: Any, said: str) -> None:
    arguments = [one.format(folder=folder) for one in arguments]
    assert run(["sr", *arguments, "--engine", str(engine)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not folder.with_name("incoming_cmrsr").exists()


@pytest.mark.parametrize(("out", "code"), [("incoming/out", 7), ("incoming", 7)])
def test_the_output_does_not_lie_in_what_is_followed(engine: Path, folder: Path, out: str, code: int) -> None:
    assert run(["sr", str(folder), "--stream", "-o", str(folder.parent / out), "--engine", str(engine)]) == code


def test_a_folder_has_to_be_there(engine: Path, tmp_path: Path) -> None:
    assert run(["sr", str(tmp_path / "none"), "--stream", "--engine", str(engine)]) == 3


@pytest.mark.parametrize(("how", "source"), [(signal.SIGINT, "folder"), (signal.SIGTERM, "-")])
def test_a_signal_ends_it_after_the_frame_in_hand(engine: Path, folder: Path, how: signal.Signals, source: str) -> None:
    out = folder.parent / "out"
    given = str(folder) if source == "folder" else source
    command = [sys.executable, "-m", "cmrsr", "sr", given, "--stream", "-o", str(out), "--engine", str(engine)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stderr
        if source == "-":
            process.stdin.write(f"{folder}/perf_0.nii.gz\n")
            process.stdin.flush()
        deadline = time.monotonic() + PATIENCE_S
        while len(list(out.rglob("*_sr.nii.gz"))) < (2 if source == "folder" else 1):
            assert process.poll() is None, "ended by itself"
            assert time.monotonic() < deadline, "did not start"
            time.sleep(0.01)
        process.send_signal(how)
        process.wait(timeout=PATIENCE_S)
        messages = process.stderr.read()
    state, code = ("stopped", 0) if source == "folder" else ("interrupted", 130)
    assert (process.returncode, record(out)["state"], record(out)["exit_code"]) == (code, state, code), messages
    assert "Traceback" not in messages
    assert not list(out.rglob("*.partial"))
