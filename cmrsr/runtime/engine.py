"""The choice of what runs an engine, and what there is to choose from."""

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmrsr.errors import CmrsrWarning, DeviceError
from cmrsr.runtime.bundle import Bundle, Graph
from cmrsr.runtime.choice import BackendName, DeviceChoice, Engine


def load_step(bundle: Bundle, shape: tuple[int, int, int], choice: DeviceChoice) -> Engine:
    """The step graph of an ``sr`` bundle for images (batch, y, x), see ``load_graph``."""
    batch, height, width = shape
    image = (batch, 1, height, width)
    return load_graph(bundle, bundle.manifest.step, {"x_t": image, "lr": image, "low_pass": (height, height)}, choice)


def load_graph(bundle: Bundle, graph: Graph, shapes: Mapping[str, tuple[int, ...]], choice: DeviceChoice) -> Engine:
    """A graph of a bundle for inputs of ``shapes`` (of the dynamic ones), on the device and backend of ``choice``.

    What is absent is replaced with a CmrsrWarning. DeviceError: it is absent and ``strict`` is set, or nothing is
    installed that could run the graph. EngineError: the graph cannot be loaded.
    """
    if choice.device.startswith("cuda") or (choice.device == "auto" and choice.backend == "onnxruntime"):
        on_gpu = _on_cuda(bundle.path / graph.file, graph, choice)
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
    engine: Engine
    path = bundle.path / graph.file
    if backend == "openvino":
        from cmrsr.runtime.open_vino import OpenVinoGraph

        engine = OpenVinoGraph(path, graph, shapes, threads=choice.threads, precision=choice.precision)
    else:
        from cmrsr.runtime.onnx_runtime import OnnxRuntimeGraph

        engine = OnnxRuntimeGraph(path, graph, threads=choice.threads, cuda_device=None)
    if choice.precision not in ("auto", engine.precision):
        _absent(
            f"--precision {choice.precision}: not with {backend} on this processor",
            f"{engine.precision} is used",
            choice.strict,
        )
    return engine


def _on_cuda(path: Path, graph: Graph, choice: DeviceChoice) -> Engine | None:
    """The graph on a GPU; None where that cannot be and the CPU is to be used."""
    asked = choice.device != "auto"
    if cuda_provider():
        from cmrsr.runtime.onnx_runtime import OnnxRuntimeGraph

        try:
            number = int(choice.device.partition(":")[2] or 0)
            return OnnxRuntimeGraph(path, graph, threads=choice.threads, cuda_device=number)
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
