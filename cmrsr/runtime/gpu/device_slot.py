"""Room for a batch on a GPU, and all steps of its DDIM loop as one launch."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import DeviceError, EngineError, OutOfMemoryError
from cmrsr.runtime.gpu.cuda_objects import CapturedGraph, DeviceBuffer, Event, PinnedBuffer, Stream
from cmrsr.runtime.host_loop import COEFFICIENTS
from cmrsr.user_warnings import warn_user

Array = NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
ROW = 256  # bytes: what the address of a tensor has to be a multiple of


class Execution(Protocol):
    """One evaluation of the graph."""

    def enqueue(self, addresses: Mapping[str, int], stream: Stream) -> None:
        """Put it on the stream, or into the graph that the stream captures."""
        ...

    def close(self) -> None: ...


class Slot:
    """Every input and output on the GPU and, in the same layout, in page-locked memory, with the events of a batch."""

    def __init__(self, inputs: Shapes, outputs: Shapes) -> None:
        self._inputs = tuple(inputs)
        shapes = {**inputs, **outputs}
        self._sizes = {name: 4 * int(np.prod(shape)) for name, shape in shapes.items()}
        ends = np.cumsum([-(-size // ROW) * ROW for size in self._sizes.values()]).tolist()
        offsets = dict(zip(shapes, [0, *ends], strict=False))
        self._input_bytes: int = ends[len(inputs) - 1]
        with ExitStack() as made:
            self._device = made.enter_context(closing(DeviceBuffer(ends[-1])))
            self._host = made.enter_context(closing(PinnedBuffer(ends[-1])))
            self.arrived, self.computed, self.done = (made.enter_context(closing(Event())) for _ in range(3))
            self.close = made.pop_all().close
        self.addresses = {name: self._device.address + offset for name, offset in offsets.items()}
        self._staging = {name: self._host.address + offset for name, offset in offsets.items()}
        self._staged = {name: self._host.array(offsets[name], shape) for name, shape in shapes.items()}

    def fill(self, values: Mapping[str, Array]) -> None:
        """Put inputs where ``send`` takes them from. DeviceError: one has another shape than the engine."""
        for name, value in values.items():
            if value.shape != self._staged[name].shape:
                raise DeviceError(
                    f"{name} is {value.shape}, the engine was loaded for {self._staged[name].shape}: load it anew"
                )
            np.copyto(self._staged[name], value)

    def send(self, stream: Stream) -> None:
        stream.copy_in(self.addresses[self._inputs[0]], self._staging[self._inputs[0]], self._input_bytes)

    def fetch(self, name: str, stream: Stream, address: int | None = None) -> None:
        """Bring an output, or what lies at ``address`` instead, to where ``result`` reads it."""
        stream.copy_out(self._staging[name], address or self.addresses[name], self._sizes[name])

    def result(self, name: str) -> Array:
        return self._staged[name].copy()


class Loop:
    """The steps of one slot: x_t and x_next change places, coefficients come from a table with a row for each step.

    It owns ``execution``: a captured graph holds what its context was when it was captured, so none is used for two.
    """

    def __init__(self, slot: Slot, x_t: str, x_next: str, execution: Execution, n_steps: int, stream: Stream) -> None:
        self._ends: tuple[int, int] = slot.addresses[x_t], slot.addresses[x_next]
        self._names = x_t, x_next
        self._rest = slot.addresses
        self._execution, self._n_steps, self._stream = execution, n_steps, stream
        with ExitStack() as made:
            made.enter_context(closing(execution))
            self._table = made.enter_context(closing(DeviceBuffer(n_steps * ROW)))
            self._staging = made.enter_context(closing(PinnedBuffer(n_steps * ROW)))
            self._rows = self._staging.array(0, (n_steps, ROW // 4))
            self._step(0)  # what TensorRT does once for new shapes must not be part of the capture
            self._graph = self._capture(made)
            self.close = made.pop_all().close

    def _capture(self, made: ExitStack) -> CapturedGraph | None:
        try:
            return made.enter_context(closing(CapturedGraph(self._stream, self._steps)))
        except OutOfMemoryError:
            raise
        except (DeviceError, EngineError) as error:
            warn_user(
                f"the steps cannot be captured as one CUDA graph ({error}); they are launched one by one", stacklevel=2
            )
            return None

    def _steps(self) -> None:
        for i in range(self._n_steps):
            self._step(i)

    def _step(self, i: int) -> None:
        x_t, x_next = (self._ends[(i + k) % 2] for k in range(2))
        row = self._table.address + i * ROW
        addresses = {**self._rest, self._names[0]: x_t, self._names[1]: x_next, COEFFICIENTS: row}
        self._execution.enqueue(addresses, self._stream)

    @property
    def result_address(self) -> int:
        """Where the last x_next lies."""
        return self._ends[self._n_steps % 2]

    def fill(self, coefficients: Sequence[Array]) -> None:
        for row, values in zip(self._rows, coefficients, strict=True):
            row[: values.size] = values

    def send(self, stream: Stream) -> None:
        stream.copy_in(self._table.address, self._staging.address, self._table.size)

    def launch(self) -> None:
        if self._graph:
            self._graph.launch(self._stream)
        else:
            self._steps()
