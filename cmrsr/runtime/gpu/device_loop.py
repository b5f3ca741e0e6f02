"""Batches on a GPU: one computes while the next is copied in; the host waits for nothing but a result."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import DeviceError
from cmrsr.runtime.choice import OnStep
from cmrsr.runtime.gpu.cuda import use
from cmrsr.runtime.gpu.cuda_objects import Stream
from cmrsr.runtime.gpu.device_slot import Execution, Loop, Shapes, Slot
from cmrsr.runtime.host_loop import COEFFICIENTS

Array = NDArray[np.float32]
SLOTS = 2  # batches: one computes while the next is copied in


class Batch:
    """A loop that was begun, and what came of it."""

    def __init__(self, wait: Callable[[], Array], n_steps: int, on_step: OnStep) -> None:
        self._wait: Callable[[], Array] | None = wait
        self._n_steps, self._on_step = n_steps, on_step
        self._lock = threading.RLock()
        self._outcome: Array | Exception

    def result(self) -> Array:
        """The last x_next, or what was raised meanwhile: always the same."""
        with self._lock:
            if self._wait:
                try:
                    self._outcome = self._wait()
                    if self._on_step:
                        for _ in range(self._n_steps):
                            self._on_step()
                except Exception as error:  # whoever finishes a batch, its own caller is told
                    self._outcome = error
                self._wait = None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class DeviceLoop:
    """Evaluations and DDIM loops of one graph on one GPU, from any thread.

    once: what single evaluations use. make: one more of its kind, which a captured loop has for itself. Both compute
    in the stream ``compute`` only, one after the other, because they share scratch memory; copies have a stream for
    each direction. A graph without coefficients has no loops.
    """

    def __init__(
        self, number: int, inputs: Shapes, outputs: Shapes, once: Execution, make: Callable[[], Execution],
        compute: Stream,
    ) -> None:  # fmt: skip
        self._number, self._once, self._make, self._compute = number, once, make, compute
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._lock = threading.RLock()
        self._turn = 0
        self._loops: dict[tuple[int, int], Loop] = {}
        self._batches: dict[int, Batch] = {}
        n_slots = SLOTS if COEFFICIENTS in inputs else 1
        with ExitStack() as made:
            self._in, self._out = (made.enter_context(closing(Stream())) for _ in range(2))
            self._slots = [made.enter_context(closing(Slot(inputs, outputs))) for _ in range(n_slots)]
            self._made = made.pop_all()
        self._closed = False

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        """The graph once: inputs and outputs in its order."""
        with self._exclusive(0) as slot:
            slot.fill(dict(zip(self._inputs, inputs, strict=True)))
            slot.send(self._compute)
            self._once.enqueue(slot.addresses, self._compute)
            for name in self._outputs:
                slot.fetch(name, self._compute)
            self._compute.synchronise()
            return tuple(slot.result(name) for name in self._outputs)

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        """See ``Engine.start``."""
        with self._lock:
            i = self._turn
            self._turn = (i + 1) % len(self._slots)
            with self._exclusive(i) as slot:
                loop = self._loop(i, len(coefficients))
                loop.fill(coefficients)
                slot.fill({self._inputs[0]: x_t, **given})
                loop.send(self._in)
                slot.send(self._in)
                self._in.record(slot.arrived)
                self._compute.wait(slot.arrived)
                loop.launch()
                self._compute.record(slot.computed)
                self._out.wait(slot.computed)
                slot.fetch(self._outputs[0], self._out, loop.result_address)
                self._out.record(slot.done)
                self._batches[i] = batch = Batch(lambda: self._wait(slot), len(coefficients), on_step)
        return batch.result

    @contextmanager
    def _exclusive(self, i: int) -> Iterator[Slot]:
        """A slot for the caller alone, its last batch done; after a failure nothing is left at work in it."""
        with self._lock:
            if self._closed:
                raise DeviceError("the engine was closed: load it anew")
            use(self._number)
            self._finish(i)
            try:
                yield self._slots[i]
            except BaseException:
                for stream in (self._in, self._compute, self._out):
                    with suppress(DeviceError):
                        stream.synchronise()
                raise

    def _finish(self, i: int) -> None:
        """Wait for the batch in a slot; that it failed is told to whom it belongs."""
        if i in self._batches:
            with suppress(Exception):
                self._batches[i].result()
            del self._batches[i]

    def _wait(self, slot: Slot) -> Array:
        use(self._number)
        slot.done.synchronise()
        return slot.result(self._outputs[0])

    def _loop(self, i: int, n_steps: int) -> Loop:
        if (i, n_steps) not in self._loops:
            loop = Loop(self._slots[i], self._inputs[0], self._outputs[0], self._make(), n_steps, self._compute)
            self._loops[i, n_steps] = self._made.enter_context(closing(loop))
        return self._loops[i, n_steps]

    def close(self) -> None:
        """Wait for what is on its way, whose results stay available, and give everything back."""
        with self._lock:
            if not self._closed:
                self._closed = True
                with suppress(DeviceError):
                    use(self._number)
                for i in range(len(self._slots)):
                    self._finish(i)
                self._made.close()
