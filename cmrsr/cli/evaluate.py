"""``cmrsr evaluate sr``, and what it shares with the evaluation of other tasks."""

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from cmrsr.cli.batch_command import parse_time_axis
from cmrsr.cli.options import (
    BackendOption,
    Device,
    Engine,
    Inputs,
    Out,
    PrecisionOption,
    Quiet,
    Seed,
    Threads,
    TimeAxisOption,
)
from cmrsr.errors import CmrsrError, UsageError

if TYPE_CHECKING:
    from cmrsr.metrics.statistics import Comparison
    from cmrsr.report.page import Picture
    from cmrsr.report.report import ReportRun
    from cmrsr.runtime.bundle import Bundle, Task
    from cmrsr.runtime.choice import DeviceChoice

Result = TypeVar("Result")
OnMethod = Callable[[str], None]
WIDE = 200  # columns of a table that goes to a file


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """The command line of ``cmrsr evaluate sr``; ``arguments`` is what was typed."""

    arguments: list[str]
    inputs: Inputs
    out: Out = None
    fraction: Annotated[float, typer.Option("--fraction", help="Fraction of phase-encoding lines that is kept.")] = 0.35
    axes: Annotated[str, typer.Option("--axes", help="Phase-encoding axes to evaluate: x, y or xy.")] = "xy"
    crop: Annotated[int, typer.Option("--crop", help="Heart window to score, in pixels. 0: the whole image.")] = 96
    every: Annotated[int, typer.Option("--every", help="Evaluate every n-th frame.")] = 1
    engine: Engine = "perfgen-s"
    settings: Annotated[
        str,
        typer.Option(
            "--settings",
            help="Settings to compare, separated by commas: STEPSxSAMPLES, then rL for --realism L or m for the mean "
            "of the samples alone, then @CONSISTENCY. 5x1r1 is a single sample.",
        ),
    ] = "1x1,5x8,5x1r1"
    seed: Seed = 0
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images computed at a time.")] = 8
    time_axis: TimeAxisOption = None
    device: Device = "auto"
    backend: BackendOption = "auto"
    precision: PrecisionOption = "auto"
    threads: Threads = None
    quiet: Quiet = False


def run_evaluate_sr_command(request: EvaluateRequest) -> int:
    """Score every series, write ``evaluation.json``, ``evaluation.csv`` and ``evaluation.html``, print the table."""
    import numpy as np

    from cmrsr.io.discover import Candidate, discover
    from cmrsr.io.outputs import resolve_output
    from cmrsr.metrics.statistics import compare_methods
    from cmrsr.report.report import ReportRun
    from cmrsr.tasks.rooms import load_engine
    from cmrsr.tasks.sr.evaluation.protocol import (
        BEST_AT_ONE,
        LOWER_IS_BETTER,
        METRICS,
        ZERO_FILLING,
        EngineCache,
        Protocol,
        SeriesResult,
        evaluate_series,
        parse_sr_settings,
    )
    from cmrsr.tasks.sr.evaluation.summary import as_csv, pictures, protocol_words, summary
    from cmrsr.version import __version__

    started, clock = datetime.now(UTC), time.monotonic()
    if not request.axes or set(request.axes) - {"x", "y"}:
        raise UsageError(f"--axes {request.axes}: expected x, y or xy")
    protocol = Protocol(
        fraction=request.fraction, axes=cast(Any, tuple(request.axes)), crop=request.crop, every=request.every
    )
    settings = parse_sr_settings(request.settings)
    bundle = load_engine(request.engine, "sr")
    candidates, refused, _ = discover(request.inputs, time_axis=parse_time_axis(request.time_axis))
    console = Console(stderr=True, highlight=False)
    choice = device_choice(request.device, request.backend, request.precision, request.threads)
    engines = EngineCache(choice, request.batch_size)

    def score(one: Candidate, on_method: OnMethod) -> Iterable[SeriesResult]:
        return evaluate_series(one, bundle, protocol, settings, engines, seed=request.seed, on_method=on_method)

    results, failed = score_all([(one.name, partial(score, one)) for one in candidates], quiet=request.quiet)
    failures = [*(one.error for one in refused), *failed]
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
    run = ReportRun(
        title="Evaluation of perfusion super-resolution",
        command=shlex.join(["cmrsr", *request.arguments]), version=__version__,
        started=started, seconds=time.monotonic() - clock, engine=bundle.manifest.name, engine_digest=bundle.digest,
    )  # fmt: skip
    write_evaluation(
        out, record, as_csv(results, methods), comparisons, run,
        protocol=protocol_words(protocol, results, record), pictures=pictures(results, methods),
        lower_is_better=LOWER_IS_BETTER, best_at_one=BEST_AT_ONE,
    )  # fmt: skip
    if not request.quiet:
        _print(console, comparisons, record)
        console.print(f"report: {out / 'evaluation.html'}")
    return 8 if failures else 0


def _print(console: Console, comparisons: Sequence["Comparison"], record: dict[str, Any]) -> None:
    overall = record["overall"]
    columns = {
        "gain (dB)": {m: f"{o['psnr_gain_db']:+.2f}" for m, o in overall.items()},
        "SSIM gain": {m: f"{o['ssim_gain']:+.4f}" for m, o in overall.items()},
        "better series": {m: f"{o['share_of_series_better_psnr']:.0%}" for m, o in overall.items()},
        "ms/image": {m: f"{1000 * s:.0f}" for m, s in record["seconds_per_image"].items()},
    }
    print_methods(console, comparisons, columns)
    for method, ratio in record["spread_ratio"].items():
        covered = f"{record['covered'][method]:.0%} of the errors within the 90 % interval"
        console.print(f"uncertainty of {method}: {ratio:.2f} of the true error, {covered}")
    for region, errors in record["curve_nrmse"].items():
        console.print(f"curve error in {region}: " + ", ".join(f"{m} {100 * e:.2f} %" for m, e in errors.items()))


# ---- shared by the evaluations -------------------------------------------------------------------------------------


def device_choice(device: str, backend: str, precision: str, threads: int | None) -> "DeviceChoice":
    """The options of every evaluation that runs an engine."""
    from cmrsr.runtime.choice import DeviceChoice

    return DeviceChoice(
        device=device, backend=cast(Any, backend), precision=cast(Any, precision), threads=threads
    )  # fmt: skip


def score_all(
    cases: Sequence[tuple[str, Callable[[OnMethod], Iterable[Result]]]], *, quiet: bool
) -> tuple[list[Result], list[CmrsrError]]:
    """The results of all cases by name, with a bar on a terminal; a bad one is kept as its error, and stops no other.

    A case is told what to call with every method's name.
    """
    results: list[Result] = []
    failures: list[CmrsrError] = []
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=len(cases))

        def showing(name: str) -> OnMethod:
            return lambda method: bar.update(task, description=f"{escape(name)}: {method}")

        for name, score in cases:
            try:
                results += score(showing(name))
            except CmrsrError as error:
                failures.append(error)
            bar.advance(task)
    return results, failures


def write_evaluation(
    out: Path,
    record: Mapping[str, Any],
    table: str,
    comparisons: Sequence["Comparison"],
    run: "ReportRun",
    *,
    protocol: Sequence[str],
    pictures: Sequence["Picture"],
    lower_is_better: Sequence[str],
    best_at_one: Sequence[str] = (),
) -> None:
    """Write ``evaluation.json``, ``evaluation.csv`` (``table``) and ``evaluation.html``. Raises OutputError."""
    from cmrsr.io.outputs import write_json_atomic, write_text_atomic
    from cmrsr.report.report import write_evaluation_report

    write_json_atomic(out / "evaluation.json", record)
    write_text_atomic(out / "evaluation.csv", table)
    write_evaluation_report(
        out / "evaluation.html", comparisons, run, protocol=protocol, pictures=pictures,
        lower_is_better=lower_is_better, best_at_one=best_at_one,
    )  # fmt: skip


def print_methods(
    console: Console,
    comparisons: Sequence["Comparison"],
    columns: Mapping[str, Mapping[str, str]],
    published: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """A row a method: its metrics, further ``columns`` by heading and method; then rows of ``published`` metrics."""
    metrics = list(dict.fromkeys(c.metric for c in comparisons))
    table = Table(Column("method", no_wrap=True), *metrics, *columns)
    for method in dict.fromkeys(c.method for c in comparisons):
        cells = [f"{c.per_image.mean:.3f} ± {c.per_image.sd or 0:.3f}" for c in comparisons if c.method == method]
        table.add_row(method, *cells, *(column.get(method, "") for column in columns.values()))
    for name, row in (published or {}).items():
        table.add_row(name, *(row.get(metric, "") for metric in metrics), style="dim")
    wide = console if console.is_terminal else Console(stderr=True, highlight=False, width=WIDE)
    wide.print(table)


def load_engines(names: list[str], task: "Task") -> "dict[str, Bundle]":
    """The engines of a task in ``--engine``, given several times or with commas, by the names of their folders."""
    from cmrsr.tasks.rooms import load_engine

    found: dict[str, Bundle] = {}
    for text in names:
        for one in filter(None, (part.strip() for part in text.split(","))):
            bundle = load_engine(one, task)
            if bundle.path.name in found:
                raise UsageError(f"--engine {one}: there is another engine {bundle.path.name}; rename one's folder")
            found[bundle.path.name] = bundle
    if not found:
        raise UsageError("--engine: expected the name of an included engine, or the folder of a bundle")
    return found
