"""How sharp a super-resolved image is against its reference: perceptual measures without a network or its weights.

Images are ``(..., y, x)``; both measures are per image, 1 for a result as sharp as its reference, and look along the
phase axis (-2 or -1), where the resolution was lost. PSNR and SSIM reward the mean of all plausible images; these two
tell how much of the detail it holds.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.physics.fourier import fft1c

EDGE_SHARE = 0.05  # of the pixels: where the reference is steepest


def high_frequency_power(sr: NDArray[Any], hr: NDArray[Any], axis: int, fraction: float) -> NDArray[np.float64]:
    """Power of the result outside the central ``fraction`` of the lines along ``axis``, over that of the reference.

    The images are tapered with a Hann window along ``axis``: a cut through the body would add power of its own. Noise
    counts as power: a noisy result can exceed 1.
    Raises UnusableError where the reference has no power there.
    """
    test, reference = (_missing_power(image, axis, fraction) for image in (sr, hr))
    if np.any(reference == 0):
        raise UnusableError("the reference has no power outside the acquired band: leave constant images out")
    return np.asarray(test / reference)


def _missing_power(image: NDArray[Any], axis: int, fraction: float) -> NDArray[np.float64]:
    values = np.moveaxis(np.asarray(image, dtype=np.float64), axis, -1)
    size = values.shape[-1]
    power = np.abs(fft1c(values * np.hanning(size + 2)[1:-1])) ** 2
    missing = np.abs(np.arange(size) - size // 2) > fraction * size / 2
    return np.asarray(power[..., missing].sum(axis=(-2, -1)))


def edge_slope(sr: NDArray[Any], hr: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Slope of the result at the edges of the reference, over the slope of the reference.

    The edges are the ``EDGE_SHARE`` of the pixels where the reference is steepest along ``axis``; the ratio is the
    regression of one gradient on the other (central differences), so that noise of the result does not count as
    sharpness. Noise of the reference makes it steeper where it was chosen, for all methods alike.
    Raises UnusableError where the reference is flat along ``axis``.
    Source: the slope of the edge profile as sharpness, Ahmad et al. 2015, doi 10.1002/cmr.a.21339; without its fit.
    """
    test, reference = (_gradient(image, axis) for image in (sr, hr))
    steepness = np.abs(reference)
    least = np.quantile(steepness, 1 - EDGE_SHARE, axis=-1, keepdims=True)
    edge = np.where(steepness >= least, reference, 0.0)
    energy = (edge**2).sum(-1)
    if np.any(energy == 0):
        raise UnusableError("the reference is constant along the phase axis: leave empty frames out")
    return np.asarray((edge * test).sum(-1) / energy)


def _gradient(image: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Central differences, all pixels of an image on the last axis."""
    values = np.gradient(np.asarray(image, dtype=np.float64), axis=axis)
    return np.asarray(values.reshape(*values.shape[:-2], -1))
