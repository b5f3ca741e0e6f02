"""The numbers of a heart's function in words and tables; what could not be measured is a dash, never a zero."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cmrsr.physics.volumes import Ventricle
from cmrsr.report.case import FactTable
from cmrsr.report.facts import UNKNOWN, Fact, words
from cmrsr.report.page import signed
from cmrsr.tasks.function.details import FunctionDetails
from cmrsr.tasks.function.measure import Measured

HOW_MEASURED = (
    "Contours: the area inside them, summed over the slices and multiplied by the distance of the slices' centres; "
    "papillary muscles count as cavity. Direct estimate: the same from areas that the model gives without drawing a "
    "contour. Where the two differ much, look at the contours below."
)
HEALTHY_AGES = (45, 74)  # years
# (mean, SD) of the LV's EF in percent and of its mass in g per m2 of body surface.
HEALTHY = {"F": ((61.0, 5.0), (42.0, 7.0)), "M": ((58.0, 5.0), (53.0, 9.0))}


@dataclass(frozen=True, slots=True)
class VentricleWords:
    """A ventricle's values in words; what could not be measured is a dash."""

    ef: str
    edv: str
    esv: str
    sv: str


def as_words(ventricle: Ventricle, measured: Measured) -> VentricleWords:
    """A ventricle that was not found has no volume, and one that was seen in one phase no function."""
    if not ventricle.edv_ml > 0:
        return VentricleWords(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    edv = words(ventricle.edv_ml, "mL")
    if measured.ed == measured.es:
        return VentricleWords(UNKNOWN, edv, UNKNOWN, UNKNOWN)
    ef, esv, sv = ((ventricle.ef_percent, "%"), (ventricle.esv_ml, "mL"), (ventricle.sv_ml, "mL"))
    return VentricleWords(words(*ef), edv, words(*esv), words(*sv))


def function_table(measured: Measured) -> FactTable:
    """Both ventricles from the contours, beside the left one by direct estimate."""
    columns = [as_words(one, measured) for one in (measured.lv, measured.regressed, measured.rv)]
    output = None if measured.ed == measured.es else measured.cardiac_output_l_min
    return FactTable(
        title="Function",
        heads=("", "LV, from the contours", "LV, direct estimate", "RV, from the contours"),
        rows=(
            ("Ejection fraction (EF)", *(one.ef for one in columns)),
            ("End-diastolic volume (EDV)", *(one.edv for one in columns)),
            ("End-systolic volume (ESV)", *(one.esv for one in columns)),
            ("Stroke volume (SV)", *(one.sv for one in columns)),
            ("Mass at end diastole", words(measured.mass_g, "g"), "", ""),
            ("Cardiac output", words(output, "L/min", digits=1), "", ""),
        ),
        note=HOW_MEASURED,
    )


def indexed_table(measured: Measured) -> FactTable | None:
    """Volumes and mass divided by the body surface; None where height or weight is unknown."""
    of = {name: words(value, "mL/m²" if "_ml_" in name else "g/m²") for name, value in measured.indexed.items()}
    if not of:
        return None
    return FactTable(
        title="Indexed to body surface",
        heads=("", "LV", "RV"),
        rows=(
            ("EDV / BSA", of["lv_edv_ml_m2"], of["rv_edv_ml_m2"]),
            ("ESV / BSA", of["lv_esv_ml_m2"], of["rv_esv_ml_m2"]),
            ("Mass / BSA", of["lv_mass_g_m2"], ""),
        ),
        note=f"Body surface {words(measured.body_surface_m2, 'm²', digits=2)} from height and weight in the header "
        "(Mosteller 1987).",
    )


def healthy_table(details: FunctionDetails) -> FactTable | None:
    """Ejection fraction and mass beside healthy adults of the same sex; None where sex or age is unknown or another."""
    body, m = details.plan.body, details.measured
    if body.sex is None or body.age_years is None or not HEALTHY_AGES[0] <= body.age_years < HEALTHY_AGES[1] + 1:
        return None
    index = m.indexed.get("lv_mass_g_m2", math.nan)
    rows = (
        ("LV ejection fraction", "%", m.lv.ef_percent if m.ed != m.es else math.nan),
        ("LV mass / BSA", "g/m²", index),
    )
    return FactTable(
        title="Beside healthy adults",
        heads=("", "Measured", "Healthy, mean ± 2 SD"),
        rows=tuple(
            (name, words(value, unit), f"{mean - 2 * sd:.0f} to {mean + 2 * sd:.0f} {unit}")
            for (name, unit, value), (mean, sd) in zip(rows, HEALTHY[body.sex], strict=True)
            if math.isfinite(value)
        ),
        note=f"{'Women' if body.sex == 'F' else 'Men'} aged {HEALTHY_AGES[0]} to {HEALTHY_AGES[1]}, UK Biobank, read "
        "by hand with papillary muscles in the cavity (Petersen et al., J Cardiovasc Magn Reson 2017;19:18).",
    )


def reference_rows(details: FunctionDetails) -> list[tuple[Fact, float, float]]:
    """(quantity, unit), measured and reference value of everything that the reference of this case holds."""
    reference, m = details.reference, details.measured
    if reference is None:
        return []
    moved = 1.0 if m.ed != m.es else math.nan  # one phase has no function
    pairs: tuple[tuple[str, str, float, float | None], ...] = (
        ("LV EF", "%", moved * m.lv.ef_percent, reference.ef_percent),
        ("LV EDV", "mL", m.lv.edv_ml, reference.edv_ml),
        ("LV ESV", "mL", moved * m.lv.esv_ml, reference.esv_ml),
        ("LV mass", "g", m.mass_g, reference.mass_g),
        ("RV EF", "%", moved * m.rv.ef_percent, reference.rv_ef_percent),
        ("RV EDV", "mL", m.rv.edv_ml, reference.rv_edv_ml),
        ("RV ESV", "mL", moved * m.rv.esv_ml, reference.rv_esv_ml),
    )
    return [((name, unit), ours, truth) for name, unit, ours, truth in pairs if truth is not None]


def reference_table(rows: Sequence[tuple[Fact, float, float]]) -> FactTable:
    """Measured and reference values side by side, from ``reference_rows``."""

    def cells(name: str, unit: str, ours: float, truth: float) -> tuple[str, ...]:
        values = (f"{value:.1f} {unit}" if math.isfinite(value) else UNKNOWN for value in (ours, truth))
        difference = ours - truth
        if not math.isfinite(difference):
            return name, *values, UNKNOWN
        share = f" ({_rounded(100 * difference / truth, 0)} %)" if unit != "%" and truth else ""
        return name, *values, f"{_rounded(difference, 1)} {'points' if unit == '%' else unit}{share}"

    return FactTable(
        title="Beside the reference",
        heads=("", "Measured", "Reference", "Difference"),
        rows=tuple(cells(*what, ours, truth) for what, ours, truth in rows),
    )


def _rounded(value: float, digits: int) -> str:
    """With a sign, but zero without."""
    return signed(value, digits) if round(value, digits) else f"{0:.{digits}f}"
