"""Times and memory of calls and of whole processes."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def seconds(call: Callable[[], Any], repeats: int = 5, warm_up: int = 2) -> float:
    """Median time of a call."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def command(*arguments: str) -> tuple[float, float]:
    """Wall seconds and peak memory (MB) of one ``cmrsr`` process."""
    code = (
        "import sys, cmrsr.cli; code = cmrsr.cli.run(sys.argv[1:]); "
        "from cmrsr.diagnostics.cold_start import peak_mb; print(peak_mb()); sys.exit(code)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(done.stdout.split()[-1])
