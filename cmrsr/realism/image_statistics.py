"""Image statistics of one series in a window around the heart: what tells virtual from real scans.

Every statistic is free of the scanner's grey scale. They are per pixel, not per mm, as a network sees the images; so
compare scans of like pixel size.
"""

import functools
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.heart.centre import heart_centre
from cmrsr.io.patient import patient_of
from cmrsr.io.series import Kind, Series
from cmrsr.io.survey import survey
from cmrsr.io.window import window_around

Array = NDArray[np.float64]

WINDOW = 96  # pixels: the heart and what lies around it
RADII = np.arange(1, WINDOW // 2)  # spatial frequency in cycles per WINDOW pixels, whatever the window
LOW_RADII = slice(0, 5)  # radii 1-5, whose mean power is 0 dB
GREY_QUANTILE = 0.995  # of an image: its grey scale; the brightest vessels are beyond
N_BINS = 64
GREY_EDGES = np.linspace(0, 1, N_BINS + 1)
GRADIENT_EDGES = np.linspace(-2, 0, N_BINS + 1)  # log10; below 1 % of the scale 8-bit scans know no gradients
BLACK = 0.02  # share of the scale below which a pixel is black
SIGNAL = 0.1  # share of the scale above which noise is measured: below, magnitudes bend it and scanners clip it
STEEPEST = 0.98  # quantile of the gradients beyond which they are edges
EDGE_REACH = 9  # pixels within which an edge ends
MAD_TO_SD = 1.4826  # of a normal distribution
POWER_FLOOR = 1e-12  # -120 dB: an image without any detail still has a level


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatistics:
    """One series, averaged over its images: curves and histograms by their mean, single values by their median.

    spectrum_db (47,): power at ``RADII`` against the mean of radii 1-5, Hann window, mean taken off.
    grey (64,), gradients (64,): shares of the pixels over ``GREY_EDGES`` and over ``GRADIENT_EDGES`` (log10 of the
    gradient magnitude between neighbours), the outer bins with all that lies beyond.
    temporal_db (47,): power of the difference of successive frames against that of both, 0 dB for frames that have
    nothing in common; None for fewer than three frames (a pair of phases is no sequence).
    kurtosis: excess kurtosis of the differences between neighbours: 0 is Gaussian, natural images are far above.
    edge_px: intensity range about the steepest 2 % of pixels, divided by their gradient: the width of edges.
    black: % of pixels below 2 % of the grey scale. noise, temporal_noise: in % of the grey scale, from diagonal
    neighbours and from three successive frames (None where there are not three).
    """

    name: str
    patient: str
    kind: Kind
    n_images: int
    pixel_mm: tuple[float, float]  # (y, x)
    spectrum_db: Array
    grey: Array
    gradients: Array
    temporal_db: Array | None
    kurtosis: float
    edge_px: float
    black: float
    noise: float
    temporal_noise: float | None


def collect(
    series: Series,
    *,
    window: int | None = WINDOW,
    centre: tuple[float, float] | None = None,
    name: str | None = None,
    kind: Kind | None = None,
) -> ImageStatistics:
    """Statistics of all images of a series in a square ``window`` around the heart, or of the whole images (None).

    centre: (y, x) in pixels, default where ``heart_centre`` finds the heart. ``name`` (the patient is its top folder or
    what precedes the first underscore) and ``kind`` default to the series' own.
    UnusableError: images or window below 96 pixels, NaN, constant frames, nothing bright.
    """
    name = series.source.name if name is None else name
    _, _, n_y, n_x = series.shape
    if min(n_y, n_x, window or WINDOW) < WINDOW:
        raise UnusableError(
            f"{name}: images of {n_x}x{n_y} pixels, window {window or 'the whole image'}; "
            f"expected at least {WINDOW} pixels: leave the series out, or widen the window"
        )
    found = survey(series)
    x, y, width, height = 0, 0, n_x, n_y
    if window is not None:
        place = heart_centre(series, found.variance)[0] if centre is None else centre
        x, y, width, height = window_around(place, (n_y, n_x), window)
    crops = np.stack([frame[:, y : y + height, x : x + width].copy() for frame in series])  # (t, z, y, x)
    slices = [scaled(crops[:, z]) for z in range(crops.shape[1])]
    images = [image for stack in slices for image in stack]
    if not images:
        raise UnusableError(f"{name}: no image in the window, all is constant; leave the series out")
    sequences = [stack for stack in slices if len(stack) > 2]
    return ImageStatistics(
        name=name,
        patient=patient_of(name),
        kind=series.kind if kind is None else kind,
        n_images=len(images),
        pixel_mm=series.spacing_mm[1:],
        spectrum_db=np.mean([spectrum_db(image) for image in images], axis=0),
        grey=np.mean([_histogram(image, GREY_EDGES) for image in images], axis=0),
        gradients=np.mean([_histogram(log_gradients(image), GRADIENT_EDGES) for image in images], axis=0),
        temporal_db=np.mean([temporal_db(stack) for stack in sequences], axis=0) if sequences else None,
        kurtosis=float(np.median([derivative_kurtosis(image) for image in images])),
        edge_px=float(np.median([edge_width(image) for image in images])),
        black=float(np.median([100 * np.mean(image < BLACK) for image in images])),
        noise=float(np.median([100 * spatial_noise(image) for image in images])),
        temporal_noise=float(np.median([100 * temporal_noise(stack) for stack in sequences])) if sequences else None,
    )


def scaled(frames: NDArray[Any]) -> Array:
    """Frames (t, y, x), each divided by its own 99.5 % quantile; constant frames and those not above 0 are left out."""
    scale = np.quantile(frames, GREY_QUANTILE, axis=(1, 2))
    usable = (scale > 0) & (np.ptp(frames, axis=(1, 2)) > 0)
    return np.asarray(frames[usable] / scale[usable, None, None], dtype=np.float64)


def spectrum_db(image: Array) -> Array:
    """Power of an image (y, x) at ``RADII``, dB against the mean power of radii 1-5; Hann window, mean taken off."""
    power = _ring_power(_transform(image))
    return _decibel(power, power[LOW_RADII].mean())


def temporal_db(frames: Array) -> Array:
    """Power of the difference of successive frames (t, y, x) against the sum of both powers, dB at ``RADII``.

    0 for frames that have nothing in common; where noise lies on a still image, minus the SNR of that band.
    """
    spectra = [_transform(frame) for frame in frames]
    change = np.sum([_ring_power(after - before) for before, after in pairwise(spectra)], axis=0)
    total = np.sum([_ring_power(before) + _ring_power(after) for before, after in pairwise(spectra)], axis=0)
    return _decibel(change, total)


def _transform(image: Array) -> NDArray[np.complex128]:
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    return np.asarray(np.fft.fft2((image - image.mean()) * window))


def _ring_power(spectrum: NDArray[np.complex128]) -> Array:
    rings = _rings(spectrum.shape)
    power = np.bincount(rings.ravel(), np.abs(spectrum.ravel()) ** 2, minlength=RADII[-1] + 1)
    return np.asarray((power / np.maximum(np.bincount(rings.ravel(), minlength=power.size), 1))[RADII])


@functools.lru_cache(maxsize=8)
def _rings(shape: tuple[int, ...]) -> NDArray[np.intp]:
    y, x = (np.fft.fftfreq(n) * WINDOW for n in shape)
    return np.asarray(np.rint(np.hypot(y[:, None], x))).astype(np.intp)


def _decibel(power: Array, reference: Array) -> Array:
    return np.asarray(10 * np.log10(np.maximum(power / np.maximum(reference, np.finfo(float).tiny), POWER_FLOOR)))


def _histogram(values: Array, edges: Array) -> Array:
    """Shares of the values over bins of equal width; what lies beyond counts in the outer bins."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return np.asarray(counts / values.size)


def log_gradients(image: Array) -> Array:
    """log10 of the gradient magnitude (y - 1, x - 1) by differences to the next pixel."""
    return np.asarray(np.log10(np.maximum(_gradient(image), 10.0 ** (GRADIENT_EDGES[0] - 1))))


def _gradient(image: Array) -> Array:
    return np.asarray(np.hypot(np.diff(image, axis=0)[:, :-1], np.diff(image, axis=1)[:-1]))


def derivative_kurtosis(image: Array) -> float:
    """Excess kurtosis of the differences along x and y together: 0 Gaussian, 3 Laplace; large where edges are rare."""
    d = np.concatenate([np.diff(image, axis=0).ravel(), np.diff(image, axis=1).ravel()])
    square = d**2
    return float(np.mean(square**2) / np.mean(square) ** 2 - 3)


def edge_width(image: Array) -> float:
    """Intensity range within 9x9 pixels over the gradient, median over the steepest 2 % of pixels, in pixels.

    1 for a jump along x or y; sqrt(2 pi) s for a jump blurred with a Gaussian of s pixels, s up to 2.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    gradient = _gradient(image)
    steep = gradient >= np.quantile(gradient, STEEPEST)
    reach = (maximum_filter(image, EDGE_REACH) - minimum_filter(image, EDGE_REACH))[:-1, :-1]
    return float(np.median(reach[steep] / np.maximum(gradient[steep], np.finfo(float).tiny)))


def spatial_noise(image: Array) -> float:
    """Standard deviation of white noise, from the diagonal details of 2x2 pixels (Donoho 1995, one Haar level).

    Over the pixels above a tenth of the grey scale. A raw filter or interpolation makes it less than the true noise.
    """
    a, b, c, d = image[:-1:2, :-1:2], image[:-1:2, 1::2], image[1::2, :-1:2], image[1::2, 1::2]
    signal = (a + b + c + d) / 4 > SIGNAL
    return _robust_sd(((a - b - c + d) / 2)[signal])


def temporal_noise(frames: Array) -> float:
    """Standard deviation of noise from the curvature over three frames, (t, y, x): what is steady or drifts is lost."""
    curvature = (frames[:-2] - 2 * frames[1:-1] + frames[2:]) / math.sqrt(6)
    return _robust_sd(curvature[frames[1:-1] > SIGNAL])


def _robust_sd(values: Array) -> float:
    return MAD_TO_SD * float(np.median(np.abs(values))) if values.size else 0.0
