"""The choice of what runs an engine, and what there is to choose from."""

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmrsr.errors import DeviceError, EngineError, OutOfMemoryError
from cmrsr.runtime.bundle import Bundle, Graph
from cmrsr.runtime.choice import BackendName, DeviceChoice, Engine
from cmrsr.runtime.gpu.cuda import find_gpu, gpus
from cmrsr.runtime.smaller_batches import Shapes, SmallerBatches
from cmrsr.user_warnings import warn_user

NO_DRIVER = "no NVIDIA driver is installed here"
TENSORRT = ("tensorrt", "tensorrt_lean")  # the second runs plans that the first has built


def load_graph(bundle: Bundle, graph: Graph, shapes: Mapping[str, tuple[int, ...]], choice: DeviceChoice) -> Engine:
    """A graph of a bundle for inputs of ``shapes`` (of the dynamic ones), on the device and backend of ``choice``.

    What is absent is replaced, and a batch that memory does not hold is divided; the user is warned of either.
    DeviceError: something is absent and ``strict`` is set, or nothing is installed that could run the graph, or memory
    ran out for a batch of one. EngineError: the graph cannot be loaded.
    """
    return SmallerBatches(lambda sizes: _load(bundle, graph, sizes, choice), graph, shapes, strict=choice.strict)


def _load(bundle: Bundle, graph: Graph, shapes: Shapes, choice: DeviceChoice) -> Engine:
    engine = None
    if choice.device != "cpu" and choice.backend != "openvino":
        engine = _on_gpu(bundle, graph, shapes, choice)
    if engine is None:
        engine = _on_cpu(bundle, graph, shapes, choice)
    if choice.precision not in ("auto", engine.precision):
        _absent(
            f"--precision {choice.precision}: not with {engine.backend} on {engine.device} for this engine",
            f"{engine.precision} is used",
            choice.strict,
        )
    return engine


def _on_gpu(bundle: Bundle, graph: Graph, shapes: Shapes, choice: DeviceChoice) -> Engine | None:
    """The graph on a GPU; None where that cannot be and the CPU is to be used."""
    asked = choice.device.startswith("cuda") or choice.backend == "tensorrt"
    if not asked and not _driver():
        return None
    number = int(choice.device.partition(":")[2] or 0)
    problems = []
    for backend in ("tensorrt", "onnxruntime"):
        if choice.backend not in ("auto", backend):
            continue
        try:
            if backend == "tensorrt":
                return _tensorrt(bundle, graph, shapes, choice, number)
            return _cuda_provider(bundle, graph, choice, number)
        except OutOfMemoryError:
            raise
        except (DeviceError, EngineError) as error:
            problems.append(str(error))
    if asked:
        wanted = f"--device {choice.device}" if choice.device != "auto" else f"--backend {choice.backend}"
        _absent(f"{wanted}: {'; '.join(problems) if _driver() else NO_DRIVER}", "the CPU is used", choice.strict)
    return None


def _tensorrt(bundle: Bundle, graph: Graph, shapes: Shapes, choice: DeviceChoice, number: int) -> Engine:
    if not any(map(importlib.util.find_spec, TENSORRT)):
        raise DeviceError("TensorRT is not installed: pip install 'cmrsr[tensorrt]'")
    gpu = find_gpu(number)  # before anything of TensorRT is touched
    from cmrsr.runtime.gpu.plan import plan_source
    from cmrsr.runtime.gpu.tensor_rt import TensorRtGraph

    return TensorRtGraph(plan_source(bundle, graph, choice.precision), graph, shapes, gpu=gpu)


def _cuda_provider(bundle: Bundle, graph: Graph, choice: DeviceChoice, number: int) -> Engine:
    if not cuda_provider():
        raise DeviceError("ONNX Runtime has no CUDA here, install onnxruntime-gpu beside an NVIDIA driver")
    return _onnx_runtime(bundle, graph, choice, number)


def _onnx_runtime(bundle: Bundle, graph: Graph, choice: DeviceChoice, cuda_device: int | None) -> Engine:
    from cmrsr.runtime.onnx_runtime import OnnxRuntimeGraph

    precision = "f16" if choice.precision == "f16" and "f16" in graph.variants else "f32"
    path = bundle.graph_path(graph, precision)
    return OnnxRuntimeGraph(path, graph, precision=precision, threads=choice.threads, cuda_device=cuda_device)


def _on_cpu(bundle: Bundle, graph: Graph, shapes: Shapes, choice: DeviceChoice) -> Engine:
    backend: BackendName = choice.backend if choice.backend in ("openvino", "onnxruntime") else "openvino"
    if importlib.util.find_spec(backend) is None:
        other: BackendName = "onnxruntime" if backend == "openvino" else "openvino"
        if importlib.util.find_spec(other) is None:
            raise DeviceError("neither openvino nor onnxruntime is installed: pip install openvino")
        if choice.backend == backend:
            _absent(f"--backend {backend} is not installed: pip install {backend}", f"{other} is used", choice.strict)
        backend = other
    if backend == "onnxruntime":
        return _onnx_runtime(bundle, graph, choice, None)
    from cmrsr.runtime.open_vino import OpenVinoGraph

    precision = "auto" if choice.precision == "f16" else choice.precision
    return OpenVinoGraph(bundle.path / graph.file, graph, shapes, threads=choice.threads, precision=precision)


def _absent(problem: str, instead: str, strict: bool) -> None:
    if strict:
        raise DeviceError(problem)
    warn_user(f"{problem}; {instead}", stacklevel=3)


def cuda_provider() -> bool:
    """Whether ONNX Runtime has its CUDA provider and a driver to go with it."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    if not _driver():
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _driver() -> bool:
    return any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version"))


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
    name = next(filter(importlib.util.find_spec, TENSORRT), None)
    if name:
        devices = [f"cuda:{gpu.number} {gpu.name}" for gpu in gpus()]
        version = importlib.import_module(name).__version__
        found.append({"name": name, "version": version, "devices": devices, "precision": "f16"})
    return found
