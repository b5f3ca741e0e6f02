"""Where along the ventricle the slices of ``mie`` lie, and from which side they are seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.heart.reader import HeartReader
from cmrsr.heart.window import ReadingWindow
from cmrsr.io.planes import normal_of, slice_centres
from cmrsr.io.series import Series
from cmrsr.physics.levels import slice_levels
from cmrsr.physics.volumes import LV
from cmrsr.tasks.mie.plan import SlicePair

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """level: 0 at the apex, 1 at the base; None where it cannot be told. seen_from_apex: as most scanners show it."""

    level: float | None
    seen_from_apex: bool


def locate_slices(
    t1: Series,
    cine: Series,
    pairs: Sequence[SlicePair],
    ends: tuple[Array, Array],
    window: ReadingWindow,
    reader: HeartReader,
) -> list[Position]:
    """Position of each T1 slice along the LV, by the cine's frames (z, y, x) at ``ends``: end-diastole, end-systole."""
    ed, es = _areas(ends, window, reader)
    normal = normal_of(t1.affine)
    heights = (slice_centres(t1) @ normal)[[p.z for p in pairs]]
    own = np.array([ed[p.cine_z] for p in pairs])
    found = slice_levels(heights, slice_centres(cine) @ normal, ed, es, lv_mm2=own)
    if found is None:
        return [Position(level=None, seen_from_apex=True)] * len(pairs)
    return [Position(level=float(level), seen_from_apex=found.base_up) for level in found.level]


def _areas(ends: tuple[Array, Array], window: ReadingWindow, reader: HeartReader) -> NDArray[np.float64]:
    """(2, z): of the LV at end diastole and end systole, pixels of the window."""
    windows = np.stack([window.cut(frame) for frame in ends])
    return np.asarray((reader.read(windows) == LV).sum((2, 3)), np.float64)
