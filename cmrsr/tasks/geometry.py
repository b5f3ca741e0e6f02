"""What happens to a series' affine when its matrix is cropped or interpolated in k-space."""

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]


def cropped(affine: Affine, x: int, y: int) -> Affine:
    """The affine of a sub-matrix whose first voxel is (x, y) of the old one."""
    out = affine.copy()
    out[:3, 3] += affine[:3, 0] * x + affine[:3, 1] * y
    return out


def zero_filled(affine: Affine, axis: int, old: int, new: int) -> Affine:
    """The affine after zero-filling k-space along column ``axis`` (0 = x, 1 = y) from ``old`` to ``new`` samples.

    Interpolation about the origin of the centred transform: voxel old // 2 stays where it is and becomes new // 2. For
    even sizes that leaves the first voxel in place as well.
    """
    out = affine.copy()
    out[:3, axis] *= old / new
    out[:3, 3] += affine[:3, axis] * (old // 2) - out[:3, axis] * (new // 2)
    return out
