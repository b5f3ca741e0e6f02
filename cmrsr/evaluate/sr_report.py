"""The pictures of one ``cmrsr sr`` case: before and after, movie, x-t profile, curves, spectrum."""

import numpy as np

from cmrsr.evaluate import figures, style
from cmrsr.evaluate.metrics import roi_curves
from cmrsr.evaluate.report import Picture, ReportCase
from cmrsr.physics.passage import blood_pools
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.batch import CaseResult
from cmrsr.tasks.sr import SrOptions
from cmrsr.tasks.sr_files import SrDetails


def report_case(result: CaseResult, bundle: Bundle, options: SrOptions) -> ReportCase:
    """A case of the batch as the report shows it; without details (failed, skipped) only its status and message."""
    outputs = tuple(str(path) for path in result.outputs)
    if not isinstance(result.details, SrDetails):
        return ReportCase(
            name=result.name, status=result.status, message=result.message, outputs=outputs, warnings=result.warnings
        )
    details = result.details
    plan, series = details.plan, details.series
    x, y, width, height = plan.window
    facts = [("Consistency", f"weight {plan.consistency:g}")]
    if plan.shape_yx != plan.matrix:
        facts.append(("Window", f"x {x}, y {y}, {width} × {height} of {plan.matrix[1]} × {plan.matrix[0]}"))
    return ReportCase(
        name=result.name, status=result.status, message=result.message,
        shape=(series.shape[0], series.shape[1], *plan.shape_yx), spacing_mm=series.spacing_mm, phase_axis=plan.axis,
        phase_axis_source=plan.axis_source, acquired=(plan.band.lines, plan.band.size), engine=bundle.manifest.name,
        steps=options.steps, samples=options.samples, seed=options.seed, seconds=result.seconds,
        device=f"{details.engine.backend} {details.engine.device} {details.engine.precision}", facts=tuple(facts),
        warnings=result.warnings, outputs=outputs, pictures=tuple(_pictures(details)),
    )  # fmt: skip


def _pictures(details: SrDetails) -> list[Picture]:
    plan, shown, series = details.plan, details.shown, details.series
    before, after = shown.input, shown.output
    _, spacing_y, spacing_x = series.spacing_mm
    aspect = 1.0 if plan.zero_fill else spacing_y / spacing_x
    pools = blood_pools(before)
    curves = roi_curves(before, pools)
    times = None if series.times_ms is None else np.asarray(series.times_ms).reshape(series.n_frames, -1)[shown.frames, 0]
    times_s = None if times is None else (times - times[0]) / 1000
    if curves:
        frames = figures.key_frames(curves)
    else:
        frames = {f"frame {t + 1}": int(t) for t in np.unique(np.linspace(0, len(before) - 1, 3).astype(int))}
    pictures = [
        Picture(
            title="Before and after",
            caption="Top: input as acquired (zero-filled). Bottom: super-resolved, shown in the same grey window. Slice "
            f"{shown.plane + 1} of {series.shape[1]}, window around the heart.",
            data=style.png(figures.before_after(before, after, shown.std, frames=frames, aspect=aspect)),
        )
    ]
    if len(before) > 2:
        pictures.append(Picture(title="Movie", caption="Input and result side by side.", data=figures.movie(before, after, aspect=aspect)))
        line = _busiest_line(after, plan.axis)
        strips = {
            name: (stack[:, :, line] if plan.axis == "y" else stack[:, line, :])
            for name, stack in (("input", before), ("super-resolved", after))
        }
        pixel = spacing_y if plan.axis == "y" else spacing_x
        pictures.append(
            Picture(
                title="Profile over time",
                caption="Signal along one line through the heart in the phase direction (vertical) over time (horizontal): each "
                "frame was restored by itself, so nothing is smoothed over time.",
                data=style.png(figures.xt_profile(strips, pixel_mm=None if plan.zero_fill else pixel)),
            )
        )
    if curves:
        pictures.append(
            Picture(
                title="Signal over time",
                caption="Mean signal of the blood pools, found by the passage of contrast: solid after, dashed before.",
                data=style.png(figures.curves(times_s, roi_curves(after, pools), curves)),
            )
        )
    axis = -2 if plan.axis == "y" else -1
    n = before.shape[axis]
    powers = {name: figures.phase_power(stack, axis) for name, stack in (("input", before), ("super-resolved", after))}
    pictures.append(
        Picture(
            title="Spectrum along the phase axis",
            caption="Mean power of every spatial frequency in the window shown: what lies outside the acquired band is new.",
            data=style.png(figures.spectrum(powers, max(2, round(plan.band.fraction * n)))),
        )
    )
    return pictures


def _busiest_line(stack: np.ndarray, axis: str) -> int:
    """The line across the phase axis along which the signal changes most over time: it passes through the blood pools."""
    change = stack.var(axis=0)
    return int(np.argmax(change.mean(0 if axis == "y" else 1)))
