"""A loaded step graph, whatever runs it, and the choice of what runs it."""

import importlib.util
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import CmrsrWarning, DeviceError, UsageError
from cmrsr.runtime.bundle import Bundle

Array = NDArray[np.float32]
BackendName = Literal["auto", "openvino", "onnxruntime"]
Precision = Literal["auto", "bf16", "f32"]


class StepEngine(Protocol):
    """One DDIM step on one device. Shapes are static: (batch, 1, y, x); what runs it is in the three names."""

    backend: str
    device: str
    precision: str

    def __call__(self, x_t: Array, lr: Array, coefficients: Array, low_pass: Array) -> tuple[Array, Array]:
        """(x_next, x0); see ``cmrsr.exporting.graph.Step``."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """What the user asked for; ``threads`` None takes all processors."""

    device: str = "auto"
    backend: BackendName = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", self.device):
            raise UsageError(f"--device {self.device}: expected auto, cpu, cuda or cuda:N")
        if self.device.startswith("cuda") and self.backend == "openvino":
            raise UsageError(
                f"--device {self.device} with --backend openvino, which runs on the CPU: leave one of them out"
            )
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads}: expected at least 1")


def load_step(bundle: Bundle, shape: tuple[int, int, int], choice: DeviceChoice) -> StepEngine:
    """The step graph of a bundle for images (batch, y, x), on the device and backend of ``choice``.

    What is absent is replaced with a CmrsrWarning. DeviceError: it is absent and ``strict`` is set, or nothing is
    installed that could run the graph. EngineError: the graph cannot be loaded.
    """
    if choice.device.startswith("cuda") or (choice.device == "auto" and choice.backend == "onnxruntime"):
        on_gpu = _cuda_step(bundle, choice)
        if on_gpu:
            return on_gpu
    backend: BackendName = choice.backend if choice.backend != "auto" else "openvino"
    if importlib.util.find_spec(backend) is None:
        other: BackendName = "onnxruntime" if backend == "openvino" else "openvino"
        if importlib.util.find_spec(other) is None:
            raise DeviceError("neither openvino nor onnxruntime is installed: pip install openvino")
        if choice.backend != "auto":
            _absent(f"--backend {backend} is not installed: pip install {backend}", f"{other} is used", choice.strict)
        backend = other
    step: StepEngine
    if backend == "openvino":
        from cmrsr.runtime.open_vino import OpenVinoStep

        step = OpenVinoStep(bundle.step_path, shape, threads=choice.threads, precision=choice.precision)
    else:
        from cmrsr.runtime.onnx_runtime import OnnxRuntimeStep

        step = OnnxRuntimeStep(bundle.step_path, threads=choice.threads, cuda_device=None)
    if choice.precision not in ("auto", step.precision):
        _absent(
            f"--precision {choice.precision}: not with {backend} on this processor",
            f"{step.precision} is used",
            choice.strict,
        )
    return step


def _cuda_step(bundle: Bundle, choice: DeviceChoice) -> StepEngine | None:
    """The graph on a GPU; None where that cannot be and the CPU is to be used."""
    asked = choice.device != "auto"
    if cuda_provider():
        from cmrsr.runtime.onnx_runtime import OnnxRuntimeStep

        try:
            number = int(choice.device.partition(":")[2] or 0)
            return OnnxRuntimeStep(bundle.step_path, threads=choice.threads, cuda_device=number)
        except DeviceError as error:
            _absent(str(error), "the CPU is used", choice.strict and asked)
    elif asked:
        _absent(
            f"--device {choice.device}: no CUDA backend here, install onnxruntime-gpu beside an NVIDIA driver",
            "the CPU is used",
            choice.strict,
        )
    return None


def _absent(problem: str, instead: str, strict: bool) -> None:
    if strict:
        raise DeviceError(problem)
    warnings.warn(f"{problem}; {instead}", CmrsrWarning, stacklevel=3)


def cuda_provider() -> bool:
    """Whether ONNX Runtime has its CUDA provider and a driver to go with it."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    if not any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")):
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def first_line(error: Exception) -> str:
    """What a backend says of a failure, without the C++ call stack behind it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from")), type(error).__name__)


def default_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def backends() -> list[dict[str, Any]]:
    """What is installed, for ``cmrsr info``: name, version, devices, precisions."""
    found = []
    if importlib.util.find_spec("openvino"):
        from cmrsr.runtime.open_vino import describe

        found.append(describe())
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        devices = [p.removesuffix("ExecutionProvider").lower() for p in onnxruntime.get_available_providers()]
        version = onnxruntime.__version__
        found.append({"name": "onnxruntime", "version": version, "devices": devices, "precision": "f32"})
    return found
