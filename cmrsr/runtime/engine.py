"""A loaded step graph, whatever runs it, and the choice of what runs it."""

import importlib.util
import os
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
        kind, _, number = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
            raise UsageError(f"--device {self.device}: expected auto, cpu, cuda or cuda:N")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads}: expected at least 1")


def load_step(bundle: Bundle, shape: tuple[int, int, int], choice: DeviceChoice) -> StepEngine:
    """The step graph of a bundle for images (batch, y, x), on the device and backend of ``choice``.

    DeviceError: the asked-for backend or device is absent and ``strict`` is set, or no backend is installed.
    """
    path, bounds = bundle.step_path, shape
    wants_cuda = choice.device.startswith("cuda")
    if wants_cuda or (choice.device == "auto" and choice.backend == "onnxruntime"):
        if cuda_provider():
            from cmrsr.runtime.onnx_runtime import OnnxRuntimeStep

            number = int(choice.device.partition(":")[2] or 0)
            return OnnxRuntimeStep(path, threads=choice.threads, cuda_device=number)
        if wants_cuda:
            _absent(
                f"--device {choice.device}: no CUDA backend here (onnxruntime without its CUDA provider, or none "
                "installed); install onnxruntime-gpu, or use --device cpu",
                choice.strict,
            )
    backend = choice.backend
    if backend == "auto":
        backend = "openvino" if importlib.util.find_spec("openvino") else "onnxruntime"
    if importlib.util.find_spec(backend) is None:
        other: BackendName = "onnxruntime" if backend == "openvino" else "openvino"
        if importlib.util.find_spec(other) is None:
            raise DeviceError("neither openvino nor onnxruntime is installed: pip install openvino")
        _absent(f"--backend {backend} is not installed: pip install {backend}", choice.strict)
        backend = other
    if backend == "openvino":
        from cmrsr.runtime.open_vino import OpenVinoStep

        return OpenVinoStep(path, bounds, threads=choice.threads, precision=choice.precision)
    from cmrsr.runtime.onnx_runtime import OnnxRuntimeStep

    return OnnxRuntimeStep(path, threads=choice.threads, cuda_device=None)


def _absent(message: str, strict: bool) -> None:
    if strict:
        raise DeviceError(message)
    warnings.warn(f"{message}; falling back to the CPU default", CmrsrWarning, stacklevel=3)


def cuda_provider() -> bool:
    """Whether ONNX Runtime has its CUDA provider and a driver to go with it."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    if not any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")):
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


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
        found.append({"name": "onnxruntime", "version": onnxruntime.__version__, "devices": devices, "precision": "f32"})
    return found
