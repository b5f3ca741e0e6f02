"""The first pass of contrast through an image series: which pixels are blood of the right and of the left ventricle."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SETTLING = 3  # frames left out: the first of a series are often proton-density images, or not yet in the steady state
PLATEAU = 5  # frames that contrast stays at least
TRANSIT = 3  # frames from the right ventricle to the left at least, about the heart beats through the lungs
ENHANCED = 0.35  # share of the strongest rise that counts as blood; myocardium rises less


def blood_pools(frames: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """The blood of the right and the left ventricle, found by the passage of contrast through frames ``(t, y, x)``.

    Masks ``(y, x)`` named "RV blood" and "LV blood": two compact regions where a steady signal rises and stays up, one
    clearly before the other. Empty where no such pair is found. For pictures and curves, not for measurement: a mask
    stands still, and under heavy breathing the heart moves through it.
    """
    rise, arrival = _contrast_arrival(frames)
    enhanced = rise > max(0.0, ENHANCED * float(np.quantile(rise, 0.997)))
    pairs = []
    for cut in np.unique(arrival[enhanced])[1:]:
        early = _heaviest_part(enhanced & (arrival < cut), rise)
        late = _heaviest_part(enhanced & (arrival >= cut), rise)
        if early.any() and late.any() and np.median(arrival[late]) - np.median(arrival[early]) >= TRANSIT:
            pairs.append((min(rise[early].sum(), rise[late].sum()), early, late))
    if not pairs:
        return {}
    _, early, late = max(pairs, key=lambda pair: float(pair[0]))
    return {"RV blood": early, "LV blood": late}


def _contrast_arrival(frames: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The steadiest rise of every pixel's signal and the frame where it happens, both ``(y, x)``.

    A rise is the least of the next frames over the mean and three standard deviations of all frames before. The spread
    keeps out what moves: an edge that breathes to and fro is never steady before it turns bright.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.asarray(frames[SETTLING:], dtype=np.float64), 1.0, axes=(1, 2))
    rise = np.zeros(frames.shape[1:])
    arrival = np.zeros(frames.shape[1:], dtype=np.int64)
    total, squares = np.zeros_like(rise), np.zeros_like(rise)
    for t in range(len(smooth) - PLATEAU + 1):
        if t >= SETTLING:
            mean = total / t
            spread = np.sqrt(np.maximum(squares / t - mean**2, 0))
            gain = smooth[t : t + PLATEAU].min(axis=0) - mean - 3 * spread
            arrival[gain > rise] = t + SETTLING
            np.maximum(rise, gain, out=rise)
        total += smooth[t]
        squares += smooth[t] ** 2
    return rise, arrival


def _heaviest_part(mask: NDArray[np.bool_], weight: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The connected part of a mask with the largest sum of weights, after thin bridges are cut."""
    from scipy.ndimage import binary_opening, label

    parts, n_parts = label(binary_opening(mask))
    if n_parts == 0:
        return np.zeros_like(mask)
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel(), weight.ravel())[1:]))
