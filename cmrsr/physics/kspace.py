"""Phase-line truncation, the degradation that super-resolution undoes, and the low-pass that it leaves behind."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.physics.fourier import centre_crop, centre_pad, fft1c, fftnc, ifft1c, ifftnc


def n_lines(fraction: float, size: int) -> int:
    """How many phase lines a fraction of the matrix is: at least 2, rounded to the nearest integer."""
    return min(size, max(2, round(fraction * size)))


def band(lines: int, size: int) -> slice:
    """The central ``lines`` k-space entries of ``size``, about the zero frequency at ``size // 2``."""
    start = size // 2 - lines // 2
    return slice(start, start + lines)


def truncate(x: NDArray[Any], lines: int, axis: int = -2) -> NDArray[Any]:
    """Keep the central phase lines of an image, zero-fill the rest; complex result at the same matrix.

    Source: PerfGen (Sun et al. 2025), 2.1.3.
    """
    k = fft1c(x, axis)
    return ifft1c(centre_pad(centre_crop(k, lines, axis), x.shape[axis], axis), axis)


def degrade(hr: NDArray[Any], lines: int, axis: int = -2) -> NDArray[Any]:
    """The low-resolution magnitude image ``|IFFT(zero-fill(crop(FFT(hr))))|`` (PerfGen, Figure 1)."""
    return np.asarray(np.abs(truncate(hr, lines, axis)), dtype=hr.real.dtype)


def zero_fill(x: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Interpolate a magnitude image of ``n`` samples along ``axis`` to ``size`` >= n by zero-filling its k-space.

    Intensities are kept, and so is index n // 2: old sample j lies at size // 2 + (j - n // 2) size / n.
    """
    k = centre_pad(fft1c(x, axis), size, axis)
    return np.asarray(np.abs(ifft1c(k, axis)) * np.sqrt(size / x.shape[axis]), dtype=x.dtype)


def zero_fill_plane(x: NDArray[Any], factor: int) -> NDArray[Any]:
    """Interpolate magnitude images (..., y, x) to ``factor`` times the matrix along both axes at once.

    Not the same as one axis after the other, where the magnitude is taken in between.
    """
    n_y, n_x = (factor * n for n in x.shape[-2:])
    k = centre_pad(centre_pad(fftnc(x, (-2, -1)), n_y, -2), n_x, -1)
    return np.asarray(np.abs(ifftnc(k, (-2, -1))) * factor, dtype=x.dtype)


def band_window(lines: int, size: int, taper: float = 0.0) -> NDArray[np.float64]:
    """Weight in [0, 1] of each k-space line: 1 inside the acquired band, a cosine taper at its edge, 0 outside.

    taper: share of the band's half-width over which the weight falls. The window is even in frequency, so that the
    low-pass of a real image is real; for an even number of lines the unpaired outermost line gets half weight.
    """
    frequency = np.abs(np.arange(size) - size // 2).astype(np.float64)
    half = lines / 2
    if taper == 0:
        return np.where(frequency < half, 1.0, np.where(frequency == half, 0.5, 0.0))
    edge = np.clip((half - frequency) / (taper * half), 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * edge)


def low_pass_matrix(window: NDArray[np.float64]) -> NDArray[np.float32]:
    """The symmetric circulant matrix (n, n) of a real even k-space window: ``matrix @ x`` filters along n."""
    n = window.size
    identity = np.eye(n)
    return np.asarray(ifft1c(window[:, None] * fft1c(identity, 0), 0).real, dtype=np.float32)


def project(x: NDArray[Any], lr: NDArray[Any], matrix: NDArray[np.float32]) -> NDArray[Any]:
    """Pull the acquired band of ``x`` (..., y, x) towards that of ``lr`` along y: ``x + matrix (lr - x)``.

    With a 0/1 window this is the orthogonal projection onto the images that share the low-pass of ``lr``: idempotent
    and non-expansive. It is right for real noise-free data only; |LR| is not the low-pass of |HR|.
    Source: range-null-space decomposition of DDNM (Wang et al. 2023).
    """
    return np.asarray(x + matrix @ (lr - x))
