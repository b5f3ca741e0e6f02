"""Stands in for ``tensorrt`` where there is no GPU: plans hold the ONNX model, contexts run it with ONNX Runtime.

Only what the real bindings have (tests/stubs/tensorrt.pyi, see tests/reference/test_tensorrt_signatures.py) may be
called, with the same arguments. As TensorRT does, it logs an error and returns None, False or -1 where something fails.
"""

import json
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import onnx

from tests.fake_cuda import FakeCuda, MisuseError
from tests.fake_tensorrt_run import (
    ExecutionContextAllocationStrategy,
    ICudaEngine,
    IExecutionContext,
    ILogger,
    Shape,
    Value,
)

__all__ = ["FakeTensorRt", "IExecutionContext"]

VERSION = "11.4.0.106"
MAGIC, TIMING = b"FAKE PLAN\n", b"FAKE TIMING\n"
PHASE_STEPS = 40


class BuilderFlag(Value):
    TF32 = 8
    VERSION_COMPATIBLE = 14


class MemoryPoolType(Value):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(Value):
    STRONGLY_TYPED = 0


class OnnxParserFlag(Value):
    NATIVE_INSTANCENORM = 0


class IProgressMonitor:
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None: ...


class IHostMemory(bytearray):
    """A buffer: nothing else of ``bytearray`` may be used."""


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Shape, Shape, Shape]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        ordered = all(0 <= a <= b <= c for a, b, c in zip(min, opt, max, strict=False))
        if not len(min) == len(opt) == len(max) or not ordered:
            raise ValueError(f"{input}: {min} {opt} {max} are no minimum, optimum and maximum")
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class ITimingCache:
    def __init__(self, made_for: str, known: set[str]) -> None:
        self._made_for, self._known = made_for, known

    def combine(self, input_cache: "ITimingCache", ignore_mismatch: bool) -> bool:
        if input_cache._made_for != self._made_for and not ignore_mismatch:
            return False
        self._known |= input_cache._known
        return True

    def serialize(self) -> IHostMemory:
        return IHostMemory(TIMING + json.dumps([self._made_for, sorted(self._known)]).encode())


class IBuilderConfig:
    progress_monitor: IProgressMonitor | None = None

    def __init__(self, trt: "FakeTensorRt") -> None:
        self._trt = trt
        self._flags = {BuilderFlag.TF32}
        self._limits: dict[MemoryPoolType, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._timing: ITimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._limits[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        if not serialized_timing_cache:
            return ITimingCache(self._trt.made_for, set())
        if not serialized_timing_cache.startswith(TIMING):
            return None
        made_for, known = json.loads(serialized_timing_cache[len(TIMING) :])
        return ITimingCache(made_for, set(known))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._made_for != self._trt.made_for and not ignore_mismatch:
            return False
        self._timing = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing


class INetworkDefinition:
    def __init__(self) -> None:
        self._model: onnx.ModelProto | None = None


class ParserError:
    def __init__(self, desc: str, node: str = "", operator: str = "") -> None:
        self._desc, self._node, self._operator = desc, node, operator

    def desc(self) -> str:
        return self._desc

    def node_name(self) -> str:
        return self._node

    def node_operator(self) -> str:
        return self._operator


class OnnxParser:
    _trt: "FakeTensorRt"

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._errors = network, list[ParserError]()

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def set_flag(self, flag: OnnxParserFlag) -> None: ...

    def parse_from_file(self, model: str) -> bool:
        try:
            read = onnx.load(model)  # with the weights that lie beside it
            onnx.checker.check_model(read)
        except Exception as error:
            self._errors.append(ParserError(str(error)))
            return False
        for node in read.graph.node:
            if node.op_type in self._trt.unsupported:
                self._errors.append(ParserError("No importer registered for op", node.name, node.op_type))
        self._network._model = read
        return not self._errors


class Builder:
    _trt: "FakeTensorRt"

    def __init__(self, logger: ILogger) -> None:
        if self._trt.cuda.n_gpus == 0:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        if self._trt.major < 11 and not flags & 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED):
            raise MisuseError("TensorRT 10 builds networks in types of its own choice unless told not to")
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._trt)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        self._trt.builds.append(sorted(flag.name for flag in config._flags))
        self._trt.on_build()
        problem = self._trt.failure or _fault(network, config)
        if problem:
            self._logger.log(ILogger.Severity.ERROR, problem)
            return None
        monitor = config.progress_monitor
        if monitor:
            monitor.phase_start("Building engine", None, PHASE_STEPS)
            if not all(monitor.step_complete("Building engine", step) for step in range(PHASE_STEPS)):
                return None
            monitor.phase_finish("Building engine")
        model = network._model
        assert model is not None
        profiles = [profile._shapes for profile in config._profiles]
        if config._timing:
            config._timing._known.add(str(profiles))
        header = {"for": self._trt.made_for, "portable": BuilderFlag.VERSION_COMPATIBLE in config._flags}
        return IHostMemory(MAGIC + json.dumps(header | {"profiles": profiles}).encode() + b"\n" + _serialised(model))


class Runtime:
    _trt: "FakeTensorRt"
    engine_host_code_allowed = False

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        if self._trt.cuda.n_gpus == 0:
            raise MisuseError("without a driver this ends the process")
        problem = self._trt.load_failure
        head, _, body = bytes(serialized_engine)[len(MAGIC) :].partition(b"\n")
        header: dict[str, Any] = {}
        if not problem and not bytes(serialized_engine).startswith(MAGIC):
            problem = "Error Code 1: Serialization (Serialization assertion failed)"
        elif not problem:
            header = json.loads(head)
            if header["for"] != self._trt.made_for:
                problem = f"Error Code 6: API Usage Error (the plan is for {header['for']})"
            elif self._trt.lean and not header["portable"]:
                problem = "Error Code 6: API Usage Error (the plan is not version compatible)"
            elif header["portable"] and not self.engine_host_code_allowed:
                problem = "Error Code 6: API Usage Error (host code in the plan is not allowed)"
        if problem:
            self._logger.log(ILogger.Severity.ERROR, problem)
            return None
        return ICudaEngine(self._trt, self._logger, header["profiles"], body)


class FakeTensorRt(ModuleType):
    """The module. ``lean``: it stands in for ``tensorrt_lean``, which builds nothing."""

    BuilderFlag, ExecutionContextAllocationStrategy, MemoryPoolType, NetworkDefinitionCreationFlag = (
        BuilderFlag, ExecutionContextAllocationStrategy, MemoryPoolType, NetworkDefinitionCreationFlag
    )  # fmt: skip
    OnnxParserFlag, ILogger, IProgressMonitor = OnnxParserFlag, ILogger, IProgressMonitor

    def __init__(self, cuda: FakeCuda, *, version: str = VERSION, lean: bool = False) -> None:
        super().__init__("tensorrt_lean" if lean else "tensorrt")
        self.cuda, self.lean, self.__version__ = cuda, lean, version
        self.builds: list[list[str]] = []  # the flags of each
        self.on_build: Callable[[], None] = lambda: None
        self.failure: str | None = None  # what a build fails with; likewise:
        self.load_failure: str | None = None
        self.context_failure: str | None = None
        self.unsupported: set[str] = set()  # operators
        self.Runtime = type("Runtime", (Runtime,), {"_trt": self})
        if not lean:
            self.Builder = type("Builder", (Builder,), {"_trt": self})
            self.OnnxParser = type("OnnxParser", (OnnxParser,), {"_trt": self})

    @property
    def major(self) -> int:
        return int(self.__version__.split(".")[0])

    @property
    def made_for(self) -> str:
        return f"TensorRT {self.__version__} on {self.cuda.gpu_name} {self.cuda.capability}"


def _fault(network: INetworkDefinition, config: IBuilderConfig) -> str | None:
    """What TensorRT finds wrong with the profiles."""
    if network._model is None:
        return "Error Code 4: API Usage Error (network has no layers)"
    for one in network._model.graph.input:
        shape = [d.dim_value if d.HasField("dim_value") else -1 for d in one.type.tensor_type.shape.dim]
        if -1 in shape and not config._profiles:
            return "Error Code 4: API Usage Error (network has dynamic inputs, but no optimization profile)"
        for profile in config._profiles:
            if -1 in shape and one.name not in profile._shapes:
                return f"Error Code 4: API Usage Error ({one.name} has no shape in the profile)"
            for given in profile._shapes.get(one.name, ()):
                if len(given) != len(shape) or any(b not in (-1, a) for a, b in zip(given, shape, strict=True)):
                    return f"Error Code 4: API Usage Error ({one.name} {given} does not fit {shape})"
    return None


def _serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())
