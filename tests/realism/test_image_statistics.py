"""Image statistics against closed forms."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from cmrsr.errors import UnusableError
from cmrsr.io.discover import discover
from cmrsr.io.series import Series
from cmrsr.realism import distance as realism
from cmrsr.realism import image_statistics
from cmrsr.realism.image_statistics import collect

# Shared measurements of 40 patients' perfusion images, 96x96 heart crops: radius to dB.
REAL_PERFUSION = {
    4: -5.9, 8: -12.8, 12: -18.0, 16: -21.0, 20: -23.5, 24: -25.5, 30: -28.4, 36: -31.7, 42: -37.6, 47: -43.7
}  # fmt: skip


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- one image --------------------------------------------------------------------------------------------------------


def test_white_noise_has_a_flat_spectrum() -> None:
    mean = np.mean([image_statistics.spectrum_db(image) for image in noise(60, 96, 96)], axis=0)
    assert_allclose(mean[5:], 0, atol=0.5)


def test_the_spectrum_falls_as_the_power_law_it_was_made_with() -> None:
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    f[0, 0] = 1
    images = np.fft.ifft2(np.fft.fft2(noise(60, 96, 96)) / f**1.5).real
    mean = np.mean([image_statistics.spectrum_db(image) for image in images], axis=0)
    assert mean[40 - 1] - mean[8 - 1] == pytest.approx(-30 * np.log10(40 / 8), abs=0.7)
    assert 10 * np.log10(np.mean(10 ** (mean[:5] / 10))) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("shape", [(96, 96), (192, 144)])
def test_a_wave_appears_at_its_frequency_per_pixel_in_any_window(shape: tuple[int, int]) -> None:
    y, x = np.indices(shape)
    wave = np.cos(2 * np.pi * (12 * y + 16 * x) / 96)
    assert image_statistics.RADII[np.argmax(image_statistics.spectrum_db(wave))] == 20


def test_temporal_change_of_independent_still_and_noisy_frames() -> None:
    frames = noise(30, 96, 96)
    assert_allclose(image_statistics.temporal_db(frames)[5:], 0, atol=0.5)
    assert image_statistics.temporal_db(np.stack([frames[0]] * 3)).max() == -120
    noisy = 10 * noise(1, 96, 96, seed=1) + frames
    assert image_statistics.temporal_db(noisy)[10:].mean() == pytest.approx(-10 * np.log10(101), abs=0.3)


def test_kurtosis_of_differences_is_half_that_of_independent_pixels() -> None:
    rng = np.random.default_rng(0)
    assert image_statistics.derivative_kurtosis(rng.normal(size=(600, 600))) == pytest.approx(0, abs=0.05)
    assert image_statistics.derivative_kurtosis(rng.laplace(size=(600, 600))) == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_edge_width_is_that_of_a_blurred_jump(sigma: float) -> None:
    stripes = np.tile((np.arange(96) // 24 % 2).astype(float), (96, 1))
    assert image_statistics.edge_width(stripes) == 1
    blurred = gaussian_filter(stripes, (0, sigma), mode="wrap")
    assert image_statistics.edge_width(blurred) == pytest.approx(np.sqrt(2 * np.pi) * sigma, rel=0.05)


def test_noise_is_measured_apart_from_structure_and_drift() -> None:
    y, x = np.mgrid[:96, :96]
    still = 0.5 + 0.2 * np.sin(y / 9) * np.cos(x / 11)
    frames = still + 0.01 * np.arange(20)[:, None, None] + 0.03 * noise(20, 96, 96)
    assert image_statistics.temporal_noise(frames) == pytest.approx(0.03, rel=0.03)
    assert image_statistics.spatial_noise(frames[0]) == pytest.approx(0.03, rel=0.06)
    assert image_statistics.spatial_noise(gaussian_filter(frames[0], 0.7)) < 0.02
    assert image_statistics.spatial_noise(0.01 * frames[0]) == 0  # nothing bright enough to tell


def test_gradients_of_a_ramp_are_its_slope() -> None:
    ramp = np.add.outer(3 * np.arange(96), 4 * np.arange(96)) / 100
    assert_allclose(image_statistics.log_gradients(ramp), np.log10(0.05))
    assert_allclose(image_statistics.log_gradients(np.ones((9, 9))), image_statistics.GRADIENT_EDGES[0] - 1)


def test_scaled_frames_reach_one_and_empty_ones_are_left_out() -> None:
    frames = np.stack([np.zeros((96, 96)), np.abs(noise(96, 96)), np.full((96, 96), 7.0), 50 * np.abs(noise(96, 96))])
    scaled = image_statistics.scaled(frames)
    assert_allclose(scaled[0], scaled[1])
    assert len(scaled) == 2
    assert np.mean(scaled > 1) == pytest.approx(0.005, abs=0.001)


# --- one series -------------------------------------------------------------------------------------------------------


def series_of(frames: np.ndarray, **changes: object) -> Series:
    return Series.from_array(frames[:, None] if frames.ndim == 3 else frames, **changes)


def test_statistics_do_not_depend_on_gain_or_transposition() -> None:
    frames = gaussian_filter(np.random.default_rng(3).gamma(2.0, size=(4, 1, 100, 110)), (0, 0, 0.6, 0.6))
    plain = collect(series_of(frames), window=None)
    for other in (series_of(40 * frames), series_of(frames.swapaxes(-1, -2))):
        found = collect(other, window=None)
        for statistic in realism.STATISTICS:
            assert_allclose(getattr(found, statistic.key), getattr(plain, statistic.key), rtol=1e-4, atol=1e-5)


def test_histograms_are_shares_and_uniform_grey_is_flat() -> None:
    frames = np.random.default_rng(0).uniform(0, 1, (6, 1, 128, 128))
    found = collect(series_of(frames))
    assert_allclose([found.grey.sum(), found.gradients.sum()], 1)
    assert_allclose(found.grey[:-1], 1 / 64, rtol=0.12)
    assert found.black == pytest.approx(2, abs=0.3)
    assert found.n_images == 6


def test_the_window_lies_about_what_varies_over_time() -> None:
    frames = np.abs(noise(12, 200, 240)) + 1
    y, x = np.ogrid[:200, :240]
    beating = np.hypot(y - 55, x - 100) < 15
    frames[:, beating] += 20 * (np.arange(12) % 2)[:, None]
    found = collect(series_of(frames))
    assert_allclose(found.grey, collect(series_of(frames), centre=(55, 100)).grey, atol=0.002)
    assert found.kurtosis > 10 + collect(series_of(frames), centre=(150, 190)).kurtosis


def test_the_patient_kind_and_pixel_size_are_kept() -> None:
    affine = np.diag([1.5, 2.5, 8, 1])
    found = collect(series_of(np.abs(noise(3, 96, 96)), affine=affine), name="p07_stress", kind="lge")
    assert (found.name, found.patient, found.kind, found.pixel_mm) == ("p07_stress", "p07", "lge", (2.5, 1.5))


def test_two_phases_are_no_sequence() -> None:
    frames = np.abs(noise(3, 96, 96))
    pair = collect(series_of(frames[:2]))
    assert (pair.temporal_db, pair.temporal_noise) == (None, None)
    assert collect(series_of(frames)).temporal_db is not None


@pytest.mark.parametrize(("size", "window"), [(80, 96), (80, None), (128, 64)])
def test_images_and_windows_below_96_pixels_are_refused(size: int, window: int | None) -> None:
    with pytest.raises(UnusableError, match="at least 96"):
        collect(series_of(np.abs(noise(3, size, size))), window=window)


def test_a_window_without_an_image_is_refused() -> None:
    frames = np.zeros((3, 300, 300))
    frames[:, :20, :20] = np.abs(noise(3, 20, 20))
    with pytest.raises(UnusableError, match="constant"):
        collect(series_of(frames), centre=(250, 250))


def test_real_perfusion_has_the_spectrum_of_the_shared_table(real_data: Path) -> None:
    found = [collect(c.open(), name=c.name) for c in discover([real_data / "perfusion-nifti"])[0] if "rest" in c.name]
    mean = realism.average(found, "spectrum_db")
    error = [mean[radius - 1] - level for radius, level in REAL_PERFUSION.items()]
    assert np.sqrt(np.mean(np.square(error))) < 1.5  # three of the forty patients
