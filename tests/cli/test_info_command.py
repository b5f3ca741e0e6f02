"""``cmrsr info``: one table or one JSON object, and exit codes that a script can trust."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cmrsr.cli import run
from cmrsr.diagnostics import selftest
from cmrsr.errors import DeviceError
from cmrsr.metrics.outcome import Outcome
from cmrsr.runtime import bundle
from cmrsr.runtime.gpu.cuda import Gpu
from tests.sampled_engine import write_sampled_engine

Capture = pytest.CaptureFixture[str]
SELFTEST = ["info", "--selftest", "--device", "cpu", "--backend", "onnxruntime"]


@pytest.fixture(autouse=True)
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a GPU and with one engine, whose runs make sense."""
    monkeypatch.setattr(bundle, "engines_folder", lambda: tmp_path / "engines")
    monkeypatch.setenv("CMRSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cmrsr.runtime.gpu.cuda._look", lambda: ([], "no NVIDIA driver"))
    monkeypatch.setattr(selftest, "cuda_provider", lambda: False)
    monkeypatch.setattr(selftest, "VirtualScans", lambda: SimpleNamespace(make=lambda *scans: None))
    monkeypatch.setattr(selftest, "run_task", lambda *_: Outcome(True, "makes sense", {"gain": 1.0}, (np.ones(2),)))
    return write_sampled_engine(tmp_path / "engines" / "tiny")


@pytest.fixture
def benched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    def bench(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        return {"engines": []}

    monkeypatch.setattr("cmrsr.cli.bench.run_bench", bench)
    return calls


def test_it_names_gpu_cache_and_precisions(capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["info"]) == 0
    text = capfd.readouterr().out
    assert "none: no NVIDIA driver" in text
    assert str(tmp_path / "cache")[:40] in text
    monkeypatch.setattr("cmrsr.runtime.gpu.cuda._look", lambda: ([Gpu(0, "Big One", (9, 0), 80 * 2**30, 13000)], None))
    monkeypatch.setenv("CMRSR_CACHE", "")
    assert run(["info"]) == 0
    text = capfd.readouterr().out
    assert "Big One, 80 GiB, compute capability 9.0" in text
    assert "none: set CMRSR_CACHE" in text
    assert run(["info", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["gpus"][0]["name"] == "Big One"
    assert (record["no_gpu"], record["cache"]) == (None, None)
    assert record["engines"][0]["precisions"] == ["f32"]
    assert not {"selftest", "bench"} & set(record)


def test_all_is_well(capfd: Capture) -> None:
    assert run(SELFTEST) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert sum(line.startswith("✓") for line in captured.out.splitlines()) == 4
    assert captured.out.rstrip().splitlines()[-1].startswith("All 4 checks passed in ")
    assert max(map(len, captured.out.splitlines())) <= 100


def test_as_json_it_is_one_object(capfd: Capture, benched: list[Any]) -> None:
    assert run([*SELFTEST, "--bench", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert (record["selftest"]["passed"], record["selftest"]["exit_code"]) == (True, 0)
    checks = record["selftest"]["checks"]
    assert [one["what"] for one in checks] == ["files", "onnxruntime f32", "cmrsr sr", "same seed, same bits"]
    assert checks[1]["figures"] == {"step": 0.0}
    assert record["bench"] == {"engines": []}
    assert benched == [([], "cpu", "onnxruntime", None, True)]


def test_a_failure_is_told_and_ends_with_its_code(capfd: Capture, engines: Path, benched: list[Any]) -> None:
    (engines / "step.onnx").write_bytes(b"")
    assert run([*SELFTEST, "--bench"]) == 5
    text = capfd.readouterr().out
    assert "✕" in text
    assert text.rstrip().splitlines()[-1].startswith("1 of 1 checks FAILED")
    assert not benched  # of what does not work, no one wants the speed


def test_an_absent_device_has_its_own_code(capfd: Capture) -> None:
    assert run(["info", "--selftest", "--device", "cuda", "--json"]) == 6
    (check,) = json.loads(capfd.readouterr().out)["selftest"]["checks"]
    assert "no NVIDIA driver" in check["found"]


def test_a_failed_engine_outweighs_a_failed_device(
    capfd: Capture, engines: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any) -> Outcome:
        raise DeviceError("out of memory")

    monkeypatch.setattr(selftest, "run_task", fail)
    assert run(SELFTEST) == 6
    assert run([*SELFTEST, "--engine", "tiny", "--engine", str(tmp_path)]) == 5
    assert capfd.readouterr().out.rstrip().splitlines()[-1].startswith("2 of 4 checks FAILED")


def test_engines_are_chosen(capfd: Capture, engines: Path, tmp_path: Path) -> None:
    other = write_sampled_engine(tmp_path / "other")
    assert run([*SELFTEST, "--engine", str(other), "--engine", "tiny", "--json"]) == 0
    checks = json.loads(capfd.readouterr().out)["selftest"]["checks"]
    assert list(dict.fromkeys(one["engine"] for one in checks)) == ["other", "tiny"]


def test_nothing_installed_is_no_success(capfd: Capture, engines: Path) -> None:
    (engines / "bundle.json").unlink()
    assert run(["info", "--selftest", "--device", "cpu"]) == 5
    assert capfd.readouterr().out.rstrip().endswith("No engine is installed: nothing was tested.")


@pytest.mark.parametrize("option", [["--engine", "tiny"], ["--device", "cpu"], ["--threads", "1"]])
def test_options_of_nothing_are_refused(option: list[str], capfd: Capture) -> None:
    assert run(["info", *option]) == 2
    assert "are for --selftest or --bench: add one" in capfd.readouterr().err


def test_a_wrong_request(capfd: Capture) -> None:
    assert run(["info", "--selftest", "--device", "moon"]) == 2
    captured = capfd.readouterr()
    assert captured.err.startswith("cmrsr: --device moon")
    assert captured.out == ""
