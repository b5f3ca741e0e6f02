"""How near a synthetic enhancement is to an acquired one: in the window, and where the reference has scar."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from cmrsr.errors import UnusableError
from cmrsr.heart.window import READING_MM
from cmrsr.metrics.images import SSIM_RADIUS, ssim, ssim_map
from cmrsr.tasks.mie.features.signs import enhancement_scale, heart_crop
from cmrsr.tasks.mie.grid import Shift

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
SSIM, PSNR, MSE, LPIPS = "SSIM", "PSNR (dB)", "MSE", "LPIPS"
SCAR_SSIM, SCAR_PSNR = "SSIM in scar", "PSNR in scar (dB)"
METRICS = (SSIM, PSNR, MSE, LPIPS, SCAR_SSIM, SCAR_PSNR)
LOWER_IS_BETTER = (MSE, LPIPS)
FARTHEST_MM = 6.0  # that a reference is moved
AROUND_MM = 10.0  # of the heart that the shift is looked for in
SMOOTHED_PIXELS = 5  # of the search for it
STEPS, CLOSE = 100, 1e-5


def scaled(image: NDArray[Any]) -> Array:
    """The HEART_CROP x HEART_CROP pixels about the heart of a window, in units of their bright signal."""
    bright = enhancement_scale(image)
    if not np.isfinite(bright) or not np.any(heart_crop(image)):
        raise UnusableError("an image to compare is black or holds NaN; expected enhancement")
    return np.asarray(heart_crop(image), np.float64) / bright


def image_scores(ours: Array, truth: Array, scar: Mask | None) -> dict[str, float]:
    """Every metric of an image (y, x) against its reference, both ``scaled``; those of the scar where it has any.

    Errors are shares of the reference's range, from its darkest to its brightest pixel; PSNR has its peak there; an
    image that is met exactly has none. The region is the reference's scar, without a margin: the error over its pixels,
    and the mean there of the local SSIM, whose windows reach 5 pixels beyond.
    """
    span = max(float(np.ptp(truth)), 1e-9)
    ours, truth = ours / span, truth / span
    error = (ours - truth) ** 2
    found = {SSIM: float(ssim(ours, truth, data_range=1.0)), MSE: float(error.mean()), PSNR: _psnr(error)}
    if scar is not None and scar.any():
        local = local_ssim(ours, truth, scar)
        found |= {SCAR_PSNR: _psnr(error[scar])}
        if local.size:
            found[SCAR_SSIM] = float(local.mean())
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _psnr(error: Array) -> float:
    mse = float(error.mean())
    return float(-10 * np.log10(mse)) if mse > 0 else float("inf")


def local_ssim(ours: Array, truth: Array, where: Mask) -> Array:
    """SSIM of the windows (11 x 11) about the pixels of a mask.

    Left out: windows that leave the image, and those that are all one value in the reference, which have no structure.
    """
    size = 2 * SSIM_RADIUS + 1
    inner = np.s_[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]
    varied = (maximum_filter(truth, size) > minimum_filter(truth, size))[inner]
    return np.asarray(ssim_map(ours, truth, data_range=1.0)[where[inner] & varied])


def find_shift(image: NDArray[Any], reference: NDArray[Any], heart: Mask) -> Shift | None:
    """By how many pixels (y, x) the heart lies further along in the reference: what correlates best about the heart.

    None where nothing is found within ``FARTHEST_MM``. Enhanced correlation coefficient: Evangelidis & Psarakis 2008.
    """
    reach = 2 * round(AROUND_MM / READING_MM) + 1
    somewhere = heart if heart.any() else np.ones_like(heart)
    around = cv2.dilate(somewhere.astype(np.uint8), np.ones((reach, reach), np.uint8))
    still, moved = (np.asarray(i / max(float(np.max(i)), 1e-9), np.float32) for i in (image, reference))
    try:
        _, warp = cv2.findTransformECC(
            still, moved, np.eye(2, 3, dtype=np.float32), cv2.MOTION_TRANSLATION,
            (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, STEPS, CLOSE), around, SMOOTHED_PIXELS,
        )  # fmt: skip
    except cv2.error:  # it does not converge, or the images do not correlate
        return None
    x, y = float(warp[0, 2]), float(warp[1, 2])
    return (y, x) if np.hypot(y, x) * READING_MM <= FARTHEST_MM else None
