"""The benchmark of a GPU as far as a machine without one can tell: its parts run, and it reads traces rightly."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")

from cmrsr.diagnostics.bench import Running
from cmrsr.diagnostics.contenders import runtime_contender
from cmrsr.diagnostics.workload import Workload
from cmrsr.errors import CmrsrWarning
from cmrsr.runtime.bundle import load, shipped
from tests.benchmarks import gpu
from tests.benchmarks.gpu_calls import LAYER, HostCalls, calls_inside, own_waits, waits
from tests.fake_gpu import FakeGpu, fake_gpu

__all__ = ["fake_gpu"]


def test_without_a_gpu_it_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "no_gpu", lambda: "no NVIDIA driver")
    assert gpu.main([]) == 6
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["no GPU to measure: no NVIDIA driver; --dry tries the script on the processor"]


@pytest.mark.skipif(not shipped(), reason="no engine is shipped in this checkout")
def test_every_part_runs_dry_and_one_that_fails_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def not_exported(*_: Any) -> None:
        raise ImportError("no onnxscript")

    monkeypatch.setenv("CMRSR_CACHE", "")  # is set by the script, and put back after the test
    monkeypatch.setattr(gpu, "untrained_bundle", not_exported)
    assert gpu.main(["--dry", "--json", str(tmp_path / "gpu.json")]) == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["skipped"] == {"network of the paper, random weights": "ImportError: no onnxscript"}
    speed = record["perfgen-s: speed"]
    assert [one["images"] for one in speed] == [1, 2]
    assert {m["name"] for one in speed for m in one["backends"]} == {"torch cpu bf16", "onnxruntime f32"}
    assert all(m["error"] < 5e-2 for one in speed for m in one["backends"])
    latency = record["perfgen-s: latency of one frame"]["onnxruntime f32"]
    assert latency["5 steps, median ms"] > latency["1 steps, median ms"] > 0
    assert record["calls of the host during a loop of perfgen-s"]["waits"]["torch cpu bf16"]["2: waits"] == 0
    assert "skipped: ImportError: no onnxscript" in capsys.readouterr().out


def event(name: str, start: float, category: str = "cuda_runtime", duration: float = 1.0) -> dict[str, Any]:
    return {"name": name, "cat": category, "ts": start, "dur": duration}


def test_only_calls_of_cuda_inside_of_the_loop_count_in_their_order() -> None:
    events = [
        {"ph": "M", "name": "process_name"},
        event("cudaEventSynchronize", 9), event("cudaGraphLaunch", 5), event("cudaMemcpyAsync", 4),
        event("cudaDeviceSynchronize", 20), event("cudaMalloc", 1), event("aten::mm", 6, "cpu_op"),
        event("loop", 3, "user_annotation", 10), event("loop", 3, "gpu_user_annotation", 100),
        event("cuLaunchKernel", 4.5, "cuda_driver"),
    ]  # fmt: skip
    assert calls_inside(events) == ("cudaMemcpyAsync", "cuLaunchKernel", "cudaGraphLaunch", "cudaEventSynchronize")


def test_the_host_may_wait_before_the_launch_but_once_behind_it() -> None:
    seen = HostCalls(
        (
            "cudaStreamSynchronize",
            "cudaGraphLaunch_v10000",
            "cudaMemcpyAsync",
            "cudaMemcpyAsync",
            "cudaEventSynchronize",
        ),
        {},
    )
    assert seen.launched
    assert seen.waits == ("cudaEventSynchronize",)
    assert seen.written() == ("cudaStreamSynchronize, cudaGraphLaunch_v10000, 2 cudaMemcpyAsync, cudaEventSynchronize")


def test_without_a_graph_every_wait_counts() -> None:
    seen = HostCalls(("cudaLaunchKernel", "cudaStreamSynchronize") * 3, {})
    assert not seen.launched
    assert len(seen.waits) == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cudaMemcpyAsync", False), ("cudaMemcpy", True), ("cudaStreamSynchronize", True),
        ("cudaStreamWaitEvent", False),
        ("cudaDeviceSynchronize", True), ("cudaEventRecord", False), ("cudaFree", True), ("cuMemcpyDtoH_v2", True),
        ("cuMemcpyDtoHAsync_v2", False), ("cudaMallocAsync", False),
    ],
)  # fmt: skip
def test_which_calls_wait(name: str, expected: bool) -> None:
    assert waits(name) is expected


def test_waits_of_our_own_layer_are_counted_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    layer: Any = ModuleType(LAYER)
    layer.cudaStreamSynchronize = lambda stream: (0, stream)
    layer.cudaGraphLaunch = lambda graph, stream: (0,)
    before = vars(layer).copy()
    monkeypatch.setitem(sys.modules, LAYER, layer)
    for part in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    with own_waits() as counted:
        assert layer.cudaStreamSynchronize(7) == (0, 7)
        layer.cudaGraphLaunch(1, 2)
    assert counted == {"cudaStreamSynchronize": 1}
    assert vars(layer) == before


@pytest.mark.parametrize("n_steps", [1, 5, 50])
def test_a_loop_on_tensorrt_waits_once_whatever_its_steps(fake_gpu: FakeGpu, engine: Path, n_steps: int) -> None:
    one = Workload(load(str(engine)), "step", {"batch": 2, "rows": 16, "columns": 8})
    with pytest.warns(CmrsrWarning):  # the plan is built
        running = Running(runtime_contender("tensorrt", "cuda:0", "auto"), one)
    assert running.looped
    running.prepare(n_steps)
    with own_waits() as counted:
        running.loop(n_steps)
    assert counted == {"cudaEventSynchronize": 1}
    running.engine.close()
