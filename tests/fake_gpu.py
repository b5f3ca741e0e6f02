"""A machine with a GPU, CUDA and TensorRT as this project uses them, without any of the three."""

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import FakeTensorRt


@dataclass(frozen=True)
class FakeGpu:
    cuda: FakeCuda
    tensorrt: FakeTensorRt


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, tensorrt: FakeTensorRt | None = None) -> None:
    """Make ``import cuda.bindings.runtime`` (and ``import tensorrt``) find these."""
    packages = {"cuda": ModuleType("cuda"), "cuda.bindings": ModuleType("cuda.bindings")}
    modules = packages | {"cuda.bindings.runtime": cuda} | ({tensorrt.__name__: tensorrt} if tensorrt else {})
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None, is_package=name in packages)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(packages["cuda"], "bindings", packages["cuda.bindings"], raising=False)
    monkeypatch.setattr(packages["cuda.bindings"], "runtime", cuda, raising=False)


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """CUDA alone."""
    cuda = FakeCuda()
    install(monkeypatch, cuda)
    return cuda


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    """CUDA and TensorRT, and a cache folder of the test's own for the plans."""
    cuda = FakeCuda()
    gpu = FakeGpu(cuda, FakeTensorRt(cuda))
    install(monkeypatch, gpu.cuda, gpu.tensorrt)
    monkeypatch.setenv("CMRSR_CACHE", str(tmp_path / "cache"))
    return gpu
