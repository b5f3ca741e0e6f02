import os
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError
from cmrsr.metrics.images import nrmse, psnr, roi_curves, ssim, temporal_nrmse
from cmrsr.physics.passage import blood_pools

SSIM_TOLERANCE = 1e-6  # scikit-image sums the same window in another order


def _pair(n_frames: int, shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hr = rng.gamma(2.0, 100.0, (n_frames, *shape)) + 500 * np.hanning(shape[1])
    return hr + rng.normal(0, 40, hr.shape), hr


@pytest.mark.parametrize("shape", [(96, 96), (64, 37), (11, 11)])
def test_ssim_equals_scikit_image(shape: tuple[int, int]) -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    sr, hr = _pair(3, shape)
    if min(shape) == 11:  # a single window: one pixel is left after the border is cropped
        assert ssim(sr, hr).shape == (3,)
    expected = [
        structural_similarity(a, b, data_range=np.ptp(b), gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for a, b in zip(sr, hr, strict=True)
    ]
    assert_allclose(ssim(sr, hr), expected, atol=SSIM_TOLERANCE)


def test_ssim_takes_a_common_range() -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    sr, hr = _pair(1, (40, 40))
    expected = structural_similarity(
        sr[0], hr[0], data_range=4000.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert_allclose(ssim(sr, hr, data_range=4000.0), [expected], atol=SSIM_TOLERANCE)


def test_nrmse_and_psnr_follow_the_printed_equations() -> None:
    sr, hr = _pair(4, (32, 24))
    for a, b, error, peak in zip(sr, hr, nrmse(sr, hr), psnr(sr, hr), strict=True):
        assert_allclose(error, np.sqrt(np.mean((a - b) ** 2)) / (b.max() - b.min()))
        to_8bit = 255 / (b.max() - b.min())
        assert_allclose(peak, 10 * np.log10(255**2 / np.mean((to_8bit * (a - b)) ** 2)))


@pytest.mark.parametrize("metric", [nrmse, psnr, ssim])
def test_a_stack_gives_what_its_images_give(metric) -> None:
    sr, hr = _pair(6, (24, 30))
    grid = metric(sr.reshape(2, 3, 24, 30), hr.reshape(2, 3, 24, 30))
    assert grid.shape == (2, 3)
    assert_allclose(grid.ravel(), [float(metric(a, b)) for a, b in zip(sr, hr, strict=True)], rtol=1e-12)


@pytest.mark.parametrize("metric", [nrmse, psnr, ssim])
def test_metrics_do_not_depend_on_the_intensity_scale(metric) -> None:
    sr, hr = _pair(2, (30, 30))
    assert_allclose(metric(7 * sr, 7 * hr), metric(sr, hr), rtol=1e-10)


def test_equal_images() -> None:
    _, hr = _pair(2, (20, 20))
    assert_allclose(nrmse(hr, hr), 0)
    assert np.isposinf(psnr(hr, hr)).all()
    assert_allclose(ssim(hr, hr), 1)


def test_integers_do_not_wrap_around() -> None:
    hr = np.arange(400, dtype=np.uint8).reshape(20, 20)
    assert_allclose(nrmse(hr[::-1], hr), nrmse(hr[::-1].astype(float), hr.astype(float)))


@pytest.mark.parametrize("metric", [nrmse, psnr, ssim])
def test_refusals(metric) -> None:
    sr, hr = _pair(3, (20, 20))
    with pytest.raises(UnusableError, match=r"\(3, 20, 20\).*\(2, 20, 20\)"):
        metric(sr, hr[:2])
    flat = hr.copy()
    flat[1] = 5
    with pytest.raises(UnusableError, match=r"constant \(index 1\)"):
        metric(sr, flat)
    sr[0, 0, 0] = np.nan
    with pytest.raises(UnusableError, match="NaN"):
        metric(sr, hr)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    sr, hr = _pair(1, (10, 40))
    with pytest.raises(UnusableError, match="11 x 11"):
        ssim(sr, hr)


def test_temporal_nrmse() -> None:
    hr = np.array([[0.0, 2.0, 4.0], [1.0, 1.0, 11.0]])
    assert_allclose(temporal_nrmse(hr + 1, hr), [0.25, 0.1])


def test_roi_curves_average_each_region() -> None:
    frames = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    one = np.zeros((3, 4), dtype=bool)
    one[1, 2] = True
    curves = roi_curves(frames, {"one": one, "all": np.ones((3, 4), dtype=bool)})
    assert_allclose(curves["one"], frames[:, 1, 2])
    assert_allclose(curves["all"], [5.5, 17.5])
    with pytest.raises(UnusableError, match="'none' is empty"):
        roi_curves(frames, {"none": ~np.ones((3, 4), dtype=bool)})
    with pytest.raises(UnusableError, match="matrix"):
        roi_curves(frames, {"one": one.T})


def _first_pass(bolus: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """40 frames of two ventricles that light up at frames 10 and 16, beside a bright organ that breathes."""
    y, x = np.mgrid[:64, :64]
    pools = {"RV blood": np.hypot(y - 32, x - 18) < 7, "LV blood": np.hypot(y - 32, x - 42) < 7}
    t = np.arange(40)[:, None, None]
    frames = np.random.default_rng(0).normal(100, 3, (40, 64, 64))
    frames += 150 * (y > 52 + 2 * np.sin(1.7 * t))
    for mask, start in zip(pools.values(), (10, 16), strict=True):
        frames += bolus * mask * np.clip((t - start) / 2, 0, 1) * np.where(t > start + 8, 0.6, 1.0)
    return frames, pools


def test_blood_pools_are_found_by_their_order_beside_a_breathing_organ() -> None:
    frames, pools = _first_pass(bolus=120.0)
    found = blood_pools(frames)
    assert list(found) == ["RV blood", "LV blood"]
    for name, mask in found.items():
        assert (mask & pools[name]).sum() > 0.9 * mask.sum()
        assert (mask & pools[name]).sum() > 0.6 * pools[name].sum()


def test_no_blood_pools_without_contrast() -> None:
    assert blood_pools(_first_pass(bolus=0.0)[0]) == {}
    assert blood_pools(np.ones((6, 32, 32))) == {}


def test_blood_pools_of_a_real_series_lie_in_the_masks_drawn_by_hand() -> None:
    data = Path(os.environ.get("CMRSR_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (data / "perfusion-dicom-masks.mat").exists():
        pytest.skip(f"no real scans in {data}; set CMRSR_TEST_DATA")
    import pydicom
    from scipy.io import loadmat

    images = [pydicom.dcmread(path) for path in (data / "perfusion-dicom").rglob("*") if path.is_file()]
    frames = np.stack([image.pixel_array for image in sorted(images, key=lambda image: int(image.InstanceNumber))])
    drawn = loadmat(data / "perfusion-dicom-masks.mat")
    found = blood_pools(frames)
    for name, key in (("RV blood", "DXmask"), ("LV blood", "SXmask")):
        assert (drawn[key] > 0)[found[name]].mean() > 0.85
