"""Plans of the tiny engine on a stand-in for TensorRT, in a cache folder of the test's own."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from cmrsr.errors import CmrsrWarning
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.gpu.cuda import Gpu, gpus
from cmrsr.runtime.gpu.plan import open_plan, plan_source
from tests.fake_cuda import FakeCuda
from tests.fake_gpu import FakeGpu, fake_gpu, install
from tests.fake_tensorrt import FakeTensorRt

__all__ = ["fake_gpu"]
SHAPES = {"x_t": (2, 1, 16, 24), "lr": (2, 1, 16, 24), "low_pass": (16, 16)}
OTHER_BATCH = {"x_t": (3, 1, 16, 24), "lr": (3, 1, 16, 24)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMRSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tensorrt"


@pytest.fixture
def tensorrt(fake_gpu: FakeGpu, cache: Path) -> FakeTensorRt:
    return fake_gpu.tensorrt


def restarted(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, **options: Any) -> FakeTensorRt:
    """TensorRT as a new process finds it."""
    fake = FakeTensorRt(cuda, **options)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    install(monkeypatch, cuda, fake)
    return fake


@pytest.fixture
def bundle(engine: Path) -> Bundle:
    return load(str(engine))


def opened(bundle: Bundle, *, gpu: Gpu | None = None, **shapes: tuple[int, ...]) -> Any:
    step = bundle.manifest.step
    return open_plan(plan_source(bundle, step, "f32"), step, SHAPES | shapes, gpu=gpu or gpus()[0])


def silently(bundle: Bundle) -> Any:
    """Opened with nothing to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return opened(bundle)


def newly_opened(bundle: Bundle, **shapes: tuple[int, ...]) -> Any:
    """Built because it is not stored, with nothing else to say."""
    with pytest.warns(CmrsrWarning, match="is built now") as caught:
        plan = opened(bundle, **shapes)
    assert len(caught) == 1
    return plan


@pytest.fixture
def stored(bundle: Bundle, tensorrt: FakeTensorRt) -> Bundle:
    """A bundle whose plan for SHAPES is in the cache."""
    newly_opened(bundle)
    return bundle
