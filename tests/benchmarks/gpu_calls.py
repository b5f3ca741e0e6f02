"""What the host asks of the CUDA runtime while a loop is on its way: whether it ever waits inside."""

import importlib
import importlib.util
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

RANGE = "loop"
LAUNCH = ("cudaGraphLaunch", "cuGraphLaunch")
WAITING = (
    "cudaDeviceSynchronize",
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cudaMalloc",
    "cudaFree",
)
LAYER = "cuda.bindings.runtime"  # what our own TensorRT layer calls


@dataclass(frozen=True, slots=True)
class HostCalls:
    """calls: of the CUDA runtime and driver, in order. own_waits: synchronising calls of our own layer by name."""

    calls: tuple[str, ...]
    own_waits: dict[str, int]

    @property
    def launched(self) -> bool:
        """Whether there was a graph."""
        return any(name.startswith(LAUNCH) for name in self.calls)

    @property
    def waits(self) -> tuple[str, ...]:
        """Calls in which the host waits, from the launch of the graph to the result; without a graph, all of them.

        A loop that runs by itself has one, for its result.
        """
        first = next((i for i, name in enumerate(self.calls) if name.startswith(LAUNCH)), -1)
        return tuple(name for name in self.calls[first + 1 :] if waits(name))

    def written(self) -> str:
        """All calls in order, repeated ones counted."""
        runs = [(name, len(list(same))) for name, same in groupby(self.calls)]
        return ", ".join(name if n == 1 else f"{n} {name}" for name, n in runs)


def waits(name: str) -> bool:
    """Whether the host waits in this call of CUDA: it synchronises, or copies or frees in step with the device."""
    base = name.split("_v")[0]
    copies = base.startswith(("cudaMemcpy", "cuMemcpy")) and "Async" not in base
    return "Synchronize" in base or copies or base in ("cudaFree", "cudaMalloc", "cuMemFree", "cuMemAlloc")


def host_calls(loop: Callable[[], object]) -> HostCalls:
    """Run a loop that was run before under torch's profiler (CUPTI), and list the calls made inside of it."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with tempfile.TemporaryDirectory() as folder, own_waits() as own:
        with profile(activities=activities) as profiler, record_function(RANGE):
            loop()
        counted = dict(own)
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return HostCalls(calls_inside(json.loads(path.read_text())["traceEvents"]), counted)


def calls_inside(events: list[dict[str, Any]]) -> tuple[str, ...]:
    """Names of the calls of the CUDA runtime within the range ``RANGE`` of a trace, on whatever thread, by time."""
    inside = next(e for e in events if e.get("name") == RANGE and e.get("cat") == "user_annotation")
    end = inside["ts"] + inside["dur"]
    calls = [
        e
        for e in events
        if e.get("cat") in ("cuda_runtime", "cuda_driver") and inside["ts"] <= e["ts"] <= end
    ]  # fmt: skip
    return tuple(e["name"] for e in sorted(calls, key=lambda e: float(e["ts"])))


@contextmanager
def own_waits() -> Iterator[Counter[str]]:
    """Counts, by name, the synchronising calls that go through cuda-python; nothing where it is not installed."""
    counted: Counter[str] = Counter()
    try:
        library = importlib.import_module(LAYER)
    except ImportError:
        yield counted
        return
    replaced = {name: getattr(library, name) for name in WAITING if hasattr(library, name)}

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            counted[name] += 1
            return function(*arguments)

        return call

    try:
        for name, function in replaced.items():
            setattr(library, name, counting(name, function))
        yield counted
    finally:
        for name, function in replaced.items():
            setattr(library, name, function)
