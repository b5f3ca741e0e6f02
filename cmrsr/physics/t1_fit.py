"""T1 of every pixel from inversion-recovery images, signed or magnitude.

S(TI) = A - B exp(-TI / T1*). Variable projection: for a given T1* the best A and B are linear least squares in closed
form, so that only T1* has to be searched, first on a grid, then by Gauss-Newton steps. A magnitude image has lost the
sign of what had not yet passed zero: every number of earliest images is tried as negative, and the best fit is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError

Array = NDArray[np.float64]

T1_RANGE_MS = (50.0, 5000.0)
WEAK = 0.05  # of the strong signal of the images: air and its noise lie below, lungs about there
STRONG_QUANTILE = 0.99  # a few bright pixels (flow, fat at the coil) do not decide what is weak
N_GRID = 48  # T1* 10 % apart: near enough for the Gauss-Newton steps to converge
N_REFINED = 2  # sign patterns refined for each pixel: an image near the null leaves two that the grid cannot tell apart
N_STEPS = 6
ROUNDING = 1e-6  # of log T1* at the edge of its range, and of B / A where nothing recovers
CHUNK = 2048  # pixels at a time: about 10 MB beside the images


@dataclass(frozen=True, slots=True, kw_only=True)
class T1Fit:
    """S(TI) = a - b exp(-TI / T1*), each field shaped like one image, NaN together where there is no answer.

    residual: root mean square of the fit's error over the images, relative to ``a``.
    """

    t1_ms: Array
    a: Array
    b: Array
    residual: Array


def fit_t1(images: NDArray[Any], inversion_ms: NDArray[Any], *, look_locker: bool, signed: bool = False) -> T1Fit:
    """T1 (ms) of every pixel of inversion-recovery images ``(n_ti, ...)``, in any order of their inversion times.

    inversion_ms: (n_ti,), or one set for each slice, (n_ti, z) with images (n_ti, z, y, x).
    look_locker: the images share one inversion and were read on the way (MOLLI), so that the recovery is the faster
    T1* and T1 = T1* (B/A - 1); otherwise T1 = T1*.
    signed: the images carry their sign (phase-sensitive), of either polarity; otherwise their magnitude is fitted.
    NaN where an image value is not finite, where the root mean square over the images is below ``WEAK`` of its
    ``STRONG_QUANTILE`` over all pixels, and where T1 or T1* lies outside ``T1_RANGE_MS`` or at its edge.
    Images whose inversion came before recovery from the previous one (the end of ShMOLLI, for T1 beyond 400 ms) do not
    belong in one fit: ``after_recovery`` leaves them out, the residual tells. At an SNR of 30, T1 of 600 to 2500 ms is
    unbiased within 2 %; shorter T1 is less certain, because another sign pattern then fits nearly as well.
    UsageError: shapes that do not fit, or too few inversion times (3 signed, 4 magnitude).
    Source: Golub and Pereyra 1973; Deichmann and Haase 1992; Messroghli et al. 2004 (MOLLI).
    """
    times = _matching_times(images, np.asarray(inversion_ms, np.float64))
    least = 3 if signed else 4
    if any(np.unique(times[:, i]).size < least for i in range(times.shape[1])):
        raise UsageError(
            f"found fewer than {least} different inversion times: T1, A, B{'' if signed else ' and signs'}"
        )
    data = np.asarray(images if signed else np.abs(images), np.float64).reshape(times.shape[0], times.shape[1], -1)
    power = np.sqrt(np.mean(data**2, 0))
    usable = np.isfinite(power)
    if usable.any():
        usable &= (power > 0) & (power >= WEAK * np.quantile(power[usable], STRONG_QUANTILE))
    result = np.full((4, *data.shape[1:]), np.nan)
    for i in range(times.shape[1]):
        pixels = np.flatnonzero(usable[i])
        order = np.argsort(times[:, i], kind="stable")
        signals, ti = data[order, i], times[order, i]
        for start in range(0, pixels.size, CHUNK):
            some = pixels[start : start + CHUNK]
            result[:, i, some] = _fit(signals[:, some], ti, look_locker, signed)
    return T1Fit(**dict(zip(("t1_ms", "a", "b", "residual"), result.reshape(4, *images.shape[1:]), strict=True)))


def after_recovery(inversion_ms: NDArray[Any]) -> NDArray[np.bool_]:
    """Which images of one slice, at inversion times (n,) in ms, followed an inversion of what had fully recovered.

    All of MOLLI, which waits before each inversion. Of ShMOLLI (5 images, then 1 and 1 more after a single beat each)
    the first five: where three or more images fall into the first beat, and a single one into every later beat, one
    inversion was read to the end, by convention that of the shortest time, and the others once.
    Source: Piechnik et al. 2010.
    """
    times = np.asarray(inversion_ms, np.float64)
    order = np.argsort(times, kind="stable")
    gaps = np.diff(times[order])
    same_beat = gaps < gaps.max(initial=0.0) / 2
    n_first = 1 + int(np.argmin([*same_beat, False]))  # images in the first beat
    used = np.ones(times.size, bool)
    if n_first >= 3 and n_first < times.size and not same_beat[n_first:].any():
        used[order[1:n_first]] = False
    return used


def _matching_times(images: NDArray[Any], inversion_ms: Array) -> Array:
    """Inversion times (n_ti, s) for the images taken as (n_ti, s, pixels)."""
    shape = inversion_ms.shape
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    if images.ndim == 0 or not shape or shape != images.shape[: len(shape)]:
        raise UsageError(
            f"found inversion times {inversion_ms.shape} for images {images.shape}: "
            "expected one for each image, (n_ti,), or for each image and slice, (n_ti, z)"
        )
    return inversion_ms.reshape(shape[0], -1)


def _fit(s: Array, ti: Array, look_locker: bool, signed: bool) -> Array:
    """T1, A, B, residual: (4, pixels) from signals (n_ti, pixels) at increasing inversion times."""
    # equal inversion times change sign together; flipping all of them is flipping none
    n_negative = [k for k in range(ti.size) if k == 0 or (not signed and ti[k] > ti[k - 1])]
    signs = np.where(np.arange(ti.size) < np.array(n_negative)[:, None], -1.0, 1.0)
    best = np.full((4, s.shape[1]), np.inf)
    for start, pattern in _search(s, ti, signs):
        found = _refine(s * signs[pattern].T, ti, start)
        best = np.where(found[-1] < best[-1], found, best)
    log_t1_star, a, b, error = best
    low, high = np.log(T1_RANGE_MS)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = b / a
        t1 = np.exp(log_t1_star) * (ratio - 1 if look_locker else 1.0)
        residual = np.sqrt(error / ti.size) / np.abs(a)
        inside = (log_t1_star > low + ROUNDING) & (log_t1_star < high - ROUNDING)
        inside &= (t1 > T1_RANGE_MS[0]) & (t1 < T1_RANGE_MS[1]) & (ratio > ROUNDING)
    polarity = np.ones_like(a) if signed else np.sign(a)  # all signs flipped fit a magnitude as well: A is positive
    return np.where(inside, np.stack([t1, polarity * a, polarity * b, residual]), np.nan)


def _search(s: Array, ti: Array, signs: Array) -> Iterator[tuple[Array, NDArray[np.intp]]]:
    """The most likely sign patterns of every pixel, best first, each with the best log T1* of the grid: (pixels,)."""
    grid = np.log(np.geomspace(*T1_RANGE_MS, N_GRID))
    basis = np.exp(-ti / np.exp(grid)[:, None])
    basis -= basis.mean(1, keepdims=True)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    # |s|^2 is the same for all patterns: the least residual is the largest part in the plane of 1 and the exponential
    explained = np.empty((len(signs), s.shape[1]))
    nearest = np.empty(explained.shape, np.intp)
    for k, pattern in enumerate(signs):
        along = np.square((basis * pattern) @ s)
        nearest[k] = along.argmax(0)
        explained[k] = along.max(0) + np.square(pattern @ s) / ti.size
    ranked = np.argsort(-explained, axis=0, kind="stable")[:N_REFINED]
    for pattern in ranked:
        yield grid[np.take_along_axis(nearest, pattern[None], 0)[0]], pattern


def _refine(y: Array, ti: Array, start: Array) -> Array:
    """Log T1*, A, B and the sum of squares at the least squares near ``start``: (4, pixels).

    Gauss-Newton on log T1* alone, A and B being projected out (Kaufman 1975), held within a step of the grid.
    """
    low, high = np.log(T1_RANGE_MS)
    step = (high - low) / (N_GRID - 1)
    mean = y.mean(0)
    x = start
    for i in range(N_STEPS + 1):
        delay = ti[:, None] / np.exp(x)
        decay = np.exp(-delay)
        centred = decay - decay.mean(0)
        energy = np.sum(centred**2, 0)
        slope = np.sum(centred * y, 0) / energy
        error = y - mean - slope * centred
        if i == N_STEPS:
            break
        change = decay * delay  # of the exponential with log T1*
        change -= change.mean(0)
        change -= centred * (np.sum(centred * change, 0) / energy)
        gain = slope * np.sum(change**2, 0)
        newton = np.sum(change * error, 0) / np.where(gain == 0, 1.0, gain)
        x = np.clip(np.clip(x + newton, start - step, start + step), low, high)
    return np.stack([x, mean - slope * decay.mean(0), -slope, np.sum(error**2, 0)])
