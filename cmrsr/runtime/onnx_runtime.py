"""A graph on ONNX Runtime: the portable second and, in float32, the oracle of the other backends."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cmrsr.errors import DeviceError, EngineError, OutOfMemoryError
from cmrsr.runtime.bundle import Graph
from cmrsr.runtime.choice import OnStep, default_threads, first_line
from cmrsr.runtime.host_loop import COEFFICIENTS, HostLoop

Array = NDArray[np.float32]


class OnnxRuntimeGraph:
    """One session; shapes may change from call to call. DeviceError: the GPU cannot be used, or memory ran out.

    precision: what the arithmetic of the file at ``path`` is.
    """

    backend = "onnxruntime"

    def __init__(
        self, path: Path, graph: Graph, *, threads: int | None, cuda_device: int | None, precision: str = "f32"
    ) -> None:
        self.precision = precision
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
        self._loop = _BoundLoop(graph, self, self._session, cuda_device)
        # Without the libraries or the device that CUDA needs, the session is made on the CPU without a word.
        if cuda_device is not None and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(f"ONNX Runtime cannot use {self.device}: check the driver and the CUDA libraries")

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        try:
            return tuple(self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True))))
        except Exception as error:  # as above
            raise _failure(error, self.device) from error

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        return self._loop.start(x_t, given, coefficients, on_step)

    def close(self) -> None:
        self._loop.close()
        del self._session


class _BoundLoop(HostLoop):
    """A loop whose data stay where the session computes: noise goes in, the last result comes out."""

    def __init__(
        self, graph: Graph, engine: OnnxRuntimeGraph, session: onnxruntime.InferenceSession, cuda_device: int | None
    ) -> None:
        super().__init__(graph, engine)
        self._session, self._device = session, engine.device
        self._place = ("cpu", 0) if cuda_device is None else ("cuda", cuda_device)
        self._outputs = [port.name for port in graph.outputs]

    def _loop(self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep) -> Array:
        try:
            return self._bound(x_t, given, coefficients, on_step)
        except Exception as error:  # as above
            raise _failure(error, self._device) from error

    def _bound(self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep) -> Array:
        value = onnxruntime.OrtValue

        def there(array: Array) -> onnxruntime.OrtValue:
            return value.ortvalue_from_numpy(np.ascontiguousarray(array), *self._place)

        def empty() -> onnxruntime.OrtValue:
            return value.ortvalue_from_shape_and_type(list(x_t.shape), np.float32, *self._place)

        now, turns, unused = there(x_t), (empty(), empty()), empty()
        fixed = {name: there(array) for name, array in given.items()}
        for i, step in enumerate(coefficients):
            if self._closed:
                break
            binding = self._session.io_binding()
            for name, array in {self._names[0]: now, **fixed, COEFFICIENTS: there(step)}.items():
                binding.bind_ortvalue_input(name, array)
            now = turns[i % 2]
            for name, array in zip(self._outputs, (now, unused), strict=True):
                binding.bind_ortvalue_output(name, array)
            self._session.run_with_iobinding(binding)
            if on_step:
                on_step()
        return np.array(now.numpy())


def _failure(error: Exception, device: str) -> DeviceError:
    said = first_line(error)
    if "alloc" in said.lower() or "out of memory" in said.lower():
        return OutOfMemoryError(f"ONNX Runtime on {device}: {said}")
    return DeviceError(f"ONNX Runtime failed on {device}: {said}; use a smaller --batch-size")
