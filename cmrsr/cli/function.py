"""``cmrsr function``."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmrsr.cli.batch_command import (
    BatchRequest,
    BatchTask,
    DrawBatch,
    MakeReportCase,
    parse_time_axis,
    run_batch_command,
)
from cmrsr.cli.options import MODEL, OUTPUT, Engine, Samples, Steps
from cmrsr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmrsr.io.discover import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRequest(BatchRequest):
    """The command line of ``cmrsr function``."""

    scale: Annotated[
        str,
        typer.Option(
            "--scale", help="Matrix scale: 1, 2, or auto: 2 where pixels are longer than 2.4 mm.", rich_help_panel=MODEL
        ),
    ] = "auto"
    super_resolve: Annotated[
        bool | None,
        typer.Option(
            help="Restore the images before they are measured. Default: where part of k-space is missing.",
            rich_help_panel=MODEL,
        ),
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="Reference to compare with: a folder of label files, or a CSV like function.csv.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    steps: Steps = 1
    samples: Samples = 1
    engine: Engine = "causal-s"


def run_function_command(request: FunctionRequest) -> int:
    """Find the cines, measure each, write ``function.csv``, ``run.json`` and ``report.html``; the batch's exit code."""
    from cmrsr.io.acdc import beats_alone
    from cmrsr.io.phases import pair_phases
    from cmrsr.io.references.lookup import open_references
    from cmrsr.tasks.function.files import FunctionFiles
    from cmrsr.tasks.function.plan import FunctionOptions
    from cmrsr.tasks.function.table import write_table

    options = FunctionOptions(
        scale=parse_scale(request.scale), super_resolve=request.super_resolve, steps=request.steps,
        samples=request.samples, seed=request.seed, batch_size=request.batch_size,
    )  # fmt: skip
    time_axis = parse_time_axis(request.time_axis)

    def paired(candidates: "Sequence[Candidate]") -> "list[Candidate]":
        return pair_phases(beats_alone(candidates), time_axis=time_axis)

    references = open_references(request.reference) if request.reference else None
    task = BatchTask(
        title="Cardiac function", name="function", options=options,
        files=partial(FunctionFiles, references=references), report_case=_report_case, arrange=paired,
        write_table=write_table, draw_batch=_draw_batch,
    )  # fmt: skip
    return run_batch_command(request, task)


def _report_case() -> MakeReportCase:
    from cmrsr.tasks.function.report import report_case

    return report_case


def _draw_batch() -> DrawBatch:
    from cmrsr.tasks.function.report import batch_pictures

    return batch_pictures


def parse_scale(text: str) -> int | None:
    """``auto`` is None, else 1 or 2."""
    if text == "auto":
        return None
    if text not in ("1", "2"):
        raise UsageError(f"--scale {text}: expected auto, 1 or 2")
    return int(text)
