"""A scanner's acquisition of a sharp scene, drawn anew for every training pair: coil, noise, raw filter, interpolation.

A scene is what the scanner would see without noise and with more lines than it takes: (n, n) float, brightest tissue
about 1. Axis 0 is phase encoding, which sequences cover with fewer lines, partially, or not to the edge.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.special
from numpy.typing import NDArray

from cmrsr.phantom.scanner import raw_filter
from cmrsr.physics.fourier import centre_crop, centre_pad, fftnc, ifftnc

Generator = np.random.Generator
Real = NDArray[np.float32]
Complex = NDArray[np.complex64]

NOISE = (0.015, 0.2)  # sd of either part of the complex noise, share of the scene's scale
FINEST = (0.7, 1.0)  # share of a scene's k-space that is acquired along the finer axis
COARSE = 32  # pixels of the grid that smooth fields are drawn on
LARGEST = 256  # pixels of an interpolated matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """The settings of one image; fields are smooth and on a coarse grid of the same extent.

    matrix: pixels (y, x) of the image that is written. weights: of the acquired lines along y and x, what the raw
    filter and partial Fourier leave of them; there are at most as many as pixels, the rest is zero-filled.
    """

    matrix: tuple[int, int]
    weights: tuple[Real, Real]
    coil: Complex  # receive sensitivity with its phase
    correction: Real  # what the magnitude is divided by
    noise: float  # of the acquired pixels
    amplification: Real  # of the noise, by parallel imaging
    blur: float  # sd in acquired pixels of what moves or decays during the readout: it softens the signal alone

    @property
    def acquired(self) -> tuple[int, int]:
        return self.weights[0].size, self.weights[1].size


@dataclass(frozen=True, slots=True)
class Exposure:
    """Complex images (y, x) of one acquisition, shading corrected, and the sd of either part of the noise in them."""

    noisy: Complex
    clean: Complex
    sd: Real


def draw_acquisition(rng: Generator, n: int) -> Acquisition:
    """Settings for a scene of (n, n), wide enough that first-pass protocols of clinical scanners fall inside."""
    finer = round(n * rng.uniform(*FINEST))
    coarser = round(finer * rng.choice([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.6, 0.95)], p=[0.45, 0.25, 0.3]))
    acquired = (coarser, finer) if rng.random() < 0.7 else (finer, coarser)
    grown = rng.choice([1.0, rng.uniform(1.0, 1.3), rng.uniform(1.3, 2.0)], p=[0.3, 0.45, 0.25])
    pixels = max(finer, min(LARGEST, 2 * round(finer * grown / 2)))
    strength = float(rng.choice([0.0, rng.uniform(0.1, 0.7), rng.uniform(0.7, 1.0)], p=[0.1, 0.2, 0.7]))
    start = float(rng.uniform(0.1, 0.85))
    weights = [raw_filter(size, size, strength, start).astype(np.float32) for size in acquired]
    if rng.random() < 0.15:
        weights[0][: round((1 - rng.uniform(0.65, 0.95)) * acquired[0])] = 0
    y, x = np.meshgrid(np.linspace(-1, 1, COARSE), np.linspace(-1, 1, COARSE), indexing="ij")
    shading = np.zeros((COARSE, COARSE))
    for _ in range(rng.integers(2, 6)):
        side, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2)
        distance = (y - far * np.sin(side)) ** 2 + (x - far * np.cos(side)) ** 2
        shading += rng.uniform(0.3, 1.0) / (1 + distance / rng.uniform(0.15, 1.0)) ** 1.5
    shading /= shading.mean()
    phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.5) * y + rng.normal(0, 1.5) * x + _waves(rng, y, x, 0.8)
    corrected = rng.choice([0.0, 1.0, rng.uniform(0.3, 1.0)], p=[0.25, 0.5, 0.25])
    return Acquisition(
        matrix=(pixels, pixels),
        weights=(weights[0], weights[1]),
        coil=(shading * np.exp(1j * phase)).astype(np.complex64),
        correction=(np.maximum(shading, 0.05) ** corrected).astype(np.float32),
        noise=float(np.exp(rng.uniform(*np.log(NOISE)))),
        amplification=np.exp(_waves(rng, y, x, 0.35)).astype(np.float32),
        blur=float(rng.uniform(0.0, 0.4)),
    )


def expose(scene: NDArray[Any], acquisition: Acquisition, rng: Generator) -> Exposure:
    """Acquire a scene (n, n): sampled in k-space, noise before the filter, zero-filled to the matrix."""
    a = acquisition
    (n_y, n_x), (m_y, m_x) = a.acquired, a.matrix
    gain = np.sqrt(m_y * m_x)
    whole = fftnc(scene * enlarged(a.coil, scene.shape), (0, 1))
    k = centre_crop(centre_crop(whole, n_y, 0), n_x, 1) * np.float32(gain / np.sqrt(scene.size))
    f_y, f_x = ((np.arange(size) - size // 2) / size for size in (n_y, n_x))
    soft = np.exp(-2 * (np.pi * a.blur) ** 2 * (f_y[:, None] ** 2 + f_x**2)).astype(np.float32)
    white = rng.standard_normal((2, n_y, n_x), dtype=np.float32)
    noise = (white[0] + 1j * white[1]) * enlarged(a.amplification, (n_y, n_x))
    k_noise = fftnc(noise, (0, 1)) * np.float32(a.noise * gain / np.sqrt(n_y * n_x))
    weight = a.weights[0][:, None] * a.weights[1]
    clean, random = (
        ifftnc(centre_pad(centre_pad(part * weight, m_y, 0), m_x, 1), (0, 1)) for part in (k * soft, k_noise)
    )
    correction = enlarged(a.correction, a.matrix)
    kept = np.sqrt(np.mean(weight**2))
    sd = np.float32(a.noise * kept) * enlarged(a.amplification, a.matrix) / correction
    return Exposure(
        np.asarray((clean + random) / correction, np.complex64), np.asarray(clean / correction, np.complex64), sd
    )


def rician_mean(amplitude: Real, sd: Real) -> Real:
    """The mean magnitude of a complex signal with Gaussian noise: sd sqrt(pi/2) L_1/2(-amplitude^2 / (2 sd^2)).

    Source: Gudbjartsson and Patz 1995, "The Rician distribution of noisy MRI data".
    """
    ratio = amplitude / np.maximum(sd, np.float32(1e-9))
    near = np.interp(ratio, _RATIO, _MEAN)
    return np.asarray(np.where(ratio < _RATIO[-1], near * sd, amplitude + sd**2 / (2 * np.maximum(amplitude, 1e-9))),
                      np.float32)  # fmt: skip


def enlarged(field: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A smooth field on a grid of ``shape`` (y, x) with the same extent."""
    if np.iscomplexobj(field):
        return np.asarray(enlarged(field.real, shape) + 1j * enlarged(field.imag, shape), np.complex64)
    out = cv2.resize(np.ascontiguousarray(field), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(out, np.float32)


def _waves(rng: Generator, y: NDArray[np.float64], x: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """A smooth random field of a few long waves, at most of sd ``most``."""
    field = np.zeros_like(y)
    for _ in range(4):
        turn = rng.uniform(0, 2 * np.pi)
        wave = np.pi * rng.uniform(0.5, 2.0) * (np.cos(turn) * y + np.sin(turn) * x)
        field += np.sin(wave + rng.uniform(0, 2 * np.pi))
    return np.asarray(rng.uniform(0, most) / np.sqrt(2) * field)


_RATIO = np.linspace(0, 12, 1201)
_MEAN = np.sqrt(np.pi / 2) * (
    (1 + _RATIO**2 / 2) * scipy.special.i0e(_RATIO**2 / 4) + _RATIO**2 / 2 * scipy.special.i1e(_RATIO**2 / 4)
)
