"""``cmrsr interp4d``."""

from dataclasses import dataclass

from cmrsr.cli.batch_command import BatchRequest, BatchTask, MakeReportCase, run_batch_command

DEFAULT_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpRequest(BatchRequest):
    """The command line of ``cmrsr interp4d``; without ``factor`` and ``frames`` there are twice the frames."""

    samples: int
    factor: int | None
    frames: int | None
    open: bool
    consistency: bool | None


def run_interp_command(request: InterpRequest) -> int:
    """Find the series, interpolate each, write ``run.json`` and ``report.html``; the exit code of the batch."""
    from cmrsr.tasks.interp4d.files import InterpFiles
    from cmrsr.tasks.interp4d.plan import InterpOptions

    options = InterpOptions(
        factor=DEFAULT_FACTOR if request.factor is None and request.frames is None else request.factor,
        frames=request.frames, cyclic=not request.open, steps=request.steps, samples=request.samples,
        seed=request.seed, consistency=request.consistency, batch_size=request.batch_size,
    )  # fmt: skip
    task = BatchTask(title="Temporal super-resolution", files=InterpFiles, options=options, report_case=_report_case)
    return run_batch_command(request, task)


def _report_case() -> MakeReportCase:
    from cmrsr.tasks.interp4d.report import report_case

    return report_case
