"""Windows of a matrix, and what happens to a series' affine when that is cropped or interpolated in k-space."""

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Window = tuple[int, int, int, int]  # x, y, width, height in pixels


def window_around(centre: tuple[float, float], matrix: tuple[int, int], size: int) -> Window:
    """The square window of ``size`` pixels about a centre (y, x), moved and cut to lie inside the matrix (y, x)."""
    height, width = min(size, matrix[0]), min(size, matrix[1])
    top = int(np.clip(round(centre[0] - height / 2), 0, matrix[0] - height))
    left = int(np.clip(round(centre[1] - width / 2), 0, matrix[1] - width))
    return left, top, width, height


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
