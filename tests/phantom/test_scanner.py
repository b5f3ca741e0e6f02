from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.phantom.clutter import smooth_field
from cmrsr.phantom.scanner import (
    BREATH_HOLD,
    FIRST_PASS,
    HARD,
    Quality,
    Scanner,
    acquire,
    centre_of,
    draw_scanner,
    raw_filter,
    typical_peak,
)
from cmrsr.physics.kspace import degrade

FLOAT32 = 1e-5


def _perfect(n: int, matrix: int) -> Scanner:
    """No shading, filter, blur, noise or correction: Fourier sampling alone."""
    drawn = draw_scanner(np.random.default_rng(0), n, matrix, HARD)
    return replace(
        drawn, sampled=(1.0, 1.0), filter_strength=0.0, blur=0.0, noise=0.0, partial_fourier=1.0, bend=None,
        shading=np.ones((n, n), np.complex64), correction=np.ones((matrix, matrix), np.float32),
        noise_map=np.ones((matrix, matrix), np.float32),
    )  # fmt: skip


def _signal(n: int) -> np.ndarray:
    return (1 + 0.3 * np.clip(smooth_field(np.random.default_rng(1), n, 1.0), -3, 3)).astype(np.float32)


def _sampled(signal: np.ndarray, matrix: int) -> np.ndarray:
    """The low frequencies of a signal on a coarser grid, by the sum over frequencies itself."""
    n = signal.shape[0]
    f = np.arange(matrix) - matrix // 2
    analysis = np.exp(-2j * np.pi * np.outer(f, np.arange(n) - n // 2) / n) / n
    synthesis = np.exp(2j * np.pi * np.outer(np.arange(matrix) - matrix // 2, f) / matrix)
    return synthesis @ (analysis @ signal @ analysis.T) @ synthesis.T


@pytest.mark.parametrize(("n", "matrix"), [(80, 40), (80, 41), (81, 32)])
def test_a_perfect_scanner_samples_the_fourier_transform(n: int, matrix: int) -> None:
    signal = _signal(n)
    image = acquire(signal, _perfect(n, matrix), np.random.default_rng(0))
    assert image.dtype == np.float32
    assert_allclose(image, np.abs(_sampled(signal, matrix)), atol=FLOAT32)
    assert image.mean() == pytest.approx(signal.mean(), rel=1e-3)


def test_sampled_share_truncates_along_y_and_x() -> None:
    signal = _signal(80)
    whole = _sampled(signal, 40)
    scanner = _perfect(80, 40)
    for share, axis in (((0.5, 1.0), 0), ((1.0, 0.5), 1)):
        image = acquire(signal, replace(scanner, sampled=share), np.random.default_rng(0))
        assert_allclose(image, degrade(whole, 20, axis), atol=FLOAT32)


def test_noise_only_background_is_rayleigh() -> None:
    sigma = 0.3
    scanner = replace(_perfect(96, 96), noise=sigma)
    image = acquire(np.zeros((96, 96), np.float32), scanner, np.random.default_rng(5))
    error = 4 * sigma / np.sqrt(image.size)
    assert image.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), abs=error)
    assert image.std() == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), abs=error)
    bright = acquire(np.full((96, 96), 50, np.float32), scanner, np.random.default_rng(6))
    assert bright.std() == pytest.approx(sigma, abs=error)  # far from zero the noise is Gaussian
    quiet = acquire(np.zeros((96, 96), np.float32), scanner, np.random.default_rng(6), noisy=False)
    assert not quiet.any()


def test_noise_is_white_before_the_filter_and_amplified_by_its_map() -> None:
    scanner = replace(
        _perfect(64, 64),
        noise=0.1,
        noise_map=np.repeat([1.0, 3.0], 32)[:, None].astype(np.float32) * np.ones(64, np.float32),
    )
    image = acquire(np.zeros((64, 64), np.float32), scanner, np.random.default_rng(0))
    assert image[32:].mean() / image[:32].mean() == pytest.approx(3, rel=0.08)
    smooth = replace(_perfect(64, 64), noise=0.1, filter_strength=0.95, filter_start=0.1)
    assert acquire(np.zeros((64, 64), np.float32), smooth, np.random.default_rng(0)).mean() < 0.7 * 0.1 * np.sqrt(
        np.pi / 2
    )


def test_filter_and_blur_keep_the_mean_and_take_detail_away() -> None:
    signal, scanner = _signal(80), _perfect(80, 40)
    plain = acquire(signal, scanner, np.random.default_rng(0))
    for change in ({"filter_strength": 0.9, "filter_start": 0.2}, {"blur": 0.4}):
        soft = acquire(signal, replace(scanner, **change), np.random.default_rng(0))
        assert soft.mean() == pytest.approx(plain.mean(), rel=1e-3)
        assert soft.std() < 0.995 * plain.std()


def test_shading_is_undone_by_the_correction() -> None:
    drawn = draw_scanner(np.random.default_rng(3), 80, 40, HARD)
    assert np.abs(drawn.shading).mean() == pytest.approx(1, rel=1e-5)
    assert np.ptp(np.abs(drawn.shading)) > 0.2
    magnitude = np.abs(drawn.shading).astype(np.float64)
    scanner = replace(
        _perfect(80, 40), shading=drawn.shading, correction=centre_of(magnitude, 40).astype(np.float32)
    )  # fmt: skip
    inner = slice(6, -6)  # the coil map does not repeat at the edges as the transform assumes
    image = acquire(np.ones((80, 80), np.float32), scanner, np.random.default_rng(0))
    assert_allclose(image[inner, inner], 1, atol=0.1)


def test_bending_moves_pixels() -> None:
    signal, scanner = _signal(80), _perfect(80, 40)
    bend = np.zeros((2, 40, 40), np.float32)
    bend[0], bend[1] = 3, -2
    plain = acquire(signal, scanner, np.random.default_rng(0))
    bent = acquire(signal, replace(scanner, bend=bend), np.random.default_rng(0))
    assert_allclose(bent[5:-5, 5:-5], plain[8:-2, 3:-7], atol=1e-4)


@pytest.mark.parametrize(("acquired", "strength", "start"), [(40, 0.6, 0.3), (41, 0.6, 0.3), (40, 0.0, 0.5)])
def test_raw_filter_is_flat_then_falls(acquired: int, strength: float, start: float) -> None:
    weight = raw_filter(64, acquired, strength, start)
    f = np.abs(np.arange(acquired) - acquired // 2) / (acquired / 2)
    assert weight.shape == (acquired,)
    assert_allclose(weight[f <= start], 1)
    assert np.all(np.diff(weight[acquired // 2 :]) <= 0)
    assert weight.min() == pytest.approx(1 - strength, abs=0.01)


def test_same_seed_same_scanner() -> None:
    a, b, other = (draw_scanner(np.random.default_rng(seed), 64, 32, HARD) for seed in (8, 8, 9))
    assert a.shading.tobytes() == b.shading.tobytes() != other.shading.tobytes()
    assert (a.noise, a.sampled, a.filter_start) == (b.noise, b.sampled, b.filter_start)


@pytest.mark.parametrize("quality", [FIRST_PASS, BREATH_HOLD, HARD], ids=["first pass", "breath-hold", "hard"])
def test_drawn_settings_keep_to_their_quality(quality: Quality) -> None:
    drawn = [draw_scanner(np.random.default_rng(seed), 32, 32, quality) for seed in range(120)]
    for scanner in drawn:
        assert all(0 < share <= 1 for share in scanner.sampled)
        assert 0 <= scanner.filter_strength < 1
        assert quality.noise[0] <= scanner.noise <= quality.noise[1]
        assert 0.5 < scanner.partial_fourier <= 1
        assert np.all(scanner.correction > 0)
        assert scanner.noise_map.shape == scanner.correction.shape == (32, 32)
    error = 3 * np.sqrt(0.25 / len(drawn))
    assert np.mean([s.bend is not None for s in drawn]) == pytest.approx(quality.distorted, abs=error)
    assert np.mean([min(s.sampled) < 0.85 for s in drawn]) <= quality.interpolated + error
    untouched = np.mean([np.ptp(s.correction) == 0 for s in drawn])
    assert untouched == pytest.approx(quality.corrected[0], abs=error)


def test_typical_peak_is_what_nine_in_ten_regions_stay_below() -> None:
    signals = np.random.default_rng(0).random((30, 1000))
    signals[5] = np.linspace(1, 2, 1000)  # the beat at which every region is brightest
    peak = typical_peak(signals)
    assert peak.dtype == np.float32
    assert np.mean(signals.max(0) < peak) == pytest.approx(0.9, abs=0.002)
