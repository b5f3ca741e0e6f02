"""A graph on a device whose memory may not hold the batch: half of it is tried, and half of that."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import OutOfMemoryError
from cmrsr.runtime.bundle import Graph
from cmrsr.runtime.choice import Engine, OnStep
from cmrsr.user_warnings import warn_user

Array = NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
BATCH = "batch"  # the dimension of the manifest's ports that is divided


class SmallerBatches:
    """An Engine for ``shapes`` that divides its batch where memory runs out, while it is loaded or later.

    load: makes the engine for given shapes. With ``strict``, and for a batch of one, the OutOfMemoryError goes through.
    """

    def __init__(self, load: Callable[[Shapes], Engine], graph: Graph, shapes: Shapes, *, strict: bool) -> None:
        self._load, self._graph, self._shapes, self._strict = load, graph, shapes, strict
        sizes = {shapes[port.name][0] for port in graph.inputs if _divided(port.shape) and port.name in shapes}
        self._whole = self._batch = sizes.pop() if len(sizes) == 1 else 1
        while True:
            try:
                self._take(load(self._sized()))
                return
            except OutOfMemoryError as error:
                self._halve(error)

    def _take(self, engine: Engine) -> None:
        self._engine = engine
        self.backend, self.device, self.precision = engine.backend, engine.device, engine.precision

    def _sized(self) -> Shapes:
        named = {port.name: port.shape for port in self._graph.inputs}
        return {
            name: (self._batch, *shape[1:]) if _divided(named[name]) else shape for name, shape in self._shapes.items()
        }

    def _halve(self, error: OutOfMemoryError) -> None:
        if self._strict or self._batch == 1:
            raise error
        smaller = self._batch // 2
        warn_user(
            f"memory does not hold a batch of {self._batch} ({error}); {smaller} at a time are used", stacklevel=4
        )
        self._batch = smaller

    def _shrink(self, error: OutOfMemoryError) -> None:
        """Load the engine anew for a smaller batch."""
        while True:
            self._halve(error)
            self._engine.close()
            try:
                self._take(self._load(self._sized()))
                return
            except OutOfMemoryError as again:
                error = again

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        while True:
            try:
                if self._batch == self._whole:
                    return self._engine(*inputs)
                names = [port.name for port in self._graph.inputs]
                given = dict(zip(names, inputs, strict=True))
                parts = [self._engine(*part.values()) for part in self._parts(given)]
                return tuple(
                    np.concatenate(pieces)[: self._whole] if _divided(port.shape) else pieces[0]
                    for port, pieces in zip(self._graph.outputs, zip(*parts, strict=True), strict=True)
                )
            except OutOfMemoryError as error:
                self._shrink(error)

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        """See ``Engine.start``; a batch in parts is computed when it is waited for."""
        begun: Callable[[], Array] | None = None
        engine = self._engine
        if self._batch == self._whole:
            try:
                begun = engine.start(x_t, given, coefficients, on_step)
            except OutOfMemoryError as error:
                self._shrink(error)

        def wait() -> Array:
            if begun and engine is self._engine:
                try:
                    return begun()
                except OutOfMemoryError as error:
                    self._shrink(error)
            return self._in_parts(x_t, given, coefficients, on_step)

        return wait

    def _in_parts(self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], said: OnStep) -> Array:
        name = self._graph.inputs[0].name
        while True:
            try:
                parts = list(self._parts({name: x_t, **given}))
                found = []
                for i, part in enumerate(parts):
                    rest = {k: v for k, v in part.items() if k != name}
                    last = i == len(parts) - 1  # steps are counted once
                    found.append(self._engine.start(part[name], rest, coefficients, said if last else None)())
                return np.concatenate(found)[: self._whole]
            except OutOfMemoryError as error:
                self._shrink(error)

    def _parts(self, given: Mapping[str, Array]) -> Sequence[dict[str, Array]]:
        """The inputs in batches of the present size, the tail filled up with its last row."""
        divided = {port.name for port in self._graph.inputs if _divided(port.shape)}
        out = []
        for start in range(0, self._whole, self._batch):
            rows = np.minimum(np.arange(start, start + self._batch), self._whole - 1)
            out.append({k: np.ascontiguousarray(v[rows]) if k in divided else v for k, v in given.items()})
        return out

    def close(self) -> None:
        self._engine.close()


def _divided(shape: tuple[int | str, ...]) -> bool:
    return bool(shape) and shape[0] == BATCH
