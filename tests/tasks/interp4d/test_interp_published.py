"""Published preparations: the middle or the whole resampled, each frame from 0 to 1 with the zeros around in mind."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series
from cmrsr.tasks.interp4d.evaluation.published import STANDARDS

RNG = np.random.default_rng(2)


def series(*shape: int, low: float = 40.0) -> Series:
    frames = RNG.uniform(low, 900, shape)
    return Series.from_array(frames, affine=np.diag([1.5, 2.0, 8.0, 1.0]))


def test_the_middle_is_cut_out_and_scaled_with_the_zeros_around() -> None:
    one = series(2, 3, 150, 131)
    made = STANDARDS["uvi"].apply(one)
    assert made.shape == (2, 3, 128, 128)
    middle = one.frame(1)[:, 11:139, 1:129]
    assert_allclose(made.frame(1), middle / middle.max(), rtol=1e-6)  # the zeros are the minimum


def test_without_zeros_around_the_least_value_is_zero() -> None:
    one = series(1, 34, 128, 128)
    frame = STANDARDS["uvi"].apply(one).frame(0)
    assert frame.shape == (32, 128, 128)
    assert (frame.min(), frame.max()) == (0, 1)
    below = one.frame(0)[1:33]
    assert_allclose(frame, (below - below.min()) / np.ptp(below), atol=1e-6)


def test_a_small_image_stays_as_large_as_it_is() -> None:
    one = series(1, 2, 100, 140)
    made = STANDARDS["uvi"].apply(one)
    assert made.shape == (1, 2, 100, 128)
    assert_array_equal(made.affine, one.affine)


def test_resampling_keeps_the_field_of_view() -> None:
    one = series(1, 2, 128, 64)
    made = STANDARDS["tssc"].apply(one)
    assert made.shape == (1, 2, 256, 256)
    assert_allclose(np.array(made.spacing_mm) * made.shape[1:], np.array(one.spacing_mm) * one.shape[1:])
    ramp = one.with_frames(np.broadcast_to(np.arange(64.0), (1, 2, 128, 64)))
    inner = STANDARDS["tssc"].apply(ramp).frame(0)[0, 100, 8:-8]
    assert_allclose(np.diff(inner), 0.25 / 63, rtol=1e-3)


def test_a_constant_middle_is_refused() -> None:
    frames = np.zeros((2, 1, 140, 140))
    frames[:, :, 0, 0] = 1
    with pytest.raises(UnusableError, match="frame 2 is constant"):
        STANDARDS["uvi"].apply(Series.from_array(frames)).frame(1)
