"""What makes measured function doubtful: each doubt a sentence that a reader can check on the images.

The limits were chosen on virtual stacks (8 and 10 mm between slices, all disease groups) so that complete ones raise
nothing, and held against stacks drawn by hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.flags import Flag
from cmrsr.physics.volumes import LV, MYOCARDIUM, STRUCTURES, Ventricle

Array = NDArray[np.float64]
_LV, _WALL = STRUCTURES.index(LV), STRUCTURES.index(MYOCARDIUM)

EF_WITHIN = 10.0  # points: half the 90 % interval from which on an EF is in doubt
# Notes, not doubts. Clinical stacks begin where readers begin to count: of 24 stacks read by experts 21 would lack the
# base. Where the engine says how far the EF may be off, single disagreements have been weighed in that.
COVERAGE = {"base_missing"}
SETTLED = {"volumes_disagree", "stroke_volumes_differ", "mass_differs", "low_certainty"}
EF_DISAGREE = 8.0  # points: three times the error of a good reader or network
EDV_DISAGREE = 0.2  # of the larger
# Of the largest area: what area (cavity, or cavity with wall) falls and rises again along the stack. 0 in complete
# virtual stacks; 0.14 at most in 29 of 30 stacks drawn by hand; a random order has 0.5 to 3.
NOT_ONE_HUMP = 0.2
# Root mean square second difference of the LV's centres. Breath-holds that differ by 1.5 mm give 3 to 8 mm.
ZIGZAG_MM = 15.0
ZIGZAG_SLICES = 5  # with fewer, one breath-hold decides
INNER = 0.5  # of the largest area: smaller slices lie at the ends, where the valve plane cuts the centre off
BASE_ED, BASE_ES = 0.6, 0.15  # of the largest LV area at that phase: see ``_base``
APEX_ED = 0.6  # of the largest LV area: 0.44 at most in complete stacks, 0.6 and more with the apical third away
LEAST_SLICES = 5
LEAST_CERTAINTY = 0.75  # mean probability of the labels given, over the slices that hold the LV
EF_PLAUSIBLE = (5.0, 85.0)  # percent
EDV_PLAUSIBLE = (30.0, 500.0)  # mL
LEAST_MASS_G = 20.0
STROKE_DIFFERS = 0.4  # of the larger; slices of 10 mm and the RV's shape account for 0.15
PHASES_DIFFER = 0.05  # of the EDV
MASS_DIFFERS = 0.25  # of the larger: muscle cannot be compressed, and readers differ by 0.1 between phases
# Of the EDV, from the median of a frame and its neighbours. True beats of 16 frames have 0.07 at most.
JUMP, JUMP_FRAMES = 0.12, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the doubts are judged by. Areas in mm2: RV, myocardium, LV; frames from 0."""

    areas_mm2: Array  # (t, z, 3)
    centres_mm: Array  # (t, z, 2) of the LV cavity, NaN where there is none
    certainty: Array  # (t, z), NaN where unknown
    ed: int
    es: int
    base_first: bool
    lv: Ventricle
    rv: Ventricle
    regressed: Ventricle
    mass_ed_g: float
    mass_es_g: float
    ef_within: float | None = None  # half the 90 % interval of the LV's EF, points; None where nobody knows


def find_flags(of: Evidence) -> tuple[Flag, ...]:
    """All doubts about a case, none for a sound one; where no LV was found, that alone."""
    if of.lv.edv_ml <= 0:
        return (Flag(code="heart_lost", message="No left ventricle was found in any frame."),)
    checks = (
        _uncertain,
        _disagreement,
        _order,
        _base,
        _apex,
        _few,
        _certainty,
        _plausible,
        _strokes,
        _phases,
        _mass,
        _lost,
        _jumps,
    )
    notes = COVERAGE | (SETTLED if of.ef_within is not None else set())
    return tuple(
        Flag(code=code, message=message, doubt=code not in notes) for check in checks for code, message in check(of)
    )


Found = Iterator[tuple[str, str]]


def _uncertain(of: Evidence) -> Found:
    if of.ef_within is not None and of.ef_within > EF_WITHIN:
        yield (
            "ef_uncertain",
            f"The EF of {of.lv.ef_percent:.0f} % may be off by {of.ef_within:.0f} points (90 %): the same images read "
            "in other orientations, direct regression or the muscle at both phases disagree.",
        )


def _disagreement(of: Evidence) -> Found:
    a, b = of.lv, of.regressed
    if b.edv_ml <= 0:
        yield "volumes_disagree", f"Direct regression found no left ventricle, the masks an EDV of {a.edv_ml:.0f} mL."
        return
    ef, edv = abs(a.ef_percent - b.ef_percent), abs(a.edv_ml - b.edv_ml) / max(a.edv_ml, b.edv_ml)
    if not (ef <= EF_DISAGREE and edv <= EDV_DISAGREE):  # NaN disagrees
        yield (
            "volumes_disagree",
            f"Masks and direct regression disagree: EF {a.ef_percent:.0f} and {b.ef_percent:.0f} %, "
            f"EDV {a.edv_ml:.0f} and {b.edv_ml:.0f} mL.",
        )


def _order(of: Evidence) -> Found:
    areas = of.areas_mm2.mean(0)[of.areas_mm2[of.ed, :, _LV] > 0]  # the order is the same in all frames
    excess = max(_beyond_one_hump(areas[:, _LV]), _beyond_one_hump(areas[:, _LV] + areas[:, _WALL]))
    if excess > NOT_ONE_HUMP:
        yield (
            "slice_order",
            f"Along the stack the LV's area falls and rises again by {100 * excess:.0f} % of its largest: "
            "slices may be in the wrong order.",
        )
    lv = of.areas_mm2[of.ed, :, _LV]
    bends = np.diff(of.centres_mm[of.ed][lv > INNER * lv.max()], 2, axis=0)
    zigzag = float(np.sqrt((bends**2).sum(1).mean())) if len(bends) >= ZIGZAG_SLICES - 2 else 0.0
    if zigzag > ZIGZAG_MM and excess <= NOT_ONE_HUMP:
        yield (
            "slice_order",
            f"From slice to slice the LV's centre leaps to and fro ({zigzag:.0f} mm rms off a straight axis): "
            "slices may be in the wrong order or from very different breath-holds.",
        )


def _beyond_one_hump(area: Array) -> float:
    """What (n,) falls and rises beyond one rise to its peak and one fall, relative to the peak."""
    return float((np.abs(np.diff(area)).sum() - (2 * area.max() - area[0] - area[-1])) / (2 * area.max()))


def _ends(of: Evidence) -> tuple[int, int, Array, Array]:
    """Slices of the most basal and the most apical LV at ED; LV areas (z,) of ED and ES relative to the largest."""
    ed, es = of.areas_mm2[of.ed, :, _LV], of.areas_mm2[of.es, :, _LV]
    held = np.flatnonzero(ed > 0)
    base, apex = (held[0], held[-1]) if of.base_first else (held[-1], held[0])
    return int(base), int(apex), ed / ed.max(), es / max(es.max(), 1e-9)


def _base(of: Evidence) -> Found:
    """The stack ends within the LV at ED, and still at ES, when the base has moved about a slice towards the apex.

    One phase alone says nothing: complete stacks often begin in the valve plane, with a large area at ED. Measured on
    virtual stacks: never where less than 1 % of the EDV is missing, in 9 of 10 where 15 to 20 % are, always beyond.
    """
    base, _, ed, es = _ends(of)
    if base in (0, len(ed) - 1) and len(ed) > 1 and ed[base] > BASE_ED and es[base] > BASE_ES:
        yield (
            "base_missing",
            f"The most basal slice holds {100 * ed[base]:.0f} % of the largest LV area at ED and "
            f"{100 * es[base]:.0f} % at ES: the stack ends below the base, and volumes and EF come out too small.",
        )


def _apex(of: Evidence) -> Found:
    base, apex, ed, _ = _ends(of)
    if apex != base and ed[apex] > APEX_ED:
        yield (
            "apex_missing",
            f"The most apical slice with LV still holds {100 * ed[apex]:.0f} % of the largest area at ED: "
            "the apex was not covered or not found, and volumes come out too small.",
        )


def _few(of: Evidence) -> Found:
    n = int(np.count_nonzero(of.areas_mm2[of.ed, :, _LV]))
    if n < LEAST_SLICES:
        yield "few_slices", f"The LV lies in {n} slices only: summation of discs is coarse below {LEAST_SLICES}."


def _certainty(of: Evidence) -> Found:
    phases = [of.ed, of.es]
    known = of.certainty[phases][of.areas_mm2[phases, :, _LV] > 0]
    known = known[np.isfinite(known)]
    if known.size and known.mean() < LEAST_CERTAINTY:
        yield (
            "low_certainty",
            f"The masks are uncertain: a mean probability of {100 * known.mean():.0f} % at ED and ES.",
        )


def _plausible(of: Evidence) -> Found:
    ef, edv = of.lv.ef_percent, of.lv.edv_ml
    odd = []
    if ef > EF_PLAUSIBLE[1] or PHASES_DIFFER * 100 <= ef < EF_PLAUSIBLE[0]:
        odd.append(f"an EF of {ef:.0f} %")
    if not EDV_PLAUSIBLE[0] <= edv <= EDV_PLAUSIBLE[1]:
        odd.append(f"an EDV of {edv:.0f} mL")
    if of.mass_ed_g < LEAST_MASS_G:
        odd.append(f"an LV mass of {of.mass_ed_g:.0f} g")
    if of.rv.edv_ml <= 0:
        odd.append("no right ventricle at ED")
    elif of.ed != of.es and not of.rv.sv_ml > 0:
        odd.append(f"a right ventricle that ejects nothing ({of.rv.edv_ml:.0f} mL at ED, {of.rv.esv_ml:.0f} at ES)")
    if odd:
        yield "implausible", f"Hardly possible in an adult: {', '.join(odd)}."


def _strokes(of: Evidence) -> Found:
    lv, rv = of.lv.sv_ml, of.rv.sv_ml
    if of.rv.edv_ml > 0 and np.isfinite([lv, rv]).all() and abs(lv - rv) > STROKE_DIFFERS * max(lv, rv):
        yield (
            "stroke_volumes_differ",
            f"Stroke volumes differ: LV {lv:.0f}, RV {rv:.0f} mL (regurgitation, a shunt, or poor masks).",
        )


def _phases(of: Evidence) -> Found:
    if not of.lv.sv_ml >= PHASES_DIFFER * of.lv.edv_ml:
        yield (
            "phases_close",
            f"ED and ES volumes are almost the same ({of.lv.edv_ml:.0f} and {of.lv.esv_ml:.0f} mL): "
            "the series may show one phase only.",
        )


def _mass(of: Evidence) -> Found:
    ed, es = of.mass_ed_g, of.mass_es_g
    if abs(ed - es) > MASS_DIFFERS * max(ed, es):
        yield "mass_differs", f"The myocardium weighs {ed:.0f} g by the ED and {es:.0f} g by the ES masks."


def _lost(of: Evidence) -> Found:
    lost = np.flatnonzero(of.areas_mm2[:, :, _LV].sum(1) <= 0)
    if lost.size:
        yield "heart_lost", f"No left ventricle was found in {_frames(lost, len(of.areas_mm2))}."


def _jumps(of: Evidence) -> Found:
    volume = of.areas_mm2[:, :, _LV].sum(1)
    if len(volume) < JUMP_FRAMES:
        return
    median = np.median([np.roll(volume, 1), volume, np.roll(volume, -1)], axis=0)
    off = np.abs(volume - median) / volume[of.ed]
    if off.max() > JUMP:
        yield (
            "uneven_beat",
            f"The LV volume leaps by up to {100 * off.max():.0f} % of the EDV in "
            f"{_frames(np.flatnonzero(off > JUMP), len(volume))}: poor masks or a missed trigger there.",
        )


def _frames(which: NDArray[np.intp], n: int) -> str:
    """Frames, from 1, as a reader counts them."""
    names = ", ".join(str(t + 1) for t in which[:6]) + (", ..." if len(which) > 6 else "")
    return f"{len(which)} of {n} frames ({names})"


_CHECKS = (_disagreement, _order, _base, _apex, _few, _certainty, _plausible, _strokes, _phases, _mass, _lost, _jumps)
