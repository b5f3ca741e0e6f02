"""Scores of a restored volume follow their definitions: peak, zeros around, window, noise-free truth, through-plane."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError
from cmrsr.metrics.images import ssim
from cmrsr.tasks.interp4d.evaluation.published import PADDED_MAE, PADDED_PSNR, PADDED_SSIM, STANDARDS
from cmrsr.tasks.interp4d.evaluation.score import (
    CLEAN_PSNR,
    GRADIENT,
    HEART_PSNR,
    HEART_SSIM,
    MAE,
    PSNR,
    SSIM,
    Scoring,
    pooled_psnr,
    through_plane_error,
)

RNG = np.random.default_rng(1)
TRUTH = RNG.uniform(0, 1, (4, 20, 24))
RESULT = TRUTH + RNG.normal(0, 0.05, TRUTH.shape)
MSE = np.mean((RESULT - TRUTH) ** 2)


def padded(volume: np.ndarray, size: int, slices: int) -> np.ndarray:
    z, y, x = volume.shape
    out = np.zeros((slices, size, size))
    out[3 : 3 + z, 5 : 5 + y, 7 : 7 + x] = volume
    return out


def test_the_truth_itself_has_no_error() -> None:
    found = Scoring(peak=2.0, window=(slice(2, 18), slice(2, 18)), standard=STANDARDS["tssc"])(TRUTH, TRUTH, TRUTH)
    assert found.pop(PADDED_MAE) == found.pop(MAE) == found.pop(GRADIENT) == 0
    for name, value in found.items():
        assert value == (np.inf if "PSNR" in name else pytest.approx(1)), name


def test_one_peak_for_the_whole_series() -> None:
    found = Scoring(peak=500.0)(RESULT, TRUTH)
    assert list(found) == [PSNR, SSIM, GRADIENT]
    assert_allclose(found[PSNR], 10 * np.log10(500**2 / MSE))
    assert_allclose(found[SSIM], ssim(RESULT, TRUTH, data_range=500).mean())


@pytest.mark.parametrize("name", ["uvi", "tssc"])
def test_zeros_around_add_what_they_add(name: str) -> None:
    standard = STANDARDS[name]
    found = Scoring(peak=1.0, standard=standard)(RESULT, TRUTH)
    whole = [padded(volume, standard.matrix, standard.slices) for volume in (RESULT, TRUTH)]
    assert_allclose(found[PADDED_PSNR], -10 * np.log10(np.mean((whole[0] - whole[1]) ** 2)))
    assert_allclose(found[PADDED_PSNR] - found[PSNR], 10 * np.log10(standard.n_voxels / TRUTH.size))
    if name == "tssc":
        assert_allclose(found[PADDED_MAE], np.mean(np.abs(whole[0] - whole[1])))
        assert_allclose(found[PADDED_SSIM], (4 * found[SSIM] + 28) / 32)


def test_ten_slices_gain_five_decibels_from_zeros() -> None:
    truth = RNG.uniform(0, 1, (10, 128, 128))
    found = Scoring(peak=1.0, standard=STANDARDS["uvi"])(truth + 0.1, truth)
    assert_allclose(found[PSNR], 20)
    assert_allclose(found[PADDED_PSNR], 20 + 10 * np.log10(3.2))


def test_the_heart_and_the_frame_without_noise() -> None:
    window = (slice(4, 17), slice(6, 20))
    clean = TRUTH + 0.01
    found = Scoring(peak=1.0, window=window)(RESULT, TRUTH, clean)
    inside = RESULT[:, 4:17, 6:20], TRUTH[:, 4:17, 6:20]
    assert_allclose(found[HEART_PSNR], -10 * np.log10(np.mean((inside[0] - inside[1]) ** 2)))
    assert_allclose(found[HEART_SSIM], ssim(*inside, data_range=1.0).mean())
    assert_allclose(found[CLEAN_PSNR], -10 * np.log10(np.mean((RESULT - clean) ** 2)))


def test_through_plane_error_sees_slices_that_do_not_fit() -> None:
    assert_allclose(through_plane_error(TRUTH + 3, TRUTH), 0, atol=1e-12)  # all slices alike
    assert_allclose(through_plane_error(1.2 * TRUTH, TRUTH), 0.2)
    jagged = TRUTH + np.array([1, -1, 1, -1]).reshape(-1, 1, 1)
    assert_allclose(through_plane_error(jagged, TRUTH), 2 / np.sqrt(np.mean(np.diff(TRUTH, axis=0) ** 2)))


def test_one_slice_has_no_through_plane_error() -> None:
    assert GRADIENT not in Scoring(peak=1.0)(RESULT[:1], TRUTH[:1])


def test_slices_without_an_image_have_no_similarity() -> None:
    truth = TRUTH.copy()
    truth[0] = 0
    found = Scoring(peak=1.0)(RESULT, truth)
    assert_allclose(found[SSIM], ssim(RESULT[1:], TRUTH[1:], data_range=1.0).mean())
    with pytest.raises(UnusableError, match="constant in every slice"):
        Scoring(peak=1.0)(RESULT, np.zeros_like(TRUTH))


def test_pooling_averages_the_squared_errors() -> None:
    errors = np.array([0.01, 0.09])
    assert_allclose(pooled_psnr(-10 * np.log10(errors)), -10 * np.log10(0.05))
