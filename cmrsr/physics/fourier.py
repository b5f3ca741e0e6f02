"""Centred, unitary Fourier transforms: the image's origin and zero frequency sit at index n // 2, energy is kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Complex = NDArray[np.complexfloating[Any, Any]]


def fft1c(x: NDArray[Any], axis: int = -1) -> Complex:
    """Image to k-space along one axis."""
    return fftnc(x, (axis,))


def ifft1c(k: NDArray[Any], axis: int = -1) -> Complex:
    """K-space to image along one axis; the adjoint and the inverse of ``fft1c``."""
    return ifftnc(k, (axis,))


def fftnc(x: NDArray[Any], axes: Sequence[int]) -> Complex:
    """Image to k-space along several axes."""
    return np.fft.fftshift(scipy.fft.fftn(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)


def ifftnc(k: NDArray[Any], axes: Sequence[int]) -> Complex:
    """K-space to image along several axes."""
    return np.fft.fftshift(scipy.fft.ifftn(np.fft.ifftshift(k, axes), axes=axes, norm="ortho"), axes)


def centre_pad(x: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Zero-pad one axis to ``size`` so that the origin (index n // 2) stays the origin."""
    n = x.shape[axis]
    before = size // 2 - n // 2
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, size - n - before)
    return np.pad(x, widths)


def centre_crop(x: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Keep ``size`` entries of one axis about the origin: the adjoint of ``centre_pad``."""
    start = x.shape[axis] // 2 - size // 2
    return x.take(np.arange(start, start + size), axis)
