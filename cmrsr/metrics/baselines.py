"""What always stands beside a network: interpolation of the acquired lines, without any learning.

Zero-filling, the third of them, needs no code: it is the low-resolution image itself (sinc interpolation of the small
matrix, but of the complex image). The other two start from the magnitude image on the small matrix, as a viewer would.

The Fourier grid and the interpolation grid must agree. A centred transform keeps index N // 2 fixed, so sample j of a
small matrix of n lies at N // 2 + (j - n // 2) N / n on the full one (j N / n where both are even), and *not* at the
(j + 1/2) N / n - 1/2 of the usual image resizers, which would shift the image by (N / n - 1) / 2 pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.physics.fourier import centre_crop, fft1c, ifft1c

LANCZOS_LOBES = 3

Kernel = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def small_matrix(lr: NDArray[Any], axis: int, n_lines: int) -> NDArray[np.float64]:
    """The magnitude image of the central ``n_lines`` of k-space along ``axis``: a scanner's, without zero-filling.

    Scaled so that the intensities stay those of ``lr``. Raises UsageError unless 1 <= n_lines <= lr.shape[axis].
    """
    size = lr.shape[axis]
    if not 1 <= n_lines <= size:
        raise UsageError(f"expected 1 to {size} phase lines on a matrix of {size}, got {n_lines}")
    lines = centre_crop(fft1c(np.asarray(lr, dtype=np.float64), axis), n_lines, axis)
    return np.asarray(np.abs(ifft1c(lines, axis)) * np.sqrt(n_lines / size))  # unitary: a shorter transform scales up


def bicubic(small: NDArray[Any], size: int, axis: int) -> NDArray[np.float64]:
    """``small`` interpolated to ``size`` samples along ``axis`` by cubic convolution (Keys 1981, a = -1/2)."""
    return _interpolate(small, size, axis, _cubic)


def lanczos(small: NDArray[Any], size: int, axis: int) -> NDArray[np.float64]:
    """``small`` interpolated to ``size`` samples along ``axis`` by a sinc under a three-lobed sinc window."""
    return _interpolate(small, size, axis, _windowed_sinc)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    d = np.abs(distance)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _windowed_sinc(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.abs(distance) < LANCZOS_LOBES
    return np.where(inside, np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES), 0.0)


def _interpolate(small: NDArray[Any], size: int, axis: int, kernel: Kernel) -> NDArray[np.float64]:
    """Periodic interpolation, as the discrete Fourier transform that made ``small`` is periodic."""
    n_small = small.shape[axis]
    positions = n_small // 2 + (np.arange(size) - size // 2) * (n_small / size)  # of the full grid, in small samples
    distance = positions[:, None] - np.arange(n_small)
    weights = np.sum([kernel(distance + wrap) for wrap in (-n_small, 0, n_small)], axis=0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.moveaxis(np.tensordot(weights, small, axes=(1, axis)), 0, axis))
