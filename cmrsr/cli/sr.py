"""``cmrsr sr``."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cmrsr.cli.batch_command import BatchRequest, BatchTask, MakeReportCase, run_batch_command
from cmrsr.errors import UsageError

if TYPE_CHECKING:
    from cmrsr.tasks.sr import SrOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SrRequest(BatchRequest):
    """The command line of ``cmrsr sr``."""

    phase_axis: str
    consistency: str
    roi: str


def run_sr_command(request: SrRequest) -> int:
    """Find the series, super-resolve each, write ``run.json`` and ``report.html``; the exit code of the batch."""
    from cmrsr.tasks.sr_files import SrFiles

    options = sr_options(request)
    task = BatchTask(title="Perfusion super-resolution", files=SrFiles, options=options, report_case=_report_case)
    return run_batch_command(request, task)


def sr_options(request: SrRequest) -> "SrOptions":
    """What of the command line decides the result."""
    from cmrsr.tasks.sr import SrOptions

    return SrOptions(
        steps=request.steps, samples=request.samples, seed=request.seed, phase_axis=cast(Any, request.phase_axis),
        consistency=parse_consistency(request.consistency), roi=parse_roi(request.roi), batch_size=request.batch_size,
    )  # fmt: skip


def _report_case() -> MakeReportCase:
    from cmrsr.evaluate.sr_report import report_case

    return report_case


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
