"""Batches that are prepared ahead: results in order, progress, and nothing that goes on computing for nobody."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.runtime.bundle import load
from cmrsr.runtime.choice import OnStep
from cmrsr.runtime.host_loop import HostLoop
from cmrsr.runtime.pipeline import IN_FLIGHT, Ahead
from tests.engines import engine

__all__ = ["engine"]

Array = NDArray[np.float32]


class Slow:
    """A step graph that adds one at every step, each of which waits for ``go``."""

    backend, device, precision = "test", "cpu", "f32"

    def __init__(self, folder: Path) -> None:
        self.go = threading.Semaphore(0)
        self.evaluated = 0
        self.begun = 0
        self._loop = HostLoop(load(str(folder)).manifest.step, self)

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        assert self.go.acquire(timeout=30)
        self.evaluated += 1
        return inputs[0] + 1, inputs[0]

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        self.begun += 1
        return self._loop.start(x_t, given, coefficients, on_step)

    def close(self) -> None:
        self._loop.close()


GIVEN = {"lr": np.zeros((1, 1, 4, 4), np.float32), "low_pass": np.zeros((4, 4), np.float32)}
STEPS = [np.zeros(5, np.float32)] * 3


def batch(value: int) -> Array:
    return np.full((1, 1, 4, 4), value, np.float32)


def test_results_come_in_order_and_progress_counts_images(engine: Path) -> None:
    slow, said, found = Slow(engine), [], []
    for _ in range(5 * len(STEPS)):
        slow.go.release()
    with Ahead(said.append) as ahead:
        for i in range(5):
            ahead.start(slow, batch(10 * i), GIVEN, STEPS, 2, lambda x: found.append(float(x[0, 0, 0, 0])))
        ahead.finish()
    assert found == [3, 13, 23, 33, 43]
    assert said == [2] * 15
    slow.close()


def test_the_caller_goes_on_while_batches_compute_but_not_without_limit(engine: Path) -> None:
    slow, found = Slow(engine), []
    with Ahead() as ahead:
        for i in range(IN_FLIGHT):  # none of these waits, though nothing is computed yet
            ahead.start(slow, batch(i), GIVEN, STEPS, 1, found.append)
        assert (slow.begun, slow.evaluated, found) == (IN_FLIGHT, 0, [])
        for _ in range((IN_FLIGHT + 1) * len(STEPS)):
            slow.go.release()
        ahead.start(slow, batch(9), GIVEN, STEPS, 1, found.append)
        assert len(found) == 1  # the first was waited for
        ahead.finish()
    assert len(found) == IN_FLIGHT + 1
    slow.close()


def test_after_an_error_the_loops_stop_at_their_next_step(engine: Path) -> None:
    slow = Slow(engine)

    def interrupted() -> None:
        with Ahead() as ahead:
            for i in range(IN_FLIGHT):
                ahead.start(slow, batch(i), GIVEN, STEPS, 1, lambda x: None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for _ in range(IN_FLIGHT * len(STEPS)):
        slow.go.release()
    slow.close()
    assert slow.evaluated <= IN_FLIGHT  # one step of each at most, not all three
