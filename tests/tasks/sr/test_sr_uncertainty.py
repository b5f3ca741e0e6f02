"""The calibrated uncertainty: what it rests on means what its words say, in every unit and along either axis."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cmrsr.physics.kspace import truncate
from cmrsr.runtime.bundle import Uncertainty
from cmrsr.tasks.sr.uncertainty import expected_error, signs

MODEL = Uncertainty(scale=2.0, detail=0.4, edge=0.2)


def _noise(sd: float, fraction: float, size: int = 120) -> NDArray[np.float64]:
    """What is left of real white noise when ``fraction`` of its lines are kept."""
    white = np.random.default_rng(0).normal(0, sd, (size, size))
    return truncate(white, round(fraction * size), 0).real


@pytest.mark.parametrize("fraction", [0.3, 0.5])
@pytest.mark.parametrize("sd", [0.05, 2.0])
def test_white_noise_shows_what_the_missing_lines_held(sd: float, fraction: float) -> None:
    """The detail is the power of the noise that was cut off; the edge is half of what was kept."""
    _, detail, edge = signs(_noise(sd, fraction), np.full((120, 120), 1e-9), fraction)
    assert detail.mean() == pytest.approx((1 - fraction) * sd**2, rel=0.15)
    assert edge.mean() == pytest.approx(0.5 * fraction * sd**2, rel=0.4)


def test_it_is_as_large_as_the_image_is_bright() -> None:
    shown, variance = _noise(0.1, 0.4), np.random.default_rng(1).random((120, 120))
    assert_allclose(
        expected_error(shown * 1000, variance * 1000**2, 0.4, MODEL), 1000 * expected_error(shown, variance, 0.4, MODEL)
    )


def test_a_model_without_signs_takes_the_samples_alone() -> None:
    variance = np.full((2, 32, 32), 0.25)
    model = Uncertainty(scale=4.0, detail=0.0, edge=0.0)
    assert_allclose(expected_error(np.zeros((2, 32, 32)), variance, 0.4, model), 1.0)


def test_an_image_without_anything_has_a_small_error_and_no_nan() -> None:
    found = expected_error(np.ones((16, 16)), np.zeros((16, 16)), 0.4, MODEL)
    assert np.isfinite(found).all()
    assert 0 < found.max() < 1e-5


def test_more_noise_is_more_error_with_the_same_samples() -> None:
    variance = np.full((120, 120), 1e-3)
    quiet, loud = (expected_error(_noise(sd, 0.4), variance, 0.4, MODEL).mean() for sd in (0.05, 0.2))
    assert 1.5 < loud / quiet < 4  # the exponents: 4 ** 0.6
