"""From an ONNX file to a TensorRT plan, and from a plan to an engine, for the GPU that is current in this thread."""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from cmrsr.errors import CmrsrError, DeviceError, EngineError, OutOfMemoryError
from cmrsr.runtime.gpu.cuda import NOT_THERE
from cmrsr.runtime.gpu.profiles import Profile
from cmrsr.runtime.gpu.timing_cache import keep_timings, use_timings

if TYPE_CHECKING:
    import tensorrt

PlanPrecision = Literal["f16", "bf16", "f32"]
Say = Callable[[str], None]
LONG_PHASE = 20  # steps of a phase of which each quarter is told
KEPT_MESSAGES = 200
NO_MEMORY = re.compile(r"out ?of ?memory|could not be allocated|insufficient (memory|workspace)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Library:
    """TensorRT as it is installed, and what it has said of late: (it is an error, text).

    can_build: else it is ``tensorrt_lean``, which runs portable plans and builds none.
    """

    version: str
    can_build: bool
    runtime: "type[tensorrt.Runtime]"
    user_managed: "tensorrt.ExecutionContextAllocationStrategy"
    logger: "tensorrt.ILogger"
    messages: deque[tuple[bool, str]]

    def failure(self, what: str) -> CmrsrError:
        """The error for something that TensorRT did not do; ``what`` it was, as in "build the plan"."""
        if any(NO_MEMORY.search(text) for _, text in self.messages):
            return OutOfMemoryError(f"the GPU has not enough free memory to {what}: use a smaller --batch-size")
        said = next((text for is_error, text in self.messages if is_error), "it does not say why")
        return EngineError(f"TensorRT {self.version} cannot {what}: {' '.join(said.split())}")


_loaded: dict[ModuleType, Library] = {}


def library() -> Library:
    """DeviceError: TensorRT is not installed, or does not load."""
    try:
        import tensorrt as trt
    except NOT_THERE as error:
        try:
            import tensorrt_lean as trt  # type: ignore[no-redef]
        except NOT_THERE:
            raise DeviceError(f"TensorRT does not load ({error}): pip install 'cmrsr[tensorrt]'") from error
    if trt not in _loaded:  # TensorRT keeps the first logger of a process: there is one
        messages = deque[tuple[bool, str]](maxlen=KEPT_MESSAGES)

        class Log(trt.ILogger):
            def log(self, severity: "tensorrt.ILogger.Severity", msg: str) -> None:
                if severity <= trt.ILogger.Severity.WARNING:
                    messages.append((severity <= trt.ILogger.Severity.ERROR, msg))

        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        _loaded[trt] = Library(trt.__version__, hasattr(trt, "Builder"), trt.Runtime, strategy, Log(), messages)
    return _loaded[trt]


def build_plan(
    path: Path, profile: Profile, *, portable: bool, workspace: int, timings: Path | None, say: Say
) -> bytes:
    """The plan of the graph in ``path``, in the types that the graph has; float32 is float32, not TF32.

    portable: a plan that ``tensorrt_lean`` runs too. workspace: bytes for scratch memory at most. timings: file of the
    timing cache. say: told of progress, from any thread. EngineError: the graph or the profile cannot be built.
    """
    import tensorrt as trt

    with_library = library()
    with_library.messages.clear()
    try:
        builder = trt.Builder(with_library.logger)
    except TypeError as error:  # pybind11 has no better word for a null pointer
        raise DeviceError(f"TensorRT {with_library.version} finds no GPU that it can use: see nvidia-smi") from error
    is_typed = int(with_library.version.split(".")[0]) >= 11  # always; before, only if asked for
    network = builder.create_network(0 if is_typed else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    if network is None:
        raise with_library.failure("create a network")
    _parse(path, network, with_library, portable=portable)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits: f32 is asked for where that matters, as in data consistency
    if portable:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    what = f"build a plan of {path} for {profile}"
    if profile.shapes:
        sizes = builder.create_optimization_profile()
        for name, (low, usual, high) in profile.shapes.items():
            sizes.set_shape(name, low, usual, high)
        if config.add_optimization_profile(sizes) < 0:
            raise with_library.failure(what)
    stopped: list[BaseException] = []
    config.progress_monitor = _monitor(say, stopped)
    cache = use_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    if stopped:
        raise stopped[0]
    if plan is None:
        raise with_library.failure(what)
    keep_timings(config, cache, timings)
    return bytes(plan)


def engine_from(plan: bytes, *, portable: bool) -> "tensorrt.ICudaEngine | None":
    """None where TensorRT refuses the plan: another version or GPU, or damage. OutOfMemoryError, DeviceError."""
    with_library = library()
    with_library.messages.clear()
    try:
        runtime = with_library.runtime(with_library.logger)
    except TypeError as error:  # as above
        raise DeviceError(f"TensorRT {with_library.version} finds no GPU that it can use: see nvidia-smi") from error
    if portable:  # such a plan holds code; it is as good as what wrote it into the user's cache
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        problem = with_library.failure("load a plan")
        if isinstance(problem, OutOfMemoryError):
            raise problem
    return engine


def _parse(path: Path, network: "tensorrt.INetworkDefinition", with_library: Library, *, portable: bool) -> None:
    import tensorrt as trt

    # The network keeps its parser alive, to which the weights belong.
    parser = trt.OnnxParser(network, with_library.logger)
    if portable:
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)  # plugins are not portable
    if parser.parse_from_file(str(path)):
        return
    if not parser.num_errors:
        raise with_library.failure(f"read {path}")
    first = parser.get_error(0)
    node = " ".join(filter(None, (first.node_operator(), first.node_name())))
    where = f" (in {node})" if node else ""
    raise EngineError(f"TensorRT {with_library.version} cannot read {path}: {' '.join(first.desc().split())}{where}")


def _monitor(say: Say, stopped: list[BaseException]) -> "tensorrt.IProgressMonitor":
    """Tells of phases, and ends the build where that raises (an interrupt, too), which C++ would not pass on."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}  # of the outer phases that run

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            try:
                if parent_phase is None:
                    self.steps[phase_name] = num_steps
                    say(phase_name)
            except BaseException as error:
                stopped.append(error)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                n = self.steps.get(phase_name, 0)
                if n >= LONG_PHASE and (step + 1) * 4 // n > step * 4 // n:
                    say(f"{phase_name}: {(step + 1) * 100 // n} %")
            except BaseException as error:
                stopped.append(error)
            return not stopped

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
