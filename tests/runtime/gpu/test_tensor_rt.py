"""The DDIM loop on a GPU: the same images as on the host, one launch for all steps, batches apart, nothing left behind.

All on stand-ins for CUDA and TensorRT, which do work as late as they may, or at once.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmrsr.errors import CmrsrWarning, DeviceError, EngineError
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.gpu.cuda import gpus
from cmrsr.runtime.gpu.plan import plan_source
from cmrsr.runtime.gpu.tensor_rt import TensorRtGraph
from cmrsr.runtime.onnx_runtime import OnnxRuntimeGraph
from tests.cine import interp_engine
from tests.fake_gpu import FakeGpu, fake_gpu
from tests.gpu_loops import F32, batch_of, bundle, error, host, loaded, noise, same, shapes

__all__ = ["bundle", "fake_gpu", "host", "interp_engine"]
pytestmark = pytest.mark.filterwarnings("ignore:.*plan.*:cmrsr.errors.CmrsrWarning")  # that one is built first


@pytest.fixture(params=["late", "at once"])
def gpu(fake_gpu: FakeGpu, request: pytest.FixtureRequest) -> FakeGpu:
    fake_gpu.cuda.lazy = request.param == "late"
    return fake_gpu


@pytest.mark.parametrize("n_steps", [1, 4, 5])
def test_the_loop_is_the_hosts(gpu: FakeGpu, bundle: Bundle, host: OnnxRuntimeGraph, n_steps: int) -> None:
    graph = loaded(bundle)
    assert (graph.backend, graph.device, graph.precision) == ("tensorrt", "cuda:0", "f32")
    steps: list[int] = []
    batch = batch_of(1, n_steps)
    wait = graph.start(*batch, lambda: steps.append(1))
    first = wait()
    assert same(first, host, batch)
    assert len(steps) == n_steps
    assert wait() is first
    assert len(steps) == n_steps
    graph.close()
    assert gpu.cuda.all_live == {}


def test_batches_in_flight_do_not_mix(gpu: FakeGpu, bundle: Bundle, host: OnnxRuntimeGraph) -> None:
    graph = loaded(bundle)
    batches = [batch_of(seed, n_steps) for seed, n_steps in enumerate((4, 4, 5, 4, 1, 5, 4))]
    copies = [(x_t.copy(), {k: v.copy() for k, v in given.items()}, steps) for x_t, given, steps in batches]
    waits = []
    for x_t, given, steps in copies:  # more than there is room for: what is oldest is taken out meanwhile
        waits.append(graph.start(x_t, given, steps))
        x_t[:] = np.nan
        for value in given.values():
            value[:] = np.nan
    assert all(same(waits[i](), host, batches[i]) for i in (6, 0, 1, 5, 4, 3, 2))
    graph.close()


def test_one_launch_and_one_wait_for_all_steps(gpu: FakeGpu, bundle: Bundle) -> None:
    graph = loaded(bundle)
    for seed in range(2):
        graph.start(*batch_of(seed, 5))()
    with gpu.cuda.counted() as calls:
        waits = [graph.start(*batch_of(seed, 5)) for seed in (2, 3)]
        begun = gpu.cuda.calls.copy()
        for wait in waits:
            wait()
    made = dict(calls)
    assert made.pop("cudaSetDevice") >= 2
    assert made == {
        "cudaMemcpyAsync": 6,  # of each batch: coefficients, inputs, result
        "cudaEventRecord": 6,
        "cudaStreamWaitEvent": 4,
        "cudaGraphLaunch": 2,
        "cudaEventSynchronize": 2,
    }
    assert (gpu.cuda.calls - begun)["cudaEventSynchronize"] == 2  # none while they were begun
    graph.close()


def test_a_loop_is_captured_once_for_its_number_of_steps_and_slot(
    fake_gpu: FakeGpu, bundle: Bundle, host: OnnxRuntimeGraph
) -> None:
    graph, calls = loaded(bundle), fake_gpu.cuda.calls
    for n_captures, n_steps in ((1, 4), (2, 4), (2, 4), (2, 4), (3, 1), (4, 1), (4, 4), (4, 1)):
        batch = batch_of(n_captures, n_steps)
        assert same(graph.start(*batch)(), host, batch)
        assert calls["cudaStreamBeginCapture"] == calls["cudaGraphInstantiate"] == n_captures
    graph.close()


def test_single_evaluations_between_loops(gpu: FakeGpu, bundle: Bundle, host: OnnxRuntimeGraph) -> None:
    graph = loaded(bundle)
    batches = [batch_of(seed, 4) for seed in range(2)]
    waits = [graph.start(*batch) for batch in batches]
    x_t, given, steps = batch_of(7, 1)
    once = (x_t, given["lr"], steps[0], given["low_pass"])
    for found, wanted in zip(graph(*once), host(*once), strict=True):
        assert error(found, wanted) < F32
    assert all(same(wait(), host, batch) for wait, batch in zip(waits, batches, strict=True))
    graph.close()


def test_any_graph_of_a_bundle_runs(gpu: FakeGpu, interp_engine: Path) -> None:
    """Several inputs beside x_t, and a graph that has no steps."""
    manifest = (bundle := load(str(interp_engine), "interp4d")).manifest
    frames, pairs, row = noise(1, 2, 3, 8, 12), noise(2, 2, 2, 8, 12), noise(3, 2, 3)
    given = {"known": pairs, "base": frames + 1, "bend": frames - 1, "tau": row}
    sizes = {"x_t": frames.shape} | {name: value.shape for name, value in given.items()}
    for graph, n_slots, inputs in (
        (manifest.step, 2, sizes),
        (manifest.graphs["volume"], 1, {"volume": (1, 3, 4, 12, 8)}),
    ):
        assert graph
        engine = TensorRtGraph(plan_source(bundle, graph, "f32"), graph, inputs, gpu=gpus()[0])
        oracle = OnnxRuntimeGraph(bundle.path / graph.file, graph, threads=1, cuda_device=None)
        assert gpu.cuda.live["pinned"] == n_slots
        if graph is manifest.step:
            steps = [0.5 * noise(10 + i, 5) for i in range(3)]
            assert error(engine.start(frames, given, steps)(), oracle.start(frames, given, steps)()) < F32
        else:
            shown = noise(4, *inputs["volume"])
            assert error(engine(shown)[0], oracle(shown)[0]) < F32
        engine.close()


def test_results_outlive_the_engine_and_a_closed_one_says_so(fake_gpu: FakeGpu, bundle: Bundle, host: Any) -> None:
    graph, batch = loaded(bundle), batch_of(1, 4)
    wait = graph.start(*batch)
    graph.close()
    graph.close()
    assert fake_gpu.cuda.all_live == {}
    assert same(wait(), host, batch)
    with pytest.raises(DeviceError, match="was closed"):
        graph.start(*batch)


def test_other_shapes_are_refused_by_name(fake_gpu: FakeGpu, bundle: Bundle, host: Any) -> None:
    graph = loaded(bundle)
    x_t, given, steps = batch_of(1, 4)
    with pytest.raises(DeviceError, match=r"lr is \(1, 1, 16, 12\), the engine was loaded for \(2, 1, 16, 12\)"):
        graph.start(x_t, given | {"lr": given["lr"][:1]}, steps)  # would be repeated by numpy's rules
    assert same(graph.start(x_t, given, steps)(), host, (x_t, given, steps))
    graph.close()
    with pytest.raises(EngineError, match="no size was given for input low_pass"):
        TensorRtGraph(
            plan_source(bundle, bundle.manifest.step, "f32"), bundle.manifest.step,
            {k: v for k, v in shapes().items() if k != "low_pass"}, gpu=gpus()[0],
        )  # fmt: skip


def test_every_thread_uses_the_engines_gpu(fake_gpu: FakeGpu, bundle: Bundle, host: Any) -> None:
    fake_gpu.cuda.n_gpus = 2
    graph = loaded(bundle, gpu=gpus()[1])
    assert graph.device == "cuda:1"
    batches, found = [batch_of(seed, 4) for seed in range(3)], {}

    def in_thread(do: Callable[[], Any]) -> Any:
        thread = threading.Thread(target=lambda: found.update(it=do()))
        thread.start()
        thread.join()
        return found.pop("it", None)

    waits = [in_thread(lambda batch=batch: graph.start(*batch)) for batch in batches]
    assert all(same(in_thread(wait), host, batch) for wait, batch in zip(waits, batches, strict=True))
    assert in_thread(lambda: (graph.close(), fake_gpu.cuda.current_device)[1]) == 1
    assert fake_gpu.cuda.all_live == {}


def test_a_loop_that_cannot_be_captured_is_enqueued_step_by_step(
    fake_gpu: FakeGpu, bundle: Bundle, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, cuda = loaded(bundle), fake_gpu.cuda
    monkeypatch.setattr(cuda, "cudaGraphInstantiate", lambda graph, flags: (cuda.failure, None), raising=False)
    batches = [batch_of(seed, 4) for seed in range(3)]
    with pytest.warns(CmrsrWarning, match="cannot be captured as one CUDA graph"):
        waits = [graph.start(*batch) for batch in batches]
    assert cuda.calls["cudaStreamSynchronize"] == 0
    assert all(same(wait(), host, batch) for wait, batch in zip(waits, batches, strict=True))
    graph.close()
    assert cuda.all_live == {}
