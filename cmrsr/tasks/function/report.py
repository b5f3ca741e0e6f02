"""One case of ``cmrsr function`` as the report shows it: the numbers, what speaks against them, and how they arose."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cmrsr.batch.run import CaseResult
from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV
from cmrsr.report import facts, style
from cmrsr.report.agreement_figures import agreement_pictures
from cmrsr.report.bulls_eye import bulls_eye
from cmrsr.report.case import ReportCase
from cmrsr.report.contours import contour_movie, contour_sheet, slices_shown
from cmrsr.report.facts import words
from cmrsr.report.movies import Timeline, playing
from cmrsr.report.page import Picture
from cmrsr.report.report import illustrated_case, plain_case
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.function.details import FunctionDetails
from cmrsr.tasks.function.figures import LEAST_ROUND, STANDS_OUT, causal_figure, describe_links, volume_curves
from cmrsr.tasks.function.measure import Measured
from cmrsr.tasks.function.numbers import (
    as_words,
    function_table,
    healthy_table,
    indexed_table,
    reference_rows,
    reference_table,
)

BEAT_MS = 1000.0  # the pace of a movie of a series without times
FEW_FRAMES, HELD_MS = 4, 700.0  # so few are shown for so long each: a beat of two phases would flicker
THICKENING = (0.0, 80.0)  # percent, of the colours


def report_case(result: CaseResult, bundle: Bundle, options: facts.Sampling, *, illustrated: bool = True) -> ReportCase:
    """A case of the batch as the report shows it; without details (failed, skipped) only its status and message."""
    details = result.details
    if not isinstance(details, FunctionDetails):
        return plain_case(result)
    measured, (n_t, n_z, *_) = details.measured, details.series.shape
    timeline = timeline_of(details.series)
    cautions = tuple(flag.message for flag in measured.flags if flag.doubt)
    beside = reference_rows(details)
    lv, rv = as_words(measured.lv, measured), as_words(measured.rv, measured)
    case = replace(
        plain_case(result),
        columns=(
            ("LV EF", lv.ef), ("LV EDV", lv.edv), ("LV ESV", lv.esv), ("LV mass", words(measured.mass_g, "g")),
            ("RV EF", rv.ef),
        ),
        cautions=cautions,
        headline=(
            ("LV ejection fraction", lv.ef), ("LV EDV", lv.edv), ("LV ESV", lv.esv), ("LV stroke volume", lv.sv),
            ("LV mass", words(measured.mass_g, "g")), ("RV ejection fraction", rv.ef),
        ),
        tables=(
            function_table(measured),
            *(table for table in (indexed_table(measured), healthy_table(details)) if table),
            *((reference_table(beside),) if beside else ()),
        ),
        facts=(
            ("Automatic checks", _checks(len(cautions))),
            ("Likely errors", _likely(measured)),
            ("Phases", _phases(measured, timeline)),
            ("EF below 50 %", _probability(measured)),
            ("Heart rate", words(measured.heart_rate_bpm, "beats / min", unknown="unknown: no cardiac output")),
            ("Series", f"{facts.counted(n_t, 'frame')}, {facts.counted(n_z, 'slice')}"),
            ("Matrix", _matrix(details)),
            facts.spacing(details.series.spacing_mm),
            *facts.how(bundle, options, details.device, result.seconds),
        ),
        n_images=n_t * n_z,
        seconds=result.seconds,
        warnings=tuple(warning for warning in result.warnings if warning not in cautions),
        notes=tuple(note for note in result.notes if note != details.device),
        compared={what: (ours, truth) for what, ours, truth in beside},
    )  # fmt: skip
    return illustrated_case(case, lambda: tuple(_pictures(details, timeline))) if illustrated else case


def batch_pictures(cases: Sequence[ReportCase]) -> list[Picture]:
    """Agreement of measured with reference values over the cases, of each quantity that three of them have."""
    quantities = dict.fromkeys(what for case in cases for what in case.compared)
    return agreement_pictures({
        what: [case.compared[what] for case in cases if what in case.compared] for what in quantities
    })  # fmt: skip


# --- facts ------------------------------------------------------------------------------------------------------------


def _probability(measured: Measured) -> str:
    """Nothing where the heart was seen in one phase only."""
    probability = measured.abnormal_probability
    if measured.ed == measured.es or not math.isfinite(probability):
        return ""
    return f"probability {100 * probability:.0f} %, by the model"


def _checks(n_flags: int) -> str:
    return (
        "none found a reason for doubt" if not n_flags else f"{facts.counted(n_flags, 'reason')} for doubt, see above"
    )


def _likely(measured: Measured) -> str:
    """Half the 90 % intervals in words; nothing where the engine does not say."""
    names = {
        "lv_ef_percent": ("LV EF", "points"), "lv_edv_ml": ("EDV", "mL"), "lv_esv_ml": ("ESV", "mL"),
        "rv_ef_percent": ("RV EF", "points"), "rv_edv_ml": ("EDV", "mL"), "rv_esv_ml": ("ESV", "mL"),
    }  # fmt: skip
    found = [f"{names[k][0]} ± {v:.0f} {names[k][1]}" for k, v in measured.intervals.items() if math.isfinite(v)]
    return f"{', '.join(found)}: nine of ten held-out hearts lay within" if found else ""


def _phases(measured: Measured, timeline: Timeline) -> str:
    if measured.ed == measured.es:
        return "end-diastole and end-systole could not be distinguished"
    return " · ".join(
        f"{name}: frame {t + 1}" + (f" ({timeline.at(timeline.frames[t])})" if timeline.unit == "ms" else "")
        for name, t in named_phases(measured).items()
    )


def _matrix(details: FunctionDetails) -> str:
    _, _, *shape = details.series.shape
    before, after = facts.matrix((shape[0], shape[1])), facts.matrix(details.plan.matrix)
    if not details.plan.super_resolved:
        return f"{before}, not super-resolved" if before == after else f"{before} → {after}, not super-resolved"
    return f"{before} → {after}, super-resolved"


def timeline_of(series: Series) -> Timeline:
    """When the frames are, in milliseconds since the first (mean of the slices), or in frames without times."""
    n = series.n_frames
    if series.times_ms is None:
        times = np.arange(n, dtype=np.float64)
    else:
        times = series.times_ms.reshape(n, -1).mean(1)
        times = times - times[0]
    step = float(np.median(np.diff(times))) if n > 1 else 1.0
    return Timeline(
        frames=times, acquired=times, end=float(times[-1]) + step, cyclic=True,
        unit="frames" if series.times_ms is None else "ms",
    )  # fmt: skip


# --- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(details: FunctionDetails, timeline: Timeline) -> Iterator[Picture]:
    """The contours first: whoever does not trust them need not read on."""
    yield _contours(details, timeline)
    several = len(details.images) > 1
    if several:
        yield _movie(details, timeline)
        yield _curves(details, timeline)
    if details.measured.wall is not None:
        yield _wall(details)
    if several:
        yield _causes(details, timeline)


def named_phases(measured: Measured) -> dict[str, int]:
    """Frames of end diastole and end systole by name; one name where they are the same."""
    return {"ED = ES": measured.ed} if measured.ed == measured.es else {"ED": measured.ed, "ES": measured.es}


def _contours(details: FunctionDetails, timeline: Timeline) -> Picture:
    measured = details.measured
    slices = slices_shown(details.labels, base_first=measured.base_first)
    n = details.images.shape[1]
    phases = {f"{name} · {timeline.at(timeline.frames[t])}": t for name, t in named_phases(measured).items()}
    some = f" {len(slices)} of {n} slices." if len(slices) < n else ""
    return Picture(
        title="Contours",
        caption="What was measured: the endocardial and epicardial contours of the left ventricle, and the right "
        "ventricle, in every slice from base to apex, at end diastole (ED) and end systole (ES). Check that no slice "
        "of the ventricle is without contour, that papillary muscles lie within the endocardial contour, and that the "
        f"right ventricle ends at its valve.{some}",
        data=contour_sheet(details.images, details.labels, phases, slices, details.pixel_mm),
    )


def _mid_slice(details: FunctionDetails) -> int:
    """The middle one of the slices that show the LV's cavity at ES, or else at all."""
    at_es = (details.labels[details.measured.es] == LV).any((1, 2))
    there = np.flatnonzero(at_es if at_es.any() else (details.labels == LV).any((0, 2, 3)))
    return int(there[len(there) // 2]) if there.size else details.images.shape[1] // 2


def _movie(details: FunctionDetails, timeline: Timeline) -> Picture:
    n, z = len(details.images), _mid_slice(details)
    image = "super-resolved image" if details.plan.super_resolved else "image"
    pace, said = 1.0, "at the pace of the heart"
    if n <= FEW_FRAMES:
        pace, said = HELD_MS * n / timeline.end, "slowly, because there are so few time points"
    elif timeline.unit != "ms":
        pace, said = BEAT_MS / timeline.end, "at one beat a second, because the file gives no times"
    kept, durations = playing(timeline, np.arange(n), pace)
    names = {t: f" · {name}" for name, t in named_phases(details.measured).items()}
    texts = [f"{timeline.at(timeline.frames[t])}{names.get(t, '')}" for t in range(n)[kept]]
    thinned = "" if len(texts) == n else f" {len(texts)} of the {n} frames are played."
    return Picture(
        title="Movie",
        caption=f"Slice {z + 1} of {details.images.shape[1]}, in the middle of the ventricle, played {said}. The "
        f"contours should follow the walls at every time point, without a jump.{thinned}",
        data=contour_movie(
            details.images[kept, z], details.labels[kept, z], texts, durations, details.pixel_mm, name=image
        ),
    )


def _curves(details: FunctionDetails, timeline: Timeline) -> Picture:
    m = details.measured
    has_rv = bool(np.isfinite(m.rv_ml).any() and np.nanmax(m.rv_ml) > 0)
    figure = volume_curves(timeline, m.lv_ml, m.rv_ml if has_rv else None, m.regressed_lv_ml, m.ed, m.es)
    shape = (
        f"There are {len(m.lv_ml)} time points only; what lies between them was not measured."
        if len(m.lv_ml) <= FEW_FRAMES
        else "In a regular beat the curve falls once and rises once."
    )
    return Picture(
        title="Volume over the beat",
        caption="Volumes from the contours at every time point; the dashed line is the left ventricle by the model's "
        f"direct estimate and should lie close to the solid one. {shape}"
        + ("" if has_rv else " No right ventricle was found."),
        data=style.png(figure),
    )


def _wall(details: FunctionDetails) -> Picture:
    m = details.measured
    assert m.wall is not None
    grey = "" if np.isfinite(m.wall.ed_mm).all() else " Grey: not covered by the slices."
    if m.ed == m.es:
        known = m.wall.ed_mm[np.isfinite(m.wall.ed_mm)]
        limits = (0.0, max(15.0, float(known.max(initial=0.0))))
        figure = bulls_eye(m.wall.ed_mm, name="wall thickness", unit="mm", limits=limits)
        return Picture(
            title="Wall thickness",
            caption="Mean thickness of the left ventricle's wall in the 16 segments of the American Heart Association, "
            f"seen from the apex; the outer ring is the base.{grey}",
            data=style.png(figure),
        )
    figure = bulls_eye(
        m.wall.thickening_percent, name="wall thickening", unit="%", limits=THICKENING, below=m.wall.ed_mm,
        below_unit="mm",
    )  # fmt: skip
    return Picture(
        title="Wall thickening",
        caption="By how much the left ventricle's wall thickens from end diastole to end systole (%), in the 16 "
        "segments of the American Heart Association, seen from the apex; the outer ring is the base. Small: thickness "
        f"at end diastole. Dark: the wall thickens little.{grey}",
        data=style.png(figure),
    )


def _causes(details: FunctionDetails, timeline: Timeline) -> Picture:
    alpha = np.asarray(details.alpha, np.float64)
    links = describe_links(alpha)
    own, beside, even, most = (f"{100 * s:.0f} %" for s in (links.own, links.neighbours, links.even, links.strongest))
    circle = (
        ""
        if len(alpha) < LEAST_ROUND
        else " Right: the beat as a clock, with the links beyond direct neighbours that have more "
        f"than {STANDS_OUT:g} times an even share, the stronger the thicker."
    )
    spread = (
        f"Here a step rests on its own image by {own} and on the images just before and after it by {beside}, on "
        f"average; the strongest link to another step is {most}, an even share of all would be {even}."
    )
    return Picture(
        title="On which time steps the model rests",
        caption="The causal graph of the model: each row is a time step, and its shades say how its weight is shared "
        f"among the images of the beat.{circle} {spread} It shows what the network looks at, no more: it is learnt "
        "from data, and not a proof that one moment of the beat causes another.",
        data=style.png(causal_figure(alpha, timeline, named_phases(details.measured))),
    )
