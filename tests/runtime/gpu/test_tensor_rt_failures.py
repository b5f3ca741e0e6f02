"""Whatever fails on the way to a GPU or on it is told to whom it concerns, and nothing is left behind."""

import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cmrsr.errors import DeviceError, OutOfMemoryError
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.gpu.cuda import Gpu, gpus
from tests.fake_gpu import FakeGpu, fake_gpu
from tests.fake_tensorrt import ICudaEngine, IExecutionContext
from tests.gpu_loops import batch_of, bundle, host, loaded, same

__all__ = ["bundle", "fake_gpu", "host"]
pytestmark = pytest.mark.filterwarnings("ignore:.*plan.*:cmrsr.errors.CmrsrWarning")  # that one is built first


@pytest.fixture
def nothing_left(fake_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether CUDA has everything back, and neither an engine nor a context of TensorRT is alive."""
    alive = weakref.WeakSet[Any]()

    def noted(kind: type) -> None:
        made = kind.__init__

        def init(self: Any, *args: Any) -> None:
            alive.add(self)
            made(self, *args)

        monkeypatch.setattr(kind, "__init__", init)

    noted(ICudaEngine)
    noted(IExecutionContext)
    return lambda: fake_gpu.cuda.all_live == {} and not alive


def test_memory_that_runs_out_anywhere_leaves_nothing(
    fake_gpu: FakeGpu, bundle: Bundle, host: Any, nothing_left: Callable[[], bool]
) -> None:
    loaded(bundle).close()  # the plan is in the cache
    batch, failures, done = batch_of(1, 40), Counter[str](), False
    for limit in range(0, 1 << 20, 1024):
        fake_gpu.cuda.memory_bytes = limit
        graph = None
        with suppress(OutOfMemoryError):
            graph = loaded(bundle)
            done = same(graph.start(*batch)(), host, batch)
        if graph:
            graph.close()
        failures["while loading" if graph is None else "later"] += not done
        assert nothing_left()
        if done:
            break
    assert failures["while loading"] > 10
    assert failures["later"] > 5  # of the table of 40 rows


@pytest.mark.parametrize("memory_bytes", [0, 10_000])
def test_what_did_not_fit_is_gone_while_its_error_is_handled(
    fake_gpu: FakeGpu, bundle: Bundle, nothing_left: Callable[[], bool], memory_bytes: int
) -> None:
    loaded(bundle).close()
    fake_gpu.cuda.memory_bytes = memory_bytes
    with pytest.raises(OutOfMemoryError, match=r"cudaMalloc, asked for 0.0 MiB.*--batch-size") as kept:
        loaded(bundle)
    assert nothing_left()
    assert kept.value.__traceback__  # whose frames hold what they hold


@pytest.mark.parametrize("kind", ["load", "start"])
def test_whatever_call_fails_nothing_is_left(
    fake_gpu: FakeGpu, bundle: Bundle, host: Any, kind: str, nothing_left: Callable[[], bool]
) -> None:
    cuda = fake_gpu.cuda
    loaded(bundle).close()
    k, n_failures = 0, 0
    while True:
        graph = None if kind == "load" else loaded(bundle)
        cuda.fails_at = k
        with warnings.catch_warnings(record=True) as said, suppress(DeviceError):
            warnings.simplefilter("always")
            if graph is None:
                graph = loaded(bundle, gpu=Gpu(0, "", (9, 0), 0, 13000))
            else:
                assert same(graph.start(*batch_of(1, 4))(), host, batch_of(1, 4))
        passed, cuda.fails_at = cuda.fails_at is not None, None
        n_failures += not passed and not said
        if graph and kind == "start":  # the failure was of one batch
            assert same(graph.start(*batch_of(2, 4))(), host, batch_of(2, 4))
        if graph:
            graph.close()
        del graph
        assert nothing_left()
        if passed:
            break
        k += 1
    assert n_failures > 10


def test_a_failed_batch_is_told_to_its_owner_only(fake_gpu: FakeGpu, bundle: Bundle, host: Any) -> None:
    graph = loaded(bundle)
    batches = [batch_of(seed, 4) for seed in range(3)]
    bad, good = (graph.start(*batch) for batch in batches[:2])
    fake_gpu.cuda.fails_at = 2  # the wait for the first, which makes room for the third
    third = graph.start(*batches[2])
    assert fake_gpu.cuda.fails_at is None
    for _ in range(2):
        with pytest.raises(DeviceError, match="cudaEventSynchronize failed with cudaErrorLaunchFailure"):
            bad()
    assert same(good(), host, batches[1])
    assert same(third(), host, batches[2])
    graph.close()


def test_a_step_that_nobody_wants_told_ends_its_own_batch_only(fake_gpu: FakeGpu, bundle: Bundle, host: Any) -> None:
    graph = loaded(bundle)
    batches = [batch_of(seed, 4) for seed in range(3)]

    def give_up() -> None:
        raise KeyError("given up")

    given_up, *others = (graph.start(*batch, give_up if i == 0 else None) for i, batch in enumerate(batches))
    with pytest.raises(KeyError, match="given up"):
        given_up()
    assert all(same(wait(), host, batch) for wait, batch in zip(others, batches[1:], strict=True))
    graph.start(*batches[0], give_up)
    graph.close()
    assert fake_gpu.cuda.all_live == {}


def test_no_context_for_lack_of_memory(fake_gpu: FakeGpu, bundle: Bundle, nothing_left: Callable[[], bool]) -> None:
    fake_gpu.tensorrt.context_failure = "Error Code 2: OutOfMemory"
    with pytest.raises(OutOfMemoryError, match=r"make an execution context of .* x_t 2x1x16x12.*--batch-size"):
        loaded(bundle)
    assert nothing_left()


@pytest.mark.parametrize("missing", ["driver", "device", "number"])
def test_without_a_gpu_tensorrt_is_not_touched(
    fake_gpu: FakeGpu, bundle: Bundle, missing: str, nothing_left: Callable[[], bool]
) -> None:
    loaded(bundle).close()
    found = gpus()[0]
    fake_gpu.tensorrt.Runtime = fake_gpu.tensorrt.Builder = None  # type: ignore[assignment]
    match missing:
        case "driver":
            fake_gpu.cuda.driver = 0
        case "device":
            fake_gpu.cuda.n_gpus = 0
        case "number":
            found = Gpu(1, found.name, found.capability, found.memory_bytes, found.driver)
    with pytest.raises(DeviceError, match=r"no NVIDIA driver|shows no GPU|no cuda:1, only cuda:0"):
        loaded(bundle, gpu=found)
    assert nothing_left()
