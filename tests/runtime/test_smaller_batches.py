"""A batch that the device's memory does not hold is divided, with the same result and a word about it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.errors import CmrsrWarning, OutOfMemoryError
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.host_loop import HostLoop
from cmrsr.runtime.smaller_batches import Shapes, SmallerBatches
from tests.engines import engine

__all__ = ["engine"]

Array = NDArray[np.float32]
STEPS = [np.array([1, 2, 0, 0, 0], np.float32), np.array([1, 3, 0, 0, 0], np.float32)]


class Device:
    """Multiplies by the second coefficient; holds batches up to ``loading`` when loaded, ``running`` when run."""

    def __init__(self, bundle: Bundle, loading: int, running: int) -> None:
        self.graph, self.loading, self.running = bundle.manifest.step, loading, running
        self.open: list[int] = []  # batch sizes of the engines that are open

    def load(self, shapes: Shapes) -> "Held":
        if shapes["x_t"][0] > self.loading:
            raise OutOfMemoryError("4 GB wanted")
        return Held(self, shapes["x_t"][0])


class Held:
    backend, device, precision = "test", "cuda:0", "f32"

    def __init__(self, device: Device, batch: int) -> None:
        self._device, self._batch = device, batch
        self._loop = HostLoop(device.graph, self)
        self.start = self._loop.start
        device.open.append(batch)

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        x_t, lr, coefficients, _ = inputs
        assert len(x_t) == len(lr) == self._batch
        if len(x_t) > self._device.running:
            raise OutOfMemoryError("4 GB wanted")
        return coefficients[1] * x_t + lr, x_t

    def close(self) -> None:
        self._device.open.remove(self._batch)


@pytest.fixture(scope="module")
def bundle(engine: Path) -> Bundle:
    return load(str(engine))


def divided(device: Device, batch: int, *, strict: bool = False) -> SmallerBatches:
    image = (batch, 1, 4, 4)
    return SmallerBatches(device.load, device.graph, {"x_t": image, "lr": image, "low_pass": (4, 4)}, strict=strict)


def given(batch: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    return (
        rng.random((batch, 1, 4, 4), np.float32),
        rng.random((batch, 1, 4, 4), np.float32),
        np.eye(4, dtype=np.float32),
    )


Run = Callable[[SmallerBatches, int], tuple[Array, ...]]


def once(engine: SmallerBatches, batch: int) -> tuple[Array, ...]:
    x_t, lr, low_pass = given(batch)
    return engine(x_t, lr, STEPS[0], low_pass)


def looped(engine: SmallerBatches, batch: int) -> tuple[Array, ...]:
    x_t, lr, low_pass = given(batch)
    return (engine.start(x_t, {"lr": lr, "low_pass": low_pass}, STEPS)(),)


def wanted(run: Run, batch: int) -> tuple[Array, ...]:
    x_t, lr, _ = given(batch)
    return (2 * x_t + lr, x_t) if run is once else (3 * (2 * x_t + lr) + lr,)


@pytest.mark.parametrize("run", [once, looped])
@pytest.mark.parametrize(("loading", "running", "used"), [(7, 7, 7), (3, 3, 3), (7, 2, 1), (5, 1, 1), (7, 3, 3)])
def test_the_result_is_that_of_the_whole_batch(bundle: Bundle, run: Run, loading: int, running: int, used: int) -> None:
    device = Device(bundle, loading, running)
    with pytest.warns(CmrsrWarning) if used < 7 else nullcontext():
        engine = divided(device, 7)
        found = run(engine, 7)
    for got, expected in zip(found, wanted(run, 7), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert device.open == [used]
    np.testing.assert_array_equal(run(engine, 7)[0], found[0])  # without a word more
    engine.close()
    assert not device.open


def test_the_warning_says_how_many_are_used(bundle: Bundle) -> None:
    with pytest.warns(CmrsrWarning, match=r"does not hold a batch of 8 \(4 GB wanted\); 4 at a time are used"):
        divided(Device(bundle, 4, 4), 8)


@pytest.mark.parametrize("run", [once, looped])
def test_strictness_and_a_batch_of_one_let_the_error_through(bundle: Bundle, run: Run) -> None:
    with pytest.raises(OutOfMemoryError, match="4 GB wanted"):
        divided(Device(bundle, 4, 4), 8, strict=True)
    engine = divided(Device(bundle, 8, 4), 8, strict=True)
    with pytest.raises(OutOfMemoryError):
        run(engine, 8)
    engine = divided(Device(bundle, 8, 0), 1)
    with pytest.raises(OutOfMemoryError):
        run(engine, 1)


def test_steps_are_counted_once_and_batches_keep_their_order(bundle: Bundle) -> None:
    said: list[int] = []
    with pytest.warns(CmrsrWarning):
        engine = divided(Device(bundle, 2, 2), 4)
    x_t, lr, low_pass = given(4)
    rest = {"lr": lr, "low_pass": low_pass}
    waits = [engine.start(x_t + i, rest, STEPS, lambda: said.append(1)) for i in range(3)]
    for i, wait in enumerate(waits):
        np.testing.assert_array_equal(wait(), 3 * (2 * (x_t + np.float32(i)) + lr) + lr)
    assert len(said) == 3 * len(STEPS)


def test_batches_on_their_way_when_memory_runs_out_are_done_again(bundle: Bundle) -> None:
    engine = divided(Device(bundle, 8, 4), 8)
    x_t, lr, low_pass = given(8)
    waits = [engine.start(x_t + i, {"lr": lr, "low_pass": low_pass}, STEPS) for i in range(2)]
    with pytest.warns(CmrsrWarning, match="4 at a time"):
        found = [wait() for wait in waits]
    for i, got in enumerate(found):
        np.testing.assert_array_equal(got, 3 * (2 * (x_t + np.float32(i)) + lr) + lr)
