"""How high along the left ventricle a slice lies, and which way the base is, from the areas of a stack of slices."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmrsr.physics.volumes import base_is_first

Array = NDArray[np.float64]
LEAST_SLICES = 3  # that hold LV: with two, neither the ventricle's length nor its ends are known
# From the first to the last slice with LV, both half a gap further: a ventricle is longer than this at end diastole;
# what is shorter is a part of one, and nobody can say which.
LEAST_LENGTH_MM = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """level (n,): of every slice, 0 at the apex, 1 at the base. base_up: whether heights rise towards the base.

    With heights along x cross y of the voxels of an image (RAS), base_up is also whether that image is seen from the
    apex, as ``physics.scar.segment_map`` asks.
    """

    level: Array
    base_up: bool


def slice_levels(
    height_mm: ArrayLike,
    stack_mm: ArrayLike,
    stack_ed_mm2: ArrayLike,
    stack_es_mm2: ArrayLike,
    *,
    lv_mm2: ArrayLike | None = None,
) -> Levels | None:
    """Levels of slices at heights (n,) along the LV of a stack; None where they cannot be told.

    stack_mm (z,): heights of the stack's slices along the same direction; stack_ed_mm2, stack_es_mm2 (z,): their areas
    of LV cavity at end diastole and systole. lv_mm2 (n,): areas of LV cavity in the slices themselves.

    The LV reaches half a gap beyond the outermost slices of the stack that hold cavity at end diastole. Where fewer
    than ``LEAST_SLICES`` do, as many of the slices themselves take the stack's place, and the ventricle is wider at the
    base.
    """
    heights = np.asarray(height_mm, np.float64)
    mm, ed, es = (np.asarray(v, np.float64) for v in (stack_mm, stack_ed_mm2, stack_es_mm2))
    if np.count_nonzero(ed > 0) < LEAST_SLICES:
        if lv_mm2 is None:
            return None
        mm, ed, es = heights, np.asarray(lv_mm2, np.float64), np.zeros(len(heights))
    order = np.argsort(mm, kind="stable")
    mm, ed, es = mm[order], ed[order], es[order]
    held = mm[ed > 0]
    if len(held) < LEAST_SLICES:
        return None
    half = float(np.median(np.diff(held))) / 2
    low, high = held[0] - half, held[-1] + half
    if high - low < LEAST_LENGTH_MM:
        return None
    base_up = not base_is_first(ed, es)
    level = np.clip((heights - low) / (high - low), 0, 1)
    return Levels(level=level if base_up else 1 - level, base_up=base_up)
