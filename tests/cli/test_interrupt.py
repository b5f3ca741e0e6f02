"""A killed run: nothing half-written is left, what was finished is kept, and the next run does the rest."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cmrsr.cli import run
from tests.conftest import save_nifti
from tests.engines import acquired_frames

PATIENCE_S = 60


@pytest.mark.parametrize(
    ("how", "file_format"), [(signal.SIGTERM, "nifti"), (signal.SIGINT, "dicom"), (signal.SIGKILL, "nifti")]
)
def test_a_killed_run_is_taken_up_again(engine: Path, tmp_path: Path, how: signal.Signals, file_format: str) -> None:
    study, out = tmp_path / "study", tmp_path / "out"
    save_nifti(study / "a.nii.gz", acquired_frames(1, 1))
    save_nifti(study / "b.nii.gz", np.repeat(acquired_frames(6, 1, 64, 64), 30, axis=0))
    arguments = ["sr", str(study), "-o", str(out), "--engine", str(engine), "--steps", "60", "--samples", "1"]
    arguments += ["--no-report", "--format", file_format]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "cmrsr", *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while not any(out.glob(".b_sr*.partial")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline, "did not start"
        time.sleep(0.01)
    process.send_signal(how)
    _, messages = process.communicate(timeout=PATIENCE_S)
    finished = {p: p.stat().st_mtime_ns for p in out.rglob("a_sr*")}
    assert len(finished) >= 2
    if how == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert messages.splitlines()[-1].startswith("cmrsr: interrupted")
        assert not list(out.rglob("*b_sr*"))
        record = json.loads((out / "run.json").read_text())
        assert (record["state"], record["exit_code"]) == ("interrupted", 130)
        assert [case["case"] for case in record["cases"]] == ["a"]

    assert run(arguments) == 0
    record = json.loads((out / "run.json").read_text())
    assert [(c["case"], c["status"]) for c in record["cases"]] == [("a", "skipped"), ("b", "ok")]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("a_sr*")} == finished
    assert not list(out.rglob("*.partial"))


def test_a_thread_that_never_ends_does_not_hold_an_interrupted_run() -> None:
    """A signal between the start of a thread and its registration leaves one that Python would wait for."""
    script = """
import threading
import cmrsr.cli, cmrsr.cli.app

def interrupted(*arguments, **options):
    threading.Thread(target=threading.Event().wait).start()
    raise KeyboardInterrupt

cmrsr.cli.app.app = interrupted
cmrsr.cli.main(["sr"])
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 130
    assert ended.stderr.startswith("cmrsr: interrupted")
