"""The numbers of a synthetic enhancement in words and tables; what could not be measured is a dash, never a zero."""

import math
from collections.abc import Sequence

from cmrsr.physics.wall import SEGMENT_NAMES
from cmrsr.report.case import FactTable
from cmrsr.report.facts import UNKNOWN, words
from cmrsr.tasks.mie.features.scar import SegmentTable
from cmrsr.tasks.mie.measure import MieMeasured, SliceNumbers
from cmrsr.tasks.mie.slices import part_of

NO_SCAR = "no scar found"


def scar_mass(measured: MieMeasured) -> str:
    """In grams, or that there is none; a dash where no wall was found to look in."""
    if not measured.wall_g > 0:
        return UNKNOWN
    return words(measured.scar_g, "g", digits=1) if measured.scar_g > 0 else NO_SCAR


def scar_share(measured: MieMeasured) -> str:
    """In percent of the wall, empty where there is no scar."""
    return words(measured.scar_percent, "%", unknown="") if measured.scar_g > 0 else ""


def slice_table(slices: Sequence[SliceNumbers]) -> FactTable:
    """A row a slice, in the order given."""
    return FactTable(
        title="By slice",
        heads=("", "Scar", "Transmurality", "Myocardial T1", "Strain (circ.)", "Uncertain", "T1 images moved",
               "Cine to T1", "Overlap"),
        rows=tuple(
            (
                f"Slice {one.z + 1}" + (f", {part_of(one.level)}" if one.level is not None else ""),
                words(one.scar_percent, "%"), words(one.transmurality_percent if one.wall_mm2 else None, "%"),
                words(one.t1_wall_ms, "ms"), words(one.e_cc_percent, "%"), words(one.uncertainty_percent, "%"),
                words(one.largest_shift_mm, "mm", digits=1) + ("" if one.registered else ", not all corrected"),
                words(one.distance_mm, "mm", digits=1), words(one.agreement, "", digits=2).strip(),
            )
            for one in slices
        ),
        note="Scar: percentage of the myocardial area in the slice. Transmurality: mean depth of the scar where "
        "there is scar. T1: median of the myocardium without scar. Uncertain: percentage of the myocardium that the "
        "model itself expects to misclassify. Overlap: Dice coefficient of the ventricle in cine and T1 images.",
    )  # fmt: skip


def segment_rows(table: SegmentTable) -> FactTable:
    """The 16 segments of the American Heart Association."""
    columns = (
        (table.scar_percent, "%"), (table.transmurality_percent, "%"), (table.t1_ms, "ms"), (table.e_cc_percent, "%"),
        (table.e_rr_percent, "%"),
    )  # fmt: skip
    return FactTable(
        title="By segment",
        heads=("", "Scar", "Transmurality", "T1", "Strain, circumferential", "Strain, radial"),
        rows=tuple(
            (f"{i + 1} {name}", *(words(float(column[i]), unit) for column, unit in columns))
            for i, name in enumerate(SEGMENT_NAMES)
        ),
        note="Segments of the American Heart Association; a dash: not covered by the slices. Scar: of the segment's "
        "area. Transmurality: mean depth of the scar where there is scar, of the wall. T1: mean, scar included. Strain "
        "(Green-Lagrange) at end systole: negative is shortening, positive is stretching or thickening.",
    )


def t1_words(measured: MieMeasured) -> str:
    """T1 of wall, scar and blood, those that are known."""
    parts = (("wall", measured.t1_wall_ms), ("scar", measured.t1_scar_ms), ("blood", measured.t1_blood_ms))
    return " · ".join(f"{name} {value:.0f} ms" for name, value in parts if math.isfinite(value))


def strain_words(measured: MieMeasured) -> str:
    """Circumferential strain at end systole of the wall with and without scar, those that are known."""
    parts = (("wall without scar", measured.e_cc_rest_percent), ("scar", measured.e_cc_scar_percent))
    return " · ".join(f"{name} {words(value, '%')}" for name, value in parts if math.isfinite(value))
