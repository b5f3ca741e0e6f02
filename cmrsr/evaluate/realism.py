"""What tells virtual from real scans: image statistics of a window around the heart, and how far apart two groups lie.

Every statistic is free of the scanner's grey scale. Distances are measured in the spread of the real scans: 1 means
"as far as a real scan is from other patients' real scans". Statistics are per pixel, not per mm, as a network
sees the images; so compare scans of like pixel size.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.evaluate.report import Picture
from cmrsr.io.patient import patient_of
from cmrsr.io.series import Kind, Series
from cmrsr.io.survey import survey
from cmrsr.tasks.heart import heart_centre
from cmrsr.tasks.sr import window_around

Array = NDArray[np.float64]
Form = Literal["curve", "histogram", "value"]

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
MAD_TO_SD, IQR_TO_SD = 1.4826, 0.7413  # of a normal distribution
RADIUS_BANDS = ((1, 3), (4, 7), (8, 15), (16, 23), (24, 31), (32, 39), (40, 47))
HISTOGRAM_BANDS = 8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """How a field of ``ImageStatistics`` is compared: curves by rms difference, histograms by the Wasserstein distance.

    floor: the spread of real scans is never taken to be less, in ``unit`` (for histograms: % of the pixels of a band).
    """

    key: str
    title: str
    unit: str
    form: Form
    floor: float


STATISTICS = (
    Statistic(key="spectrum_db", title="power spectrum", unit="dB", form="curve", floor=0.5),
    Statistic(key="grey", title="grey values", unit="of the grey scale", form="histogram", floor=1.0),
    Statistic(key="gradients", title="gradients", unit="decades", form="histogram", floor=1.0),
    Statistic(key="temporal_db", title="change from frame to frame", unit="dB", form="curve", floor=0.5),
    Statistic(key="kurtosis", title="kurtosis of the derivatives", unit="", form="value", floor=0.5),
    Statistic(key="edge_px", title="edge width", unit="pixels", form="value", floor=0.1),
    Statistic(key="black", title="black pixels", unit="%", form="value", floor=1.0),
    Statistic(key="noise", title="noise between neighbours", unit="% of the grey scale", form="value", floor=0.2),
    Statistic(key="temporal_noise", title="noise over time", unit="% of the grey scale", form="value", floor=0.2),
)  # fmt: skip


# --- one series -------------------------------------------------------------------------------------------------------


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


# --- two groups -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far virtual series lie from real ones in one statistic, in its unit.

    gap: from mean to mean. typical: from one virtual series to the mean of the real ones. spread: from one real series
    to the mean of the other patients' (None for fewer than two patients); both are medians. covered: share of the real
    values that lie within the range of the virtual ones, which is what randomised virtual patients are for.
    """

    statistic: Statistic
    gap: float
    typical: float
    spread: float | None
    covered: float

    @property
    def ratio(self) -> float | None:
        """1: a virtual series is as far from the real ones as a real one from the others."""
        return self.typical / self.spread if self.spread else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One statistic in one band: medians of the real and of the virtual series, and their difference in spreads.

    ``spreads`` is (virtual - real) / spread of the real series, which is their interquartile range as a standard
    deviation (one odd scanner does not widen it) or the statistic's floor.
    """

    statistic: Statistic
    band: str
    unit: str
    real: float
    virtual: float
    spreads: float

    def __str__(self) -> str:
        where = f", {self.band}" if self.band else ""
        unit = f" {self.unit}" if self.unit else ""
        found = f"virtual {self.virtual:.3g}, real {self.real:.3g}{unit} ({self.spreads:+.1f} spreads)"
        return f"{self.statistic.title}{where}: {found}"


def distance(real: Sequence[ImageStatistics], virtual: Sequence[ImageStatistics]) -> dict[str, Distance]:
    """Every statistic that both groups have, by its key; patients count equally however many series they have.

    UnusableError: a group is empty.
    """
    _check(real, virtual)
    found = {}
    for statistic in STATISTICS:
        a, a_patients = _values(real, statistic)
        b, b_patients = _values(virtual, statistic)
        if not len(a) or not len(b):
            continue
        centre = _mean(a, a_patients)
        others = [a_patients != patient for patient in a_patients]
        spreads = [
            _between(statistic, value, _mean(a[other], a_patients[other]))
            for value, other in zip(a, others, strict=True)
            if other.any()
        ]
        real_bands, virtual_bands = _banded(statistic, a), _banded(statistic, b)
        inside = (real_bands >= virtual_bands.min(axis=0)) & (real_bands <= virtual_bands.max(axis=0))
        found[statistic.key] = Distance(
            statistic=statistic,
            gap=_between(statistic, _mean(b, b_patients), centre),
            typical=float(np.median([_between(statistic, value, centre) for value in b])),
            spread=float(np.median(spreads)) if spreads else None,
            covered=float(inside.mean()),
        )
    return found


def gaps(real: Sequence[ImageStatistics], virtual: Sequence[ImageStatistics]) -> list[Gap]:
    """All statistics in all bands, the widest gap first.

    UnusableError: a group is empty, or the real series are of one patient only, so that their spread is unknown.
    """
    _check(real, virtual)
    if len({s.patient for s in real}) < 2:
        raise UnusableError(f"the spread of real scans needs two patients or more, found only {real[0].patient}")
    found = []
    for statistic in STATISTICS:
        a, b = _values(real, statistic)[0], _values(virtual, statistic)[0]
        if not len(a) or not len(b):
            continue
        a, b = _banded(statistic, a), _banded(statistic, b)
        low, middle, high = np.quantile(a, (0.25, 0.5, 0.75), axis=0)
        spread = np.maximum(IQR_TO_SD * (high - low), statistic.floor)
        shift = np.median(b, axis=0)
        unit = "% of the pixels" if statistic.form == "histogram" else statistic.unit
        for i, (band, _) in enumerate(_bands(statistic)):
            found.append(
                Gap(
                    statistic=statistic, band=band, unit=unit, real=float(middle[i]), virtual=float(shift[i]),
                    spreads=float((shift[i] - middle[i]) / spread[i]),
                )
            )  # fmt: skip
    return sorted(found, key=lambda gap: -abs(gap.spreads))


def widest_gap(real: Sequence[ImageStatistics], virtual: Sequence[ImageStatistics]) -> Gap:
    """The statistic and band in which the virtual series are farthest from the real ones, in spreads of the latter.

    UnusableError as ``gaps``.
    """
    return gaps(real, virtual)[0]


def by_kind(statistics: Iterable[ImageStatistics]) -> dict[Kind, list[ImageStatistics]]:
    """The series of each kind, kinds in the order of their first series."""
    found: dict[Kind, list[ImageStatistics]] = {}
    for one in statistics:
        found.setdefault(one.kind, []).append(one)
    return found


def realism_report(
    real: Iterable[ImageStatistics], virtual: Iterable[ImageStatistics]
) -> tuple[dict[str, Any], list[Picture]]:
    """Distances, the ten widest gaps and the mean spectra of every kind in both groups, as plain values and drawn.

    UnusableError: no kind is in both.
    """
    from cmrsr.evaluate import style
    from cmrsr.evaluate.phantom_figures import realism_figure

    a, b = by_kind(real), by_kind(virtual)
    figure = realism_figure(a, b)
    picture = Picture(
        title="Virtual beside real scans",
        caption="Mean over the patients and the range from the 10th to the 90th percentile of the series, in a window "
        f"of {WINDOW} pixels around the heart. Spreads: a virtual series is this many times as far from the mean of "
        "the real ones as a real series is from the other patients.",
        data=style.png(figure),
    )
    return {"kinds": {kind: _record(a[kind], b[kind]) for kind in a if kind in b}}, [picture]


def _record(real: list[ImageStatistics], virtual: list[ImageStatistics]) -> dict[str, Any]:
    known = len({s.patient for s in real}) > 1
    return {
        "real": _census(real),
        "virtual": _census(virtual),
        "distances": {
            key: {
                "title": d.statistic.title, "unit": d.statistic.unit, "gap": d.gap, "typical": d.typical,
                "spread": d.spread, "ratio": d.ratio, "covered": d.covered,
            }
            for key, d in distance(real, virtual).items()
        },
        "widest_gaps": [
            {
                "statistic": g.statistic.key, "band": g.band, "unit": g.unit, "real": g.real, "virtual": g.virtual,
                "spreads": g.spreads,
            }
            for g in (gaps(real, virtual)[:10] if known else [])
        ],
    }  # fmt: skip


def _census(group: list[ImageStatistics]) -> dict[str, Any]:
    return {
        "patients": len({s.patient for s in group}),
        "series": len(group),
        "images": sum(s.n_images for s in group),
        "spectrum_db": average(group, "spectrum_db").round(2).tolist(),
    }


def average(group: Sequence[ImageStatistics], key: str) -> Array:
    """The mean of a statistic over patients, each patient's series averaged first."""
    return _mean(*_values(group, next(s for s in STATISTICS if s.key == key)))


def _check(real: Sequence[ImageStatistics], virtual: Sequence[ImageStatistics]) -> None:
    for group, words in ((real, "real"), (virtual, "virtual")):
        if not group:
            raise UnusableError(f"found no {words} series; expected at least one real and one virtual series")


def _values(group: Sequence[ImageStatistics], statistic: Statistic) -> tuple[Array, NDArray[np.str_]]:
    """(series, bins) of those that have the statistic, and their patients."""
    having = [s for s in group if getattr(s, statistic.key) is not None]
    values = np.array([np.atleast_1d(getattr(s, statistic.key)) for s in having], dtype=np.float64)
    return values, np.array([s.patient for s in having], dtype=np.str_)


def _mean(values: Array, patients: NDArray[np.str_]) -> Array:
    return np.asarray(np.mean([values[patients == patient].mean(axis=0) for patient in np.unique(patients)], axis=0))


def _between(statistic: Statistic, a: Array, b: Array) -> float:
    if statistic.form != "histogram":
        return float(np.sqrt(np.mean((a - b) ** 2)))
    from scipy.stats import wasserstein_distance

    edges = _edges(statistic)
    centres = (edges[:-1] + edges[1:]) / 2
    return float(wasserstein_distance(centres, centres, a, b))


def _edges(statistic: Statistic) -> Array:
    return GREY_EDGES if statistic.key == "grey" else GRADIENT_EDGES


def _bands(statistic: Statistic) -> list[tuple[str, slice]]:
    """The bands in which gaps are looked for: their name, and where they are."""
    if statistic.form == "value":
        return [("", slice(0, 1))]
    if statistic.form == "curve":
        return [(f"radii {low}-{high}", slice(low - 1, high)) for low, high in RADIUS_BANDS]
    step = N_BINS // HISTOGRAM_BANDS
    edges = _edges(statistic)[::step]
    percent = 100 * (edges if statistic.key == "grey" else 10.0**edges)
    return [
        (f"{low:.3g} to {high:.3g} % of the grey scale", slice(i * step, (i + 1) * step))
        for i, (low, high) in enumerate(pairwise(percent))
    ]


def _banded(statistic: Statistic, values: Array) -> Array:
    """(series, bands): curves averaged in dB, histograms summed to % of the pixels."""
    parts = [values[:, place] for _, place in _bands(statistic)]
    shares = statistic.form == "histogram"
    return np.stack([100 * part.sum(axis=1) if shares else part.mean(axis=1) for part in parts], axis=1)
