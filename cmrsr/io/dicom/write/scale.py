"""How floating-point pixels become 16-bit integers in DICOM without losing the intensity scale."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

INT16, UINT16 = np.iinfo(np.int16), np.iinfo(np.uint16)
# Below this range, rounding to whole numbers would show.
MIN_RANGE_FOR_WHOLE_NUMBERS = 500.0
STORED_RANGE = 30_000
Range = tuple[float, float]  # lowest and highest value


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
        same = _first_that_fits([source], low, high)
        if same:
            return same
    slope = float(format_number_as_ds(max(abs(low), abs(high), float(np.finfo(np.float32).tiny)) / STORED_RANGE))
    return Scale(slope=slope, intercept=0.0, signed=low < 0)


def exact_scale(source: tuple[float, float], kept: Range, everything: Range) -> Scale | None:
    """A scale that gives values of an integer ``source``, its (slope, intercept), back bit for bit; None without one.

    kept: of the values that have to come back. What lies outside of the integers may be clipped elsewhere, but is not
    where ``everything`` fits. Whole numbers where the source has no others.
    """
    whole = [(1.0, 0.0)] if all(part.is_integer() for part in source) else []
    for low, high in (everything, kept):
        if found := _first_that_fits([*whole, source], low, high):
            return found
    return None


def _first_that_fits(scales: Iterable[tuple[float, float]], low: float, high: float) -> Scale | None:
    every = (Scale(slope=a, intercept=b, signed=signed) for a, b in scales for signed in (False, True))
    return next((scale for scale in every if _fits(scale, low, high)), None)


def _fits(scale: Scale, low: float, high: float) -> bool:
    limits = INT16 if scale.signed else UINT16
    first, last = sorted(round((value - scale.intercept) / scale.slope) for value in (low, high))
    return bool(limits.min <= first and last <= limits.max)
