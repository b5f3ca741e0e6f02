"""How high along the left ventricle a slice lies, and which way the base is, from the areas of a stack of slices."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmrsr.physics.volumes import base_is_first

Array = NDArray[np.float64]
LEAST_SLICES = 3  # that hold LV: with two, neither the ventricle's length nor its ends are known
# From apex to base at end diastole: an adult's is longer; what is shorter is a part of one, and nobody can say which.
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

    The apex is taken to lie half a gap beyond the last slice that holds cavity at end diastole; the base, where the
    cavity falls to half of its largest area: that is the middle of a tilted valve plane. On virtual stacks 97 % of the
    wall come into their third of the ventricle, 86 % where the base is taken half a gap beyond the last slice too.

    Where fewer than ``LEAST_SLICES`` of the stack hold cavity, as many of the slices themselves take its place, and the
    ventricle is wider at the base.
    """
    heights = np.asarray(height_mm, np.float64)
    mm, ed, es = (np.asarray(v, np.float64) for v in (stack_mm, stack_ed_mm2, stack_es_mm2))
    if np.count_nonzero(ed > 0) < LEAST_SLICES:
        if lv_mm2 is None:
            return None
        mm, ed, es = heights, np.asarray(lv_mm2, np.float64), np.zeros(len(heights))
    order = np.argsort(mm, kind="stable")
    mm, ed, es = mm[order], ed[order], es[order]
    if np.count_nonzero(ed > 0) < LEAST_SLICES:
        return None
    base_up = not base_is_first(ed, es)
    low, high = _ends(mm, ed) if base_up else _ends(-mm[::-1], ed[::-1])
    if high - low < LEAST_LENGTH_MM:
        return None
    level = ((heights if base_up else -heights) - low) / (high - low)
    return Levels(level=np.clip(level, 0, 1), base_up=base_up)


def _ends(mm: Array, area: Array) -> tuple[float, float]:
    """Heights of apex and base of an LV with areas (z,) at rising heights mm (z,), the apex first."""
    held = np.flatnonzero(area > 0)
    gap = float(np.median(np.diff(mm[held])))
    half, last = area.max() / 2, int(area.argmax())
    while last < held[-1] and area[last + 1] > half:
        last += 1
    above, step = (area[last + 1], mm[last + 1] - mm[last]) if last + 1 < len(mm) else (0.0, gap)
    return float(mm[held[0]]) - gap / 2, float(mm[last] + step * (area[last] - half) / (area[last] - above))
