"""The DDIM loop of a step graph on the host: for backends that run one evaluation at a time."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cmrsr.runtime.bundle import Graph
from cmrsr.runtime.choice import OnStep

Array = NDArray[np.float32]
COEFFICIENTS = "coefficients"


class HostLoop:
    """Runs the loops in a thread of its own, in order, one evaluation after the other."""

    def __init__(self, graph: Graph, evaluate: Callable[..., tuple[Array, ...]]) -> None:
        self._names = [port.name for port in graph.inputs]
        self._evaluate = evaluate
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        """See ``Engine.start``."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="ddim")
        return self._pool.submit(self._loop, x_t, given, coefficients, on_step).result

    def _loop(self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep) -> Array:
        for step in coefficients:
            if self._closed:
                break
            values = {self._names[0]: x_t, **given, COEFFICIENTS: step}
            x_t = self._evaluate(*(values[name] for name in self._names))[0]
            if on_step:
                on_step()
        return x_t

    def close(self) -> None:
        """Stop after the evaluation that is on its way."""
        self._closed = True
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
