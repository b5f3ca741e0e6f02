import numpy as np
import pytest
from numpy.testing import assert_allclose
from skimage.metrics import structural_similarity

from cmrsr.errors import UnusableError
from cmrsr.heart.window import READING_MM
from cmrsr.tasks.mie.evaluation.images import (
    MSE,
    PSNR,
    SCAR_PSNR,
    SCAR_SSIM,
    SSIM,
    find_shift,
    image_scores,
    local_ssim,
    scaled,
)
from cmrsr.tasks.mie.features.signs import heart_crop
from tests.mie_slices import ventricles
from tests.tasks.mie.mie_runs import SCAR as WHOLE
from tests.tasks.mie.mie_runs import enhancement

RNG = np.random.default_rng(5)
_NOISY = scaled(enhancement(WHOLE) + RNG.normal(0, 0.03, WHOLE.shape).clip(-0.05))
TRUTH = (_NOISY - _NOISY.min()) / np.ptp(_NOISY)  # a range of 1
SCAR = heart_crop(WHOLE)
OURS = np.clip(TRUTH + RNG.normal(0, 0.1, TRUTH.shape), 0, 1)


def test_the_bright_signal_about_the_heart_becomes_one() -> None:
    image = RNG.random((128, 128))
    image[:5] = 50.0  # outside
    assert scaled(image).shape == (96, 96)
    assert_allclose(scaled(7 * image), scaled(image), rtol=1e-6)
    assert (scaled(image) > 1).mean() == pytest.approx(0.02, abs=0.006)
    with pytest.raises(UnusableError, match="black"):
        scaled(np.zeros((20, 20)))


def test_scores_of_the_whole_image_are_those_of_the_definitions() -> None:
    found = image_scores(OURS, TRUTH, None)
    mse = np.mean((OURS - TRUTH) ** 2)
    assert found[MSE] == pytest.approx(mse)
    assert found[PSNR] == pytest.approx(10 * np.log10(1 / mse))
    expected = structural_similarity(
        OURS, TRUTH, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert found[SSIM] == pytest.approx(expected, abs=1e-6)
    assert set(found) == {SSIM, PSNR, MSE}


def test_errors_are_shares_of_the_references_range() -> None:
    assert image_scores(3 * OURS, 3 * TRUTH, SCAR) == pytest.approx(image_scores(OURS, TRUTH, SCAR))
    assert image_scores(OURS, 2 * TRUTH, None)[MSE] == pytest.approx(np.mean((OURS / 2 - TRUTH) ** 2))


def test_the_region_is_the_scar_and_nothing_else() -> None:
    wrong = np.where(SCAR, TRUTH - 0.2, TRUTH)
    found = image_scores(wrong, TRUTH, SCAR)
    assert found[SCAR_PSNR] == pytest.approx(-20 * np.log10(0.2))
    assert found[PSNR] > found[SCAR_PSNR] + 10
    elsewhere = np.where(SCAR, TRUTH, OURS)
    assert SCAR_PSNR not in image_scores(elsewhere, TRUTH, SCAR)  # met exactly: none
    assert SCAR_SSIM not in image_scores(OURS, TRUTH, np.zeros_like(SCAR))


def test_local_similarity_averages_to_the_whole() -> None:
    everywhere = local_ssim(OURS, TRUTH, np.ones_like(SCAR))
    assert len(everywhere) == (len(TRUTH) - 10) ** 2
    assert everywhere.mean() == pytest.approx(image_scores(OURS, TRUTH, None)[SSIM])
    _, local = structural_similarity(
        OURS, TRUTH, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert image_scores(OURS, TRUTH, SCAR)[SCAR_SSIM] == pytest.approx(local[SCAR].mean(), abs=1e-6)


def test_windows_without_structure_are_left_out() -> None:
    flat = TRUTH.copy()
    flat[30:60, 30:60] = 1.0
    where = np.zeros_like(SCAR)
    where[40, 40] = where[40, 62] = True
    assert local_ssim(OURS, flat, where).shape == (1,)


@pytest.mark.parametrize("moved", [(0, 0), (2, -1), (-2, 3)])
def test_a_shift_is_found_whatever_the_contrast(moved: tuple[int, int]) -> None:
    noisy = np.roll(enhancement(WHOLE), moved, (0, 1)) + RNG.normal(0, 0.05, WHOLE.shape)
    found = find_shift(enhancement(WHOLE) ** 1.4, np.abs(noisy), ventricles() > 0)
    assert found is not None
    assert_allclose(found, moved, atol=0.25)


def test_what_lies_too_far_away_is_not_moved() -> None:
    far = round(6 / READING_MM) + 1
    assert find_shift(enhancement(WHOLE), np.roll(enhancement(WHOLE), far, 0), ventricles() > 0) is None
    assert find_shift(enhancement(WHOLE), 1 - 0.9 * enhancement(WHOLE), ventricles() > 0) is None  # opposite contrast
