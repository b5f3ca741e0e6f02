"""``cmrsr evaluate function``."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmrsr.cli.batch_command import parse_time_axis
from cmrsr.cli.console import messages, searching
from cmrsr.cli.evaluate import device_choice, load_engines, score_all
from cmrsr.cli.options import BackendOption, Device, Out, PrecisionOption, Quiet, Samples, Threads, TimeAxisOption
from cmrsr.errors import CmrsrError, UnusableError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cmrsr.io.series import Series
    from cmrsr.runtime.bundle import Bundle
    from cmrsr.tasks.function.evaluation.cases import Case
    from cmrsr.tasks.function.evaluation.protocol import CaseScore, Condition, Measure, Run
    from cmrsr.tasks.function.evaluation.summary import EngineRow

    Cases = list[tuple[str, Callable[[], Case]]]  # opened one after the other

DEFAULT_OUT = Path("function_evaluation")  # of virtual patients, which have no folder to lie beside
SHOWN = 5  # names of cases without a reference that are printed


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateFunctionRequest:
    """The command line of ``cmrsr evaluate function``; ``arguments`` is what was typed, None what was not."""

    arguments: list[str]
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="[DATA]...", help="Short-axis cines: files, folders (also in the layout of ACDC), or .txt lists."
        ),
    ] = field(default_factory=list)
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder of label NIfTI files named like the scans, or a CSV table of values."),
    ] = None
    out: Out = None
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Number of virtual patients to score instead of DATA.")
    ] = None
    scale: Annotated[
        int, typer.Option("--scale", help="2: also measure at half resolution, and restored. 1: full resolution only.")
    ] = 2
    crop: Annotated[
        int, typer.Option("--crop", help="Heart window in pixels, scored in addition to the whole image. 0: none.")
    ] = 96
    engines: Annotated[
        list[str],
        typer.Option("--engine", help="Name or folder of an engine. Several, or separated by commas: one row each."),
    ] = field(default_factory=lambda: ["causal-s"])
    steps: Annotated[int, typer.Option("--steps", help="Diffusion steps.")] = 1
    samples: Samples = 1
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise and of the virtual patients.")] = 1
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images computed at a time.")] = 8
    time_axis: TimeAxisOption = None
    device: Device = "auto"
    backend: BackendOption = "auto"
    precision: PrecisionOption = "auto"
    threads: Threads = None
    quiet: Quiet = False


def run_evaluate_function_command(request: EvaluateFunctionRequest) -> int:
    """Score every series with a reference, or virtual patient; write ``evaluation.json``, ``.csv`` and ``.html``."""
    from cmrsr.batch.run import output_folder
    from cmrsr.io.outputs import write_json_atomic, write_text_atomic
    from cmrsr.report.report import ReportRun
    from cmrsr.tasks.function.evaluation.cases import NoReferenceError
    from cmrsr.tasks.function.evaluation.charts import pictures
    from cmrsr.tasks.function.evaluation.page import protocol_words, write_function_page
    from cmrsr.tasks.function.evaluation.protocol import Protocol, evaluate_case
    from cmrsr.tasks.function.evaluation.record import as_csv, summary
    from cmrsr.tasks.function.evaluation.summary import confidence_lines, engine_rows, overlap_lines
    from cmrsr.tasks.function.plan import FunctionOptions
    from cmrsr.version import __version__

    started, clock = datetime.now(UTC), time.monotonic()
    _check(request)
    protocol = Protocol(scale=request.scale, crop=request.crop)
    options = FunctionOptions(
        steps=request.steps, samples=request.samples, seed=request.seed, batch_size=request.batch_size
    )
    bundles = load_engines(request.engines, "function")
    choice = device_choice(request.device, request.backend, request.precision, request.threads)
    cases, failures = _virtual(request) if request.subjects else _real(request)
    measures = {name: measured_by(bundle, options, choice) for name, bundle in bundles.items()}
    names = list(measures)
    without: list[str] = []

    def score(name: str, open_case: Callable[[], "Case"], on_method: Callable[[str], None]) -> list["CaseScore"]:
        try:
            return [evaluate_case(open_case(), measures, protocol, on_method=on_method)]
        except NoReferenceError:
            without.append(name)
            return []

    console = messages()
    with output_folder(request.inputs, request.out or (DEFAULT_OUT if request.subjects else None)) as out:
        results, failed = score_all([(name, partial(score, name, one)) for name, one in cases], quiet=request.quiet)
        failures += failed
        if not any(r.readings for r in results):
            raise _nothing(failures, results, without, request)
        refused = [str(failure) for failure in failures]
        record = {
            "software": f"cmrsr {__version__}", "command": shlex.join(["cmrsr", *request.arguments]),
            "engine_digests": {name: bundle.digest for name, bundle in bundles.items()},
            "seed": request.seed, "steps": request.steps, "samples": request.samples,
            "virtual_patients": request.subjects, **summary(results, names, protocol),
            "refused_cases": refused, "without_reference": without,
        }  # fmt: skip
        run = ReportRun(
            title="Evaluation of cardiac function", command=record["command"], version=__version__, started=started,
            seconds=time.monotonic() - clock, engine=", ".join(names),
            engine_digest=" ".join(bundle.digest for bundle in bundles.values()),
        )  # fmt: skip
        write_json_atomic(out / "evaluation.json", record)
        write_text_atomic(out / "evaluation.csv", as_csv(results, names, protocol))
        write_function_page(
            out / "evaluation.html", results, names, protocol, run,
            words=[*protocol_words(results, protocol, virtual=_virtual_words(request)), *_unreferenced_words(without)],
            pictures=pictures(results, names, protocol), not_scored=refused,
        )  # fmt: skip
    for line in (*refused, *record["failures"]):
        console.print(f"✕ {line}", style="red", markup=False)
    if not request.quiet:
        for line in _unreferenced_words(without):
            console.print(line, markup=False)
        _print_engines(console, engine_rows(results, names, protocol), len(results))
        for line in (*overlap_lines(results, names, protocol), *confidence_lines(results, names, protocol)):
            console.print(line, markup=False)
        console.print(f"report: {out / 'evaluation.html'}", markup=False)
    return 8 if refused or record["failures"] else 0


def measured_by(bundle: "Bundle", options: Any, choice: Any) -> "Measure":
    """``function`` with one engine, under a condition of the evaluation."""
    from cmrsr.tasks.function.run import run_function

    def measure(series: "Series", condition: "Condition") -> "Run":
        chosen = replace(options, scale=condition.scale, super_resolve=condition.super_resolve)
        run: Run = run_function(series, bundle, chosen, choice)
        return run

    return measure


def _check(request: EvaluateFunctionRequest) -> None:
    from cmrsr.phantom.seeds import check_unseen

    if bool(request.inputs) == (request.subjects is not None):
        raise UsageError("give DATA with --labels, or --subjects N for virtual patients, one of them")
    if request.subjects is None:
        if request.labels is None:
            raise UsageError("DATA needs --labels: a folder of label files, or a CSV table of reference values")
        return
    check_unseen(request.seed, request.subjects)
    for flag, value in (("--labels", request.labels), ("--time-axis", request.time_axis)):
        if value is not None:
            raise UsageError(f"{flag} {value}: virtual patients know it; leave it out with --subjects")


def _real(request: EvaluateFunctionRequest) -> tuple["Cases", list[CmrsrError]]:
    from cmrsr.io.acdc import beats_alone
    from cmrsr.io.discover import discover
    from cmrsr.io.phases import pair_phases
    from cmrsr.io.references.lookup import open_references
    from cmrsr.tasks.function.evaluation.cases import real_case

    assert request.labels is not None
    references = open_references(request.labels)
    time_axis = parse_time_axis(request.time_axis)
    with searching(quiet=request.quiet):
        candidates, refused, _ = discover(request.inputs, time_axis=time_axis)
        candidates = pair_phases(beats_alone(candidates), time_axis=time_axis)
    return [(one.name, partial(real_case, one, references)) for one in candidates], [one.error for one in refused]


def _virtual(request: EvaluateFunctionRequest) -> tuple["Cases", list[CmrsrError]]:
    from cmrsr.tasks.function.evaluation.cases import virtual_case

    assert request.subjects is not None
    subjects = range(1, request.subjects + 1)
    return [(f"virtual patient {n}", partial(virtual_case, request.seed, n)) for n in subjects], []


def _nothing(
    failures: list[CmrsrError], results: list["CaseScore"], without: list[str], request: EvaluateFunctionRequest
) -> CmrsrError:
    """Why there is not a single figure."""
    if refused := next((error for r in results for error in r.failures.values()), None):
        return refused
    if failures:
        return failures[0]
    return UnusableError(
        f"{request.labels}: no reference for any of {len(without)} series ({_listed(without)}); expected label files "
        "named like the scans, or a table with their names in the column case"
    )


def _virtual_words(request: EvaluateFunctionRequest) -> str:
    if not request.subjects:
        return ""
    return f"Virtual patients 1 to {request.subjects} of seed {request.seed}, short-axis cine with noise."


def _unreferenced_words(without: list[str]) -> list[str]:
    return [f"Without a reference, not scored: {len(without)} series ({_listed(without)})."] if without else []


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _print_engines(console: "Console", rows: list["EngineRow"], n_cases: int) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from cmrsr.cli.evaluate import WIDE
    from cmrsr.tasks.function.evaluation.page import FIGURES, HEADS
    from cmrsr.tasks.function.evaluation.summary import PUBLISHED

    shown = [name for name in FIGURES if any(name in row.figures for row in rows)]
    table = Table(
        Column("engine", no_wrap=True),
        Column("input", no_wrap=True),
        *(HEADS.get(name, name) for name in shown),
        "no EF",
    )

    def cells(figures: Any) -> list[str]:
        return [f"{figures[name]:.{FIGURES[name]}f}" if name in figures else "" for name in shown]

    for row in rows:
        table.add_row(row.engine, row.condition, *cells(row.figures), f"{row.n_failed} of {n_cases}")
    table.add_row("in print (UK Biobank)", "", *cells(PUBLISHED), "", style="dim")
    (console if console.is_terminal else Console(stderr=True, highlight=False, width=WIDE)).print(table)
