"""Motion between the inversion-recovery images of one slice, taken out before T1 is fitted."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cmrsr.physics.t1_fit import T1Fit, fit_t1

Array = NDArray[np.float32]
ROUNDS = 2  # of fit and registration: with more, images of a phantom that lay still drift apart by half a pixel
LARGEST_PIXELS = 12.0  # a shift beyond is taken for a failure: the image stays where it is
LEAST_CORRELATION = 0.3  # likewise, below this correlation with what the fit expects
ECC_STEPS, ECC_PRECISION = 40, 1e-4
BLUR = 5  # pixels, of ECC's smoothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """images (n, y, x) moved onto each other; shift (n, 2): how far (y, x) in pixels each lay from the common place.

    moved: whether each image could be registered at all. fit: T1 of the registered images.
    """

    images: Array
    shift: NDArray[np.float64]
    moved: NDArray[np.bool_]
    fit: T1Fit


def recovered(fit: T1Fit, inversion_ms: NDArray[Any]) -> NDArray[np.float64]:
    """Magnitude images (n, y, x) that a look-locker fit expects at inversion times (n,); 0 where there is no fit."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t1_star = fit.t1_ms / (fit.b / fit.a - 1)
        signal = fit.a - fit.b * np.exp(-np.asarray(inversion_ms, np.float64)[:, None, None] / t1_star)
    return np.nan_to_num(np.abs(signal))


def register_inversions(images: NDArray[Any], inversion_ms: NDArray[Any]) -> Registered:
    """Translations between the images (n, y, x) of one slice, found against what their common T1 fit expects.

    The contrast changes from image to image, and turns over at the null, so that one image is no target for another;
    the fit of all is one for each (Xue et al. 2012, synthetic images). Translation alone: a breath moves a short-axis
    slice of the heart almost rigidly, and what leaves the plane cannot be brought back. Shifts are relative to their
    median, so that the heart stays where most images have it. Registration is OpenCV's ECC (Evangelidis 2008).
    """
    source = np.asarray(images, np.float32)
    shift = np.zeros((len(source), 2))
    usable = np.ones(len(source), bool)
    current, fit = source, fit_t1(source, inversion_ms, look_locker=True)
    for _ in range(ROUNDS):
        expected = recovered(fit, inversion_ms)
        for k, image in enumerate(source):
            found = _translation(expected[k], image, shift[k])
            usable[k] = found is not None
            shift[k] = found if found is not None else shift[k]
        shift -= np.median(shift, 0)
        if np.abs(shift).max() < 0.1:  # of a pixel: nothing moved
            break
        current = np.stack([shifted(image, s) for image, s in zip(source, shift, strict=True)])
        fit = fit_t1(current, inversion_ms, look_locker=True)
    return Registered(images=current, shift=shift, moved=usable, fit=fit)


def shifted(image: Array, by: NDArray[np.float64]) -> Array:
    """image(p + by), by (y, x) in pixels, cubic; what lies outside repeats the border."""
    matrix = np.array([[1, 0, by[1]], [0, 1, by[0]]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(image, matrix, image.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.maximum(np.asarray(out, np.float32), 0)


def _translation(target: NDArray[Any], image: Array, start: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(y, x) with target(p) like image(p + shift); None where there is none to be found."""
    matrix = np.array([[1, 0, start[1]], [0, 1, start[0]]], np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ECC_STEPS, ECC_PRECISION)
    peak = max(float(target.max()), float(image.max()), 1e-6)
    try:
        correlation, matrix = cv2.findTransformECC(  # type: ignore[call-overload]
            (target / peak).astype(np.float32), image / np.float32(peak), matrix, cv2.MOTION_TRANSLATION, stop, None,
            BLUR,
        )  # fmt: skip
    except cv2.error:  # it did not converge
        return None
    found = np.array([matrix[1, 2], matrix[0, 2]], np.float64)
    if correlation < LEAST_CORRELATION or not np.abs(found).max() < LARGEST_PIXELS:
        return None
    return found
