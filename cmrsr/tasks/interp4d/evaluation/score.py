"""How near a restored volume is to the frame that was hidden: as a whole, in the heart, from slice to slice."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.metrics.images import ssim
from cmrsr.tasks.interp4d.evaluation.published import PADDED_MAE, PADDED_PSNR, PADDED_SSIM, Standard

PSNR, SSIM, MAE, GRADIENT = "PSNR (dB)", "SSIM", "MAE", "through-plane error (%)"
HEART_PSNR, HEART_SSIM, CLEAN_PSNR = "PSNR heart (dB)", "SSIM heart", "PSNR to noise-free (dB)"
LOWER_IS_BETTER = (MAE, PADDED_MAE, GRADIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What is scored beside the whole volume.

    peak: the signal of 0 dB in PSNR, and the range in SSIM. window: rows and columns of the heart. standard: a
    published protocol, whose zeros around the volume count too.
    """

    peak: float
    window: tuple[slice, slice] | None = None
    standard: Standard | None = None

    def __call__(
        self, result: NDArray[Any], truth: NDArray[Any], clean: NDArray[Any] | None = None
    ) -> dict[str, float]:
        """Every metric of one volume (z, y, x); ``clean``: the truth without noise, where it is known.

        UnusableError where no slice of the truth has an image.
        """
        test, reference = np.asarray(result, np.float64), np.asarray(truth, np.float64)
        found: dict[str, float] = {}
        similarity = self._ssim(test, reference)
        if self.standard is not None:
            share = reference.size / self.standard.n_voxels
            n_zero = self.standard.slices - len(reference)
            found[PADDED_PSNR] = self._psnr(test, reference) - _decibel(share)
            if self.standard.resampled:  # the paper whose table has them
                found[PADDED_SSIM] = (similarity * len(reference) + n_zero) / self.standard.slices
                found[PADDED_MAE] = share * self._mae(test, reference)
        found[PSNR] = self._psnr(test, reference)
        found[SSIM] = similarity
        if self.standard is not None and self.standard.resampled:
            found[MAE] = self._mae(test, reference)
        if self.window is not None:
            at = (slice(None), *self.window)
            found[HEART_PSNR] = self._psnr(test[at], reference[at])
            found[HEART_SSIM] = self._ssim(test[at], reference[at])
        if clean is not None:
            found[CLEAN_PSNR] = self._psnr(test, np.asarray(clean, np.float64))
        if len(reference) > 1:
            found[GRADIENT] = 100 * through_plane_error(test, reference)
        return found

    def _psnr(self, test: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
        return _decibel(self.peak**2) - _decibel(float(np.mean((test - reference) ** 2)))

    def _mae(self, test: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
        return float(np.mean(np.abs(test - reference))) / self.peak

    def _ssim(self, test: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
        """The mean over slices; those without an image have none."""
        usable = np.ptp(reference, axis=(1, 2)) > 0
        if not usable.any():
            raise UnusableError("a hidden frame is constant in every slice: leave it out, or score a wider window")
        return float(ssim(test[usable], reference[usable], data_range=self.peak).mean())


def through_plane_error(result: NDArray[Any], truth: NDArray[Any]) -> float:
    """Root mean square error of the differences between neighbouring slices (z, y, x) over that of the truth's own."""
    own = np.diff(truth, axis=0)
    error = np.diff(result, axis=0) - own
    scale = float(np.sqrt(np.mean(own**2)))
    return float(np.sqrt(np.mean(error**2))) / scale if scale else float("nan")


def pooled_psnr(values: NDArray[np.float64]) -> float:
    """The PSNR of the mean squared error over volumes of one peak, from theirs."""
    return -_decibel(float(np.mean(10 ** (-values / 10))))


def _decibel(power: float) -> float:
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(power))
