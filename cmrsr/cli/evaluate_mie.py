"""``cmrsr evaluate mie``."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmrsr.cli.console import messages, searching
from cmrsr.cli.evaluate import OnMethod, device_choice, load_engines, score_all
from cmrsr.cli.mie import parse_ti
from cmrsr.cli.options import MODEL, BackendOption, Device, Out, PrecisionOption, Quiet, Reader, Samples, Threads
from cmrsr.errors import CmrsrError, UnusableError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cmrsr.io.series import Series
    from cmrsr.runtime.bundle import Bundle
    from cmrsr.tasks.mie.evaluation.cases import Case
    from cmrsr.tasks.mie.evaluation.protocol import CaseScore, Enhance, Reading, Run, Swapped
    from cmrsr.tasks.mie.evaluation.virtual import VirtualPatients

    Cases = list[tuple[str, Callable[[], Case]]]  # opened one after the other

DEFAULT_OUT = Path("mie_evaluation")  # of virtual patients, which have no folder to lie beside
SHOWN = 5  # names of cases without a reference that are printed


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateMieRequest:
    """The command line of ``cmrsr evaluate mie``; ``arguments`` is what was typed, None what was not."""

    arguments: list[str]
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="[STUDY]...", help="Folders with cine, T1 images and late enhancement of each patient."),
    ] = field(default_factory=list)
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder of scar masks named like the late enhancement. Default: next to it."),
    ] = None
    out: Out = None
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Number of virtual patients to score instead of STUDY.")
    ] = None
    groups: Annotated[
        str, typer.Option("--groups", help="Disease groups of the virtual patients, in turn, separated by commas.")
    ] = "normal,infarct"
    slices: Annotated[int, typer.Option("--slices", help="T1 slices of a virtual patient, 1 to 3.")] = 3
    frames: Annotated[int, typer.Option("--frames", help="Cine phases of a virtual patient.")] = 20
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder that keeps the scans of virtual patients.")] = (
        None
    )
    swap: Annotated[
        bool, typer.Option("--swap/--no-swap", help="Also score T1 images of one patient with the cine of the next.")
    ] = True
    lpips: Annotated[
        Path | None, typer.Option("--lpips", help="ONNX file of LPIPS, from two images (n, 3, y, x) to a distance (n).")
    ] = None
    engines: Annotated[
        list[str],
        typer.Option("--engine", help="Name or folder of an engine. Several, or separated by commas: one row each."),
    ] = field(default_factory=lambda: ["cpkdm-s"])
    reader: Reader = "causal-s"
    steps: Annotated[int, typer.Option("--steps", help="Diffusion steps.")] = 5
    samples: Samples = 8
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise and of the virtual patients.")] = 1000
    ti: Annotated[
        str | None,
        typer.Option(
            "--ti",
            help="Inversion times of the T1 images in ms, in their order. Default: from the files.",
            rich_help_panel=MODEL,
        ),
    ] = None
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", help="Probability from which a pixel is classified as scar.", rich_help_panel=MODEL
        ),
    ] = 0.5
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images computed at a time.")] = 8
    device: Device = "auto"
    backend: BackendOption = "auto"
    precision: PrecisionOption = "auto"
    threads: Threads = None
    quiet: Quiet = False


def run_evaluate_mie_command(request: EvaluateMieRequest) -> int:
    """Score every study with late enhancement, or virtual patient; write ``evaluation.json``, ``.csv``, ``.html`` and

    ``slices.csv``.
    """
    from cmrsr.batch.run import output_folder
    from cmrsr.metrics.lpips import Lpips
    from cmrsr.tasks.mie.evaluation.protocol import add_baselines, evaluate_case
    from cmrsr.tasks.mie.evaluation.studies import NoReferenceError
    from cmrsr.tasks.mie.plan import MieOptions

    started, clock = datetime.now(UTC), time.monotonic()
    who = _check(request)
    options = MieOptions(
        steps=request.steps, samples=request.samples, seed=request.seed, batch_size=request.batch_size,
        reader=request.reader, ti=parse_ti(request.ti), threshold=request.threshold,
    )  # fmt: skip
    bundles = load_engines(request.engines, "mie")
    choice = device_choice(request.device, request.backend, request.precision, request.threads)
    perceived = None if request.lpips is None else Lpips(request.lpips)
    cases, failures = _virtual(who, request.cache) if who else _real(request)
    names = list(bundles)
    without: list[str] = []
    read: list[tuple[Callable[[], Case], Reading]] = []  # by the first engine

    with (
        output_folder(request.inputs, request.out or (DEFAULT_OUT if who else None)) as out,
        enhancers(bundles, options, choice) as enhance,
    ):

        def score(name: str, open_case: Callable[[], "Case"], on_method: OnMethod) -> list["CaseScore"]:
            try:
                result = evaluate_case(open_case(), enhance, perceived=perceived, on_method=on_method)
            except NoReferenceError:
                without.append(name)
                return []
            if names[0] in result.readings:
                read.append((open_case, result.readings[names[0]]))
            return [result]

        results, failed = score_all([(name, partial(score, name, one)) for name, one in cases], quiet=request.quiet)
        failures += failed
        if not any(r.readings for r in results):
            raise _nothing(failures, results, without)
        best = add_baselines(results, perceived)
        swapped = _swap_all(read, enhance[names[0]], quiet=request.quiet) if request.swap else []
        refused = [str(failure) for failure in failures]
        record = _write(request, out, bundles, results, swapped, refused, without, best, (started, clock))
    _say(request, out, record, refused, without)
    return 8 if refused or record["failures"] else 0


def _write(
    request: EvaluateMieRequest,
    out: Path,
    bundles: "dict[str, Bundle]",
    results: "list[CaseScore]",
    swapped: "list[Swapped]",
    refused: list[str],
    without: list[str],
    best: int | None,
    began: tuple[datetime, float],
) -> dict[str, Any]:
    """Write all files; the record."""
    from cmrsr.io.outputs import write_json_atomic, write_text_atomic
    from cmrsr.report.report import ReportRun
    from cmrsr.tasks.mie.evaluation.charts import pictures
    from cmrsr.tasks.mie.evaluation.page import protocol_words, write_mie_page
    from cmrsr.tasks.mie.evaluation.record import as_csv, slices_as_csv, summary
    from cmrsr.version import __version__

    names = list(bundles)
    record = {
        "software": f"cmrsr {__version__}", "command": shlex.join(["cmrsr", *request.arguments]),
        "engine_digests": {name: bundle.digest for name, bundle in bundles.items()}, "reader": request.reader,
        "seed": request.seed, "steps": request.steps, "samples": request.samples, "threshold": request.threshold,
        "virtual_patients": request.subjects, "groups": request.groups if request.subjects else None,
        "lpips": None if request.lpips is None else str(request.lpips), **summary(results, names, swapped),
        "refused_cases": refused, "without_reference": without,
    }  # fmt: skip
    run = ReportRun(
        title="Evaluation of synthetic late enhancement", command=record["command"], version=__version__,
        started=began[0], seconds=time.monotonic() - began[1], engine=", ".join(names),
        engine_digest=" ".join(bundle.digest for bundle in bundles.values()),
    )  # fmt: skip
    write_json_atomic(out / "evaluation.json", record)
    write_text_atomic(out / "evaluation.csv", as_csv(results, names))
    write_text_atomic(out / "slices.csv", slices_as_csv(results, names))
    words = protocol_words(results, names, virtual=_virtual_words(request), best_image=best)
    write_mie_page(
        out / "evaluation.html", results, names, swapped, run, words=[*words, *_unreferenced_words(without)],
        pictures=pictures(results, names), not_scored=refused,
    )  # fmt: skip
    return record


@contextmanager
def enhancers(bundles: "dict[str, Bundle]", options: Any, choice: Any) -> "Iterator[dict[str, Enhance]]":
    """``mie`` with every engine, compiled when it is first needed and closed in the end."""
    from cmrsr.tasks.mie.run import MieEngines, run_mie
    from cmrsr.tasks.rooms import load_engine

    reader = load_engine(options.reader, "function")
    opened: dict[str, MieEngines] = {}

    def enhance(name: str, t1: "Series", cine: "Series") -> "Run":
        if name not in opened:
            opened[name] = MieEngines(bundles[name], reader, options.batch_size, choice)
        run: Run = run_mie(t1, cine, opened[name], options)
        return run

    try:
        yield {name: partial(enhance, name) for name in bundles}
    finally:
        for engines in opened.values():
            engines.close()


def _check(request: EvaluateMieRequest) -> "VirtualPatients | None":
    """Who the virtual patients are, if they are. UsageError for requests that make no sense."""
    from cmrsr.tasks.mie.evaluation.virtual import VirtualPatients, parse_groups

    if bool(request.inputs) == (request.subjects is not None):
        raise UsageError("give STUDY folders with late enhancement, or --subjects N for virtual patients, one of them")
    if request.subjects is None:
        return None
    for flag, value in (("--labels", request.labels), ("--ti", request.ti)):
        if value is not None:
            raise UsageError(f"{flag} {value}: virtual patients know it; leave it out with --subjects")
    return VirtualPatients(
        n=request.subjects, seed=request.seed, groups=parse_groups(request.groups), n_slices=request.slices,
        n_frames=request.frames,
    )  # fmt: skip


def _virtual(who: "VirtualPatients", cache: Path | None) -> "tuple[Cases, list[CmrsrError]]":
    from cmrsr.tasks.mie.evaluation.virtual import virtual_case

    subjects = range(1, who.n + 1)
    return [(f"virtual patient {n}", partial(virtual_case, who, n, cache)) for n in subjects], []


def _real(request: EvaluateMieRequest) -> "tuple[Cases, list[CmrsrError]]":
    from cmrsr.io.discover import discover
    from cmrsr.tasks.mie.evaluation.studies import late_series, real_case
    from cmrsr.tasks.mie.inputs.pairing import pair_studies

    with searching(quiet=request.quiet):
        candidates, refused, _ = discover(request.inputs)
        pairs = pair_studies(candidates, inputs=request.inputs)
        late = late_series(candidates)
    if not late and not pairs.refused:
        raise UnusableError(
            f"{request.inputs[0]}: no late enhancement in it; expected studies with cine, T1 images and a reference"
        )
    cases: Cases = [(t1.name, partial(real_case, t1, t1.cine, late, request.labels)) for t1 in pairs.cases]
    return cases, [one.error for one in (*refused, *pairs.refused)]


def _swap_all(read: "list[tuple[Callable[[], Case], Reading]]", enhance: "Enhance", *, quiet: bool) -> "list[Swapped]":
    """T1 images of every case with the cine of the next one, and of the last with the first's; none of a single one."""
    from cmrsr.tasks.mie.evaluation.protocol import swap

    def one(
        t1: "Callable[[], Case]", cine: "Callable[[], Case]", own: "Reading", on_method: OnMethod
    ) -> "list[Swapped]":
        on_method("swapped inputs")
        return [swap(t1(), cine(), enhance, own)]

    pairs = zip(read, [*read[1:], *read[:1]], strict=True) if len(read) > 1 else []
    found, _ = score_all(
        [(f"pair {n}", partial(one, t1, cine, own)) for n, ((t1, own), (cine, _)) in enumerate(pairs, 1)], quiet=quiet
    )
    return found


def _nothing(failures: list[CmrsrError], results: "list[CaseScore]", without: list[str]) -> CmrsrError:
    """Why there is not a single figure."""
    if refused := next((error for r in results for error in r.failures.values()), None):
        return refused
    if failures:
        return failures[0]
    return UnusableError(
        f"no late enhancement for any of {len(without)} T1 series ({_listed(without)}); expected one in each study"
    )


def _virtual_words(request: EvaluateMieRequest) -> str:
    if not request.subjects:
        return ""
    return (
        f"Virtual patients 1 to {request.subjects} of seed {request.seed}, in turn {request.groups}; infarcts at any "
        f"ejection fraction from 22 to 62 %. {request.frames} phases of cine, eight T1 images and late enhancement of "
        f"{request.slices} short-axis slices, each scan with its own noise, matrix and breath-hold. None of them was "
        "seen in training."
    )


def _unreferenced_words(without: list[str]) -> list[str]:
    return [f"Without late enhancement, not scored: {len(without)} ({_listed(without)})."] if without else []


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _say(
    request: EvaluateMieRequest, out: Path, record: dict[str, Any], refused: list[str], without: list[str]
) -> None:
    console = messages()
    for line in (*refused, *record["failures"]):
        console.print(f"✕ {line}", style="red", markup=False)
    if request.quiet:
        return
    for line in _unreferenced_words(without):
        console.print(line, markup=False)
    _print_methods(console, record)
    if (swapped := record["swapped"]) is not None:
        console.print(
            f"swapped inputs: {swapped['n_told']} of {swapped['n']} told, {swapped['n_flagged']} with any flag; own "
            f"inputs: {swapped['n_own_told']} and {swapped['n_own_flagged']}"
        )
    console.print(f"report: {out / 'evaluation.html'}", markup=False)


def _print_methods(console: "Console", record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from cmrsr.cli.evaluate import WIDE
    from cmrsr.tasks.mie.evaluation.page import DIGITS
    from cmrsr.tasks.mie.evaluation.summary import PUBLISHED

    rows = record["methods"]
    shown = [name for name in DIGITS if any(name in row for row in rows)]
    table = Table(Column("method", no_wrap=True), *shown)

    def cells(row: dict[str, Any]) -> list[str]:
        return [f"{row[name]:.{DIGITS[name]}f}" if name in row else "" for name in shown]

    for row in rows:
        table.add_row(row["method"], *cells(row))
    table.add_row("in print (CPKDM)", *cells(dict(PUBLISHED)), style="dim")
    (console if console.is_terminal else Console(stderr=True, highlight=False, width=WIDE)).print(table)
