"""Batches on their way through a step graph while the next one is prepared."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cmrsr.runtime.choice import Engine

Array = NDArray[np.float32]
IN_FLIGHT = 2  # batches: one is computed, the next waits for it


class _AbandonedError(Exception):
    """Ends a loop whose result nobody waits for."""


class Ahead:
    """Starts DDIM loops and hands out their results in order; what is still computing is given up on an error.

    on_evaluation: is told how many images went through one evaluation of the network.
    """

    def __init__(self, on_evaluation: Callable[[int], None] | None = None) -> None:
        self._on_evaluation = on_evaluation
        self._waiting: deque[tuple[Callable[[], Array], Callable[[Array], None]]] = deque()
        self._abandoned = False

    def start(
        self, engine: Engine, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], n: int,
        then: Callable[[Array], None],
    ) -> None:  # fmt: skip
        """A batch, ``n`` images of which count; ``then`` is called with the result, now or in a later call."""
        while len(self._waiting) >= IN_FLIGHT:
            self._collect()

        def said() -> None:
            if self._abandoned:
                raise _AbandonedError
            if self._on_evaluation:
                self._on_evaluation(n)

        self._waiting.append((engine.start(x_t, given, coefficients, said), then))

    def finish(self) -> None:
        """Wait for all."""
        while self._waiting:
            self._collect()

    def _collect(self) -> None:
        wait, then = self._waiting.popleft()
        then(wait())

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandoned = True
