"""``cmrsr sr``."""

import os
import re
import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cmrsr.cli.console import BatchConsole, searching
from cmrsr.errors import UsageError

if TYPE_CHECKING:
    from cmrsr.evaluate.report import ReportCase
    from cmrsr.io.nifti_header import TimeAxis
    from cmrsr.runtime.bundle import Bundle
    from cmrsr.tasks.batch import CaseResult
    from cmrsr.tasks.sr import SrOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SrRequest:
    """The command line of ``cmrsr sr``; ``arguments`` as they were typed."""

    arguments: list[str]
    inputs: list[Path]
    out: Path | None
    steps: int
    samples: int
    seed: int
    engine: str
    phase_axis: str
    consistency: str
    roi: str
    batch_size: int
    format: str
    time_axis: str | None
    on_missing: str
    device: str
    backend: str
    precision: str
    threads: int | None
    strict_device: bool
    force: bool
    shard: str | None
    report: bool
    quiet: bool
    verbose: bool


def run_sr_command(request: SrRequest) -> int:
    """Find the series, super-resolve each, write ``run.json`` and ``report.html``; the exit code of the batch."""
    from cmrsr import __version__
    from cmrsr.io.discover import Candidate, Refused, discover
    from cmrsr.io.outputs import refuse_overwriting
    from cmrsr.runtime.bundle import load
    from cmrsr.runtime.choice import DeviceChoice
    from cmrsr.tasks.batch import exit_code, mine, output_folder, parse_shard, run_batch, shard_file
    from cmrsr.tasks.sr import SrOptions
    from cmrsr.tasks.sr_files import SrFiles

    started, clock = datetime.now(UTC), time.monotonic()
    options = SrOptions(
        steps=request.steps, samples=request.samples, seed=request.seed, phase_axis=cast(Any, request.phase_axis),
        consistency=parse_consistency(request.consistency), roi=parse_roi(request.roi), batch_size=request.batch_size,
    )  # fmt: skip
    choice = DeviceChoice(
        device=request.device, backend=cast(Any, request.backend), precision=cast(Any, request.precision),
        threads=request.threads, strict=request.strict_device,
    )  # fmt: skip
    shard = parse_shard(request.shard, os.environ)
    time_axis = parse_time_axis(request.time_axis)
    bundle = load(request.engine, "sr")
    with searching(quiet=request.quiet):
        candidates, refused, _ = discover(request.inputs, time_axis=time_axis, on_missing=cast(Any, request.on_missing))
    cases: list[Candidate | Refused] = [*candidates, *refused]
    n_mine = sum(mine(case.name, shard) for case in cases)
    command = shlex.join(["cmrsr", *request.arguments])
    with output_folder(request.inputs, request.out) as out:
        files = SrFiles(
            bundle=bundle, options=options, choice=choice, out=out, format=cast(Any, request.format),
            force=request.force, command=command,
        )  # fmt: skip
        outputs = [path for one in candidates for path in files.planned(one)]
        refuse_overwriting(outputs, [path for case in cases for path in case.paths])
        record = {
            "software": f"cmrsr {__version__}", "task": "sr", "command": command, "started": started.isoformat(),
            "engine": {"name": bundle.manifest.name, "digest": bundle.digest}, "parameters": files.parameters(),
            "shard": shard,
        }  # fmt: skip
        pages = SrPages(bundle, options) if request.report else None
        with SrConsole(n_mine, pages, quiet=request.quiet, verbose=request.verbose) as console:
            if shard and not request.quiet:
                part = f"shard {shard[0]} of {shard[1]}: {n_mine} of {len(cases)} series"
                console.console.print(f"{part} (--shard 1/1 takes all)")
            results = run_batch(candidates, refused, files.process, out, console, record, shard=shard)
    page = out / shard_file("report.html", shard)
    # A run that found everything done leaves the report of the run that did it.
    if pages and (any(r.status != "skipped" for r in results) or not page.exists()):
        from cmrsr.evaluate.report import ReportRun, write_report

        run = ReportRun(
            title="Perfusion super-resolution", command=command, version=__version__, started=started,
            seconds=time.monotonic() - clock, engine=bundle.manifest.name, engine_digest=bundle.digest,
        )  # fmt: skip
        write_report(page, pages.cases, run)
        if not request.quiet:
            console.console.print(f"report: {page}")
    return exit_code(results)


class SrPages:
    """The report's cases, each made as it ends: what is held of hundreds of series are a few pictures."""

    def __init__(self, bundle: "Bundle", options: "SrOptions") -> None:
        self.cases: list[ReportCase] = []
        self._bundle, self._options = bundle, options

    def add(self, result: "CaseResult") -> None:
        from cmrsr.evaluate.report import MAX_ILLUSTRATED
        from cmrsr.evaluate.sr_report import report_case

        illustrated = sum(bool(case.pictures) for case in self.cases) < MAX_ILLUSTRATED
        self.cases.append(report_case(result, self._bundle, self._options, illustrated=illustrated))


class SrConsole(BatchConsole):
    """The batch's console, which also feeds the report."""

    def __init__(self, n_cases: int, pages: SrPages | None, *, quiet: bool, verbose: bool) -> None:
        super().__init__(n_cases, quiet=quiet, verbose=verbose)
        self._pages = pages

    def case_ended(self, result: "CaseResult") -> None:
        super().case_ended(result)
        if self._pages:
            self._pages.add(result)


def parse_consistency(text: str) -> float | None:
    """``auto`` is None (the engine's own weight), ``off`` is 0, else a number."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0.0
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--consistency {text}: expected auto, off or a weight from 0 to 1") from None


def parse_roi(text: str) -> Any:
    """``full``, ``heart`` or (x, y, width, height)."""
    if text in ("full", "heart"):
        return text
    parts = text.split(",")
    if len(parts) != 4 or not all(re.fullmatch(" *[0-9]+ *", p) for p in parts):
        raise UsageError(f"--roi {text}: expected full, heart or X,Y,W,H in pixels, for instance 40,30,96,96")
    return tuple(int(p) for p in parts)


def parse_time_axis(text: str | None) -> "TimeAxis":
    """None (not given), ``none`` (a single volume) or an array axis."""
    if text is None or text == "none":
        return cast("TimeAxis", text)
    if text not in ("0", "1", "2", "3"):
        raise UsageError(f"--time-axis {text}: expected 0, 1, 2, 3 or none")
    return int(text)
