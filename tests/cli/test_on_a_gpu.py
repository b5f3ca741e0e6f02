"""Commands on a GPU, on stand-ins for CUDA and TensorRT: the same images as on the CPU, and what goes wrong."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.cli import run
from cmrsr.runtime import engine as runtime
from tests.conftest import save_nifti
from tests.engines import acquired_frames, engine
from tests.fake_gpu import FakeGpu, fake_gpu

__all__ = ["engine", "fake_gpu"]
F32 = 1e-5  # relative: the stand-in computes in float32


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_driver", lambda: True)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    save_nifti(tmp_path / "p1.nii.gz", acquired_frames(5, 2))
    return tmp_path / "p1.nii.gz"


def result(out: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    image = nibabel.load(out / "p1_sr.nii.gz").get_fdata()
    return image, json.loads((out / "p1_sr.json").read_text())


def test_sr_is_the_same_as_on_the_cpu(fake_gpu: FakeGpu, engine: Path, series: Path, tmp_path: Path) -> None:
    common = ["sr", str(series), "--engine", str(engine), "--steps", "4", "--batch-size", "3", "-q", "--no-report"]
    assert run([*common, "-o", str(tmp_path / "cpu"), "--device", "cpu", "--precision", "f32"]) == 0
    assert run([*common, "-o", str(tmp_path / "gpu"), "--device", "cuda", "--strict-device"]) == 0
    wanted, _ = result(tmp_path / "cpu")
    found, record = result(tmp_path / "gpu")
    assert np.abs(found - wanted).max() < F32 * np.abs(wanted).max()
    assert record["device"] == {"backend": "tensorrt", "device": "cuda:0", "precision": "f32"}
    assert any("takes minutes" in text and "export" in text for text in record["warnings"])
    assert run([*common, "-o", str(tmp_path / "again"), "--device", "cuda"]) == 0
    assert not result(tmp_path / "again")[1]["warnings"]  # the plan was kept


def test_a_gpu_is_taken_by_itself(fake_gpu: FakeGpu, engine: Path, series: Path, tmp_path: Path) -> None:
    assert run(["sr", str(series), "--engine", str(engine), "-o", str(tmp_path / "o"), "-q", "--no-report"]) == 0
    assert result(tmp_path / "o")[1]["device"]["device"] == "cuda:0"


def test_a_gpu_without_enough_memory_takes_smaller_batches(
    fake_gpu: FakeGpu, engine: Path, series: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    common = ["sr", str(series), "--engine", str(engine), "--batch-size", "8", "-q", "--no-report", "--device", "cuda"]
    assert run([*common, "-o", str(tmp_path / "all")]) == 0
    fake_gpu.cuda.memory_bytes = fake_gpu.cuda.used_bytes + 250_000  # two slots for 8 images of 5 kB need 340 kB
    assert run([*common, "-o", str(tmp_path / "half")]) == 0
    record = result(tmp_path / "half")[1]
    assert any("memory does not hold a batch of 8" in text for text in record["warnings"])
    np.testing.assert_array_equal(result(tmp_path / "half")[0], result(tmp_path / "all")[0])
    assert run([*common, "-o", str(tmp_path / "strict"), "--strict-device"]) == 6
    assert "out of GPU memory" in capfd.readouterr().err
    assert not (tmp_path / "strict").exists()


def test_a_device_that_is_not_there(
    fake_gpu: FakeGpu, engine: Path, series: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    common = ["sr", str(series), "--engine", str(engine), "--device", "cuda:3", "-q", "--no-report"]
    assert run([*common, "-o", str(tmp_path / "o")]) == 0
    record = result(tmp_path / "o")[1]
    assert record["device"]["device"] == "cpu"
    assert any("there is no cuda:3, only cuda:0" in text and "the CPU is used" in text for text in record["warnings"])
    assert run([*common, "-o", str(tmp_path / "strict"), "--strict-device"]) == 6
    assert "there is no cuda:3" in capfd.readouterr().err
