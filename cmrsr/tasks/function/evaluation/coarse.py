"""A cine as a scanner with half as many samples in the plane would have given it, and ways back without learning."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series, Source
from cmrsr.io.window import zero_filled
from cmrsr.metrics.baselines import bicubic, lanczos
from cmrsr.physics.fourier import centre_crop, fftnc, ifftnc
from cmrsr.physics.kspace import zero_fill_plane

FACTOR = 2
MIN_COARSE = 32  # samples that have to be left
PLANE = (-2, -1)
Array = NDArray[np.float32]


def made_even(series: Series) -> Series:
    """Without the last row or column of an odd matrix, so that halves fit; all other voxels stay where they are."""
    n_t, n_z, n_y, n_x = series.shape
    n_y, n_x = n_y - n_y % FACTOR, n_x - n_x % FACTOR
    if (n_y, n_x) == series.shape[2:]:
        return series
    return replace(series, shape=(n_t, n_z, n_y, n_x), reader=lambda t: series.frame(t)[:, :n_y, :n_x])


def coarse(series: Series) -> Series:
    """The central half of k-space along both axes of the plane, magnitude: twice the pixel size, same intensities.

    The affine is that of the small matrix. The series has an even matrix. UnusableError where too little is left.
    """
    n_y, n_x = (n // FACTOR for n in series.shape[2:])
    if min(n_y, n_x) < MIN_COARSE:
        raise UnusableError(
            f"{series.source.name}: a matrix of {series.shape[3]} x {series.shape[2]}, expected at least "
            f"{FACTOR * MIN_COARSE} to take the half of"
        )
    affine = series.affine
    for axis, (old, new) in enumerate(((series.shape[3], n_x), (series.shape[2], n_y))):
        affine = zero_filled(affine, axis, old, new)

    def frame(t: int) -> Array:
        k = fftnc(series.frame(t).astype(np.float64), PLANE)
        small = ifftnc(centre_crop(centre_crop(k, n_y, -2), n_x, -1), PLANE)
        return np.asarray(np.abs(small) / FACTOR, dtype=np.float32)  # unitary: a shorter transform scales up

    source = Source(name=series.source.name, notes=series.source.notes)
    return replace(series, shape=(*series.shape[:2], n_y, n_x), affine=affine, reader=frame, source=source)


def zero_filling(volume: Array) -> Array:
    """Twice the matrix of (z, y, x) by zero-filled k-space, magnitude."""
    return np.asarray(zero_fill_plane(volume, FACTOR), dtype=np.float32)


def _interpolated(kernel: Callable[[NDArray[np.float64], int, int], NDArray[np.float64]]) -> Callable[[Array], Array]:
    def enlarge(volume: Array) -> Array:
        wide = kernel(volume.astype(np.float64), FACTOR * volume.shape[-1], -1)
        return np.asarray(kernel(wide, FACTOR * volume.shape[-2], -2), dtype=np.float32)

    return enlarge


ZERO_FILLING = "zero-filling"
BASELINES: Mapping[str, Callable[[Array], Array]] = {
    ZERO_FILLING: zero_filling, "bicubic": _interpolated(bicubic), "Lanczos": _interpolated(lanczos),
}  # fmt: skip
