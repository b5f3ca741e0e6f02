"""How near a super-resolved image or curve is to its reference.

Images are ``(..., y, x)``, curves ``(..., t)``; every metric is per image or curve and returns the leading shape.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5  # half of the 11-pixel window: the border that SSIM leaves out
SSIM_K1, SSIM_K2 = 0.01, 0.03


def _pair(
    sr: NDArray[Any], hr: NDArray[Any], n_axes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Both in float64 and the range of each reference over its last ``n_axes`` axes."""
    test, reference = np.asarray(sr, dtype=np.float64), np.asarray(hr, dtype=np.float64)
    if test.shape != reference.shape:
        raise UnusableError(
            f"the result has shape {test.shape} and its reference {reference.shape}: give both on the same matrix"
        )
    if reference.ndim < n_axes or reference.size == 0:
        raise UnusableError(f"expected at least {n_axes} non-empty axes to compare, found shape {reference.shape}")
    if not (np.isfinite(test).all() and np.isfinite(reference).all()):
        raise UnusableError("found NaN or infinite values in the result or its reference: leave those frames out")
    axes = tuple(range(-n_axes, 0))
    data_range = reference.max(axis=axes) - reference.min(axis=axes)
    if np.any(data_range == 0):
        first = tuple(int(i) for i in np.argwhere(data_range == 0)[0])
        where = f" (index {first[0] if len(first) == 1 else first})" if first else ""
        raise UnusableError(
            f"the reference is constant{where}, so the error has no scale: leave empty frames out or widen the region"
        )
    return test, reference, data_range


def nrmse(sr: NDArray[Any], hr: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean square error of each image over the range of its reference (PerfGen, eq. 10); 0.0255 is 2.55 %.

    Raises UnusableError for unequal shapes, values that are not finite, or a constant reference.
    """
    test, reference, data_range = _pair(sr, hr, n_axes=2)
    return np.asarray(np.sqrt(np.mean((test - reference) ** 2, axis=(-2, -1))) / data_range)


def psnr(sr: NDArray[Any], hr: NDArray[Any]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB after the reference of each image is scaled to 0..255 (PerfGen, eq. 11).

    With that scaling it is -20 log10 nRMSE; equal images give infinity. Raises as ``nrmse``.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-20.0 * np.log10(nrmse(sr, hr)))


def ssim(sr: NDArray[Any], hr: NDArray[Any], data_range: float | None = None) -> NDArray[np.float64]:
    """Structural similarity of each image, averaged over it (PerfGen, eq. 12; Wang et al. 2004).

    Gaussian window of 11 pixels, sigma 1.5, population moments; the outer 5 pixels, where the window leaves the image,
    are not averaged. ``data_range`` None takes the range of each reference. Raises as ``nrmse``, and for images
    smaller than the window.
    """
    return np.asarray(ssim_map(sr, hr, data_range).mean(axis=(-2, -1)))


def ssim_map(sr: NDArray[Any], hr: NDArray[Any], data_range: float | None = None) -> NDArray[np.float64]:
    """The similarity about every pixel whose window lies within the image: the outer 5 are left out. See ``ssim``."""
    from scipy.ndimage import gaussian_filter

    test, reference, own_range = _pair(sr, hr, n_axes=2)
    window = 2 * SSIM_RADIUS + 1
    if min(reference.shape[-2:]) < window:
        raise UnusableError(f"SSIM needs images of at least {window} x {window}, found {reference.shape[-2:]}")
    level = (own_range if data_range is None else np.full_like(own_range, data_range))[..., None, None]

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = gaussian_filter(values, SSIM_SIGMA, radius=SSIM_RADIUS, mode="reflect", axes=(-2, -1))
        return np.asarray(blurred[..., SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS])

    mean_test, mean_ref = smooth(test), smooth(reference)
    var_test = smooth(test**2) - mean_test**2
    var_ref = smooth(reference**2) - mean_ref**2
    covariance = smooth(test * reference) - mean_test * mean_ref
    c1, c2 = (SSIM_K1 * level) ** 2, (SSIM_K2 * level) ** 2
    similarity = ((2 * mean_test * mean_ref + c1) * (2 * covariance + c2)) / (
        (mean_test**2 + mean_ref**2 + c1) * (var_test + var_ref + c2)
    )
    return np.asarray(similarity)


def temporal_nrmse(sr_curve: NDArray[Any], hr_curve: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean square error of signal-time curves ``(..., t)`` over the range of each reference curve.

    Raises as ``nrmse``.
    """
    test, reference, data_range = _pair(sr_curve, hr_curve, n_axes=1)
    return np.asarray(np.sqrt(np.mean((test - reference) ** 2, axis=-1)) / data_range)


def roi_curves(frames: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.float64]]:
    """Mean signal of every region over time: frames ``(t, y, x)`` and masks ``(y, x)`` to curves ``(t,)``.

    Raises UnusableError for a mask that is empty or lies on another matrix.
    """
    curves = {}
    for name, mask in masks.items():
        if mask.shape != frames.shape[1:]:
            raise UnusableError(f"the mask '{name}' has the matrix {mask.shape} and the frames {frames.shape[1:]}")
        if not mask.any():
            raise UnusableError(f"the mask '{name}' is empty: leave the region out")
        curves[name] = np.asarray(frames[:, mask].mean(axis=1, dtype=np.float64))
    return curves
