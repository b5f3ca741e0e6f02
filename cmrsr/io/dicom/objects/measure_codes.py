"""What is measured of the ventricles, in DICOM's terms: codes of CID 3833 and 3835 (CT and MR) where there is one."""

from dataclasses import dataclass
from typing import Literal

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

Side = Literal["left", "right", "abnormal"]
ML = Code("mL", "UCUM", "milliliter")
GRAM = Code("g", "UCUM", "gram")
L_MIN = Code("L/min", "UCUM", "liter per minute")
PERCENT: Code = codes.UCUM.Percent
# Summation of discs (CID 3453).
DISCS: Code = codes.DCM.MultipleSlices


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Measurements of one thing; a finding is what a probability is of."""

    title: str
    site: Code
    finding: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number of the report.

    phase: the time point whose images it was measured on, None where it follows from several.
    scale: from the value as it is passed to the value in ``unit``.
    """

    group: Side
    code: Code
    unit: Code
    phase: Literal["ed", "es"] | None = None
    method: Code | None = None
    site: Code | None = None
    scale: float = 1.0


GROUPS: dict[Side, Group] = {
    "left": Group(title="Left ventricle", site=codes.SCT.LeftVentricle),
    "right": Group(title="Right ventricle", site=codes.SCT.RightVentricle),
    "abnormal": Group(
        title="Probability of left ventricular ejection fraction below 50 %",
        site=codes.SCT.LeftVentricle,
        finding=codes.SCT.ImpairedLeftVentricularFunction,
    ),
}
# By the names of the columns of the table of results. Stroke volume, output and mass have no codes of their own for MR:
# theirs are the general ones, and the finding site says of what. ``abnormal_probability`` is passed as 0 to 1.
QUANTITIES: dict[str, Quantity] = {
    "lv_edv_ml": Quantity(group="left", code=codes.LN.LeftVentricularEDVolume, unit=ML, phase="ed", method=DISCS),
    "lv_esv_ml": Quantity(group="left", code=codes.LN.LeftVentricularESVolume, unit=ML, phase="es", method=DISCS),
    "lv_sv_ml": Quantity(group="left", code=codes.SCT.StrokeVolume, unit=ML),
    "lv_ef_percent": Quantity(group="left", code=codes.LN.LeftVentricularEjectionFractionByMR, unit=PERCENT),
    "lv_mass_g": Quantity(
        group="left", code=codes.DCM.WallMass, unit=GRAM, phase="ed", method=DISCS,
        site=codes.SCT.LeftVentricleMyocardium,
    ),
    "heart_rate_bpm": Quantity(group="left", code=codes.LN.HeartRate, unit=codes.UCUM.PerMinute),
    "cardiac_output_l_min": Quantity(group="left", code=codes.SCT.CardiacOutput, unit=L_MIN),
    "rv_edv_ml": Quantity(group="right", code=codes.LN.RightVentricularEDVolume, unit=ML, phase="ed", method=DISCS),
    "rv_esv_ml": Quantity(group="right", code=codes.LN.RightVentricularESVolume, unit=ML, phase="es", method=DISCS),
    "rv_sv_ml": Quantity(group="right", code=codes.SCT.StrokeVolume, unit=ML),
    "rv_ef_percent": Quantity(group="right", code=codes.LN.RightVentricularEjectionFractionByMR, unit=PERCENT),
    "abnormal_probability": Quantity(group="abnormal", code=codes.DCM.Probability, unit=PERCENT, scale=100.0),
}  # fmt: skip
