from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import rice

from cmrsr.physics.fourier import fftnc
from cmrsr.tasks.sr.training.acquisition import (
    COARSE,
    FINEST,
    LARGEST,
    Acquisition,
    draw_acquisition,
    enlarged,
    expose,
    rician_mean,
)

FLAT = np.ones((COARSE, COARSE), np.float32)


def _plain(n: int, matrix: int, **changes: object) -> Acquisition:
    """Takes n x n lines without filter, coil or noise."""
    whole = np.ones(n, np.float32)
    base = Acquisition(
        matrix=(matrix, matrix), weights=(whole, whole), coil=FLAT.astype(np.complex64), correction=FLAT, noise=0.0,
        amplification=FLAT, blur=0.0,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def _scene(n: int = 48) -> np.ndarray:
    y, x = np.indices((n, n))
    return (0.2 + 1.0 * (np.hypot(y - n / 2, x - n / 3) < n / 5)).astype(np.float32)


def test_all_lines_at_the_scenes_own_matrix_give_the_scene_back() -> None:
    exposure = expose(_scene(), _plain(48, 48), np.random.default_rng(0))
    assert_allclose(exposure.clean, _scene(), atol=1e-6)
    assert_allclose(exposure.noisy, exposure.clean, atol=1e-6)


@pytest.mark.parametrize(("lines", "matrix"), [(32, 32), (32, 48), (31, 64)])
def test_only_acquired_lines_hold_signal_and_brightness_stays(lines: int, matrix: int) -> None:
    acquisition = _plain(lines, matrix, noise=0.3)
    exposure = expose(_scene(), acquisition, np.random.default_rng(0))
    assert exposure.noisy.shape == acquisition.matrix
    assert acquisition.acquired == (lines, lines)
    for image in (exposure.clean, exposure.noisy):
        power = np.abs(fftnc(image, (0, 1))) ** 2
        start = matrix // 2 - lines // 2
        inside = power[start : start + lines, start : start + lines].sum()
        assert inside == pytest.approx(power.sum(), rel=1e-5)
    assert exposure.clean.mean() == pytest.approx(_scene().mean(), rel=1e-4)


@pytest.mark.parametrize("matrix", [40, 64])
def test_the_deviation_of_the_noise_is_known(matrix: int) -> None:
    rng = np.random.default_rng(0)
    weight = np.linspace(0.2, 1, 40).astype(np.float32)
    shading = (1 + np.linspace(0, 1, COARSE) * FLAT).astype(np.float32)
    acquisition = _plain(40, matrix, noise=0.1, weights=(weight, weight), correction=shading)
    draws = [expose(_scene(), acquisition, rng) for _ in range(60)]
    noise = np.stack([d.noisy - d.clean for d in draws])
    found = np.sqrt(np.concatenate([noise.real, noise.imag]).var(0))
    assert_allclose(found.mean(), draws[0].sd.mean(), rtol=0.02)
    quarter = matrix // 4
    left, right = found[:, :quarter].mean(), found[:, -quarter:].mean()
    known = draws[0].sd[:, :quarter].mean() / draws[0].sd[:, -quarter:].mean()
    assert left / right == pytest.approx(known, rel=0.05)
    assert left > 1.3 * right  # where the coil is weak, correction raises the noise


def test_the_coil_is_seen_and_its_shading_corrected() -> None:
    ramp = np.linspace(0.5, 1.5, COARSE)[:, None] * FLAT
    coil = (ramp * np.exp(0.5j * ramp)).astype(np.complex64)
    shaded = expose(_scene(), _plain(48, 48, coil=coil), np.random.default_rng(0)).clean
    corrected = expose(_scene(), _plain(48, 48, coil=coil, correction=ramp), np.random.default_rng(0)).clean
    assert_allclose(np.abs(shaded), _scene() * enlarged(ramp, (48, 48)), atol=2e-3)
    assert_allclose(np.abs(corrected), _scene(), atol=3e-3)
    assert np.abs(np.angle(shaded)).max() > 0.5


def test_blur_softens_the_signal_and_not_the_noise() -> None:
    sharp, soft = (
        expose(_scene(), _plain(48, 48, noise=0.1, blur=blur), np.random.default_rng(3)) for blur in (0.0, 0.8)
    )
    assert np.abs(np.diff(soft.clean, axis=0)).max() < 0.8 * np.abs(np.diff(sharp.clean, axis=0)).max()
    assert_allclose(soft.noisy - soft.clean, sharp.noisy - sharp.clean, atol=1e-6)


def test_settings_are_within_what_scanners_do() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_acquisition(rng, 96) for _ in range(400)]
    for a in drawn:
        n_y, n_x = a.acquired
        assert round(FINEST[0] * 96) <= max(n_y, n_x) <= 96
        assert max(n_y, n_x) <= a.matrix[0] == a.matrix[1] <= LARGEST
        assert all(w.min() >= 0 and w.max() <= 1 for w in a.weights)
        assert a.weights[1].min() > 0 or a.weights[1][1:-1].min() > 0  # partial Fourier is along y alone
        assert (np.abs(a.coil) > 0).all()
        assert (a.correction > 0).all()
    interpolated = np.mean([a.matrix[0] > 1.02 * max(a.acquired) for a in drawn])
    partial = np.mean([a.weights[0][0] == 0 and a.weights[0][-1] > 0 for a in drawn])
    coarser = np.mean([a.acquired[0] < a.acquired[1] for a in drawn])
    assert 0.5 < interpolated < 0.8
    assert 0.05 < partial < 0.3
    assert 0.25 < coarser < 0.6


def test_the_same_seed_gives_the_same_image() -> None:
    def run(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        return expose(_scene(), draw_acquisition(rng, 48), rng).noisy.tobytes()

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_the_mean_magnitude_is_that_of_the_rician_distribution() -> None:
    amplitude = np.r_[0.0, 0.01, 0.5, 1, 3, 10, 11.99, 12.5, 20].astype(np.float32)
    expected = rice.mean(amplitude.astype(float) / 0.7, scale=0.7)
    assert_allclose(rician_mean(amplitude, np.full(9, 0.7, np.float32)), expected, rtol=2e-4)
    assert_allclose(rician_mean(amplitude, np.zeros(9, np.float32)), amplitude, atol=1e-6)
