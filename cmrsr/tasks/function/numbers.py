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
