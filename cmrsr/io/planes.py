"""Where the slices of a series are, and how those of two series are placed to each other."""

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series


def normal_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normal (3,) of the slices, along x cross y of the voxels, RAS."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def slice_centres(series: Series) -> NDArray[np.float64]:
    """(z, 3) RAS mm, the middle of every slice."""
    n_y, n_x = series.shape[2:]
    return slice_origins(series) + series.affine[:3, :2] @ [(n_x - 1) / 2, (n_y - 1) / 2]


def slice_origins(series: Series) -> NDArray[np.float64]:
    """(z, 3) RAS mm, the first voxel of every slice: evenly spaced as the affine says, or where each one really is."""
    if series.origins_mm is not None:
        return series.origins_mm
    return np.asarray(series.affine[:3, 3] + np.arange(series.shape[1])[:, None] * series.affine[:3, 2])


def slice_affine(series: Series, z: int, affine: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The affine that puts slice ``z`` where it is; another one for each slice where they are not evenly spaced.

    affine: of the same slices after a crop or an interpolation in the plane; by default that of the series.
    """
    start = series.affine if affine is None else affine
    if series.origins_mm is None:
        return start
    moved = start.copy()
    in_plane = start[:3, 3] - series.affine[:3, 3]  # moves the first pixel of every slice alike
    moved[:3, 3] = series.origins_mm[z] + in_plane - z * start[:3, 2]
    return moved


def require_even_slices(series: Series, what: str) -> None:
    """UnusableError where the slices are not evenly spaced; ``what`` needs them so, in words."""
    if series.origins_mm is None:
        return
    gaps = ", ".join(f"{g:.1f}" for g in np.linalg.norm(np.diff(series.origins_mm, axis=0), axis=1))
    raise UnusableError(
        f"{series.source.name}: slices are not equally spaced: gaps of {gaps} mm, expected equal ones: {what}; "
        "find the missing slices, or leave out those that are apart"
    )


def tilt_deg(a: Series, b: Series) -> float:
    """Angle between the planes of two series, 0 to 90 degrees."""
    return float(np.degrees(np.arccos(min(1.0, abs(float(normal_of(a.affine) @ normal_of(b.affine)))))))


def distances_mm(series: Series, other: Series) -> NDArray[np.float64]:
    """(z,) from the middle of every slice of ``series`` to the nearest slice of ``other``, along the other's normal."""
    apart = slice_centres(series)[:, None] - slice_centres(other)[None]
    return np.asarray(np.abs(apart @ normal_of(other.affine)).min(1))
