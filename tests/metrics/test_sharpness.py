"""Sharpness against closed forms: spectra of known powers, edges of known widths."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ndtr

from cmrsr.errors import UnusableError
from cmrsr.metrics.sharpness import edge_slope, high_frequency_power
from cmrsr.physics.kspace import degrade

ROWS = np.arange(96.0)[:, None]


def wave(lines: int, amplitude: float) -> np.ndarray:
    """A cosine of so many periods along the rows, the same in every column."""
    return np.tile(amplitude * np.cos(2 * np.pi * lines * ROWS / 96), (1, 40))


@pytest.mark.parametrize("axis", [-2, -1])
def test_high_frequency_power_is_that_outside_the_band_alone(axis: int) -> None:
    """A wave inside the band (10 of 48 lines) does not count, one outside (35) with its amplitude squared."""
    hr = 500 + wave(10, 100) + wave(35, 20)
    sr = 500 + wave(10, 60) + wave(35, 10)
    images = (sr, hr) if axis == -2 else (sr.T, hr.T)
    assert_allclose(high_frequency_power(*images, axis, 0.35), 0.25, rtol=1e-3)


def test_noise_adds_to_the_power_and_not_to_the_slope() -> None:
    """Power of white noise adds up: n images of (1 + 1) times the power; the regression of slopes stays at 1."""
    rng = np.random.default_rng(0)
    hr = rng.standard_normal((200, 96, 40))
    sr = hr + rng.standard_normal(hr.shape)
    assert_allclose(high_frequency_power(sr, hr, -2, 0.35).mean(), 2, rtol=0.02)
    assert_allclose(edge_slope(sr, hr, -2).mean(), 1, atol=0.02)


def test_zero_filling_has_little_power_outside_the_band() -> None:
    hr = 500 + np.random.default_rng(0).standard_normal((4, 96, 96))  # far from zero: its magnitude is itself
    assert high_frequency_power(degrade(hr, 34, -2), hr, -2, 0.35).max() < 0.05
    assert_allclose(high_frequency_power(hr, hr, -2, 0.35), 1)


def edge(sigma: float) -> np.ndarray:
    """A step between two rows, blurred with a Gaussian of ``sigma`` rows."""
    return np.tile(100 * ndtr((ROWS - 48) / sigma), (1, 40))


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize(("sharp", "blurred"), [(4.0, 8.0), (4.0, 4.0), (8.0, 4.0)])
def test_slopes_of_gaussian_edges_are_as_their_widths(axis: int, sharp: float, blurred: float) -> None:
    """The steepest slope of a step of width s is 1 / (sqrt(2 pi) s), so that the ratio is that of the widths."""
    images = (edge(blurred), edge(sharp)) if axis == -2 else (edge(blurred).T, edge(sharp).T)
    assert_allclose(edge_slope(*images, axis), sharp / blurred, rtol=0.1)


def test_both_are_per_image_and_do_not_depend_on_the_grey_scale() -> None:
    rng = np.random.default_rng(1)
    hr, sr = rng.uniform(1, 2, (2, 5, 48, 64))
    for measure in (lambda a, b: high_frequency_power(a, b, -1, 0.4), lambda a, b: edge_slope(a, b, -1)):
        whole = measure(sr, hr)
        assert whole.shape == (5,)
        assert_allclose(whole, [measure(a, b) for a, b in zip(sr, hr, strict=True)])
        assert_allclose(measure(7 * sr, 7 * hr), whole)


def test_a_flat_reference_is_refused() -> None:
    flat = np.zeros((2, 32, 32))
    with pytest.raises(UnusableError, match="constant"):
        edge_slope(flat, flat, -1)
    with pytest.raises(UnusableError, match="no power outside"):
        high_frequency_power(flat, flat, -1, 0.4)
