"""``cmrsr sr``."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cmrsr.cli.batch_command import BatchRequest, BatchTask, MakeReportCase, run_batch_command
from cmrsr.errors import UsageError

if TYPE_CHECKING:
    from cmrsr.runtime.bundle import Bundle
    from cmrsr.tasks.sr.plan import SrOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SrRequest(BatchRequest):
    """The command line of ``cmrsr sr``; ``samples`` None takes the default."""

    samples: int | None
    phase_axis: str
    consistency: str
    roi: str
    realism: float
    save_samples: bool


def run_sr_command(request: SrRequest) -> int:
    """Find the series, super-resolve each, write ``run.json`` and ``report.html``; the exit code of the batch."""
    from cmrsr.tasks.sr.files import SrFiles
    from cmrsr.tasks.sr.run import evaluations_per_image

    options = sr_options(request)
    task = BatchTask(
        title="Perfusion super-resolution", files=SrFiles, options=options, report_case=_report_case,
        settings={"save_samples": request.save_samples},
        per_image=lambda bundle: evaluations_per_image(bundle.manifest.diffusion.build(), options),
        opening=lambda bundle: opening(options, bundle),
    )  # fmt: skip
    return run_batch_command(request, task)


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
        steps=request.steps, samples=request.samples, seed=request.seed, phase_axis=cast(Any, request.phase_axis),
        consistency=parse_consistency(request.consistency), roi=parse_roi(request.roi), batch_size=request.batch_size,
        realism=request.realism,
    )  # fmt: skip
    if request.save_samples and options.n_samples == 0:
        raise UsageError("--save-samples with --steps 1: one step gives the mean and no samples; add --steps 5")
    if request.save_samples and options.n_samples > MAX_SAVED:
        raise UsageError(f"--save-samples: {options.n_samples} samples, expected at most {MAX_SAVED}; lower --samples")
    return options


def _report_case() -> MakeReportCase:
    from cmrsr.tasks.sr.report import report_case

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
