"""``cmrsr evaluate``."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from cmrsr.cli.sr import parse_time_axis
from cmrsr.errors import CmrsrError, UsageError

if TYPE_CHECKING:
    from cmrsr.evaluate.sr_protocol import SeriesResult
    from cmrsr.evaluate.statistics import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """The command line of ``cmrsr evaluate sr``; ``arguments`` is what was typed."""

    arguments: list[str]
    inputs: list[Path]
    out: Path | None
    fraction: float
    axes: str
    crop: int
    every: int
    engine: str
    settings: str
    seed: int
    batch_size: int
    time_axis: str | None
    device: str
    backend: str
    precision: str
    threads: int | None
    quiet: bool


def run_evaluate_sr_command(request: EvaluateRequest) -> int:
    """Score every series, write ``evaluation.json``, ``evaluation.csv`` and ``evaluation.html``, print the table."""
    from cmrsr import __version__
    from cmrsr.evaluate.report import ReportRun, write_evaluation_report
    from cmrsr.evaluate.sr_protocol import METRICS, ZERO_FILLING, EngineCache, Protocol, evaluate_series, parse_settings
    from cmrsr.evaluate.sr_summary import as_csv, pictures, protocol_words, summary
    from cmrsr.evaluate.statistics import compare_methods
    from cmrsr.io.discover import discover
    from cmrsr.io.outputs import resolve_output, write_json_atomic, write_text_atomic
    from cmrsr.runtime.bundle import load
    from cmrsr.runtime.choice import DeviceChoice

    started, clock = datetime.now(UTC), time.monotonic()
    if not request.axes or set(request.axes) - {"x", "y"}:
        raise UsageError(f"--axes {request.axes}: expected x, y or xy")
    protocol = Protocol(
        fraction=request.fraction, axes=cast(Any, tuple(request.axes)), crop=request.crop, every=request.every
    )
    settings = parse_settings(request.settings)
    bundle = load(request.engine, "sr")
    choice = DeviceChoice(
        device=request.device,
        backend=cast(Any, request.backend),
        precision=cast(Any, request.precision),
        threads=request.threads,
    )
    candidates, refused, _ = discover(request.inputs, time_axis=parse_time_axis(request.time_axis))
    console = Console(stderr=True, highlight=False)
    engines = EngineCache(choice, request.batch_size)
    results: list[SeriesResult] = []
    failures: list[CmrsrError] = [one.error for one in refused]
    with Progress(console=console, transient=True, disable=request.quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=len(candidates))
        for candidate in candidates:
            try:
                results += evaluate_series(
                    candidate, bundle, protocol, settings, engines, seed=request.seed,
                    on_method=partial(_show, bar, task, candidate.name),
                )  # fmt: skip
            except CmrsrError as error:
                failures.append(error)
            bar.advance(task)
    if not results:
        raise failures[0]
    for failure in failures:
        console.print(f"[red]✕[/] {escape(str(failure))}")
    methods = list(results[0].metrics)
    values = {m: {k: np.concatenate([r.metrics[m][k] for r in results]) for k in METRICS} for m in methods}
    patients = [r.patient for r in results for _ in range(r.n_images)]
    best = next(m for m in methods if m not in (ZERO_FILLING, "bicubic", "Lanczos"))
    comparisons = compare_methods(values, patients, [ZERO_FILLING, *([best] if len(methods) > 4 else [])])
    out = resolve_output(request.inputs, request.out)
    record = summary(results, methods, bundle.digest, protocol)
    record["software"], record["failures"] = f"cmrsr {__version__}", [str(f) for f in failures]
    write_json_atomic(out / "evaluation.json", record)
    write_text_atomic(out / "evaluation.csv", as_csv(results, methods))
    run = ReportRun(
        title="Evaluation of perfusion super-resolution",
        command=shlex.join(["cmrsr", *request.arguments]), version=__version__,
        started=started, seconds=time.monotonic() - clock, engine=bundle.manifest.name, engine_digest=bundle.digest,
    )  # fmt: skip
    write_evaluation_report(
        out / "evaluation.html",
        comparisons,
        run,
        protocol=protocol_words(protocol, results, record),
        pictures=pictures(results, methods),
    )
    if not request.quiet:
        _print(console, comparisons, record)
        console.print(f"report: {out / 'evaluation.html'}")
    return 8 if failures else 0


def _show(bar: Progress, task: TaskID, name: str, method: str) -> None:
    bar.update(task, description=f"{name}: {method}")


def _print(console: Console, comparisons: Sequence["Comparison"], record: dict[str, Any]) -> None:
    methods = list(dict.fromkeys(c.method for c in comparisons))
    table = Table("method", *dict.fromkeys(c.metric for c in comparisons), "gain (dB)", "SSIM gain", "better series")
    for method in methods:
        cells = [f"{c.per_image.mean:.3f} ± {c.per_image.sd or 0:.3f}" for c in comparisons if c.method == method]
        o = record["overall"].get(method)
        more = (
            [f"{o['psnr_gain_db']:+.2f}", f"{o['ssim_gain']:+.4f}", f"{o['share_of_series_better_psnr']:.0%}"]
            if o
            else [""] * 3
        )
        table.add_row(method, *cells, *more)
    console.print(table)
    for method, ratio in record["spread_ratio"].items():
        console.print(f"uncertainty of {method}: {ratio:.2f} of the true error")
    for region, errors in record["curve_nrmse"].items():
        console.print(f"curve error in {region}: " + ", ".join(f"{m} {100 * e:.2f} %" for m, e in errors.items()))
