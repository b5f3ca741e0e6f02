"""``cmrsr export`` on an engine that exists: plans, a check of the backends, a repository for Triton; bad requests."""

import json
from pathlib import Path

import pytest

from cmrsr.cli import run
from cmrsr.tasks.sr.engine import ENGINE
from tests.cli.test_architecture import in_a_new_process
from tests.engines import manifest_of, write_engine
from tests.fake_gpu import FakeGpu, fake_gpu

Capture = pytest.CaptureFixture[str]
__all__ = ["fake_gpu"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "is an engine already: add --tensorrt, --verify or --layout triton"),
        (["--verify", "-o", "there"], 2, "-o there: nothing is written there"),
        (["--verify", "--precision", "f16"], 2, "export its recipe with that"),
        (["--tensorrt", "--device", "cpu"], 2, "--device cpu: TensorRT plans are for a GPU"),
        (["--portable"], 2, "--portable is of TensorRT plans"),
        (["--layout", "shelf"], 2, "shelf"),
    ],
)
def test_requests_that_make_no_sense(engine: Path, capfd: Capture, options: list[str], code: int, message: str) -> None:
    assert run(["export", str(engine), *options]) == code
    assert message in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("nothing", 2, "no such recipe or folder: nothing, nor an engine"),
        ("nothing.toml", 2, "no such recipe or folder: nothing.toml"),
        ("runs/nothing", 2, "no such recipe or folder: runs/nothing"),
    ],
)
def test_sources_that_are_not_there(capfd: Capture, source: str, code: int, message: str) -> None:
    assert run(["export", source, "--verify"]) == code
    captured = capfd.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_plans_without_a_gpu(engine: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmrsr.runtime.gpu.cuda._look", lambda: ([], "no NVIDIA driver: install one"))
    assert run(["export", str(engine), "--tensorrt"]) == 6
    captured = capfd.readouterr()
    assert "no NVIDIA driver" in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_plans_are_built_once(engine: Path, fake_gpu: FakeGpu, capfd: Capture) -> None:
    assert run(["export", str(engine), "--tensorrt"]) == 0
    first = capfd.readouterr().out
    assert ("built" in first, "from cache" in first) == (True, False)
    assert run(["export", str(engine), "--tensorrt"]) == 0
    second = capfd.readouterr().out
    assert ("built" in second, "from cache" in second) == (False, True)


def test_the_plans_are_those_that_are_verified(engine: Path, fake_gpu: FakeGpu, capfd: Capture) -> None:
    assert run(["export", str(engine), "--tensorrt", "--verify"]) == 0
    captured = capfd.readouterr()
    assert "tensorrt cuda auto" in captured.out
    assert "is built now" not in captured.err  # none beside those of --tensorrt


def test_triton_gets_the_plan_for_the_widest_range(
    engine: Path, fake_gpu: FakeGpu, tmp_path: Path, capfd: Capture
) -> None:
    from cmrsr.runtime.bundle import load
    from cmrsr.runtime.gpu.cuda import find_gpu
    from cmrsr.runtime.gpu.plan import build_plans

    models = tmp_path / "models"
    assert run(["export", str(engine), "--tensorrt", "--layout", "triton", "-o", str(models)]) == 0
    assert str(models / "tiny_step") in capfd.readouterr().out
    plans = build_plans(load(str(engine)), ENGINE, gpu=find_gpu(0))
    widest = max(plans, key=lambda plan: plan.profile.width)
    assert widest.path is not None
    assert (models / "tiny_step" / "1" / "model.plan").read_bytes() == widest.path.read_bytes()
    assert len(plans) > 1


def test_a_backend_out_of_tolerance(tmp_path: Path, capfd: Capture) -> None:
    folder = write_engine(tmp_path / "tiny")
    manifest = manifest_of(folder)
    manifest["graphs"]["step"]["tolerance"] = -1.0
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert run(["export", str(folder), "--verify"]) == 5
    captured = capfd.readouterr()
    assert "too large" in captured.out
    assert "out of tolerance: step on openvino f32" in captured.err


def test_an_engine_is_checked_and_laid_out_without_torch(engine: Path, tmp_path: Path) -> None:
    done = in_a_new_process(
        "from cmrsr.cli import run\nassert run(sys.argv[1:]) == 0",
        {"torch", "safetensors", "onnxscript"},
        "export", str(engine), "--verify", "--layout", "triton", "-o", str(tmp_path / "models"),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "openvino f32" in done.stdout
    assert (tmp_path / "models" / "tiny_step" / "config.pbtxt").is_file()
