"""From tissue signal to a scanner's image: coil shading, sampling, noise, raw filter, magnitude, corrections."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from cmrsr.phantom.clutter import smooth_field
from cmrsr.physics.fourier import centre_crop, centre_pad, fftnc, ifftnc

Generator = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """One scan's settings, fixed over its frames. Fields are drawn on the rendering grid (n, n)."""

    matrix: int  # pixels of the image that is written
    sampled: tuple[float, float]  # share of the matrix that is acquired along (y, x); below 1 is interpolated
    filter_strength: float  # 0 none .. 1 Hann-like to the edge
    filter_start: float  # share of the band where the filter sets in
    blur: float  # sd in pixels of what moves or decays during the readout: it softens the signal, not the noise
    noise: float  # sd of the complex noise, share of the signal scale, before correction
    partial_fourier: float  # share of the lines along y, 0.6..1
    shading: NDArray[np.complex64]  # receive sensitivity with its phase
    correction: NDArray[np.float32]  # (matrix, matrix) what the image is divided by
    noise_map: NDArray[np.float32]  # (matrix, matrix) noise amplification by parallel imaging
    bend: NDArray[np.float32] | None  # (2, matrix, matrix) gradient distortion correction, in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good the images of a kind of scan are."""

    noise: tuple[float, float]  # sd of the complex noise, share of the signal scale
    corrected: tuple[float, float, float]  # how often shading is left, removed, or removed in part
    interpolated: float  # share of the scans of which a clearly smaller matrix is acquired than written
    distorted: float  # share of the scans that a distortion correction bends


# Noise and edges were set by comparison with real scans. First pass: a quarter of a second a slice.
FIRST_PASS = Quality(noise=(0.012, 0.1), corrected=(0.25, 0.5, 0.25), interpolated=0.3, distorted=0.0)
BREATH_HOLD = Quality(noise=(0.004, 0.03), corrected=(0.6, 0.2, 0.2), interpolated=0.25, distorted=0.0)
# For training: as bad as the worst of real first-pass series, where frames differ most even if nothing moves.
HARD = Quality(noise=(0.03, 0.28), corrected=(0.25, 0.5, 0.25), interpolated=0.3, distorted=0.6)


def draw_scanner(rng: Generator, n: int, matrix: int, quality: Quality) -> Scanner:
    """Draw settings wide enough that clinical scanners fall inside; ``n``: pixels of the rendering grid."""
    y, x = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    sensitivity = np.zeros((n, n))
    for _ in range(rng.integers(2, 6)):
        side = rng.uniform(0, 2 * np.pi)
        cy, cx = rng.uniform(0.5, 1.2) * np.array([np.sin(side), np.cos(side)])
        sensitivity += rng.uniform(0.3, 1.0) / (1 + ((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(0.15, 1.0)) ** 1.5
    sensitivity /= sensitivity.mean()
    phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.5, 2) @ np.stack([y.ravel(), x.ravel()])
    phase = phase.reshape(n, n) + rng.uniform(0, 0.8) * smooth_field(rng, n, 2.5, 0.1)
    small = centre_of(sensitivity, matrix)
    corrected = rng.choice([0.0, 1.0, rng.uniform(0.3, 1.0)], p=quality.corrected)
    speed_up = np.exp(rng.uniform(0, 0.35) * smooth_field(rng, matrix, 2.0, 0.15))
    interpolated = rng.random()
    if interpolated > quality.interpolated:
        sampled = (float(rng.uniform(0.85, 1.0)), 1.0) if rng.random() < 0.5 else (1.0, 1.0)
    elif interpolated > quality.interpolated / 2:
        sampled = (float(rng.uniform(0.6, 0.95)), float(rng.uniform(0.75, 1.0)))
    else:
        both = float(rng.uniform(0.45, 0.8))
        sampled = (both * float(rng.uniform(0.7, 1.0)), both)
    bend = None
    if rng.random() < quality.distorted:
        size = rng.uniform(0.5, 6.0)
        bend = size * np.stack([smooth_field(rng, matrix, 2.5, 0.06), smooth_field(rng, matrix, 2.5, 0.06)])
    return Scanner(
        matrix=matrix,
        sampled=sampled,
        filter_strength=float(rng.uniform(0.1, 0.95)) if rng.random() < 0.85 else 0.0,
        filter_start=float(rng.uniform(0.1, 0.8)),
        blur=float(rng.uniform(0.0, 0.4)),
        noise=float(np.exp(rng.uniform(*np.log(quality.noise)))),
        partial_fourier=float(rng.uniform(0.65, 0.95)) if rng.random() < 0.15 else 1.0,
        shading=(sensitivity * np.exp(1j * phase)).astype(np.complex64),
        correction=np.maximum(small, 0.05).astype(np.float32) ** np.float32(corrected),
        noise_map=speed_up.astype(np.float32),
        bend=None if bend is None else bend.astype(np.float32),
    )


def with_coil(scanner: Scanner, other: Scanner) -> Scanner:
    """A scanner's settings with the receive coil, and the correction of its shading, of another scan's."""
    zoom = scanner.matrix / other.matrix
    correction = scipy.ndimage.zoom(other.correction, zoom, order=1, grid_mode=True, mode="nearest")
    return replace(scanner, shading=other.shading, correction=correction.astype(np.float32))


def typical_peak(signals: NDArray[np.floating[Any]]) -> np.float32:
    """The level that most regions (t, n_labels) stay below at their peak: the unit of a scanner's noise."""
    return np.float32(np.quantile(signals.max(0), 0.9))


def centre_of(field: NDArray[np.float64], matrix: int) -> NDArray[np.float64]:
    """Sample a smooth field on a coarser grid of the same extent."""
    zoom = matrix / field.shape[0]
    return np.asarray(scipy.ndimage.zoom(field, zoom, order=1, grid_mode=True, mode="nearest"))


def raw_filter(size: int, acquired: int, strength: float, start: float) -> NDArray[np.float64]:
    """Weights of the acquired lines along one axis: flat to ``start`` of the band, then a cosine roll-off."""
    frequency = np.abs(np.arange(acquired) - acquired // 2) / (acquired / 2)
    edge = np.clip((frequency - start) / (1 - start), 0, 1)
    weight = 1 - strength * (0.5 - 0.5 * np.cos(np.pi * edge))
    assert weight.size <= size
    return np.asarray(weight)


def acquire(signal: NDArray[np.float32], scanner: Scanner, rng: Generator, noisy: bool = True) -> NDArray[np.float32]:
    """The magnitude image (matrix, matrix) of a signal map (n, n) on the finer rendering grid.

    Sampling a smaller k-space of the finer object gives partial volume, Gibbs ringing and dark rims by itself
    (Di Bella 2005; Ferreira 2009); noise is complex Gaussian in the image before the filter, hence Rician after it.
    """
    n, m = signal.shape[0], scanner.matrix
    k = fftnc(signal * scanner.shading, (0, 1))
    k = centre_crop(centre_crop(k, m, 0), m, 1) * (m / n)
    if scanner.blur > 0:
        f = (np.arange(m) - m // 2) / m
        k = k * np.exp(-2 * (np.pi * scanner.blur) ** 2 * (f[:, None] ** 2 + f**2))
    if noisy:
        white = rng.standard_normal((2, m, m), dtype=np.float32)
        k = k + fftnc((white[0] + 1j * white[1]) * scanner.noise_map * scanner.noise, (0, 1))
    for axis, share in enumerate(scanner.sampled):
        acquired = max(16, round(share * m))
        weight = raw_filter(m, acquired, scanner.filter_strength, scanner.filter_start)
        shape = [1, 1]
        shape[axis] = m
        k = k * centre_pad(weight, m, 0).reshape(shape)
    if scanner.partial_fourier < 1:
        k[: round((1 - scanner.partial_fourier) * m)] = 0
    image = np.abs(ifftnc(k, (0, 1))) / scanner.correction
    if scanner.bend is not None:
        grid = np.indices((m, m), dtype=np.float32) + scanner.bend
        image = np.maximum(scipy.ndimage.map_coordinates(image, grid, order=3, mode="constant"), 0)
    return np.asarray(image, dtype=np.float32)
