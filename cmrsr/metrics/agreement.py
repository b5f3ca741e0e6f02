"""How far measured values agree with reference values, and how well a finding is told: closed formulas, no images.

Dice and temporal consistency, which compare masks and image series, are here too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from cmrsr.errors import UnusableError

LIMITS_SD = 1.96  # Bland & Altman 1986: 95 % of normally distributed differences lie within
CONFIDENCE_Z = float(ndtri(0.975))
LEAST_FOR_R = 4  # Fisher's interval divides by sqrt(n - 3)
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Differences measured - reference over ``n`` cases, in their unit. None: too few values, or values that are equal.

    limits: of agreement, bias -+ 1.96 standard deviations. r: Pearson's, with its 95 % interval.
    """

    n: int
    mae: float
    bias: float
    sd: float | None
    limits: Interval | None
    rmse: float
    r: float | None
    r_ci95: Interval | None


def agreement(measured: ArrayLike, reference: ArrayLike) -> Agreement:
    """Agreement of pairs (n,). UnusableError: no pair, values that are not finite, lists of unequal length."""
    ours, truth = np.asarray(measured, np.float64).ravel(), np.asarray(reference, np.float64).ravel()
    if ours.size != truth.size or not ours.size:
        raise UnusableError(f"found {ours.size} measured and {truth.size} reference values; expected pairs")
    if not (np.isfinite(ours).all() and np.isfinite(truth).all()):
        raise UnusableError("found NaN or infinite values among the pairs: leave those cases out")
    difference = ours - truth
    bias = float(difference.mean())
    sd = float(difference.std(ddof=1)) if ours.size > 1 else None
    r, interval = pearson(ours, truth)
    return Agreement(
        n=ours.size, mae=float(np.abs(difference).mean()), bias=bias, sd=sd,
        limits=None if sd is None else (bias - LIMITS_SD * sd, bias + LIMITS_SD * sd),
        rmse=float(np.sqrt(np.mean(difference**2))), r=r, r_ci95=interval,
    )  # fmt: skip


def pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float | None, Interval | None]:
    """Pearson's r and its 95 % interval by Fisher's transform; None below four pairs, or where one side is constant."""
    if a.size < LEAST_FOR_R or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None, None
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    if abs(r) == 1:
        return r, (r, r)
    reach = CONFIDENCE_Z / np.sqrt(a.size - 3)
    return r, (float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How well a finding is told from a score. None: nobody, or everybody, has it.

    auc: probability that one with the finding has the higher score than one without, ties count half; with DeLong's
    interval. sensitivity, specificity: of the decision, with Wilson's intervals.
    """

    n_positive: int
    n_negative: int
    auc: float | None
    auc_ci95: Interval | None
    sensitivity: float | None
    sensitivity_ci95: Interval | None
    specificity: float | None
    specificity_ci95: Interval | None


def detection(score: ArrayLike, called: ArrayLike, positive: ArrayLike) -> Detection:
    """score (n,), higher for the finding; called (n,): who is said to have it; positive (n,): who has it."""
    values = np.asarray(score, np.float64).ravel()
    said, truth = np.asarray(called, bool).ravel(), np.asarray(positive, bool).ravel()
    if not values.size == said.size == truth.size:
        raise UnusableError(f"found {values.size} scores, {said.size} decisions, {truth.size} findings; expected equal")
    if not np.isfinite(values).all():
        raise UnusableError("found NaN or infinite scores: leave those cases out")
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    auc, interval = _auc(values[truth], values[~truth])
    hits, rejections = int((said & truth).sum()), int((~said & ~truth).sum())
    return Detection(
        n_positive=n_positive, n_negative=n_negative, auc=auc, auc_ci95=interval,
        sensitivity=hits / n_positive if n_positive else None, sensitivity_ci95=wilson(hits, n_positive),
        specificity=rejections / n_negative if n_negative else None, specificity_ci95=wilson(rejections, n_negative),
    )  # fmt: skip


def _auc(with_it: NDArray[np.float64], without: NDArray[np.float64]) -> tuple[float | None, Interval | None]:
    """The rank definition, and the interval of DeLong et al. 1988, which needs two of each kind."""
    if not (with_it.size and without.size):
        return None, None
    wins = np.sign(with_it[:, None] - without) / 2 + 0.5
    auc = float(wins.mean())
    if min(with_it.size, without.size) < 2:
        return auc, None
    variance = wins.mean(1).var(ddof=1) / with_it.size + wins.mean(0).var(ddof=1) / without.size
    reach = CONFIDENCE_Z * float(np.sqrt(variance))
    return auc, (max(0.0, auc - reach), min(1.0, auc + reach))


def wilson(hits: int, n: int) -> Interval | None:
    """The 95 % interval of a share (Wilson 1927); None of nobody."""
    if not n:
        return None
    z2, p = CONFIDENCE_Z**2, hits / n
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = CONFIDENCE_Z / (1 + z2 / n) * float(np.sqrt(p * (1 - p) / n + z2 / (4 * n**2)))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def dice(a: NDArray[np.uint8], b: NDArray[np.uint8], label: int) -> float:
    """Overlap of one label: 2 |A and B| / (|A| + |B|); NaN where neither has it."""
    in_a, in_b = a == label, b == label
    total = int(in_a.sum()) + int(in_b.sum())
    return 2 * int((in_a & in_b).sum()) / total if total else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalConsistency:
    """Differences d of neighbouring frames in a result and its reference.

    index: TCI = 1 - sum |d result - d reference| / (sum |d result| + sum |d reference|), 1 for the same motion, 0 for
    none or the opposite; NaN where nothing moves in either. gradient_error: mean |d result - d reference| of a voxel
    and step, in units of the signal; gradient: mean |d reference|.
    """

    index: float
    gradient_error: float
    gradient: float


def temporal_consistency(
    result: Iterable[NDArray[Any]], reference: Iterable[NDArray[Any]]
) -> TemporalConsistency | None:
    """How well the change between frames is kept; None for a single frame. Memory holds two frames of each.

    UnusableError for unequal counts or shapes.
    """
    error = own = true = 0.0
    n = 0
    try:
        for (before, truth_before), (after, truth_after) in pairwise(zip(result, reference, strict=True)):
            if not before.shape == after.shape == truth_before.shape == truth_after.shape:
                raise UnusableError(f"frames of {after.shape} and {truth_after.shape} voxels; expected the same shape")
            ours = np.subtract(after, before, dtype=np.float64)
            truth = np.subtract(truth_after, truth_before, dtype=np.float64)
            error += float(np.abs(ours - truth).sum())
            own += float(np.abs(ours).sum())
            true += float(np.abs(truth).sum())
            n += truth.size
    except ValueError:
        raise UnusableError("found a result and a reference of unequal numbers of frames; expected equal") from None
    if not n:
        return None
    index = 1 - error / (own + true) if own + true else float("nan")
    return TemporalConsistency(index=index, gradient_error=error / n, gradient=true / n)
