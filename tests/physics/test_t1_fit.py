from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.io.discover import discover
from cmrsr.physics.t1_fit import CHUNK, T1_RANGE_MS, WEAK, after_recovery, fit_t1

FIELDS = ("t1_ms", "a", "b", "residual")
Array = NDArray[np.float64]


def molli(rr_ms: float) -> Array:
    """5(3)3: five images after the first inversion, three after the second, in the order of acquisition."""
    return np.r_[100 + rr_ms * np.arange(5), 180 + rr_ms * np.arange(3)]


def recovery(times: Array, t1: Array, look_locker: bool, a: float = 37.0) -> Array:
    """Signed images (n_ti, pixels): T1* is 0.8 T1 under Look-Locker readout, B / A = 1 + T1 / T1* or 1.9."""
    share = 0.8 if look_locker else 1.0
    b = a * (1 + 1 / share) if look_locker else 1.9 * a
    return np.asarray(a - b * np.exp(-times[:, None] / (share * t1)))


def rician(images: Array, sigma: float, seed: int) -> Array:
    noise = np.random.default_rng(seed).normal(size=(2, *images.shape)) * sigma
    return np.hypot(images + noise[0], noise[1])


@pytest.mark.parametrize("rr_ms", [600.0, 857.0, 1100.0])
@pytest.mark.parametrize("look_locker", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_exact_without_noise(rr_ms: float, look_locker: bool, signed: bool) -> None:
    t1 = np.linspace(200, 2500, 2301)
    images = recovery(molli(rr_ms), t1, look_locker)
    fit = fit_t1(images if signed else np.abs(images), molli(rr_ms), look_locker=look_locker, signed=signed)
    assert_allclose(fit.t1_ms, t1, rtol=1e-6)
    assert_allclose(fit.a, 37.0, rtol=1e-6)
    assert_allclose(fit.b, 37.0 * (2.25 if look_locker else 1.9), rtol=1e-6)
    assert fit.residual.max() < 1e-6


def test_signed_images_may_be_of_either_polarity() -> None:
    t1 = np.linspace(300, 2000, 50)
    images = recovery(molli(900.0), t1, True)
    fit, turned = (fit_t1(sign * images, molli(900.0), look_locker=True, signed=True) for sign in (1, -1))
    assert_allclose(turned.t1_ms, t1, rtol=1e-6)
    assert_allclose(turned.a, -fit.a)
    assert_allclose(turned.residual, fit.residual, atol=1e-12)


@pytest.mark.parametrize("t1_ms", [600.0, 1000.0, 1500.0, 2000.0])
@pytest.mark.parametrize("look_locker", [True, False])
def test_unbiased_with_rician_noise(t1_ms: float, look_locker: bool) -> None:
    images = rician(recovery(molli(900.0), np.full(20000, t1_ms), look_locker, a=1.0), 1 / 30, seed=4)
    fit = fit_t1(images, molli(900.0), look_locker=look_locker)
    assert np.isnan(fit.t1_ms).mean() < 1e-3
    assert np.nanmean(fit.t1_ms) == pytest.approx(t1_ms, rel=0.02)
    # five degrees of freedom of eight: the residual is the noise, short of what the fit took up
    assert np.sqrt(np.nanmean(fit.residual**2)) == pytest.approx(np.sqrt(5 / 8) / 30, rel=0.1)


def test_least_squares_of_noisy_images_cannot_be_bettered() -> None:
    """No sign pattern and no T1* of a fine grid has a smaller residual than the fit."""
    times, t1 = molli(800.0), np.random.default_rng(1).uniform(150, 2500, 300)
    images = rician(recovery(times, t1, True, a=1.0), 1 / 20, seed=2)
    fit = fit_t1(images, times, look_locker=True)
    order = np.argsort(times)
    least = np.full(t1.size, np.inf)
    for star in np.geomspace(*T1_RANGE_MS, 1500):
        design = np.stack([np.ones(8), -np.exp(-times[order] / star)], 1)
        for k in range(8):
            signed = images[order] * np.where(np.arange(8) < k, -1, 1)[:, None]
            least = np.minimum(least, np.linalg.lstsq(design, signed, rcond=None)[1])
    found = np.isfinite(fit.t1_ms)
    assert found.mean() > 0.95
    # one pixel in a thousand may miss the least of several shallow minima, and then hardly
    assert np.mean((8 * (fit.residual * fit.a) ** 2)[found] < least[found] * (1 + 1e-4)) > 0.99


@pytest.mark.parametrize("signed", [True, False])
def test_the_order_of_the_images_does_not_matter(signed: bool) -> None:
    times, t1 = molli(900.0), np.linspace(200, 2500, 100)
    images = rician(recovery(times, t1, True), 1.0, seed=3)
    wanted = fit_t1(images, times, look_locker=True, signed=signed)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(8)
        fit = fit_t1(images[order], times[order], look_locker=True, signed=signed)
        for name in FIELDS:
            assert_array_equal(getattr(fit, name), getattr(wanted, name))


def test_scaled_images_scale_the_amplitudes_alone() -> None:
    images = rician(recovery(molli(900.0), np.linspace(200, 2500, 100), True), 1.0, seed=3)
    fit, scaled = (fit_t1(scale * images, molli(900.0), look_locker=True) for scale in (1.0, 250.0))
    for name, factor in zip(FIELDS, (1, 250, 250, 1), strict=True):
        assert_allclose(getattr(scaled, name), factor * getattr(fit, name), rtol=1e-6)


def test_each_pixel_is_fitted_by_itself_whatever_the_chunk() -> None:
    t1 = np.linspace(200, 2500, CHUNK + 50)
    images = rician(recovery(molli(900.0), t1, True), 1.0, seed=5)
    whole = fit_t1(images, molli(900.0), look_locker=True)
    for i in (0, CHUNK - 1, CHUNK, CHUNK + 49):
        assert fit_t1(images[:, i], molli(900.0), look_locker=True).t1_ms == pytest.approx(whole.t1_ms[i], rel=1e-9)
    grid = fit_t1(images[:, :2000].reshape(8, 2, 25, 40), molli(900.0), look_locker=True)
    for name in FIELDS:
        assert getattr(grid, name).shape == (2, 25, 40)
        assert_allclose(getattr(grid, name).ravel(), getattr(whole, name)[:2000], rtol=1e-9)


@pytest.mark.parametrize("tail", [(), (1, 1)])
def test_every_slice_has_its_own_inversion_times(tail: tuple[int, ...]) -> None:
    times = np.stack([molli(800.0), molli(900.0) + 25, molli(1000.0)[::-1]], 1)
    t1 = np.linspace(300, 1800, 30)
    images = np.stack([np.abs(recovery(times[:, z], t1, True)) for z in range(3)], 1).reshape(8, 3, 5, 6)
    fit = fit_t1(images, times.reshape(8, 3, *tail), look_locker=True)
    assert_allclose(fit.t1_ms, np.broadcast_to(t1.reshape(5, 6), (3, 5, 6)), rtol=1e-6)


def test_images_at_one_time_share_their_sign() -> None:
    """Which of two images of one inversion time comes first says nothing, even where it is near the null."""
    times, t1 = np.r_[molli(900.0), 100.0], np.linspace(130, 180, 200)  # null at about 150
    images = np.abs(recovery(times, t1, True))
    assert_allclose(fit_t1(images, times, look_locker=True).t1_ms, t1, rtol=1e-6)
    noisy = rician(images, 4.0, seed=6)
    swapped = noisy[[8, *range(1, 8), 0]]
    one, other = (fit_t1(some, times, look_locker=True).t1_ms for some in (noisy, swapped))
    assert_allclose(other, one, rtol=1e-6)


def test_no_answer_where_there_is_none() -> None:
    t1 = np.full(9, 1000.0)
    images = np.abs(recovery(molli(900.0), t1, True))
    images[:, 1] *= 0.9 * WEAK
    images[:, 2] *= 1.5 * WEAK
    images[:, 3] = 0
    images[4, 4] = np.nan
    images[4, 5] = np.inf
    images[:, 6] = 20.0  # nothing recovers
    images[:, 7] = np.abs(recovery(molli(900.0), np.array([8000.0]), True))[:, 0]
    images[:, 8] = np.abs(recovery(molli(900.0), np.array([30.0]), True))[:, 0]
    fit = fit_t1(images, molli(900.0), look_locker=True)
    for name in FIELDS:
        assert_array_equal(np.isnan(getattr(fit, name)), [0, 1, 0, 1, 1, 1, 1, 1, 1])
    assert_allclose(fit.t1_ms[[0, 2]], 1000.0, rtol=1e-6)
    empty = fit_t1(np.zeros((8, 4, 4)), molli(900.0), look_locker=True)
    assert np.isnan(empty.t1_ms).all()


def test_whole_numbers_are_fitted_too() -> None:
    t1 = np.linspace(300, 2000, 40)
    images = np.round(np.abs(recovery(molli(900.0), t1, True, a=2000.0))).astype(np.uint16)
    assert_allclose(fit_t1(images, molli(900.0), look_locker=True).t1_ms, t1, rtol=0.005)


@pytest.mark.parametrize(
    ("shape", "times", "signed", "words"),
    [
        ((8, 4, 4), np.arange(1.0, 8.0), False, "expected one for each image"),
        ((8, 4, 4), np.ones((8, 3)), False, "expected one for each image"),
        ((3, 4, 4), np.arange(1.0, 4.0), False, "fewer than 4"),
        ((2, 4, 4), np.arange(1.0, 3.0), True, "fewer than 3"),
        ((6, 4), np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]), False, "fewer than 4"),
    ],
)
def test_what_cannot_be_fitted(shape: tuple[int, ...], times: Array, signed: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fit_t1(np.ones(shape), times, look_locker=True, signed=signed)


@pytest.mark.parametrize("rr_ms", [600.0, 1000.0, 1200.0])
def test_images_after_recovery(rr_ms: float) -> None:
    """Of ShMOLLI the first inversion, in any order of the images; of every scheme that waits, all."""
    first, beats = 100 + rr_ms * np.arange(5), np.arange(5)
    shmolli = np.r_[first, 180, 260]
    order = np.random.default_rng(0).permutation(7)
    assert after_recovery(shmolli).tolist() == [True] * 5 + [False] * 2
    assert after_recovery(shmolli[order]).tolist() == after_recovery(shmolli)[order].tolist()
    irregular = np.r_[100 + rr_ms * beats * (1 + 0.03 * beats), 180, 260]
    assert after_recovery(irregular).sum() == 5
    three = np.r_[100 + rr_ms * beats[:3], 200 + rr_ms * beats[:3], 350 + rr_ms * beats]  # MOLLI 3(3)3(3)5
    for times in (molli(rr_ms), three, first, np.array([100.0]), np.full(5, 300.0)):
        assert after_recovery(times).all()


def test_real_phantom_agrees_with_the_scanner(real_data: Path) -> None:
    """ShMOLLI fits 5, 6 or 7 images by a condition on T1; its range map tells which. Given the same images, we agree.

    With one beat of recovery before the last two inversions, all seven images are consistent for short T1 only.
    """
    series = {one.name.split("/")[-1]: one.open() for one in discover([real_data / "t1-dicom-phantom"])[0]}
    images = series["12_ShMOLLI_192i_e11"]
    times = images.times_ms
    assert times is not None
    t1, n_images = (
        series[name].frame(0)[0]
        for name in ("14_ShMOLLI_192i_e11_T1MAP_map_ShMOLLI_T1_Map", "15_ShMOLLI_192i_e11_FITPARAMS_map_ShMOLLIT1range")
    )
    frames = images.array()[:, 0]
    first = np.isin(times, [100, 1100, 2100, 3100, 4100])  # after the first inversion
    for used, code, low in ((first, 1000, 400), (np.full(7, True), 3000, 200)):
        inside = scipy.ndimage.binary_erosion((n_images == code) & (t1 > low), iterations=3)
        assert inside.sum() > 50
        ratio = fit_t1(frames[used], times[used], look_locker=True).t1_ms[inside] / t1[inside]
        assert np.nanmedian(ratio) == pytest.approx(1, abs=0.005)
        assert np.mean(np.abs(ratio - 1) < 0.03) > 0.99
