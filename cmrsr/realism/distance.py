"""How far virtual lie from real scans, statistic by statistic and band by band.

Distances are measured in the spread of the real scans: 1 means "as far as a real scan is from other patients' real
scans".
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Kind
from cmrsr.realism.image_statistics import GRADIENT_EDGES, GREY_EDGES, N_BINS, ImageStatistics

Array = NDArray[np.float64]
Form = Literal["curve", "histogram", "value"]

IQR_TO_SD = 0.7413  # of a normal distribution
RADIUS_BANDS = ((1, 3), (4, 7), (8, 15), (16, 23), (24, 31), (32, 39), (40, 47))
HISTOGRAM_BANDS = 8
N_WIDEST = 10  # gaps that are listed


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
    """All statistics in all bands, the widest gap first; without those that real series of one patient only have.

    UnusableError: a group is empty, or the real series are of one patient only, so that their spread is unknown.
    """
    _check(real, virtual)
    if n_patients(real) < 2:
        raise UnusableError(f"the spread of real scans needs two patients or more, found only {real[0].patient}")
    found = []
    for statistic in STATISTICS:
        (a, patients), (b, _) = _values(real, statistic), _values(virtual, statistic)
        if len(np.unique(patients)) < 2 or not len(b):
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


def realism_record(real: Iterable[ImageStatistics], virtual: Iterable[ImageStatistics]) -> dict[Kind, dict[str, Any]]:
    """Distances, the widest gaps and the mean spectra of every kind in both groups, as plain values.

    Without gaps where the real series are of one patient only.
    """
    a, b = by_kind(real), by_kind(virtual)
    return {kind: _record(a[kind], b[kind]) for kind in a if kind in b}


def _record(real: list[ImageStatistics], virtual: list[ImageStatistics]) -> dict[str, Any]:
    known = n_patients(real) > 1
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
            for g in (gaps(real, virtual)[:N_WIDEST] if known else [])
        ],
    }  # fmt: skip


def _census(group: list[ImageStatistics]) -> dict[str, Any]:
    return {
        "patients": n_patients(group),
        "series": len(group),
        "images": sum(s.n_images for s in group),
        "pixel_mm": pixel_mm(group),
        "spectrum_db": average(group, "spectrum_db").round(2).tolist(),
    }


def n_patients(group: Iterable[ImageStatistics]) -> int:
    """Number of patients in a group of series."""
    return len({s.patient for s in group})


def pixel_mm(group: Iterable[ImageStatistics]) -> float:
    """The side of a pixel, median of the series."""
    return float(np.median([math.sqrt(s.pixel_mm[0] * s.pixel_mm[1]) for s in group]))


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
