"""``cmrsr mie``."""

import logging
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
from cmrsr.cli.options import MODEL, Engine, Reader
from cmrsr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmrsr.io.discover import Candidate, Refused

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MieRequest(BatchRequest):
    """The command line of ``cmrsr mie``."""

    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="CINE T1: a short-axis cine and the T1 images (not the map) of the same slices; or STUDY...: folders "
            "that hold both.",
        ),
    ]
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
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Diffusion steps. Default: as the engine defines.", rich_help_panel=MODEL),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="Number of samples. The result is their mean, with their spread. Default: as the engine defines.",
            rich_help_panel=MODEL,
        ),
    ] = None
    reader: Reader = "causal-s"
    engine: Engine = "cpkdm-s"


def run_mie_command(request: MieRequest) -> int:
    """Find cines and T1 series, enhance each T1 series, write ``mie.csv``, ``run.json`` and ``report.html``.

    The exit code is the batch's.
    """
    from cmrsr.tasks.mie.files import MieFiles
    from cmrsr.tasks.mie.inputs.pairing import pair_studies
    from cmrsr.tasks.mie.plan import MieOptions
    from cmrsr.tasks.mie.table import write_table
    from cmrsr.tasks.rooms import load_engine

    own_steps, own_samples = engine_defaults(request.engine)
    options = MieOptions(
        steps=own_steps if request.steps is None else request.steps,
        samples=own_samples if request.samples is None else request.samples, seed=request.seed,
        batch_size=request.batch_size, reader=request.reader, ti=parse_ti(request.ti), threshold=request.threshold,
    )  # fmt: skip
    time_axis = parse_time_axis(request.time_axis)

    def paired(candidates: "Sequence[Candidate]") -> "Sequence[Candidate | Refused]":
        pairs = pair_studies(candidates, inputs=request.inputs, time_axis=time_axis)
        if not pairs.cases and pairs.refused:
            raise pairs.refused[0].error
        for note in pairs.notes:
            _log.warning("%s", note)
        return [*pairs.cases, *pairs.refused]

    task = BatchTask(
        title="Synthetic late enhancement", name="mie", options=options,
        files=partial(MieFiles, reader=load_engine(request.reader, "function")), report_case=_report_case,
        arrange=paired, write_table=write_table, draw_batch=_draw_batch,
    )  # fmt: skip
    return run_batch_command(request, task)


def engine_defaults(engine: str) -> tuple[int, int]:
    """Steps and samples that an engine of ``mie`` is meant to be run with."""
    from cmrsr.tasks.rooms import load_engine

    defaults = load_engine(engine, "mie").manifest.defaults
    return defaults.steps, defaults.samples


def parse_ti(text: str | None) -> tuple[float, ...] | None:
    """Inversion times in ms, separated by commas; their range is checked by ``MieOptions``."""
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(
            f"--ti {text}: expected numbers in ms separated by commas, for instance 100,180,1000"
        ) from None


def _report_case() -> MakeReportCase:
    from cmrsr.tasks.mie.report import report_case

    return report_case


def _draw_batch() -> DrawBatch:
    from cmrsr.tasks.mie.report import batch_pictures

    return batch_pictures
