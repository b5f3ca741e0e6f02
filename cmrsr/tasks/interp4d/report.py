"""One case of ``cmrsr interp4d`` as the report shows it: what was made of it, and how it looks and moves."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.run import CaseResult
from cmrsr.report import facts, movies, style
from cmrsr.report.case import ReportCase
from cmrsr.report.movies import PERCENT, Timeline
from cmrsr.report.page import Picture
from cmrsr.report.report import illustrated_case, plain_case
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.interp4d.files import InterpDetails, is_acquired
from cmrsr.tasks.interp4d.plan import MIN_SLICES, InterpOptions

SHOWN_NEW = 4  # new frames of one interval that are shown side by side
UNEVEN = 1.02  # longest over shortest step: they are not all the same
EXPECTED = (
    "Expected error: by how much a new frame is likely to be off (standard deviation), judged by how far the two "
    "acquired frames around it differ and how far it lies from them; calibrated on virtual patients, whose true frames "
    "are known."
)
NO_TIMES_BEAT_MS, NO_TIMES_FRAME_MS = 1000.0, 80.0  # the pace of a movie of a series without times


def report_case(result: CaseResult, bundle: Bundle, options: InterpOptions, *, illustrated: bool = True) -> ReportCase:
    """A case of the batch as the report shows it; without details (failed, skipped) only its status and message."""
    details = result.details
    if not isinstance(details, InterpDetails):
        return plain_case(result)
    plan, (n_in, n_z, *_) = details.plan, details.series.shape
    timeline = timeline_of(details)
    size, frames = facts.matrix(plan.matrix), f"{n_in} → {plan.n_frames}"
    kept = plan.n_frames - plan.n_new
    left = "" if kept == n_in else f", {kept} of the {n_in} acquired are among them"
    step = f"{_step(timeline.acquired, timeline)} → {_step(timeline.frames, timeline)}"
    wanted = f"factor {options.factor}" if options.factor is not None else f"{options.frames} frames"
    few = n_z < MIN_SLICES and options.consistency is not False
    across = "on" if plan.consistent else "off, too few slices" if few else "off"
    case = replace(
        plain_case(result),
        columns=(
            ("Matrix", size), ("Slices", str(n_z)), ("Frames", frames),
            ("Time step", step if timeline.unit == "ms" else ""),
        ),
        facts=(
            ("Frames", f"{frames} ({plan.n_new} new{left})"),
            ("Asked for", wanted),
            ("Series", "cyclic: after the last frame comes the first" if plan.cyclic else "open: first to last frame"),
            ("Time step", step if timeline.unit == "ms" else "unknown: the file gives no times"),
            ("Matrix", f"{size}, {facts.counted(n_z, 'slice')}"),
            facts.spacing(details.series.spacing_mm),
            ("Consistency across slices", across),
            *facts.how(bundle, options, details.device, result.seconds),
        ),
        n_images=plan.n_new * n_z,
        seconds=result.seconds,
        notes=tuple(note for note in result.notes if note != details.device),
    )  # fmt: skip
    return illustrated_case(case, lambda: _pictures(details, timeline, bundle, options)) if illustrated else case


def timeline_of(details: InterpDetails) -> Timeline:
    """When the frames are, in milliseconds where the series has times, in acquired frames otherwise."""
    plan = details.plan
    frames = np.interp(plan.position, np.arange(len(plan.clock)), plan.clock)
    end = plan.clock[-1] if plan.cyclic else frames[-1] + np.median(np.diff(frames))
    return Timeline(
        frames=frames, acquired=plan.clock[:-1], end=float(end), cyclic=plan.cyclic,
        unit="frames" if details.series.times_ms is None else "ms",
    )  # fmt: skip


def _step(times: NDArray[np.float64], timeline: Timeline) -> str:
    """The usual step between frames in words."""
    steps = np.diff(np.append(times, timeline.end) if timeline.cyclic else times)
    usual = float(np.median(steps))
    about = "about " if steps.max() > UNEVEN * steps.min() else ""
    return f"{about}{usual:.0f} ms" if usual >= 100 else f"{about}{usual:.1f} ms"


def _pictures(details: InterpDetails, timeline: Timeline, bundle: Bundle, options: InterpOptions) -> list[Picture]:
    pictures = [_movie(details, timeline), _profile(details, timeline)]
    if details.plan.n_new:
        pictures += [_certainty(details, timeline, bundle, options), _interval(details, timeline)]
    return pictures


def _aspect(details: InterpDetails) -> float:
    _, y, x = details.series.spacing_mm
    return y / x


def _where(details: InterpDetails) -> str:
    return f"Slice {details.shown.plane + 1} of {details.series.shape[1]}, window around the heart."


def _movie(details: InterpDetails, timeline: Timeline) -> Picture:
    shown = details.shown
    pace = 1.0
    said = "at the pace of the scan"
    if timeline.unit != "ms":
        pace = NO_TIMES_BEAT_MS / timeline.end if timeline.cyclic else NO_TIMES_FRAME_MS
        said = "at a pace of our choice, one beat a second" if timeline.cyclic else "at a pace of our choice"
        said += ": the file gives no times"
    kept, durations = movies.playing(timeline, shown.frames, pace)
    played = len(shown.before[kept])
    thinned = "" if played == len(timeline.frames) else f" {played} of the {len(timeline.frames)} frames are played."
    marks = [
        (bool(acquired), f"{'acquired' if acquired else 'new'} · {timeline.at(timeline.frames[t])}")
        for t, acquired in zip(shown.frames[kept], shown.acquired[kept], strict=True)
    ]
    data = movies.movie(shown.before[kept], shown.after[kept], marks, durations, aspect=_aspect(details))
    return Picture(
        title="Movie",
        caption="Left: the acquired frames, each held until the next. Right: the result, in the same grey window; a "
        f"dot marks the frames that the scanner acquired, all others are new. Played {said}.{thinned} "
        + _where(details),
        data=data,
    )


def _profile(details: InterpDetails, timeline: Timeline) -> Picture:
    shown = details.shown
    _, *pixel_mm = details.series.spacing_mm
    line = movies.busiest_line(shown.after)
    chart = movies.profile(shown.before, shown.after, line, timeline, shown.frames, pixel_mm=(pixel_mm[0], pixel_mm[1]))
    beats = " The beat is shown twice: a jump at the dashed line would be a jump from one beat to the next."
    return Picture(
        title="Profile over time",
        caption="Signal along the line in the small image, through the place that moves most (vertical), over time "
        "(horizontal). Steps are acquired frames held until the next; the ticks above are where they lie."
        + (beats if timeline.cyclic else ""),
        data=style.png(chart),
    )


def _certainty(details: InterpDetails, timeline: Timeline, bundle: Bundle, options: InterpOptions) -> Picture:
    plan, shown = details.plan, details.shown
    percent = 100 / plan.scale
    acquired = is_acquired(plan)
    scale = (
        "Root mean square over the window; 100 % is the brightness that 99.5 % of the series' signal stays below "
        f"({plan.scale:.4g})."
    )
    curves, said = {}, []
    if shown.frame_expected is not None:
        curves["expected error"] = percent * shown.frame_expected
        said.append(EXPECTED)
    if shown.frame_std is not None:
        curves[f"spread of {options.samples} samples"] = percent * shown.frame_std
        said.append(_spread_words(bundle, options))
    if not curves:
        chart = movies.unsampled(timeline, percent * shown.change, percent * shown.refinement, acquired)
        return Picture(
            title="Where to look with care",
            caption="No uncertainty was sampled: run with --steps 5 --samples 8 to get one. Instead: where "
            "neighbouring acquired frames differ much (top), much happened that the scanner did not see, and the new "
            "frames between them are least certain; where the network moved far from the classical motion-compensated "
            f"estimate (bottom), the two methods disagree. {scale}",
            data=style.png(chart),
        )
    more = " Run with --steps 5 --samples 8 to see how far samples spread as well." if shown.frame_std is None else ""
    return Picture(
        title="Uncertainty of every frame",
        caption=f"{' '.join(said)} Acquired frames (dots) are as measured. Look with care at the frames under the "
        f"peaks. {scale}{more}",
        data=style.png(movies.uncertainty(timeline, curves, acquired)),
    )


def _spread_words(bundle: Bundle, options: InterpOptions) -> str:
    factor = bundle.spread_factor(options.steps)
    calibrated = (
        "calibrated to the error that was found on virtual patients" if factor else "not calibrated for this engine"
    )
    little = " One step gives all but the same frame each time, so this says little: use --steps 5."
    return (
        f"Spread: standard deviation over {options.samples} samples of the same frame, {calibrated}."
        f"{little if options.steps == 1 else ''}"
    )


def _interval(details: InterpDetails, timeline: Timeline) -> Picture:
    """The interval whose ends differ most: first acquired frame, new ones, second acquired."""
    plan, shown = details.plan, details.shown
    new = np.flatnonzero(~shown.acquired)
    first = int(plan.position[shown.frames[new[shown.change[shown.frames[new]].argmax()]]])
    second = (first + 1) % len(timeline.acquired)
    inside = new[np.floor(plan.position[shown.frames[new]]).astype(int) == first]
    inside = inside[np.unique(np.linspace(0, len(inside) - 1, min(len(inside), SHOWN_NEW)).round().astype(int))]

    def acquired(index: int) -> NDArray[np.float32]:
        x, y, width, height = shown.window
        return details.series.frame(index)[shown.plane, y : y + height, x : x + width]

    if shown.std is not None:
        maps, name = shown.std, "uncertainty"
        below = "the standard deviation over the samples, where the new frames are uncertain"
    elif shown.expected is not None:
        maps, name = shown.expected, "expected error"
        below = "how far the new frames are likely to be off, as the motion between the two lets one expect"
    else:
        maps, name = np.abs(shown.after - shown.guess), "network’s change"
        below = "how far the network moved from the classical estimate"
    maps = np.float32(100 / plan.scale) * maps
    ends = np.append(timeline.acquired, timeline.end)[[first, first + 1]]
    at = [timeline.at(time) if timeline.unit == "ms" else "measured" for time in ends]
    chart = movies.interval(
        [
            (f"acquired {first + 1}", at[0], acquired(first), None),
            *(("new", timeline.at(timeline.frames[shown.frames[i]]), shown.after[i], maps[i]) for i in inside),
            (f"acquired {second + 1}", at[1], acquired(second), None),
        ],
        name, PERCENT, aspect=_aspect(details),
    )  # fmt: skip
    return Picture(
        title="From one acquired frame to the next",
        caption=f"The interval whose two acquired frames, {first + 1} and {second + 1}, differ most. Below: {below}.",
        data=style.png(chart),
    )
