"""Agreement, detection, overlap and temporal consistency against their closed forms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from cmrsr.errors import UnusableError
from cmrsr.metrics.agreement import agreement, detection, dice, pearson, temporal_consistency, wilson


def test_agreement_by_hand() -> None:
    found = agreement([52.0, 58, 41, 70], [50.0, 60, 40, 66])  # differences 2, -2, 1, 4
    assert (found.n, found.mae, found.bias) == (4, 2.25, 1.25)
    assert_allclose(found.rmse, np.sqrt(25 / 4))
    sd = np.sqrt((0.75**2 + 3.25**2 + 0.25**2 + 2.75**2) / 3)
    assert_allclose(found.sd, sd)
    assert found.limits is not None
    assert_allclose(found.limits, (1.25 - 1.96 * sd, 1.25 + 1.96 * sd))


def test_correlation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=20)
    b = 0.8 * a + 0.5 * rng.normal(size=20)
    r, interval = pearson(a, b)
    oracle = stats.pearsonr(a, b)
    assert_allclose(r, oracle.statistic)
    assert interval is not None
    assert_allclose(interval, oracle.confidence_interval(0.95))
    straight, both = pearson(a, 3 * a - 1)
    assert both is not None
    assert_allclose([straight, *both], 1)
    assert pearson(a, np.ones(20)) == (None, None)
    assert pearson(a[:3], b[:3]) == (None, None)


def test_few_pairs_have_no_limits() -> None:
    found = agreement([1.0], [3.0])
    assert (found.bias, found.sd, found.limits, found.r) == (-2, None, None, None)
    for pair in (([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0])):
        with pytest.raises(UnusableError):
            agreement(*pair)


def test_detection_by_hand() -> None:
    score, positive = [0.9, 0.6, 0.3, 0.6, 0.2, 0.1], [True, True, True, False, False, False]
    found = detection(score, np.array(score) >= 0.5, positive)
    # of 9 pairs: 3 + 2.5 (a tie) + 2 in the right order
    assert_allclose([found.auc, found.sensitivity, found.specificity], [7.5 / 9, 2 / 3, 2 / 3])
    u = stats.mannwhitneyu([0.9, 0.6, 0.3], [0.6, 0.2, 0.1]).statistic
    assert_allclose(found.auc, u / 9)
    # DeLong: placements 1, 2.5/3, 2/3 and 2.5/3-th of the others
    v10, v01 = np.array([1, 2.5 / 3, 2 / 3]), np.array([1.5 / 3, 1, 1])
    reach = stats.norm.ppf(0.975) * np.sqrt(v10.var(ddof=1) / 3 + v01.var(ddof=1) / 3)
    assert found.auc_ci95 is not None
    assert_allclose(found.auc_ci95, (7.5 / 9 - reach, 1.0))
    assert (found.n_positive, found.n_negative) == (3, 3)


def test_the_order_of_scores_is_all_that_counts() -> None:
    rng = np.random.default_rng(1)
    score, positive = rng.normal(size=40), rng.random(40) < 0.4
    first, second = (detection(s, s > 0, positive).auc for s in (score, np.exp(3 * score)))
    mirrored = detection(-score, score > 0, positive).auc
    assert first == second
    assert first is not None
    assert mirrored is not None
    assert_allclose(first + mirrored, 1)


def test_one_kind_alone_has_no_auc() -> None:
    found = detection([0.1, 0.9], [False, True], [True, True])
    assert (found.auc, found.specificity, found.specificity_ci95) == (None, None, None)
    assert found.sensitivity == 0.5


def test_wilson_interval() -> None:
    oracle = stats.binomtest(7, 9).proportion_ci(0.95, method="wilson")
    found = wilson(7, 9)
    assert found is not None
    assert_allclose(found, (oracle.low, oracle.high))
    assert wilson(0, 0) is None


def test_dice() -> None:
    a, b = np.zeros((2, 10, 10), np.uint8), np.zeros((2, 10, 10), np.uint8)
    a[0, :4, :5], b[0, 2:6, :5], b[1, 0, 0] = 3, 3, 2
    assert_allclose(dice(a, b, 3), 2 * 10 / 40)
    assert dice(a, b, 2) == 0
    assert np.isnan(dice(a, b, 1))


def test_temporal_consistency_of_known_motions() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(6, 2, 8, 8))

    def index(result: np.ndarray) -> float:
        found = temporal_consistency(result, truth)
        assert found is not None
        return found.index

    assert_allclose(index(truth + 5), 1)  # a constant offset is no motion
    assert_allclose(index(np.zeros_like(truth)), 0, atol=1e-12)  # stands still
    assert_allclose(index(-truth), 0, atol=1e-12)  # moves the other way
    for share in (0.5, 2.0):  # moves by a share of it: 1 - |1 - s| / (1 + s)
        assert_allclose(index(share * truth), 1 - abs(1 - share) / (1 + share))
    found = temporal_consistency(0.5 * truth, truth)
    assert found is not None
    step = np.abs(np.diff(truth, axis=0)).mean()
    assert_allclose([found.gradient, found.gradient_error], [step, step / 2])


def test_temporal_consistency_of_little() -> None:
    still = np.ones((3, 1, 4, 4))
    found = temporal_consistency(still, still)
    assert found is not None
    assert np.isnan(found.index)
    assert temporal_consistency(still[:1], still[:1]) is None
    for other in (still[:2], np.ones((3, 1, 4, 5))):
        with pytest.raises(UnusableError):
            temporal_consistency(other, still)
