"""Calibration finds the law that errors were drawn from, and covers what it says it covers."""

import numpy as np
import pytest

from cmrsr.runtime.bundle import Uncertainty
from cmrsr.tasks.sr.training.calibration import fitted
from cmrsr.tasks.sr.training.pairs import Batch
from cmrsr.tasks.sr.uncertainty import INTERVAL, expected_error

N, SIZE = 40, 48
LAW = Uncertainty(scale=3.0, detail=0.4, edge=0.2)


def _drawn(seed: int, outliers: float = 0.0) -> tuple[Batch, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of images of all noise levels whose result errs by ``LAW``; the result, its variance, the true sd."""
    rng = np.random.default_rng(seed)
    level, told = np.exp(rng.uniform(-4, 0, (2, N, 1, 1, 1)))
    lr = (level * rng.normal(size=(N, 1, SIZE, SIZE))).astype(np.float32)
    variance = np.broadcast_to(told**2, lr.shape).astype(np.float32)
    fraction = rng.uniform(0.3, 0.5, N).astype(np.float32)
    sd = np.stack([expected_error(a, v, float(f), LAW) for a, v, f in zip(lr, variance, fraction, strict=True)])
    hr = lr + rng.normal(size=lr.shape) * sd
    hr += (rng.random(lr.shape) < outliers) * 30 * sd
    hr = hr.astype(np.float32)
    return Batch(lr, hr, hr, np.ones(N, np.float32), fraction), lr, variance, sd


def test_the_law_of_the_errors_is_found() -> None:
    pairs, result, variance, _ = _drawn(0)
    found = fitted(pairs, result, variance)
    assert found.scale == pytest.approx(LAW.scale, rel=0.1)
    assert (found.detail, found.edge) == pytest.approx((LAW.detail, LAW.edge), abs=0.03)


@pytest.mark.parametrize("outliers", [0.0, 0.05])
def test_nine_of_ten_new_errors_lie_within_the_interval(outliers: float) -> None:
    """Whatever the few largest are."""
    pairs, result, variance, _ = _drawn(1, outliers)
    model = fitted(pairs, result, variance)
    pairs, result, variance, _ = _drawn(2, outliers)
    drawn = zip(result, variance, pairs.fraction, strict=True)
    expected = np.stack([expected_error(lr, spread, float(f), model) for lr, spread, f in drawn])
    assert (np.abs(pairs.hr - result) <= INTERVAL * expected).mean() == pytest.approx(0.9, abs=0.02)
