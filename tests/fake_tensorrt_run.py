"""Engines and contexts of the stand-in for ``tensorrt``: they run the ONNX model of a plan with ONNX Runtime."""

from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from tests.fake_cuda import ALIGNMENT, MisuseError

if TYPE_CHECKING:
    from tests.fake_tensorrt import FakeTensorRt

Shape = tuple[int, ...]
Sizes = dict[str, int]


class Value(Enum):
    """Of pybind11: ``int()`` of it, and no order."""

    def __int__(self) -> int:
        return int(self.value)


class ExecutionContextAllocationStrategy(Value):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def log(self, severity: "ILogger.Severity", msg: str) -> None:
        raise NotImplementedError


class ICudaEngine:
    def __init__(self, trt: "FakeTensorRt", logger: ILogger, profiles: list[dict[str, Any]], model: bytes) -> None:
        self._trt, self._logger, self._profiles = trt, logger, profiles
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {one.name: one.shape for one in self._session.get_inputs()}
        self._outputs = {one.name: one.shape for one in self._session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        return [tuple(shape) for shape in self._profiles[profile_index][name]]

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> "IExecutionContext | None":
        if self._trt.context_failure:
            self._logger.log(ILogger.Severity.ERROR, self._trt.context_failure)
            return None
        return IExecutionContext(self, strategy)


class IExecutionContext:
    """Refuses what TensorRT refuses, and what ends in wrong numbers there (MisuseError)."""

    def __init__(self, engine: ICudaEngine, strategy: ExecutionContextAllocationStrategy) -> None:
        self._engine, self._own_memory = engine, strategy != ExecutionContextAllocationStrategy.USER_MANAGED
        self._profile = 0
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] = (0, 0)
        self._needed: int | None = None
        self._warm = False  # run once since the shapes were set, as a capture needs it

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < max(1, len(self._engine._profiles)):
            return self._refused(f"no optimization profile {profile_index}")
        self._profile, self._shapes, self._warm = profile_index, {}, False
        return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        wanted = self._engine._inputs.get(name)
        if wanted is None or len(wanted) != len(shape):
            return self._refused(f"{name} {shape}: there is no such input of the network")
        allowed = None
        if self._engine._profiles:
            allowed = self._engine._profiles[self._profile].get(name)
        low, _, high = allowed or [[n if isinstance(n, int) else 1 << 30 for n in wanted]] * 3
        if any(not a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            return self._refused(f"{name} {shape} is outside profile {self._profile}: {low} to {high}")
        self._shapes[name], self._warm, self._needed = tuple(shape), False, None
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self._sizes() is not None else [n for n in self._engine._inputs if n not in self._shapes]

    def get_tensor_shape(self, name: str) -> Shape:
        sizes = self._sizes() or {}
        declared = (self._engine._inputs | self._engine._outputs)[name]
        return tuple(n if isinstance(n, int) else sizes.get(n, -1) for n in declared)

    def update_device_memory_size_for_shapes(self) -> int:
        if self._sizes() is None:
            return 0
        self._needed = 4 * sum(int(np.prod(self.get_tensor_shape(name))) for name in self._engine._outputs)
        return self._needed

    def set_device_memory(self, memory: int, size: int) -> None:
        if self._own_memory or memory % ALIGNMENT or self._needed is None or size < self._needed:
            raise MisuseError(f"{size} bytes of memory for a context that needs {self._needed}")
        self._memory, self._warm = (memory, size), False

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._inputs | self._engine._outputs or memory % ALIGNMENT:
            return self._refused(f"{name} at {memory:#x}: no such tensor, or not at a multiple of {ALIGNMENT}")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cuda = self._engine, self._engine._trt.cuda
        missing = [name for name in [*engine._inputs, *engine._outputs] if name not in self._addresses]
        if missing or self._sizes() is None or (not self._own_memory and not self._memory[0]):
            return self._refused(f"shapes, memory or addresses ({', '.join(missing)}) are not set")
        if not self._warm and cuda._get("stream", stream_handle).nodes is not None:
            return self._refused("captured before it was run once with these shapes")
        self._warm = True
        shapes = {name: self.get_tensor_shape(name) for name in engine._inputs | engine._outputs}
        addresses, (scratch, size) = dict(self._addresses), self._memory

        def run() -> None:
            if size >= 4:
                cuda.array(scratch, (size // 4,))[:] = np.nan
            given = {name: cuda.array(addresses[name], shapes[name]).copy() for name in engine._inputs}
            for name, value in zip(engine._outputs, engine._session.run(list(engine._outputs), given), strict=True):
                cuda.array(addresses[name], shapes[name])[:] = value

        cuda.enqueue(stream_handle, run)
        return True

    def _sizes(self) -> Sizes | None:
        """Of the dynamic dimensions by name; None until every dynamic input has its shape."""
        sizes: Sizes = {}
        for name, declared in self._engine._inputs.items():
            if not any(isinstance(n, str) for n in declared):
                continue
            if name not in self._shapes:
                return None
            for dimension, n in zip(declared, self._shapes[name], strict=True):
                if isinstance(dimension, str) and sizes.setdefault(dimension, n) != n:
                    raise MisuseError(f"{dimension} is {sizes[dimension]} in one input and {n} in {name}")
        return sizes

    def _refused(self, problem: str) -> bool:
        self._engine._logger.log(ILogger.Severity.ERROR, f"Error Code 3: API Usage Error ({problem})")
        return False
