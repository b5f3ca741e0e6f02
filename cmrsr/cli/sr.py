"""``cmrsr sr``."""

import os
import shlex
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cmrsr.cli.console import BatchConsole
from cmrsr.errors import UsageError

if TYPE_CHECKING:
    from cmrsr.io.nifti_header import TimeAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class SrRequest:
    """The command line of ``cmrsr sr``."""

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
    from cmrsr.io.discover import discover
    from cmrsr.io.outputs import remove_partials, resolve_output
    from cmrsr.runtime.bundle import load
    from cmrsr.runtime.engine import DeviceChoice
    from cmrsr.tasks.batch import exit_code, mine, parse_shard, run_batch
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
    bundle = load(request.engine, "sr")
    candidates, refused, _ = discover(
        request.inputs, time_axis=parse_time_axis(request.time_axis), on_missing=cast(Any, request.on_missing)
    )
    if len(candidates) == 1 and not refused:
        # A single bad series is a plain error with its own exit code, and leaves nothing behind.
        candidates[0].open()
    out = resolve_output(request.inputs, request.out)
    remove_partials(out)
    files = SrFiles(
        bundle=bundle, options=options, choice=choice, out=out, format=cast(Any, request.format), force=request.force
    )
    command = shlex.join(["cmrsr", *sys.argv[1:]])
    record = {
        "software": f"cmrsr {__version__}", "task": "sr", "command": command, "started": started.isoformat(),
        "engine": {"name": bundle.manifest.name, "digest": bundle.digest}, "parameters": files.parameters(),
        "shard": shard,
    }  # fmt: skip
    n_mine = sum(mine(c.name, shard) for c in (*candidates, *refused))
    with BatchConsole(n_mine, quiet=request.quiet, verbose=request.verbose) as console:
        results = run_batch(candidates, refused, files.process, out, console, record, shard=shard)
    if request.report:
        from cmrsr.evaluate.report import ReportRun, write_report
        from cmrsr.evaluate.sr_report import report_case

        page = out / ("report.html" if shard is None else f"report-{shard[0]}-of-{shard[1]}.html")
        run = ReportRun(
            title="Perfusion super-resolution", command=command, version=__version__, started=started,
            seconds=time.monotonic() - clock, engine=bundle.manifest.name, engine_digest=bundle.digest,
        )  # fmt: skip
        write_report(page, [report_case(result, bundle, options) for result in results], run)
        if not request.quiet:
            console.console.print(f"report: {page}")
    return exit_code(results)


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
    if len(parts) != 4 or not all(p.strip().isdigit() for p in parts):
        raise UsageError(f"--roi {text}: expected full, heart or X,Y,W,H in pixels, for instance 40,30,96,96")
    return tuple(int(p) for p in parts)


def parse_time_axis(text: str | None) -> "TimeAxis":
    """None (not given), ``none`` (a single volume) or an array axis."""
    if text is None or text == "none":
        return cast("TimeAxis", text)
    if text not in ("0", "1", "2", "3"):
        raise UsageError(f"--time-axis {text}: expected 0, 1, 2, 3 or none")
    return int(text)
