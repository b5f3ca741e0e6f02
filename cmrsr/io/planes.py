"""How the slices of two series lie to each other."""

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.series import Series


def normal_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normal (3,) of the slices, along x cross y of the voxels, RAS."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def slice_centres(series: Series) -> NDArray[np.float64]:
    """(z, 3) RAS mm, the middle of every slice."""
    n_z, n_y, n_x = series.shape[1:]
    voxels = np.stack([np.full(n_z, (n_x - 1) / 2), np.full(n_z, (n_y - 1) / 2), np.arange(n_z), np.ones(n_z)])
    return np.asarray((series.affine @ voxels)[:3].T)


def tilt_deg(a: Series, b: Series) -> float:
    """Angle between the planes of two series, 0 to 90 degrees."""
    return float(np.degrees(np.arccos(min(1.0, abs(float(normal_of(a.affine) @ normal_of(b.affine)))))))


def distances_mm(series: Series, other: Series) -> NDArray[np.float64]:
    """(z,) from the middle of every slice of ``series`` to the nearest slice of ``other``, along the other's normal."""
    apart = slice_centres(series)[:, None] - slice_centres(other)[None]
    return np.asarray(np.abs(apart @ normal_of(other.affine)).min(1))
