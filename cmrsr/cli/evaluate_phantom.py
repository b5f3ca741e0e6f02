"""``cmrsr evaluate phantom``."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from cmrsr.cli.console import messages, searching
from cmrsr.errors import CmrsrError, UsageError

if TYPE_CHECKING:
    from cmrsr.realism.compared_scans import RealSeries
    from cmrsr.realism.report import PhantomEvaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatePhantomRequest:
    """The command line of ``cmrsr evaluate phantom``; ``arguments`` is what was typed."""

    arguments: list[str]
    inputs: list[Path]
    out: Path
    subjects: int
    seed: int
    images: int
    quiet: bool


def run_evaluate_phantom_command(request: EvaluatePhantomRequest) -> None:
    """Measure virtual hearts, compare virtual with real scans where there are any, write figures, numbers and page."""
    from cmrsr.io.outputs import resolve_output
    from cmrsr.phantom.patient import draw_patient
    from cmrsr.realism.compared_scans import collect_virtual
    from cmrsr.realism.image_statistics import ImageStatistics, collect
    from cmrsr.realism.population import measures
    from cmrsr.realism.report import PhantomEvaluation, write_phantom_evaluation
    from cmrsr.version import __version__

    started, clock = datetime.now(UTC), time.monotonic()
    for flag, value, least in (
        ("subjects", request.subjects, 1),
        ("seed", request.seed, 0),
        ("images", request.images, 1),
    ):
        if value < least:
            raise UsageError(f"--{flag} {value}: expected at least {least}")
    hidden = request.quiet or not sys.stderr.isatty()
    step = partial(track, console=messages(), disable=hidden, transient=True)
    found, failures = _real_series(request)
    real: list[ImageStatistics] = []
    for one in step(found, "real series"):
        try:
            real.append(collect(one.open(), name=one.name, kind=one.kind))
        except CmrsrError as error:
            failures.append(error)
    if failures and not real:
        raise failures[0]
    for failure in failures:
        messages().print(f"[yellow]left out[/] {escape(str(failure))}")
    out = resolve_output(request.inputs, request.out)
    subjects = range(1, request.subjects + 1)
    healthy = [measures(draw_patient(request.seed, n, "normal")) for n in step(subjects, "healthy hearts")]
    mixed = [measures(draw_patient(request.seed, n)) for n in step(subjects, "hearts of all groups")]
    scans = [(n, kind) for kind in dict.fromkeys(one.kind for one in real) for n in range(1, request.images + 1)]
    virtual = [one for n, kind in step(scans, "virtual scans") for one in collect_virtual(request.seed, n, kind)]
    evaluation = PhantomEvaluation(
        command=shlex.join(["cmrsr", *request.arguments]), version=__version__, started=started,
        seconds=time.monotonic() - clock, seed=request.seed, healthy=healthy, mixed=mixed, real=real, virtual=virtual,
        skipped=[str(failure) for failure in failures],
    )  # fmt: skip
    write_phantom_evaluation(out, evaluation)
    if not request.quiet:
        _print(evaluation)
        messages().print(f"report: {escape(str(out / 'phantom.html'))}")


def _real_series(request: EvaluatePhantomRequest) -> tuple[list["RealSeries"], list[CmrsrError]]:
    if not request.inputs:
        return [], []
    from cmrsr.io.discover import discover
    from cmrsr.realism.compared_scans import real_series

    with searching(quiet=request.quiet):
        candidates, refused, root = discover(request.inputs)
    found, failures = real_series(candidates, root)
    return found, [*(one.error for one in refused), *failures]


def _print(evaluation: "PhantomEvaluation") -> None:
    from cmrsr.realism.distance import by_kind, n_patients, widest_gap
    from cmrsr.realism.population import GROUP_NAMES, MEETING, confusion, summarise

    console = Console(stderr=True, highlight=False)
    table = Table("healthy hearts", "", "virtual", "published", "difference", "spread")
    for row in summarise(evaluation.healthy):
        normal = row.normal
        table.add_row(
            f"{normal.short} ({normal.unit})", "men" if normal.sex == "m" else "women", _interval(row.mean, row.sd),
            _interval(normal.mean, normal.sd), f"{row.difference:+.2f} SD",
            "" if row.sd_ratio is None else f"× {row.sd_ratio:.2f}", style=None if row.agrees else "yellow",
        )  # fmt: skip
    console.print(table)
    groups = Table("drawn as", "meet its definition")
    for group, shares in confusion(evaluation.mixed).items():
        n = sum(m.group == group for m in evaluation.mixed)
        low = shares[group] < MEETING
        groups.add_row(f"{group}: {GROUP_NAMES[group]}", f"{shares[group]:.0%} of {n}", style="yellow" if low else None)
    console.print(groups)
    virtual = by_kind(evaluation.virtual)
    for kind, real in by_kind(evaluation.real).items():
        _print_realism(console, kind, real, virtual[kind])
        if n_patients(real) > 1:
            messages().print(f"widest gap of {kind}: {widest_gap(real, virtual[kind])}")


def _print_realism(console: Console, kind: str, real: Sequence[Any], virtual: Sequence[Any]) -> None:
    from cmrsr.realism.distance import distance

    table = Table(f"{kind} images", "distance / spread of the real", "covered")
    for one in distance(real, virtual).values():
        table.add_row(one.statistic.title, "" if one.ratio is None else f"{one.ratio:.2f}", f"{one.covered:.0%}")
    console.print(table)


def _interval(mean: float, sd: float | None) -> str:
    return f"{mean:.1f}" if sd is None else f"{mean:.1f} ± {sd:.1f}"
