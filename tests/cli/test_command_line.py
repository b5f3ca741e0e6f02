"""The frame of the command line: help, version, info, the other commands' bad requests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

import cmrsr
from cmrsr.cli import run
from cmrsr.runtime import bundle
from tests.engines import write_engine

Capture = pytest.CaptureFixture[str]
COMMANDS = (
    ["sr"],
    ["train"],
    ["export"],
    ["phantom"],
    ["evaluate"],
    ["evaluate", "sr"],
    ["evaluate", "phantom"],
    ["info"],
)


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=lambda command: " ".join(command) or "cmrsr")
def test_every_command_explains_itself(command: list[str], capfd: Capture) -> None:
    assert run([*command, "--help"]) == 0
    captured = capfd.readouterr()
    assert "Usage: cmrsr" in captured.out
    assert captured.err == ""


def test_the_help_lists_the_exit_codes(capfd: Capture) -> None:
    assert run(["--help"]) == 0
    text = " ".join(capfd.readouterr().out.split())
    assert "not a medical device" in text
    for words in ("0 ok", "2 usage", "5 engine", "7 cannot write", "8 some cases failed", "130 interrupted"):
        assert words in text


@pytest.mark.parametrize("command", [[], ["evaluate"]])
def test_without_a_command_there_is_help(command: list[str], capfd: Capture) -> None:
    assert run(command) == 2
    captured = capfd.readouterr()
    assert "Usage: cmrsr" in captured.out
    assert captured.err == ""


def test_the_version(capfd: Capture) -> None:
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == f"cmrsr {cmrsr.__version__}\n"


def test_the_module_is_the_command() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "cmrsr", "--version"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cmrsr {cmrsr.__version__}\n", "")
    done = subprocess.run(
        [sys.executable, "-m", "cmrsr", "sr", "/nowhere"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (3, 5)  # 5 where no engine is shipped
    assert done.stderr.count("\n") == 1


def test_info(capfd: Capture, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are listed with their digests, a damaged one with what is wrong with it."""
    write_engine(tmp_path / "tiny")
    write_engine(tmp_path / "worn", name="worn")
    (tmp_path / "worn" / "step.onnx").write_bytes(b"")
    monkeypatch.setattr(bundle, "engines_folder", lambda: tmp_path)
    assert run(["info", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["version"] == cmrsr.__version__
    assert record["processors"] >= 1
    assert "openvino" in [backend["name"] for backend in record["backends"]]
    tiny, worn = record["engines"]
    assert (tiny["name"], tiny["state"], tiny["task"]) == ("tiny", "ok", "sr")
    assert tiny["digest"] == bundle.load(str(engine), "sr").digest
    assert worn["name"] == "worn"
    assert "damaged" in worn["state"]
    assert run(["info"]) == 0
    text = capfd.readouterr().out
    assert "tiny" in text
    assert "not a medical device" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["phantom", "OUT", "--subjects", "0"], 2, "--subjects 0"),
        (["phantom", "OUT", "--fraction", "3"], 2, "--fraction 3.0: expected 0.1 to 1"),
        (["phantom", "OUT", "--matrix", "7"], 2, "--matrix 7"),
        (["phantom", "OUT", "--kind", "moon"], 2, "--kind"),
        (["phantom", "OUT", "--ef", "120"], 2, "--ef 120: expected 5 to 85 (percent)"),
        (["phantom", "OUT", "--group", "tall"], 2, "--group"),
        (["phantom", "OUT", "--frames", "3"], 2, "--frames 3: expected 8 to 500"),
        (["phantom", "OUT", "--workers", "0"], 2, "--workers 0"),
        (["phantom", "FILE/out"], 7, "cannot be written"),
        (["train", "nope"], 2, "no recipe 'nope'"),
        (["export", "nope"], 2, "nope"),
        (["evaluate", "sr", "nope", "--engine", "nowhere"], 5, "no engine 'nowhere'"),
        (["evaluate", "sr", "nope", "--axes", "z"], 2, "--axes z"),
        (["evaluate", "phantom", "-o", "OUT", "--subjects", "0"], 2, "--subjects 0: expected at least 1"),
        (["evaluate", "phantom", "-o", "OUT", "--images", "0"], 2, "--images 0: expected at least 1"),
        (["evaluate", "phantom", "-o", "OUT", "--seed", "-1"], 2, "--seed -1: expected at least 0"),
        (["evaluate", "phantom", "nope", "-o", "OUT"], 3, "no such file or folder"),
        (["evaluate", "phantom", "-o", "FILE/out"], 7, "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_requests(arguments: list[str], code: int, message: str, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "file").touch()
    names = {"OUT": str(tmp_path / "out"), "FILE/out": str(tmp_path / "file" / "out")}
    assert run([names.get(a, a) for a in arguments]) == code
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("cmrsr: ")
    assert message in line
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_phantom_goes_through_sr(engine: Path, tmp_path: Path, capfd: Capture) -> None:
    """The README's two commands, small: truncated virtual patients in, restored ones out at the same place."""
    out = tmp_path / "phantom"
    size = ["--kind", "perfusion", "--frames", "8", "--slices", "1", "--matrix", "64", "--fraction", "0.4"]
    assert run(["phantom", str(out), *size, "-q"]) == 0
    assert run(["sr", str(out), "--engine", str(engine), "--no-report"]) == 0
    text = capfd.readouterr().err
    assert "left out: 2 x label map" in text
    assert "left out: 1 x folder of a virtual patient's truth" in text
    assert (out / "subject001" / "overview.png").read_bytes().startswith(b"\x89PNG")
    for name in ("stress", "rest"):
        before = nib.load(out / "subject001" / f"perfusion_{name}.nii.gz")
        after = nib.load(tmp_path / "phantom_cmrsr" / "subject001" / f"perfusion_{name}_sr.nii.gz")
        assert after.shape == before.shape == (64, 64, 1, 8)
        assert (after.affine == before.affine).all()
        sidecar = json.loads((tmp_path / "phantom_cmrsr" / "subject001" / f"perfusion_{name}_sr.json").read_text())
        assert (sidecar["plan"]["phase_axis"], sidecar["plan"]["matrix_lines"]) == ("y", 64)
        assert abs(sidecar["plan"]["acquired_lines"] - 26) <= 1
