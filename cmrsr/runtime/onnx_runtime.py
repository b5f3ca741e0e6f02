"""A graph on ONNX Runtime: float32, the portable second and the oracle of the other backends."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cmrsr.errors import DeviceError, EngineError
from cmrsr.runtime.bundle import Graph
from cmrsr.runtime.choice import OnStep, default_threads, first_line
from cmrsr.runtime.host_loop import HostLoop

Array = NDArray[np.float32]


class OnnxRuntimeGraph:
    """One session; shapes may change from call to call. DeviceError: the GPU cannot be used, or memory ran out."""

    backend = "onnxruntime"
    precision = "f32"

    def __init__(self, path: Path, graph: Graph, *, threads: int | None, cuda_device: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or default_threads()
        providers: list[object] = ["CPUExecutionProvider"]
        self.device = "cpu"
        if cuda_device is not None:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": cuda_device}))
            self.device = f"cuda:{cuda_device}"
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # the runtime raises many private classes that share no base
            raise EngineError(
                f"{path} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {first_line(error)}"
            ) from error
        self._inputs = [port.name for port in graph.inputs]
        self._outputs = [port.name for port in graph.outputs]
        self._loop = HostLoop(graph, self)
        # Without the libraries or the device that CUDA needs, the session is made on the CPU without a word.
        if cuda_device is not None and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(f"ONNX Runtime cannot use {self.device}: check the driver and the CUDA libraries")

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        try:
            return tuple(self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True))))
        except Exception as error:  # as above
            raise DeviceError(
                f"ONNX Runtime failed on {self.device}: {first_line(error)}; use a smaller --batch-size"
            ) from error

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        return self._loop.start(x_t, given, coefficients, on_step)

    def close(self) -> None:
        self._loop.close()
        del self._session
