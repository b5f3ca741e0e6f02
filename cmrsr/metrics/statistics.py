"""Means, spreads and paired tests between methods.

Images of one patient are not independent: tests over images overstate the evidence, tests over patient means do not.
Both are reported, because papers print the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmrsr.errors import UnusableError

MIN_PAIRS = 6  # a two-sided Wilcoxon test of five pairs cannot fall below p = 0.0625, whatever they show
ROUNDING = 1e-12  # a spread of differences below this share of the values is rounding, not variation


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one sample looks like. ``sd`` is the sample standard deviation, None for a single value."""

    n: int
    mean: float
    sd: float | None
    median: float
    q1: float
    q3: float

    @property
    def iqr(self) -> float:
        return self.q3 - self.q1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The difference a - b over pairs: its mean, the 95 % confidence interval of the mean, and two tests.

    A figure that cannot be had is None, and ``reason`` says why.
    """

    n: int
    mean_difference: float
    ci95: tuple[float, float] | None
    t_test_p: float | None
    wilcoxon_p: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One method and one metric: over images and over patient means, and the tests against each baseline by name."""

    method: str
    metric: str
    per_image: Summary
    per_patient: Summary
    image_tests: Mapping[str, Paired]
    patient_tests: Mapping[str, Paired]


def _sample(values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64).ravel()
    if sample.size == 0:
        raise UnusableError("found no values to summarise: at least one image is needed")
    if not np.isfinite(sample).all():
        raise UnusableError(f"found {np.count_nonzero(~np.isfinite(sample))} of {sample.size} values NaN or infinite")
    return sample


def summarise(values: ArrayLike) -> Summary:
    """Mean, standard deviation, median and quartiles. Raises UnusableError for no values or values not finite."""
    sample = _sample(values)
    q1, median, q3 = (float(q) for q in np.quantile(sample, (0.25, 0.5, 0.75)))
    sd = float(sample.std(ddof=1)) if sample.size > 1 else None
    return Summary(n=sample.size, mean=float(sample.mean()), sd=sd, median=median, q1=q1, q3=q3)


def paired(a: ArrayLike, b: ArrayLike) -> Paired:
    """Two-sided paired t-test and Wilcoxon signed-rank test of a - b.

    Fewer than six pairs get no p value; differences that do not vary get no t-test, and all-zero ones no test at all.
    Raises UnusableError for samples of unequal length.
    """
    from scipy import stats

    first, second = _sample(a), _sample(b)
    if first.size != second.size:
        raise UnusableError(f"paired tests need equal counts, found {first.size} and {second.size}")
    difference = first - second
    n, mean = difference.size, float(difference.mean())
    scale = max(float(np.abs(first).max()), float(np.abs(second).max()))
    if float(np.abs(difference).max()) <= ROUNDING * scale:
        reason = "all differences are zero"
        return Paired(n=n, mean_difference=mean, ci95=None, t_test_p=None, wilcoxon_p=None, reason=reason)
    varies = n > 1 and float(difference.std()) > ROUNDING * scale
    t_test = stats.ttest_1samp(difference, 0.0) if varies else None
    ci95 = None
    if t_test is not None:
        interval = t_test.confidence_interval(0.95)
        ci95 = (float(interval.low), float(interval.high))
    if n < MIN_PAIRS:
        reason = f"{n} pair{'s' if n > 1 else ''}; a test needs at least {MIN_PAIRS}"
        return Paired(n=n, mean_difference=mean, ci95=ci95, t_test_p=None, wilcoxon_p=None, reason=reason)
    return Paired(
        n=n,
        mean_difference=mean,
        ci95=ci95,
        t_test_p=None if t_test is None else float(t_test.pvalue),
        wilcoxon_p=float(stats.wilcoxon(difference).pvalue),
        reason="" if varies else "all differences are equal, so a t-test is undefined",
    )


def per_patient(values: ArrayLike, patient_ids: Sequence[str]) -> dict[str, float]:
    """The mean of each patient's values, patients in the order of their first value.

    Raises UnusableError unless there is one id per value.
    """
    sample = _sample(values)
    if sample.size != len(patient_ids):
        raise UnusableError(f"expected one patient id per value, found {len(patient_ids)} ids and {sample.size} values")
    ids = np.asarray(patient_ids)
    return {patient: float(sample[ids == patient].mean()) for patient in dict.fromkeys(patient_ids)}


def format_p(p: float) -> str:
    """A p value as journals print it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"


def compare_methods(
    values: Mapping[str, Mapping[str, NDArray[np.float64]]], patient_ids: Sequence[str], baselines: Sequence[str]
) -> list[Comparison]:
    """Every method and metric of ``values[method][metric]`` ``(n_images,)``, tested against each baseline method.

    Method by method, metrics in the order of the mapping; a baseline is not tested against itself.
    Raises UnusableError where a baseline is missing.
    """
    missing = [name for name in baselines if name not in values]
    if missing:
        raise UnusableError(f"the baseline '{missing[0]}' is not among the methods: {', '.join(values)}")
    patients = {
        method: {metric: list(per_patient(sample, patient_ids).values()) for metric, sample in metrics.items()}
        for method, metrics in values.items()
    }
    return [
        Comparison(
            method=method,
            metric=metric,
            per_image=summarise(sample),
            per_patient=summarise(patients[method][metric]),
            image_tests={b: paired(sample, values[b][metric]) for b in baselines if b != method},
            patient_tests={b: paired(patients[method][metric], patients[b][metric]) for b in baselines if b != method},
        )
        for method, metrics in values.items()
        for metric, sample in metrics.items()
    ]
