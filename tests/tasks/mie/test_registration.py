"""Known shifts of inversion-recovery images are found against what their common fit expects."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scan import LABELS, VirtualScan
from cmrsr.phantom.scans import scan_patient
from cmrsr.physics.t1_fit import fit_t1
from cmrsr.tasks.mie.features.registration import LARGEST_PIXELS, recovered, register_inversions, shifted

Array = NDArray[np.float32]
FOUND = 0.3  # of a pixel, on average over the images: how near shifts have to be found
# (y, x) in pixels of eight images by rising inversion time: those of the second inversion, after a breath of 4 mm
BREATH = np.array([[0, 0], [1.2, -0.5], [0, 0], [1.5, -0.7], [0, 0], [1.5, -0.5], [0, 0], [0, 0]])


@pytest.fixture(scope="module")
def scan() -> VirtualScan:
    """One slice of native T1 images of a patient who hardly breathes."""
    (found,) = scan_patient(draw_patient(3, 1, "infarct"), Protocol(kinds=("t1",), n_slices=1, matrix=160))
    return found


@pytest.fixture(scope="module")
def still(scan: VirtualScan) -> Array:
    """Its images (8, 96, 96) about the heart, of which none has moved: as a T1 fit of them expects."""
    images = scan.frames[:, 0, 32:128, 32:128]
    noise = np.random.default_rng(0).normal(0, 0.02 * np.quantile(images, 0.98), images.shape)
    clean = recovered(fit_t1(images, scan.times_ms[:, 0], look_locker=True), scan.times_ms[:, 0])
    return np.abs(clean + noise).astype(np.float32)


def moved(images: Array, by: NDArray[np.float64]) -> Array:
    """Images that lie ``by`` (n, 2) pixels from where they were."""
    return np.stack([shifted(image, -s) for image, s in zip(images, by, strict=True)])


@pytest.mark.parametrize("by", [BREATH, -BREATH], ids=["down", "up"])
def test_known_shifts_come_back(still: Array, scan: VirtualScan, by: NDArray[np.float64]) -> None:
    times = scan.times_ms[:, 0]
    found = register_inversions(moved(still, by), times)
    assert found.moved.all()
    assert_array_equal(np.median(found.shift, 0).round(1), [0, 0])
    error = np.abs(found.shift - by)
    assert error.mean() < FOUND
    assert error.max() < 0.6 * np.abs(by).max()  # most of it is taken out, not all: the fit has seen what moved
    inside = (slice(8, -8), slice(8, -8))
    labels = scan.labels[0, 0, 32:128, 32:128]
    wall = np.zeros(labels.shape, bool)
    wall[inside] = np.isin(labels[inside], (LABELS["myocardium"], LABELS["scar"]))
    true, raw = (fit_t1(x, times, look_locker=True).t1_ms for x in (still, moved(still, by)))
    after, before = (np.nanmean(np.abs(t1 - true)[wall]) for t1 in (found.fit.t1_ms, raw))
    assert after < 0.7 * before
    assert np.nanmedian(np.abs(found.fit.t1_ms / true - 1)[wall]) < 0.06


def test_still_images_are_not_moved(still: Array, scan: VirtualScan) -> None:
    found = register_inversions(still, scan.times_ms[:, 0])
    assert found.moved.all()
    assert np.abs(found.shift).max() < 0.1
    assert_array_equal(found.images, still)
    assert_allclose(found.fit.t1_ms, fit_t1(still, scan.times_ms[:, 0], look_locker=True).t1_ms)


def test_a_hopeless_image_is_said(still: Array, scan: VirtualScan) -> None:
    """Noise in place of an image: it stays where it is, the others are registered all the same."""
    images = moved(still, BREATH)
    images[5] = np.random.default_rng(1).random(images[5].shape) * images.max()
    found = register_inversions(images, scan.times_ms[:, 0])
    assert found.moved.tolist() == [k != 5 for k in range(8)]
    others = [k for k in range(8) if k != 5]
    assert np.abs(found.shift - BREATH)[others].max() < 0.7 * np.abs(BREATH).max()
    assert np.abs(found.shift[5]).max() < FOUND  # as the median of the others was taken off


def test_an_image_without_anything_in_it(still: Array, scan: VirtualScan) -> None:
    images = still.copy()
    images[3] = 0
    found = register_inversions(images, scan.times_ms[:, 0])
    assert not found.moved[3]
    assert np.isfinite(found.images).all()
    nothing = register_inversions(np.zeros((8, 32, 32)), scan.times_ms[:, 0])
    assert not nothing.moved.any()
    assert not nothing.shift.any()


def test_a_shift_is_never_larger_than_is_credible(still: Array, scan: VirtualScan) -> None:
    by = np.zeros((8, 2))
    by[6] = (LARGEST_PIXELS + 8, 0)
    found = register_inversions(moved(still, by), scan.times_ms[:, 0])
    assert np.abs(found.shift).max() < LARGEST_PIXELS + 1


def test_recovered_is_the_curve_that_was_fitted() -> None:
    times = np.array([100.0, 180, 1000, 1080, 2000, 2080, 3000, 4000])
    t1, ratio = np.array([[600.0, 1100.0], [1500.0, 2000.0]]), 1.95
    t1_star = t1 / (ratio - 1)
    images = np.abs(2 - 2 * ratio * np.exp(-times[:, None, None] / t1_star))
    fit = fit_t1(images, times, look_locker=True)
    assert_allclose(recovered(fit, times), images, atol=1e-4)
    assert_allclose(recovered(fit, np.array([500.0]))[0], np.abs(2 - 2 * ratio * np.exp(-500 / t1_star)), atol=1e-4)
    images[:, 0, 0] = np.nan
    assert recovered(fit_t1(images, times, look_locker=True), times)[0, 0, 0] == 0


def test_shifted_is_the_image_from_another_place() -> None:
    y, x = np.mgrid[:40, :40]
    image = np.exp(-((y - 20.0) ** 2 + (x - 18.0) ** 2) / 50).astype(np.float32)
    found = shifted(image, np.array([2.0, -3.0]))
    assert_allclose(found[5:-5, 5:-5], image[7:-3, 2:-8], atol=1e-6)
    half = shifted(image, np.array([0.5, 0.0]))
    assert_allclose(half, np.exp(-((y - 19.5) ** 2 + (x - 18.0) ** 2) / 50), atol=0.01)
    assert shifted(-image, np.array([0.5, 0.5])).min() == 0  # magnitudes stay magnitudes
