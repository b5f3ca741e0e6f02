"""The command line of ``cmrsr sr``, as a batch and as a stream."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmrsr.cli.batch_command import BatchRequest
from cmrsr.cli.options import MODEL, OUTPUT, STREAM, Engine
from cmrsr.errors import UsageError

if TYPE_CHECKING:
    from cmrsr.runtime.bundle import Bundle
    from cmrsr.tasks.sr.plan import SrOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SrRequest(BatchRequest):
    """The command line of ``cmrsr sr``."""

    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            help="Diffusion steps. The image is the best estimate for any number; 2 or more also give its standard "
            "deviation map (_std).",
            rich_help_panel=MODEL,
        ),
    ] = 1
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="Samples drawn for the standard deviation map with 2 or more steps. Default: 8.",
            rich_help_panel=MODEL,
        ),
    ] = None
    realism: Annotated[
        float,
        typer.Option(
            "--realism",
            help="Move the image from the best estimate (0) towards one sample (1): more texture, up to 3 dB less "
            "PSNR. Needs 2 or more steps.",
            rich_help_panel=MODEL,
        ),
    ] = 0.0
    save_samples: Annotated[
        bool,
        typer.Option(
            "--save-samples",
            help="Write every single sample to files of its own as well (_sample1 and so on).",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    phase_axis: Annotated[
        Literal["auto", "row", "col", "x", "y"],
        typer.Option(
            "--phase-axis",
            help="Axis of phase encoding. auto: from the spectrum and the header.",
            rich_help_panel=MODEL,
        ),
    ] = "auto"
    consistency: Annotated[
        str,
        typer.Option(
            "--consistency",
            help="Weight of the projection on acquired k-space: auto (the engine's), off, or 0 to 1.",
            rich_help_panel=MODEL,
        ),
    ] = "auto"
    roi: Annotated[
        str,
        typer.Option(
            "--roi",
            help="Region to restore: full, heart (detected automatically), or X,Y,W,H in pixels.",
            rich_help_panel=MODEL,
        ),
    ] = "full"
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Follow one folder, or file names on standard input (INPUT -): each file is one frame, each result "
            "is written at once. No report is made.",
            rich_help_panel=STREAM,
        ),
    ] = False
    idle: Annotated[
        float | None,
        typer.Option(
            "--idle",
            help="With --stream: stop after so many seconds without a new file. Default: never.",
            rich_help_panel=STREAM,
        ),
    ] = None
    engine: Engine = "perfgen-s"


def opening(options: "SrOptions", bundle: "Bundle") -> str:
    """What more than one step computes and writes, in a line; empty for one step."""
    from cmrsr.tasks.sr.run import evaluations_per_image, realism_cost_db

    if options.n_samples == 0:
        return ""
    per_image = evaluations_per_image(bundle.manifest.diffusion.build(), options)
    number = "1 sample" if options.n_samples == 1 else f"{options.n_samples} samples"
    spread = "for the standard deviation map" if options.n_samples > 1 else "(a standard deviation map takes two)"
    written = "the image written is the posterior mean"
    if options.realism > 0:
        cost = realism_cost_db(options.realism)
        written += f", moved by {options.realism:g} towards one sample (at most {cost:.2f} dB of PSNR lost)"
    return f"{number} of {options.steps} steps {spread}, {per_image} evaluations an image; {written}"


def sr_options(request: SrRequest) -> "SrOptions":
    """What of the command line decides the result. UsageError for what contradicts itself."""
    from cmrsr.tasks.sr.plan import SrOptions
    from cmrsr.tasks.sr.sinks import MAX_SAVED

    options = SrOptions(
        steps=request.steps, samples=request.samples, seed=request.seed, phase_axis=request.phase_axis,
        consistency=parse_consistency(request.consistency), roi=parse_roi(request.roi), batch_size=request.batch_size,
        realism=request.realism,
    )  # fmt: skip
    if request.save_samples and options.n_samples == 0:
        raise UsageError("--save-samples with --steps 1: one step gives the mean and no samples; add --steps 5")
    if request.save_samples and options.n_samples > MAX_SAVED:
        raise UsageError(f"--save-samples: {options.n_samples} samples, expected at most {MAX_SAVED}; lower --samples")
    return options


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
