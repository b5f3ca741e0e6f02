"""How long a fresh process takes to its first output, and how much memory that needs."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cmrsr.diagnostics.workload import Workload
from cmrsr.errors import DeviceError
from cmrsr.runtime.bundle import Bundle, Graph, load
from cmrsr.runtime.choice import DeviceChoice, Engine

# What loads a graph for given shapes: a function of a module, so that a fresh process finds it by its name.
Factory = Callable[[Bundle, Graph, Mapping[str, tuple[int, ...]], DeviceChoice], Engine]
TIMEOUT = 300  # s: a TensorRT plan may have to be built
CODE = "import sys; from cmrsr.diagnostics.cold_start import first_output; first_output(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class ColdStart:
    """seconds: from the start of the process to its first output. peak_mb: of its memory; None where not known."""

    seconds: float
    peak_mb: float | None


def cold_start(workload: Workload, factory: Factory, choice: DeviceChoice) -> ColdStart:
    """Start a Python that loads the graph with ``factory`` and runs it once. DeviceError: it did not get that far."""
    order = {
        "module": factory.__module__, "factory": factory.__qualname__, "bundle": str(workload.bundle.path),
        "graph": workload.graph_name, "sizes": dict(workload.sizes), "choice": asdict(choice),
    }  # fmt: skip
    command = [sys.executable, "-c", CODE, json.dumps(order)]
    start = time.time()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"a fresh process gave no output within {TIMEOUT} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"a fresh process ended with {done.returncode}: {last}")
    said = json.loads(done.stdout.splitlines()[-1])
    return ColdStart(said["at"] - start, said["peak_mb"])


def first_output(order_json: str) -> None:
    """The fresh process: load, run, say so."""
    order: dict[str, Any] = json.loads(order_json)
    factory: Factory = getattr(importlib.import_module(order["module"]), order["factory"])
    workload = Workload(load(order["bundle"]), order["graph"], order["sizes"])
    engine = factory(workload.bundle, workload.graph, workload.shapes, DeviceChoice(**order["choice"]))
    engine(*workload.inputs().values())
    at = time.time()  # the clock that both processes share
    engine.close()
    print(json.dumps({"at": at, "peak_mb": peak_mb()}))


def peak_mb() -> float | None:
    """Most memory this process had so far (MB); None where it cannot be told.

    Not ru_maxrss on Linux: there a process inherits the peak of the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
