"""``cmrsr phantom``."""

import sys
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import track

from cmrsr.errors import UsageError


def run_phantom_command(
    out: Path,
    subjects: int,
    seed: int,
    file_format: str,
    frames: int,
    slices: int,
    matrix: int,
    fraction: float,
    quiet: bool,
) -> None:
    """Write ``subjects`` virtual patients below ``out``."""
    from cmrsr.io.outputs import output_errors
    from cmrsr.phantom.write import PerfusionRequest, write_perfusion

    if subjects < 1:
        raise UsageError(f"--subjects {subjects}: expected at least 1")
    request = PerfusionRequest(n_frames=frames, n_slices=slices, matrix=matrix, fraction=fraction)
    console = Console(stderr=True, highlight=False)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    numbers = range(subjects)
    hidden = quiet or not sys.stderr.isatty()
    for subject in track(numbers, "virtual patients", console=console, disable=hidden, transient=True):
        write_perfusion(out, seed, subject, request, cast(Any, file_format))
    if not quiet:
        console.print(f"{subjects} virtual patient{'s' if subjects > 1 else ''} in {out}")
