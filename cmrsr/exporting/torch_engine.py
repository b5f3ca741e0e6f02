"""A graph of a bundle on torch, from the bundle's weights: the second opinion on a GPU, where ONNX may be at fault."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmrsr.errors import DeviceError, OutOfMemoryError
from cmrsr.exporting.captured_loop import CapturedLoop
from cmrsr.exporting.spec import GraphSpec
from cmrsr.runtime.bundle import Graph
from cmrsr.runtime.choice import DeviceChoice, OnStep, default_threads, described
from cmrsr.runtime.host_loop import COEFFICIENTS, HostLoop

Array = NDArray[np.float32]
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the rank of a convolution's weights


class TorchGraph:
    """An Engine. f32: eager, without TF32; bf16: autocast, channels last. Takes ``module`` over.

    On a GPU ``start`` is one CUDA graph for every number of steps; on the processor a loop of the host.
    DeviceError: the GPU is absent; OutOfMemoryError: its memory does not hold the batch.
    """

    backend = "torch"

    def __init__(
        self, module: nn.Module, graph: Graph, *, device: str, precision: Literal["bf16", "f32"], threads: int | None
    ) -> None:
        if device.startswith("cuda") and not sees_gpu():
            raise DeviceError(f"--device {device}: torch {torch.__version__} sees no GPU here")
        self._device = torch.device(device)
        self.device, self.precision = str(self._device), str(precision)
        self._threads = threads or default_threads()
        self._module = module.eval().to(self._device)
        for weights in self._module.parameters() if precision == "bf16" else ():
            if weights.dim() in CHANNELS_LAST:
                weights.data = weights.data.contiguous(memory_format=CHANNELS_LAST[weights.dim()])
        self._names = [port.name for port in graph.inputs]
        self._host_loop = HostLoop(graph, self)
        self._loops: dict[tuple[int, ...], CapturedLoop] = {}

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        values = dict(zip(self._names, inputs, strict=True))
        with self._arithmetic(values):
            outputs = self._step({name: self._put(value) for name, value in values.items()})
            return tuple(output.float().contiguous().cpu().numpy() for output in outputs)

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        if self._device.type == "cpu":
            return self._host_loop.start(x_t, given, coefficients, on_step)
        values = {self._names[0]: x_t, **given, COEFFICIENTS: np.stack(coefficients)}
        key = (len(coefficients), *x_t.shape)
        if key not in self._loops:
            on_gpu = {name: self._put(value) for name, value in values.items()}
            self._loops[key] = CapturedLoop(self._step, self._names[0], on_gpu, partial(self._arithmetic, values))
        result = self._loops[key].begin(values)

        def wait() -> Array:
            found = result()
            for _ in coefficients if on_step else ():
                on_step()  # type: ignore[misc]
            return found

        return wait

    def close(self) -> None:
        self._host_loop.close()
        self._loops.clear()
        del self._module

    def _step(self, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        outputs = self._module(*(values[name] for name in self._names))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _put(self, value: Array) -> Tensor:
        return torch.tensor(value, device=self._device)  # a copy, as an array may be read-only

    @contextlib.contextmanager
    def _arithmetic(self, values: Mapping[str, Array]) -> Iterator[None]:
        """Without gradients, in this engine's precision, on its threads; torch keeps such things for each thread."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"))
            if self._device.type == "cpu":
                torch.set_num_threads(self._threads)
            else:  # float32 means float32, not TF32
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False))
            try:
                yield
            except torch.OutOfMemoryError as error:
                shapes = described({name: value.shape for name, value in values.items()})
                raise OutOfMemoryError(
                    f"out of memory on {self.device} for {shapes}: use a smaller --batch-size"
                ) from error


def torch_graph(specs: Iterable[GraphSpec], graph: Graph, choice: DeviceChoice) -> TorchGraph:
    """One graph of a bundle, of which ``specs`` are all, in torch; it takes any shapes."""
    module = next(spec.module for spec in specs if spec.file == graph.file)
    device = "cpu" if choice.device == "auto" else choice.device
    precision: Literal["bf16", "f32"] = "f32" if choice.precision == "f32" else "bf16"
    return TorchGraph(module, graph, device=device, precision=precision, threads=choice.threads)


def sees_gpu() -> bool:
    """Whether PyTorch can use a GPU here."""
    return torch.cuda.is_available()


def matrix_rate_call(device: str, precision: Literal["bf16", "f16", "f32"], side: int) -> Callable[[], object]:
    """A plain product of two square matrices that is over when the call returns; 2 side^3 floating-point operations."""
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[precision]
    x, y = torch.randn(2, side, side, device=device).to(dtype)

    def run() -> None:
        torch.mm(x, y)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    return run
