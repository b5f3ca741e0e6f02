"""The pictures of one ``cmrsr sr`` case: before and after, movie, x-t profile, curves, spectrum."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.run import CaseResult
from cmrsr.metrics.images import roi_curves
from cmrsr.physics.passage import blood_pools
from cmrsr.physics.rms import rms
from cmrsr.report import facts, figures, style
from cmrsr.report.case import ReportCase
from cmrsr.report.page import Picture
from cmrsr.report.report import illustrated_case, plain_case
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.sr.files import SrDetails
from cmrsr.tasks.sr.plan import SrOptions
from cmrsr.tasks.sr.run import realism_cost_db


def report_case(result: CaseResult, bundle: Bundle, options: SrOptions, *, illustrated: bool = True) -> ReportCase:
    """A case of the batch as the report shows it; without details (failed, skipped) only its status and message."""
    details = result.details
    if not isinstance(details, SrDetails):
        return plain_case(result)
    plan, (n_t, n_z, *_) = details.plan, details.series.shape
    size = facts.matrix(plan.shape_yx)
    lines, of = plan.band.lines, plan.band.size
    band = f"{lines} of {of} lines ({100 * lines / of:.0f} %)"
    x, y, _, _ = plan.window
    cut = f"x {x}, y {y}, {size} of {facts.matrix(plan.matrix)}"
    case = replace(
        plain_case(result),
        columns=(("Matrix", size), ("Slices", str(n_z)), ("Frames", str(n_t)), ("Acquired band", band)),
        facts=(
            ("Matrix", f"{size}, {facts.counted(n_z, 'slice')}, {facts.counted(n_t, 'frame')}"),
            facts.spacing(plan.spacing_mm),
            ("Phase axis", f"{plan.axis} ({plan.axis_source})"),
            ("Acquired band", band),
            *facts.how(
                bundle, _Sampling(options.steps, options.n_samples, options.seed), details.device, result.seconds
            ),
            ("Image written", _written(options)),
            ("Consistency", f"weight {plan.consistency:g}"),
            ("Window", "" if plan.shape_yx == plan.matrix else cut),
        ),
        n_images=n_t * n_z,
        seconds=result.seconds,
    )
    return illustrated_case(case, lambda: _pictures(details)) if illustrated else case


@dataclass(frozen=True, slots=True)
class _Sampling:
    steps: int
    samples: int
    seed: int


def _written(options: SrOptions) -> str:
    if options.realism == 0:
        return "posterior mean"
    cost = realism_cost_db(options.realism)
    return f"posterior mean, moved by {options.realism:g} towards one sample: at most {cost:.2f} dB of PSNR lost"


def _bought(details: SrDetails) -> str:
    """What more steps bought, in words: the error to expect against what the network changed."""
    shown = details.shown
    if shown.std is None:
        return ""
    # every frame by its own range, as nRMSE and PSNR are; a constant frame tells nothing
    level = np.ptp(shown.output, axis=(1, 2))
    usable = level > 0
    if not usable.any():
        return ""
    scale = level[usable, None, None].astype(np.float64)
    expected, change = (rms(one[usable] / scale) for one in (shown.std, shown.output - shown.input))
    return (
        " More steps bought the two maps below, not another image: the standard deviation (the error to expect, "
        f"{100 * expected:.1f} % of the range of a frame on average) and, in the same colours, what the network "
        f"changed of the input ({100 * change:.1f} %). Where the first is the larger, the added detail is a guess."
    )


def _pictures(details: SrDetails) -> list[Picture]:
    before, after = details.shown.input, details.shown.output
    _, spacing_y, spacing_x = details.plan.spacing_mm
    aspect = spacing_y / spacing_x
    with ThreadPoolExecutor(1) as pool:  # a movie is encoded mostly outside the interpreter's lock
        movie = pool.submit(figures.movie, before, after, aspect=aspect) if len(before) > 2 else None
        first, *others = _figures(details, aspect)
        if movie is None:
            return [first, *others]
        film = Picture(title="Movie", caption="Input and result side by side.", data=movie.result())
        return [first, film, *others]


def _figures(details: SrDetails, aspect: float) -> list[Picture]:
    plan, shown, series = details.plan, details.shown, details.series
    before, after = shown.input, shown.output
    _, spacing_y, spacing_x = plan.spacing_mm
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
            f"{shown.plane + 1} of {series.shape[1]}, window around the heart.{counted}{_bought(details)}",
            data=style.png(figures.before_after(before, after, shown.std, frames=frames, aspect=aspect)),
        )
    ]
    if len(before) > 2:
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
