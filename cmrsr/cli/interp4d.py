"""``cmrsr interp4d``."""

from dataclasses import dataclass
from typing import Annotated

import typer

from cmrsr.cli.batch_command import BatchRequest, BatchTask, MakeReportCase, run_batch_command
from cmrsr.cli.options import BATCH, MODEL, Engine, Samples, Steps

DEFAULT_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpRequest(BatchRequest):
    """The command line of ``cmrsr interp4d``; without ``factor`` and ``frames`` there are twice the frames."""

    factor: Annotated[
        int | None,
        typer.Option(
            "--factor",
            help="Multiply the number of frames by K; acquired frames are kept. Default: 2.",
            rich_help_panel=MODEL,
        ),
    ] = None
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", help="Instead of --factor: M frames per series, evenly spaced in time.", rich_help_panel=MODEL
        ),
    ] = None
    open: Annotated[
        bool,
        typer.Option(
            "--open",
            help="The series does not cover a full cardiac cycle: no frames between the last and the first.",
            rich_help_panel=MODEL,
        ),
    ] = False
    steps: Steps = 1
    samples: Samples = 1
    consistency: Annotated[
        bool | None,
        typer.Option(
            help="Correct every new volume across its slices (stage 2). Default: as the engine defines.",
            rich_help_panel=MODEL,
        ),
    ] = None
    engine: Engine = "tssc-s"
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", help="Slices computed at a time. It does not change the result.", rich_help_panel=BATCH
        ),
    ] = 2


def run_interp_command(request: InterpRequest) -> int:
    """Find the series, interpolate each, write ``run.json`` and ``report.html``; the exit code of the batch."""
    from cmrsr.tasks.interp4d.files import InterpFiles
    from cmrsr.tasks.interp4d.plan import InterpOptions

    options = InterpOptions(
        factor=DEFAULT_FACTOR if request.factor is None and request.frames is None else request.factor,
        frames=request.frames, cyclic=not request.open, steps=request.steps, samples=request.samples,
        seed=request.seed, consistency=request.consistency, batch_size=request.batch_size,
    )  # fmt: skip
    task = BatchTask(
        title="Temporal super-resolution", name="interp4d", files=InterpFiles, options=options, report_case=_report_case
    )
    return run_batch_command(request, task)


def _report_case() -> MakeReportCase:
    from cmrsr.tasks.interp4d.report import report_case

    return report_case
