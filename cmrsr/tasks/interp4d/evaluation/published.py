"""The published protocols of temporal super-resolution on ACDC: how they prepare frames, and what was reported."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series

Array = NDArray[np.float32]
PADDED_PSNR, PADDED_SSIM, PADDED_MAE = "PSNR padded (dB)", "SSIM padded", "MAE padded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """One published preparation: volumes of ``matrix`` x ``matrix`` x ``slices`` voxels from 0 to 1.

    resampled: in plane to that matrix; otherwise its middle is cut out. The rest is zeros. rows: reported figures.
    """

    matrix: int
    resampled: bool
    slices: int = 32
    words: str
    rows: Mapping[str, Mapping[str, float]]

    @property
    def n_voxels(self) -> int:
        return self.matrix**2 * self.slices

    def apply(self, series: Series) -> Series:
        """The series as its methods are given it, without the zeros around. UnusableError for a constant frame."""
        _, n_z, n_y, n_x = series.shape
        affine, size = series.affine.copy(), (self.matrix, self.matrix)
        planes = _middle(n_z, self.slices)
        rows, columns = slice(None), slice(None)
        if self.resampled:
            for column, n in ((0, n_x), (1, n_y)):
                affine[:3, column] *= n / self.matrix
        else:
            rows, columns = _middle(n_y, self.matrix), _middle(n_x, self.matrix)
            size = (rows.stop - rows.start, columns.stop - columns.start)

        def frame(t: int) -> Array:
            volume = series.frame(t)[planes, rows, columns]
            if self.resampled:
                volume = _resampled(volume, size)
            is_padded = volume.size < self.n_voxels  # the zeros around belong to the range
            low, high = (float(f(volume)) for f in (np.min, np.max))
            low, high = (min(low, 0.0), max(high, 0.0)) if is_padded else (low, high)
            if low == high:
                raise UnusableError(f"{series.source.name}: frame {t + 1} is constant in the middle; leave it out")
            return np.asarray((volume - low) / (high - low), dtype=np.float32)

        shape = (series.n_frames, planes.stop - planes.start, *size)
        return replace(series, shape=shape, affine=affine, reader=frame)


def _middle(n: int, size: int) -> slice:
    low = max(0, (n - size) // 2)
    return slice(low, min(n, low + size))


def _resampled(volume: Array, size: tuple[int, int]) -> Array:
    from scipy.ndimage import zoom

    factors = (1, *(new / old for new, old in zip(size, volume.shape[1:], strict=True)))
    return np.asarray(zoom(volume, factors, order=1, grid_mode=True, mode="nearest"), dtype=np.float32)


STANDARDS = {
    "uvi": Standard(
        matrix=128, resampled=False,
        words="UVI-Net (Kim et al. 2024) by its public code: end-diastole and end-systole are known, all frames "
        "between are scored; the middle 128 x 128 pixels, slices padded with zeros to 32, every frame scaled to 0 to 1 "
        "by its own minimum and maximum. PSNR padded (peak 1) counts the zeros; PSNR is over the slices alone. The "
        "figure published for UVI-Net is, by that code, the mean over all frames of patients 091 to 100 of ACDC's "
        "training set.",
        rows={"UVI-Net": {PADDED_PSNR: 33.55}, "TTT4D": {PADDED_PSNR: 33.73}},
    ),
    "tssc": Standard(
        matrix=256, resampled=True,
        words="TSSC-Net (Zhou et al. 2025): sequences of up to 12 frames, of which the first and the last are known "
        "and those between are scored; 256 x 256 pixels, slices padded with zeros to 32. The paper leaves open which "
        "frames it took, how intensities were scaled and whether its scores count the zeros. Here: from end-diastole "
        "to end-systole, the acquired frames nearest to 12 even positions (none is interpolated; fewer where fewer "
        "were acquired), linear resampling in plane, every frame scaled to 0 to 1. Scores with and without the zeros. "
        "The published figures are those of 50 test patients of ACDC; which ones is open too.",
        rows={
            "VoxelMorph": {PADDED_MAE: 0.011, PADDED_PSNR: 30.920, PADDED_SSIM: 0.960},
            "TransMorph": {PADDED_MAE: 0.010, PADDED_PSNR: 31.264, PADDED_SSIM: 0.963},
            "UVI-Net": {PADDED_MAE: 0.007, PADDED_PSNR: 33.256, PADDED_SSIM: 0.975},
            "TSSC-Net without stage 2": {PADDED_MAE: 0.016, PADDED_PSNR: 29.343, PADDED_SSIM: 0.942},
            "TSSC-Net": {PADDED_MAE: 0.007, PADDED_PSNR: 32.971, PADDED_SSIM: 0.977},
        },
    ),
}  # fmt: skip
