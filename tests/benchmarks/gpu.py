"""Speed on an NVIDIA GPU, in one command: ``python -m tests.benchmarks.gpu [--json FILE]``, which prints Markdown.

The network of the PerfGen paper (92.6 M parameters, random weights) and the shipped ``perfgen-s``, on torch with CUDA
graphs, TensorRT and ONNX Runtime, as far as they are installed, beside a plain matrix product in the same run. What is
missing is named. Without a GPU: one line and exit code 6. ``--dry`` goes through the same parts on the processor at
tiny sizes, to see that they work; its figures mean nothing. Needs the extra ``dev``.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmrsr.diagnostics.bench import Comparison, Running, compare
from cmrsr.diagnostics.workload import Workload
from cmrsr.errors import CmrsrError, DeviceError
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.engine import cuda_provider
from tests.benchmarks.gpu_calls import host_calls
from tests.benchmarks.gpu_setup import Setup, ceilings, dry, machine, on_gpu, workload
from tests.benchmarks.markdown import comparisons, table
from tests.benchmarks.untrained import untrained_bundle

STEPS = (1, 5)  # of the loops whose latency is measured


class Report:
    """Collects the parts; one that fails is named with its reason, and the others go on."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.record: dict[str, Any] = {"machine": machine(setup.device), "skipped": {}}
        self.markdown: list[str] = [", ".join(f"{k} {v}" for k, v in self.record["machine"].items())]

    def part(self, title: str, measure: Callable[[], tuple[Any, str]]) -> None:
        print(title, file=sys.stderr)
        try:
            self.record[title], text = measure()
            self.markdown += [f"## {title}", text]
        except Exception as error:  # whatever it is, the other parts are worth having
            self.record["skipped"][title] = f"{type(error).__name__}: {error}"
            self.markdown += [f"## {title}", f"skipped: {type(error).__name__}: {error}"]


def speeds(setup: Setup, bundle: Bundle) -> tuple[Any, str]:
    """Evaluations and loops at every batch size, with the matrix product in the same turns; frames a second."""
    found: list[Comparison] = [
        compare(
            workload(setup, bundle, batch),
            setup.found,
            ceilings(setup),
            setup.oracle,
            seconds=setup.seconds,
            cold=False,
        )
        for batch in setup.batches
    ]
    rates = {name: max(one.ceilings_tflop_s[name] for one in found) for name in found[0].ceilings_tflop_s}
    frames = [
        [f"batch {one.images}, {m.name}", *(f"{rate:.4g}" for rate in m.frames_per_s.values())]
        for one in found
        for m in one.backends
    ]
    heads = ["frames/s", *(f"{n} steps" for n in next((m.frames_per_s for one in found for m in one.backends), {}))]
    said = ", ".join(f"{name} {rate:.4g} TFLOP/s" for name, rate in rates.items())
    text = f"{said}\n\n{comparisons(found, setup.found[0].name)}\n\n{table(heads, frames)}"
    return [one.record() for one in found], text


def of_each(setup: Setup, one: Workload, measure: Callable[[Running], dict[str, Any]]) -> tuple[Any, str]:
    """A measurement on each contender, loaded alone."""
    record: dict[str, Any] = {}
    for contender in setup.found:
        try:
            running = Running(contender, one)
        except CmrsrError as error:
            record[contender.name] = {"skipped": str(error)}
            continue
        try:
            record[contender.name] = measure(running)
        finally:
            running.engine.close()
    heads = list(dict.fromkeys(k for values in record.values() for k in values))
    rows = [[name, *(str(values.get(k, "")) for k in heads)] for name, values in record.items()]
    return record, table(["", *heads], rows)


def latency(setup: Setup, bundle: Bundle) -> tuple[Any, str]:
    """From host array to host array for one frame, ms."""

    def measure(running: Running) -> dict[str, Any]:
        found = {}
        for n in STEPS:
            running.prepare(n)
            times = []
            for _ in range(setup.latencies):
                start = time.perf_counter()
                running.loop(n)
                times.append(1e3 * (time.perf_counter() - start))
            found[f"{n} steps, median ms"] = round(float(np.median(times)), 3)
            found[f"{n} steps, 95 % ms"] = round(float(np.quantile(times, 0.95)), 3)
        return found

    return of_each(setup, workload(setup, bundle, 1), measure)


def memory(setup: Setup, bundle: Bundle) -> tuple[Any, str]:
    """GPU memory that an engine has taken after a loop: backends keep what they needed at most."""
    import torch

    if setup.device == "cpu":
        return {}, "no GPU"
    record: dict[str, Any] = {}
    for contender in setup.found:
        record[contender.name] = {}
        for batch in setup.batches:
            gc.collect()
            torch.cuda.empty_cache()
            before = torch.cuda.mem_get_info(setup.device)[0]
            try:
                running = Running(contender, workload(setup, bundle, batch))
            except CmrsrError as error:
                record[contender.name][f"batch {batch}, MB"] = f"skipped: {error}"
                continue
            record[contender.name][f"batch {batch}, MB"] = round(
                (before - torch.cuda.mem_get_info(setup.device)[0]) / 1e6
            )
            running.engine.close()
            del running
    heads = [f"batch {batch}, MB" for batch in setup.batches]
    return record, table(["", *heads], [[name, *(str(v[h]) for h in heads)] for name, v in record.items()])


def calls(setup: Setup, bundle: Bundle) -> tuple[Any, str]:
    """Calls of the CUDA runtime during a loop: after the launch the host should wait once, for the result."""
    lists: list[str] = []

    def measure(running: Running) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for n in setup.profiled:
            running.prepare(n)
            seen = host_calls(lambda n=n: running.loop(n))  # type: ignore[misc]
            found[f"{n} steps: graph"] = "yes" if seen.launched else "no"
            found[f"{n}: waits"] = len(seen.waits)
            found[f"{n}: waits of our own layer"] = sum(seen.own_waits.values())
            lists.append(f"- {running.name}, {n} steps: {seen.written() or 'none'}")
        return found

    record, text = of_each(setup, workload(setup, bundle, setup.batches[0]), measure)
    return {"waits": record, "calls": lists}, "\n".join([text, "", *lists])


def no_gpu() -> str | None:
    """Why there is nothing to measure."""
    import torch

    from cmrsr.runtime.gpu.cuda import why_no_gpu

    if torch.cuda.is_available() or cuda_provider():
        return None
    return why_no_gpu()


def measure(setup: Setup, report: Report, folder: Path) -> None:
    """All parts for the paper's network and for the shipped one."""
    bundles: dict[str, Bundle] = {}

    def made() -> tuple[Any, str]:
        bundles["network of the paper"] = bundle = untrained_bundle(folder, *setup.network)
        step = bundle.manifest.step
        return step.model_dump(), f"{step.parameters / 1e6:.1f} M parameters, {step.gflop_96:.1f} GFLOP at 96x96"

    report.part("network of the paper, random weights", made)
    bundles["perfgen-s"] = load("perfgen-s", "sr")
    for name, bundle in bundles.items():
        for title, part in (("speed", speeds), ("latency of one frame", latency), ("GPU memory", memory)):
            report.part(f"{name}: {title}", lambda part=part, bundle=bundle: part(setup, bundle))  # type: ignore[misc]
    report.part("calls of the host during a loop of perfgen-s", lambda: calls(setup, bundles["perfgen-s"]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="on the processor at tiny sizes; the figures mean nothing")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args(arguments)
    problem = None if options.dry else no_gpu()
    if problem:
        print(f"no GPU to measure: {problem}; --dry tries the script on the processor", file=sys.stderr)
        return DeviceError.exit_code
    setup = dry() if options.dry else on_gpu()
    report = Report(setup)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CMRSR_CACHE"] = folder  # plans of random weights are of no use to anyone later
        measure(setup, report, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(report.record, indent=2, default=str) + "\n")
    print("\n\n".join(report.markdown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
