"""A graph on TensorRT: the whole few-step DDIM loop without leaving the GPU."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import EngineError
from cmrsr.runtime.bundle import Graph
from cmrsr.runtime.choice import OnStep, described
from cmrsr.runtime.gpu.cuda import Gpu, find_gpu, use
from cmrsr.runtime.gpu.cuda_objects import DeviceBuffer, Stream
from cmrsr.runtime.gpu.device_loop import DeviceLoop
from cmrsr.runtime.gpu.plan import PlanSource, open_plan
from cmrsr.runtime.gpu.plan_build import library

if TYPE_CHECKING:
    import tensorrt

Array = NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]


class Plan:
    """A deserialised plan, the profile to use, and the scratch memory that all its contexts share."""

    def __init__(self, source: PlanSource, graph: Graph, shapes: Shapes, gpu: Gpu) -> None:
        self.engine: tensorrt.ICudaEngine | None
        self.engine, self.profile = open_plan(source, graph, shapes, gpu=gpu)
        self.name = f"the TensorRT plan of {source.path} for {described(shapes)}"
        self._scratch: DeviceBuffer | None = None

    def scratch(self, size: int) -> DeviceBuffer:
        """At least ``size`` bytes. The shapes, and with them the size, are the same for all contexts."""
        if self._scratch is None:
            self._scratch = DeviceBuffer(max(size, 256))
        assert size <= self._scratch.size
        return self._scratch

    def close(self) -> None:
        self.engine = None
        if self._scratch:
            self._scratch.close()


class Context:
    """An execution context with its shapes set; ``outputs``: the shapes that follow."""

    def __init__(self, plan: Plan, inputs: Shapes, outputs: Sequence[str], stream: Stream) -> None:
        assert plan.engine
        library().messages.clear()
        context = plan.engine.create_execution_context(library().user_managed)
        if context is None:
            raise library().failure(f"make an execution context of {plan.name}")
        self._context = context
        del context  # an error's traceback would keep it, and with it its memory, while a smaller batch is tried
        try:
            self._prepare(plan, inputs, stream)
            self.outputs = {name: tuple(self._context.get_tensor_shape(name)) for name in outputs}
        except BaseException:
            self.close()
            raise

    def _prepare(self, plan: Plan, inputs: Shapes, stream: Stream) -> None:
        done = self._context.set_optimization_profile_async(plan.profile, stream.number)
        done = done and all(self._context.set_input_shape(name, shape) for name, shape in inputs.items())
        if not done or self._context.infer_shapes():
            raise EngineError(f"{plan.name} does not take these sizes: empty the folder of plans and build it again")
        scratch = plan.scratch(self._context.update_device_memory_size_for_shapes())
        self._context.set_device_memory(scratch.address, scratch.size)

    def enqueue(self, addresses: Mapping[str, int], stream: Stream) -> None:
        """Put one evaluation on the stream."""
        library().messages.clear()
        known = all(self._context.set_tensor_address(name, address) for name, address in addresses.items())
        if not known or not self._context.execute_async_v3(stream.number):
            raise library().failure("enqueue the graph")

    def close(self) -> None:
        del self._context


class TensorRtGraph:
    """One plan for one set of input shapes.

    source: the ONNX file and its arithmetic. DeviceError: there is no such GPU, or no plan for it;
    OutOfMemoryError: its memory does not hold the batch.
    """

    backend = "tensorrt"

    def __init__(
        self,
        source: PlanSource,
        graph: Graph,
        shapes: Shapes,
        *,
        gpu: Gpu,
    ) -> None:
        find_gpu(gpu.number)  # without a driver, TensorRT ends the process
        use(gpu.number)
        self.device = f"cuda:{gpu.number}"
        self.precision: str = source.precision
        inputs = {port.name: _sized(port.name, shapes.get(port.name, port.shape)) for port in graph.inputs}
        outputs = [port.name for port in graph.outputs]
        with ExitStack() as made:
            compute = made.enter_context(closing(Stream()))
            plan = made.enter_context(closing(Plan(source, graph, shapes, gpu)))

            def context() -> Context:
                return Context(plan, inputs, outputs, compute)

            first = made.enter_context(closing(context()))
            loop = DeviceLoop(gpu.number, inputs, first.outputs, first, context, compute)
            self._loop = made.enter_context(closing(loop))
            self._close = made.pop_all().close

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        return self._loop.evaluate(*inputs)

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        return self._loop.start(x_t, given, coefficients, on_step)

    def close(self) -> None:
        self._close()


def _sized(name: str, shape: tuple[int | str, ...]) -> tuple[int, ...]:
    """A shape without names of dimensions."""
    sizes = tuple(n for n in shape if isinstance(n, int))
    if len(sizes) < len(shape):
        raise EngineError(f"no size was given for input {name} {shape} of the graph: every dynamic one needs its own")
    return sizes
