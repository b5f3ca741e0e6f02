"""How floating-point pixels become 16-bit integers in DICOM without losing the intensity scale."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

INT16, UINT16 = np.iinfo(np.int16), np.iinfo(np.uint16)
# Below this range, rounding to whole numbers would show.
MIN_RANGE_FOR_WHOLE_NUMBERS = 500.0
STORED_RANGE = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """value = stored * slope + intercept; the identity needs no tag."""

    slope: float
    intercept: float
    signed: bool

    @property
    def is_identity(self) -> bool:
        return self.slope == 1.0 and self.intercept == 0.0

    def store(self, values: NDArray[np.float32]) -> NDArray[np.int16] | NDArray[np.uint16]:
        """Rounded and clipped to the integer type, little endian."""
        limits = INT16 if self.signed else UINT16
        stored = np.rint((values.astype(np.float64) - self.intercept) / self.slope)
        return np.clip(stored, limits.min, limits.max).astype("<i2" if self.signed else "<u2")


def choose_scale(low: float, high: float, source: tuple[float, float] | None) -> Scale:
    """The scale for values from ``low`` to ``high``; ``source`` is the (slope, intercept) of an integer source.

    Whole numbers where they are as fine as the source, because MR Image Storage has no rescale tags of its own and
    not all viewers use them; else the rescale of the source; else one with zero stored as zero.
    """
    whole = Scale(slope=1.0, intercept=0.0, signed=low < 0)
    fine_enough = source[0] >= 1 if source is not None else high - low >= MIN_RANGE_FOR_WHOLE_NUMBERS
    if fine_enough and _fits(whole, low, high):
        return whole
    if source is not None:
        slope, intercept = source
        for signed in (False, True):
            same = Scale(slope=slope, intercept=intercept, signed=signed)
            if _fits(same, low, high):
                return same
    slope = float(format_number_as_ds(max(abs(low), abs(high), float(np.finfo(np.float32).tiny)) / STORED_RANGE))
    return Scale(slope=slope, intercept=0.0, signed=low < 0)


def _fits(scale: Scale, low: float, high: float) -> bool:
    limits = INT16 if scale.signed else UINT16
    first, last = sorted(((low - scale.intercept) / scale.slope, (high - scale.intercept) / scale.slope))
    return limits.min <= first and last <= limits.max
