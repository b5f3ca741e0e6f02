"""``cmrsr phantom``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import track


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomRequest:
    """The command line of ``cmrsr phantom``."""

    out: Path
    kind: str
    subjects: int
    seed: int
    format: str
    group: str
    ef: float | None
    frames: int | None
    slices: int | None
    matrix: int | None
    fraction: float
    long_axis: bool
    workers: int | None
    picture: bool
    quiet: bool


def run_phantom_command(request: PhantomRequest) -> None:
    """Write virtual patients below the output folder, several at a time."""
    from cmrsr.errors import UsageError
    from cmrsr.io.outputs import replacing
    from cmrsr.phantom.examination import KINDS, Protocol
    from cmrsr.phantom.write import Study, write_study
    from cmrsr.realism.study import study_figure
    from cmrsr.report.style import png

    if request.workers is not None and request.workers < 1:
        raise UsageError(f"--workers {request.workers}: expected at least 1")
    study = Study(
        out=request.out,
        n_subjects=request.subjects,
        seed=request.seed,
        protocol=Protocol(
            kinds=KINDS if request.kind == "study" else (cast(Any, request.kind),), n_slices=request.slices,
            n_frames=request.frames, matrix=request.matrix, fraction=request.fraction, long_axis=request.long_axis,
        ),
        file_format=cast(Any, request.format),
        group=None if request.group == "mixed" else cast(Any, request.group),
        ef_percent=request.ef,
    )  # fmt: skip
    console = Console(stderr=True, highlight=False)
    hidden = request.quiet or not sys.stderr.isatty()
    done = write_study(study, request.workers)
    for folder in track(done, "virtual patients", study.n_subjects, console=console, disable=hidden, transient=True):
        if request.picture:
            with replacing(folder / "overview.png") as partial:
                partial.write_bytes(png(study_figure(folder)))
    if not request.quiet:
        n = study.n_subjects
        console.print(f"{n} virtual patient{'s' if n > 1 else ''} in {study.out}", soft_wrap=True)
