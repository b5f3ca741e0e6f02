"""A graph on OpenVINO: static shapes, bf16 where the processor computes in it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from cmrsr.errors import DeviceError, EngineError, OutOfMemoryError
from cmrsr.runtime.bundle import Graph
from cmrsr.runtime.choice import OnStep, Precision, default_threads, described, first_line
from cmrsr.runtime.host_loop import HostLoop
from cmrsr.runtime.signal_stack import kept_signal_stack

Array = NDArray[np.float32]


class OpenVinoGraph:
    """One compiled model for one set of input shapes."""

    backend = "openvino"
    device = "cpu"

    def __init__(
        self, path: Path, graph: Graph, shapes: Mapping[str, tuple[int, ...]], *, threads: int | None,
        precision: Precision,
    ) -> None:  # fmt: skip
        core = cpu_core()
        settings = {
            "INFERENCE_PRECISION_HINT": best_precision(core) if precision == "auto" else precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or default_threads(),
        }
        try:
            model = core.read_model(path)
            model.reshape({name: list(shape) for name, shape in shapes.items()})
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            if "memory" in str(error).lower():
                raise OutOfMemoryError(f"out of memory for {described(shapes)}: use a smaller --batch-size") from error
            raise EngineError(f"{path} cannot be compiled by OpenVINO {_version()}: {first_line(error)}") from error
        # what the processor does, not what was asked for
        self.precision = "bf16" if compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16 else "f32"
        self._request = compiled.create_infer_request()
        self._inputs = [port.name for port in graph.inputs]
        self._outputs = [port.name for port in graph.outputs]
        self._loop = HostLoop(graph, self)
        self._lock = threading.Lock()

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        with self._lock:  # a loop runs in a thread of its own
            try:
                self._request.infer(dict(zip(self._inputs, inputs, strict=True)), share_inputs=True)
            except RuntimeError as error:
                if "alloc" in str(error).lower():
                    raise OutOfMemoryError(f"OpenVINO: {first_line(error)}") from error
                raise DeviceError(f"OpenVINO failed: {first_line(error)}; use a smaller --batch-size") from error
            return tuple(self._request.get_tensor(name).data.copy() for name in self._outputs)

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        return self._loop.start(x_t, given, coefficients, on_step)

    def close(self) -> None:
        self._loop.close()
        del self._request


def cpu_core() -> ov.Core:
    """A core whose plugin for the CPU is loaded."""
    with kept_signal_stack():
        core = ov.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")  # loads it
    return core


def best_precision(core: ov.Core) -> Precision:
    """bf16 where the processor has instructions for it (AMX, AVX-512 BF16): several times faster, errors near 4e-3."""
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def describe() -> dict[str, Any]:
    """Version, devices, processor and fastest precision, for ``cmrsr info``."""
    core = cpu_core()
    return {
        "name": "openvino",
        "version": _version(),
        "devices": [d.lower() for d in core.available_devices],
        "precision": best_precision(core),
        "processor": core.get_property("CPU", "FULL_DEVICE_NAME"),
    }


def _version() -> str:
    return str(ov.__version__).split("-")[0]
