"""Half the matrix as a scanner would give it: intensities and places are kept, zero-filling brings back the band."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series
from cmrsr.tasks.function.evaluation.coarse import BASELINES, coarse, made_even, zero_filling
from tests.conftest import oblique_affine


def blob(n_y: int, n_x: int, at: tuple[float, float]) -> Series:
    """A broad Gaussian on a bright floor: no frequency that half the matrix cannot hold."""
    y, x = np.indices((n_y, n_x))
    image = 50 + 100 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 50)
    return Series.from_array(np.broadcast_to(image, (2, 3, n_y, n_x)), affine=oblique_affine())


def place_mm(series: Series) -> np.ndarray:
    """Where the blob is in space."""
    weight = series.frame(0)[0].astype(float) - 50
    y, x = (float((axis * weight).sum() / weight.sum()) for axis in np.indices(weight.shape))
    return (series.affine @ [x, y, 0, 1])[:3]


@pytest.mark.parametrize("matrix", [(80, 72), (74, 66), (68, 70)])
def test_what_fits_into_half_the_matrix_is_kept(matrix: tuple[int, int]) -> None:
    series = blob(*matrix, at=(33.0, 31.0))
    low = coarse(series)
    assert low.shape == (2, 3, matrix[0] // 2, matrix[1] // 2)
    assert_allclose(low.spacing_mm, np.array([10, 3.6, 3.6]))
    assert_allclose(place_mm(low), place_mm(series), atol=0.05)
    for name, enlarge in BASELINES.items():
        assert_allclose(enlarge(low.frame(1)), series.frame(1), atol=0.2 if name == "zero-filling" else 2.0)


def test_zero_filling_adds_nothing_of_its_own() -> None:
    image = 200 + gaussian_filter(np.random.default_rng(0).normal(0, 100, (2, 40, 36)), (0, 1, 1), mode="wrap")
    again = coarse(Series.from_array(np.stack([zero_filling(image.astype(np.float32))] * 2)))
    assert_allclose(again.frame(0), image, atol=0.5)  # the unpaired highest frequency is halved


def test_odd_matrices_lose_their_last_lines() -> None:
    series = blob(81, 73, at=(33.0, 31.0))
    even = made_even(series)
    assert even.shape == (2, 3, 80, 72)
    assert_allclose(even.frame(0), series.frame(0)[:, :80, :72])
    assert_allclose(place_mm(even), place_mm(series), atol=0.05)
    assert made_even(even) is even


def test_too_little_to_halve() -> None:
    with pytest.raises(UnusableError, match="40 x 80, expected at least 64"):
        coarse(blob(80, 40, at=(20.0, 20.0)))
