"""``cmrsr info --bench``: how fast the engines are on this machine."""

import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cmrsr.cli.tables import tables
from cmrsr.errors import DeviceError

if TYPE_CHECKING:
    from cmrsr.diagnostics.bench import Comparison, Measured
    from cmrsr.diagnostics.ceilings import Ceiling
    from cmrsr.diagnostics.contenders import Contender
    from cmrsr.runtime.bundle import Bundle

SECONDS = 4.0  # of measuring an engine; loading it and starting it afresh come on top
GPU_SIDE = 8192  # of the matrices that a GPU multiplies


def run_bench(engines: list[str], device: str, backend: str, threads: int | None, as_json: bool) -> dict[str, Any]:
    """Measure engines (default all that are shipped) and return the record; prints tables unless ``as_json``.

    DeviceError: nothing of what was asked for runs here.
    """
    from cmrsr.diagnostics.bench import compare
    from cmrsr.diagnostics.contenders import cpu_ceilings, oracle
    from cmrsr.diagnostics.workload import usual
    from cmrsr.runtime.choice import default_threads

    bundles = chosen(engines)
    found = everything(device, backend, threads)
    if not found:
        raise DeviceError(f"--backend {backend} is not installed here: see `cmrsr info` for what is")
    ceilings = [*cpu_ceilings(found, threads), *gpu_ceilings(found)]
    steps = len(bundles) * (len(found) + 1)
    results: list[Comparison] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("measuring", total=steps)
        for bundle in bundles:
            name = bundle.manifest.name

            def say(what: str, name: str = name) -> None:
                bar.update(task, description=f"{escape(name)}: {what}")
                bar.advance(task)

            results.append(compare(usual(bundle), found, ceilings, oracle(threads), seconds=SECONDS, say=say))
    if not any(one.backends for one in results):
        reasons = dict.fromkeys(reason for one in results for reason in one.skipped.values())
        raise DeviceError(f"nothing could be measured: {'; '.join(reasons)}")
    if not as_json:
        print_comparisons(results, threads or default_threads())
    return {"processors": threads or default_threads(), "engines": [one.record() for one in results]}


def chosen(names: list[str]) -> "list[Bundle]":
    """The bundles of ``--engine``, else all shipped ones."""
    from cmrsr.runtime.bundle import shipped
    from cmrsr.tasks.rooms import load_engine

    return [load_engine(name) for name in names or [str(folder) for folder in shipped()]]


def everything(device: str, backend: str, threads: int | None) -> "list[Contender]":
    """The runtime's backends, and torch where it is installed and none is asked for by name."""
    from cmrsr.diagnostics.contenders import any_gpu, contenders

    found = contenders(device, backend, threads)
    if backend == "auto" and all(importlib.util.find_spec(name) for name in ("torch", "safetensors")):
        if device in ("auto", "cpu"):
            found += torch_contenders("cpu", threads)
        if device not in ("auto", "cpu") or any_gpu():
            found += torch_contenders("cuda" if device == "auto" else device, threads)
    return found


def torch_contenders(device: str, threads: int | None) -> "list[Contender]":
    """bf16 where the device computes in it, and float32."""
    from cmrsr.diagnostics.contenders import Contender, cpu_precisions
    from cmrsr.runtime.choice import DeviceChoice, Precision
    from cmrsr.tasks.registry import load_torch

    where = "" if device == "cpu" else f"{device} "
    kinds: Sequence[Precision] = cpu_precisions() if device == "cpu" else ("bf16", "f32")
    return [
        Contender(
            f"torch {where}{precision}", load_torch, DeviceChoice(device=device, precision=precision, threads=threads)
        )
        for precision in kinds
    ]


def gpu_ceilings(found: "Sequence[Contender]") -> "list[Ceiling]":
    """A matrix product by torch in every arithmetic, if there is a GPU among the contenders and torch to use it."""
    from cmrsr.diagnostics.ceilings import Arithmetic, Ceiling

    gpu = next((one.choice.device for one in found if one.choice.device != "cpu"), None)
    if gpu is None or importlib.util.find_spec("torch") is None:
        return []
    from cmrsr.exporting.torch_engine import matrix_rate_call, sees_gpu

    if not sees_gpu():
        return []
    kinds: tuple[Arithmetic, ...] = ("bf16", "f16", "f32")
    return [Ceiling("cuda", kind, 2.0 * GPU_SIDE**3, matrix_rate_call(gpu, kind, GPU_SIDE)) for kind in kinds]


def print_comparisons(results: "Sequence[Comparison]", threads: int) -> None:
    """One table for each graph: times, share of the ceiling, errors."""
    console = tables()
    for one in results:
        size = "x".join(map(str, next(iter(one.shapes.values()), ())))
        what = f"{one.images} image{'s' * (one.images > 1)}, {one.gflop:.1f} GFLOP an evaluation"
        console.print(f"\n[bold]{escape(one.engine)}[/] {one.graph} {size}: {what}")
        table = Table(box=None, header_style="dim", padding=(0, 1), pad_edge=False)
        table.add_column("", no_wrap=True)
        for head in (
            "ms", "ms/image", "TFLOP/s", "of ceiling", "frames/s at\n1 / 5 / 50 steps", "start s", "MB", "error",
        ):  # fmt: skip
            table.add_column(head, justify="right", no_wrap=True)
        best = min((m.ms for m in one.backends), default=0.0)
        for m in one.backends:
            table.add_row(*_cells(m, one.oracle), style="bold" if m.ms == best else None)
        console.print(table)
        for ratio in (m for m in one.backends if m.ratio_to_layers):
            console.print(f"[dim]Its layers alone take {ratio.ratio_to_layers:.2f} of the time of {ratio.name}.[/]")
        for name, reason in one.skipped.items():
            console.print(f"[yellow]skipped[/] {escape(name)}: {escape(reason)}")
    peaks: dict[str, float] = {}
    for name, rate in (pair for one in results for pair in one.ceilings_tflop_s.items()):
        peaks[name] = max(rate, peaks.get(name, 0.0))
    rates = ", ".join(f"{name.removeprefix('matrix product ')} {rate:.2f}" for name, rate in peaks.items())
    said = f" (at best {rates} TFLOP/s)" if rates else ""
    console.print(
        f"\n[dim]{threads} threads. Ceiling: a plain matrix product in the same arithmetic, measured with each engine"
        f"{said}. Ratios, measured side by side in turns: of ceiling, layers alone. All else is absolute, moving with "
        "the machine. frames/s: evaluations alone. start, MB: a fresh process to its first output, its peak memory. "
        "error: largest, relative to the largest output.[/]"
    )


def _cells(m: "Measured", oracle: str) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [
        m.name, f"{m.ms:.1f}", f"{m.ms_per_image:.1f}", f"{m.tflop_s:.3f}", shown(m.share_of_ceiling, ".0%"),
        " / ".join(f"{rate:.3g}" for rate in m.frames_per_s.values()), shown(m.cold_start_s, ".2f"),
        shown(m.peak_mb, ".0f"), "oracle" if m.name == oracle else f"{m.error:.1e}",
    ]  # fmt: skip
