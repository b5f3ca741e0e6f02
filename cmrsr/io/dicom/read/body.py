"""Height, weight, sex and age of the patient, as far as the header of a series says them."""

from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.header import read_header
from cmrsr.io.dicom.tags import number, text
from cmrsr.io.series import Series

HEIGHT_M, HEIGHT_CM = (0.4, 2.5), (40.0, 250.0)
WEIGHT_KG = (2.0, 350.0)
UNITS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}  # of PatientAge, a year of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """None: the header says nothing, or nothing possible."""

    height_m: float | None = None
    weight_kg: float | None = None
    sex: Literal["F", "M"] | None = None
    age_years: float | None = None

    @property
    def area_m2(self) -> float | None:
        """Body surface area, sqrt(height [cm] x weight [kg] / 3600): Mosteller, N Engl J Med 1987;317:1098."""
        if self.height_m is None or self.weight_kg is None:
            return None
        return float((100 * self.height_m * self.weight_kg / 3600) ** 0.5)


def read_body(series: Series) -> Body:
    """What the first file of a DICOM series says; of other series nothing is known."""
    if series.source.format != "dicom" or not series.source.paths:
        return Body()
    try:
        return body_of(read_header(series.source.paths[0], all_tags=True).dataset)
    except UnreadableError:  # the images were read: a patient module that was not costs the indexed values alone
        return Body()


def body_of(ds: Dataset) -> Body:
    """Heights in centimetres, as some scanners store them, count as such; zeros mean unknown."""
    height, weight = number(ds, "PatientSize"), number(ds, "PatientWeight")
    if height is not None and HEIGHT_CM[0] <= height <= HEIGHT_CM[1]:
        height /= 100
    sex = text(ds, "PatientSex").strip().upper()
    return Body(
        height_m=_within(height, HEIGHT_M), weight_kg=_within(weight, WEIGHT_KG),
        sex="F" if sex == "F" else "M" if sex == "M" else None, age_years=_age(text(ds, "PatientAge").strip()),
    )  # fmt: skip


def _within(value: float | None, bounds: tuple[float, float]) -> float | None:
    return value if value is not None and bounds[0] <= value <= bounds[1] else None


def _age(age: str) -> float | None:
    """Years of an age string such as 045Y."""
    digits, unit = age[:-1], age[-1:].upper()
    return int(digits) / UNITS[unit] if digits.isdecimal() and unit in UNITS else None
