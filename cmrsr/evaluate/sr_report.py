"""The pictures of one ``cmrsr sr`` case: before and after, movie, x-t profile, curves, spectrum."""

import os

import numpy as np
from numpy.typing import NDArray

from cmrsr.evaluate import figures, style
from cmrsr.evaluate.metrics import roi_curves
from cmrsr.evaluate.page import Picture
from cmrsr.evaluate.report import ReportCase
from cmrsr.physics.passage import blood_pools
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.batch import CaseResult
from cmrsr.tasks.sr import SrOptions
from cmrsr.tasks.sr_files import SrDetails


def report_case(result: CaseResult, bundle: Bundle, options: SrOptions, *, illustrated: bool = True) -> ReportCase:
    """A case of the batch as the report shows it; without details (failed, skipped) only its status and message.

    A picture that cannot be drawn is a defect, but costs the pictures of its case only, not the batch.
    """
    outputs = tuple(str(path) for path in result.outputs)
    details, warnings = result.details, result.warnings
    if not isinstance(details, SrDetails):
        return ReportCase(
            name=result.name, status=result.status, message=result.message, outputs=outputs, warnings=warnings
        )
    pictures: list[Picture] = []
    if illustrated:
        try:
            pictures = _pictures(details)
        except Exception as error:
            if os.environ.get("CMRSR_DEBUG"):
                raise
            warnings += (f"the pictures could not be drawn ({type(error).__name__}: {error}); report this",)
    plan, series = details.plan, details.series
    x, y, width, height = plan.window
    facts = [("Consistency", f"weight {plan.consistency:g}")]
    if plan.shape_yx != plan.matrix:
        facts.append(("Window", f"x {x}, y {y}, {width} × {height} of {plan.matrix[1]} × {plan.matrix[0]}"))
    return ReportCase(
        name=result.name, status=result.status, message=result.message,
        shape=(series.shape[0], series.shape[1], *plan.shape_yx), spacing_mm=plan.spacing_mm, phase_axis=plan.axis,
        phase_axis_source=plan.axis_source, acquired=(plan.band.lines, plan.band.size), engine=bundle.manifest.name,
        steps=options.steps, samples=options.samples, seed=options.seed, seconds=result.seconds, device=details.device,
        facts=tuple(facts), warnings=warnings, outputs=outputs, pictures=tuple(pictures),
    )  # fmt: skip


def _pictures(details: SrDetails) -> list[Picture]:
    plan, shown, series = details.plan, details.shown, details.series
    before, after = shown.input, shown.output
    _, spacing_y, spacing_x = plan.spacing_mm
    aspect = spacing_y / spacing_x
    pools = blood_pools(before)
    curves = roi_curves(before, pools)
    if curves:
        frames = figures.key_frames(curves)
    else:
        frames = {("first", "middle", "last")[i]: int(t) for i, t in enumerate(np.linspace(0, len(before) - 1, 3))}
        frames = {name: t for name, t in frames.items() if t or name == "first"}
    thinned = len(before) < series.n_frames
    counted = f" Frame numbers count the {len(before)} shown of {series.n_frames}." if thinned else ""
    pictures = [
        Picture(
            title="Before and after",
            caption="Top: input as acquired (zero-filled). Bottom: super-resolved, in the same grey window. Slice "
            f"{shown.plane + 1} of {series.shape[1]}, window around the heart.{counted}",
            data=style.png(figures.before_after(before, after, shown.std, frames=frames, aspect=aspect)),
        )
    ]
    if len(before) > 2:
        movie = figures.movie(before, after, aspect=aspect)
        pictures.append(Picture(title="Movie", caption="Input and result side by side.", data=movie))
        line = _busiest_line(after, plan.axis)
        strips = {
            name: (stack[:, :, line] if plan.axis == "y" else stack[:, line, :])
            for name, stack in (("input", before), ("super-resolved", after))
        }
        pixel_mm = spacing_y if plan.axis == "y" else spacing_x
        pictures.append(
            Picture(
                title="Profile over time",
                caption="Signal along one line through the heart in the phase direction (vertical) over time "
                "(horizontal): each frame was restored by itself, so nothing is smoothed over time.",
                data=style.png(figures.xt_profile(strips, pixel_mm=pixel_mm)),
            )
        )
    if curves:
        pictures.append(
            Picture(
                title="Signal over time",
                caption="Mean signal of the blood pools, found by the passage of contrast: solid after, dashed before.",
                data=style.png(figures.curves(_times_s(details), roi_curves(after, pools), curves)),
            )
        )
    axis = -2 if plan.axis == "y" else -1
    powers = {name: figures.phase_power(stack, axis) for name, stack in (("input", before), ("super-resolved", after))}
    pictures.append(
        Picture(
            title="Spectrum along the phase axis",
            caption="Mean power of every spatial frequency in the window shown: what lies outside the acquired band is "
            "new.",
            data=style.png(figures.spectrum(powers, max(2, round(plan.band.fraction * before.shape[axis])))),
        )
    )
    return pictures


def _times_s(details: SrDetails) -> NDArray[np.float64] | None:
    """Time of the frames shown since the first one; None where the file has no times."""
    times = details.series.times_ms
    if times is None:
        return None
    first_slice = times.reshape(len(times), -1)[:, 0]
    return np.asarray((first_slice[details.shown.frames] - first_slice[0]) / 1000)


def _busiest_line(stack: NDArray[np.float32], axis: str) -> int:
    """The line across the phase axis where the signal changes most over time: it passes through the blood pools."""
    change = stack.var(axis=0)
    return int(np.argmax(change.mean(0 if axis == "y" else 1)))
