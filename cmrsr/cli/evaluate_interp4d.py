"""``cmrsr evaluate interp4d``."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from cmrsr.cli.batch_command import parse_time_axis
from cmrsr.cli.console import messages, searching
from cmrsr.cli.evaluate import device_choice, print_methods, score_all, write_evaluation
from cmrsr.cli.options import BackendOption, Device, Engine, Out, PrecisionOption, Quiet, Threads, TimeAxisOption
from cmrsr.errors import CmrsrError, UsageError

if TYPE_CHECKING:
    from cmrsr.tasks.interp4d.evaluation.protocol import Case, Protocol, SeriesResult

    Cases = list[tuple[str, Callable[[], Case]]]  # opened one after the other

DEFAULT_OUT = Path("interp4d_evaluation")  # of virtual patients, which have no folder to lie beside
VIRTUAL_GAPS = "2,3,4,6,8"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateInterpRequest:
    """The command line of ``cmrsr evaluate interp4d``; ``arguments`` is what was typed, None what was not."""

    arguments: list[str]
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="[DATA]...", help="4-D series: files, folders (also in the layout of ACDC), or .txt lists."
        ),
    ] = field(default_factory=list)
    out: Out = None
    protocol: Annotated[
        Literal["holdout-frames", "ed-es", "uvi", "tssc"] | None,
        typer.Option(
            "--protocol",
            help="holdout-frames: every K-th frame is known (default); ed-es: end-diastole and end-systole are "
            "(default of virtual patients); uvi, tssc: as published on ACDC.",
        ),
    ] = None
    keep: Annotated[
        int | None, typer.Option("--keep", help="For holdout-frames: keep every K-th frame. Default: 4.")
    ] = None
    open: Annotated[
        bool, typer.Option("--open", help="The series does not cover a full cardiac cycle (no wrap-around).")
    ] = False
    crop: Annotated[
        int, typer.Option("--crop", help="Heart window in pixels, scored in addition to the whole image. 0: none.")
    ] = 0
    es: Annotated[int | None, typer.Option("--es", help="Frame of end-systole, counted from 1. Default: detected.")] = (
        None
    )
    gaps: Annotated[
        str | None, typer.Option("--gaps", help="Also score with every n-th frame kept, for instance 2,4,8.")
    ] = None
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Number of virtual patients to score instead of DATA.")
    ] = None
    speed: Annotated[
        int | None, typer.Option("--speed", help="Factor by which virtual hearts beat faster: 1, 2, 3, 4 or 6.")
    ] = None
    engine: Engine = "tssc-s"
    settings: Annotated[
        str, typer.Option("--settings", help="Settings to compare: STEPSxSAMPLES, separated by commas.")
    ] = "1x1"
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise and of the virtual patients.")] = 1
    batch_size: Annotated[int, typer.Option("--batch-size", help="Slices computed at a time.")] = 2
    time_axis: TimeAxisOption = None
    device: Device = "auto"
    backend: BackendOption = "auto"
    precision: PrecisionOption = "auto"
    threads: Threads = None
    quiet: Quiet = False


def run_evaluate_interp_command(request: EvaluateInterpRequest) -> int:
    """Score every series or virtual patient, write ``evaluation.json``, ``.csv`` and ``.html``, print the table."""
    from cmrsr.batch.run import output_folder
    from cmrsr.report.report import ReportRun
    from cmrsr.tasks.interp4d.evaluation.charts import pictures
    from cmrsr.tasks.interp4d.evaluation.methods import parse_interp_settings
    from cmrsr.tasks.interp4d.evaluation.protocol import evaluate_case
    from cmrsr.tasks.interp4d.evaluation.score import LOWER_IS_BETTER
    from cmrsr.tasks.interp4d.evaluation.summary import as_csv, compare, protocol_words, summary
    from cmrsr.tasks.interp4d.plan import InterpOptions
    from cmrsr.tasks.interp4d.run import Engines
    from cmrsr.tasks.rooms import load_engine
    from cmrsr.version import __version__

    started, clock = datetime.now(UTC), time.monotonic()
    _check(request)
    protocol = parse_protocol(request)
    gaps = parse_gaps(VIRTUAL_GAPS if request.gaps is None and request.subjects else request.gaps)
    settings = parse_interp_settings(request.settings)
    InterpOptions(factor=2, batch_size=request.batch_size)  # checks the range
    bundle = load_engine(request.engine, "interp4d")
    console = messages()
    cases, failures = _virtual(request) if request.subjects else _real(request)
    engines = Engines(bundle, device_choice(request.device, request.backend, request.precision, request.threads))
    by_gap: dict[int, list[SeriesResult]] = {gap: [] for gap in gaps}

    def score(open_case: Callable[[], "Case"], on_method: Callable[[str], None]) -> list["SeriesResult"]:
        case = open_case()
        run = partial(
            evaluate_case, case, settings=settings, engines=engines, seed=request.seed, batch_size=request.batch_size,
            on_method=on_method,
        )  # fmt: skip
        result = run(protocol)
        for gap in gaps:
            if 2 * gap <= case.series.n_frames:  # two known frames at least
                kept: Protocol = replace(protocol, name="holdout-frames", keep=gap, es=None)
                by_gap[gap].append(result if kept == protocol else run(kept))
        return [result]

    with output_folder(request.inputs, request.out or (DEFAULT_OUT if request.subjects else None)) as out:
        results, failed = score_all([(name, partial(score, one)) for name, one in cases], quiet=request.quiet)
        failures += failed
        engines.close()
        if not results:
            raise failures[0]
        for failure in failures:
            console.print(f"✕ {failure}", style="red", markup=False)
        comparisons = compare(results)
        command = shlex.join(["cmrsr", *request.arguments])
        record = {
            "software": f"cmrsr {__version__}", "command": command, "engine": bundle.manifest.name,
            "engine_digest": bundle.digest, "seed": request.seed, "virtual_patients": request.subjects,
            **summary(results, comparisons, protocol, by_gap), "failures": [str(f) for f in failures],
        }  # fmt: skip
        run = ReportRun(
            title="Evaluation of temporal super-resolution", command=command, version=__version__, started=started,
            seconds=time.monotonic() - clock, engine=bundle.manifest.name, engine_digest=bundle.digest,
        )  # fmt: skip
        write_evaluation(
            out, record, as_csv(results), comparisons, run,
            protocol=protocol_words(protocol, results, by_gap, virtual=_virtual_words(request)),
            pictures=pictures(results, comparisons, protocol, by_gap), lower_is_better=LOWER_IS_BETTER,
        )  # fmt: skip
    if not request.quiet:
        print_methods(console, comparisons, _columns(record), _published_rows(record))
        for name, ratio in record["sureness_ratio"].items():
            console.print(f"{name}: {ratio:.2f} of the true error")
        console.print(f"report: {out / 'evaluation.html'}")
    return 8 if failures else 0


def parse_protocol(request: EvaluateInterpRequest) -> "Protocol":
    """The protocol, by default ``holdout-frames`` for series and ``ed-es`` for virtual patients."""
    from cmrsr.tasks.interp4d.evaluation.protocol import Protocol

    name = request.protocol or ("ed-es" if request.subjects else "holdout-frames")
    if request.keep is not None and name != "holdout-frames":
        raise UsageError(f"--keep {request.keep}: --protocol {name} keeps two frames; leave one of them out")
    keep = {} if request.keep is None else {"keep": request.keep}
    return Protocol(name=cast(Any, name), cyclic=not request.open, crop=request.crop, es=request.es, **keep)


def parse_gaps(text: str | None) -> list[int]:
    """``2,3,4``: each the same as --keep."""
    from cmrsr.tasks.interp4d.evaluation.protocol import Protocol

    if not text:
        return []
    try:
        gaps = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UsageError(f"--gaps {text}: expected whole numbers, for instance 2,4,8") from None
    for gap in gaps:
        try:
            Protocol(keep=gap)
        except UsageError as error:
            raise UsageError(f"--gaps {text}: {str(error).partition(': ')[2]}") from None
    return gaps


def _check(request: EvaluateInterpRequest) -> None:
    from cmrsr.tasks.interp4d.evaluation.virtual import check_virtual

    if bool(request.inputs) == (request.subjects is not None):
        raise UsageError("give DATA, or --subjects N for virtual patients, one of them")
    if request.subjects is not None:
        check_virtual(request.seed, request.subjects, 1 if request.speed is None else request.speed)
        for flag, value in (("--es", request.es), ("--time-axis", request.time_axis)):
            if value is not None:
                raise UsageError(f"{flag} {value}: virtual patients know it; leave it out with --subjects")
    elif request.speed is not None:
        raise UsageError(f"--speed {request.speed}: for virtual patients, add --subjects N")


def _real(request: EvaluateInterpRequest) -> tuple["Cases", list[CmrsrError]]:
    from cmrsr.io.acdc import beats_alone
    from cmrsr.io.discover import discover
    from cmrsr.tasks.interp4d.evaluation.protocol import real_case

    with searching(quiet=request.quiet):
        candidates, refused, _ = discover(request.inputs, time_axis=parse_time_axis(request.time_axis))
    cases: Cases = [(one.name, partial(real_case, one)) for one in beats_alone(candidates)]
    return cases, [one.error for one in refused]


def _virtual(request: EvaluateInterpRequest) -> tuple["Cases", list[CmrsrError]]:
    from cmrsr.tasks.interp4d.evaluation.virtual import virtual_case

    assert request.subjects is not None
    subjects = range(1, request.subjects + 1)
    speed = request.speed or 1
    return [(f"virtual patient {n}", partial(virtual_case, request.seed, n, speed)) for n in subjects], []


def _virtual_words(request: EvaluateInterpRequest) -> str:
    if not request.subjects:
        return ""
    speed = request.speed or 1
    faster = f", hearts beating {speed} times as fast (every {speed}th phase)" if speed > 1 else ""
    return f"Virtual patients 1 to {request.subjects} of seed {request.seed}, short-axis cine with noise{faster}."


def _columns(record: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What the table shows beside the metrics: by heading and method."""
    overall = record["overall"]
    gained = {m: o for m, o in overall.items() if "gain_over_linear_db" in o}
    return {
        "pooled PSNR (dB)": {m: f"{o['pooled_psnr_db']:.2f}" for m, o in overall.items()},
        "over linear (dB)": {m: f"{o['gain_over_linear_db']:+.2f}" for m, o in gained.items()},
        "better series": {m: f"{o['share_of_series_better']:.0%}" for m, o in gained.items()},
    }


def _published_rows(record: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Rows of figures that were published, by name and metric."""
    rows: dict[str, dict[str, float]] = record["published_on_acdc"] or {}
    return {f"{name} (published on ACDC)": {k: f"{v:g}" for k, v in row.items()} for name, row in rows.items()}
