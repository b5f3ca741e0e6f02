import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.physics.fourier import fft1c, ifft1c
from cmrsr.physics.kspace import (
    band,
    band_window,
    degrade,
    low_pass_matrix,
    n_lines,
    project,
    truncate,
    zero_fill,
    zero_fill_plane,
)

FLOAT32 = 1e-5  # of images of the order of 1
SIZES = [(24, 9), (24, 10), (25, 9), (25, 10)]  # (matrix, lines): every mixture of even and odd


def _image(size: int, columns: int = 6, seed: int = 0) -> np.ndarray:
    """A positive image with every frequency in it."""
    return 4 + np.random.default_rng(seed).normal(size=(size, columns))


def _harmonics(size: int, at: np.ndarray, n_harmonics: int, seed: int = 0) -> np.ndarray:
    """A positive sum of the lowest harmonics of a grid of ``size``, at positions ``at`` in its samples: (len, 3)."""
    rng = np.random.default_rng(seed)
    k = np.arange(1, n_harmonics + 1)
    amplitude, phase = rng.normal(size=(2, n_harmonics, 3))
    waves = np.cos(2 * np.pi * k[:, None] * at[:, None, None] / size + phase)
    return 10 + (amplitude / n_harmonics * waves).sum(1)


@pytest.mark.parametrize(("fraction", "size", "lines"), [(0.35, 96, 34), (0.5, 97, 48), (0.001, 64, 2), (1.0, 33, 33)])
def test_lines_of_a_fraction(fraction: float, size: int, lines: int) -> None:
    assert n_lines(fraction, size) == lines


@pytest.mark.parametrize(("size", "lines"), SIZES)
def test_truncation_keeps_the_central_lines_and_nothing_else(size: int, lines: int) -> None:
    x = _image(size)
    before, after = fft1c(x, 0), fft1c(truncate(x, lines, 0), 0)
    assert_allclose(after[band(lines, size)], before[band(lines, size)], atol=1e-12)
    outside = np.ones(size, bool)
    outside[band(lines, size)] = False
    assert outside.sum() == size - lines
    assert_allclose(after[outside], 0, atol=1e-12)


@pytest.mark.parametrize(("size", "lines"), SIZES)
def test_truncation_along_either_axis(size: int, lines: int) -> None:
    x = _image(size, size)
    assert_allclose(truncate(x.T, lines, -1), truncate(x, lines, -2).T, atol=1e-12)
    frames = np.stack([x, 2 * x])
    assert_allclose(truncate(frames, lines)[1], 2 * truncate(x, lines, 0), atol=1e-12)


@pytest.mark.parametrize(("size", "lines"), SIZES)
def test_degrading_leaves_a_smooth_image_alone(size: int, lines: int) -> None:
    x = _harmonics(size, np.arange(size), (lines - 1) // 2)
    assert_allclose(degrade(x, lines, 0), x, rtol=1e-12)
    assert degrade(x.astype(np.float32), lines, 0).dtype == np.float32


@pytest.mark.parametrize("size", [24, 25])
def test_low_pass_of_a_degraded_image_is_its_truncation(size: int) -> None:
    # An odd number of lines keeps a real image real, and where it stays positive the magnitude takes nothing away.
    hr, lines = 3 * _image(size), 9
    assert truncate(hr, lines, 0).real.min() > 0
    inside = band(lines, size)
    assert_allclose(fft1c(degrade(hr, lines, 0), 0)[inside], fft1c(hr, 0)[inside], atol=1e-10)


@pytest.mark.parametrize("taper", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("size", "lines"), SIZES)
def test_window_is_even_and_falls_from_one_to_zero(size: int, lines: int, taper: float) -> None:
    window = band_window(lines, size, taper)
    positive, negative = window[size // 2 :], window[: size // 2 + 1][::-1]
    shared = min(positive.size, negative.size)
    assert_array_equal(positive[:shared], negative[:shared])
    assert positive[0] == 1
    assert np.all(np.diff(positive) <= 0)
    assert_array_equal(positive[np.arange(positive.size) > lines / 2], 0)
    if taper == 0:
        assert window.sum() == lines  # the unpaired line of an even band counts as two halves
    else:
        assert_array_equal(positive[np.arange(positive.size) <= (1 - taper) * lines / 2], 1)


@pytest.mark.parametrize("taper", [0.0, 0.3])
@pytest.mark.parametrize(("size", "lines"), SIZES)
def test_low_pass_matrix_is_the_filter(size: int, lines: int, taper: float) -> None:
    window = band_window(lines, size, taper)
    matrix = low_pass_matrix(window)
    assert matrix.dtype == np.float32
    x = _image(size)
    filtered = ifft1c(window[:, None] * fft1c(x, 0), 0)
    assert_allclose(filtered.imag, 0, atol=1e-12)
    assert_allclose(matrix @ x, filtered.real, atol=FLOAT32)
    assert_allclose(matrix, matrix.T, atol=1e-7)
    assert_allclose(np.roll(matrix, (1, 1), (0, 1)), matrix, atol=1e-7)  # circulant
    assert_allclose(matrix @ np.stack([x, -x]), np.stack([matrix @ x, -(matrix @ x)]), atol=FLOAT32)


@pytest.mark.parametrize(("size", "lines"), [(24, 9), (25, 9)])
def test_projection_is_idempotent_and_not_expansive(size: int, lines: int) -> None:
    matrix = low_pass_matrix(band_window(lines, size))
    truth, guess = _image(size), _image(size, seed=1)
    lr = truncate(truth, lines, 0).real  # of a real image and an odd number of lines: exactly what was measured
    once = project(guess, lr, matrix)
    assert_allclose(project(once, lr, matrix), once, atol=FLOAT32)
    assert_allclose(truncate(once, lines, 0).real, lr, atol=FLOAT32)
    assert np.linalg.norm(once - truth) < np.linalg.norm(guess - truth)
    other = _image(size, seed=2)
    assert np.linalg.norm(project(other, lr, matrix) - once) <= np.linalg.norm(other - guess)
    assert_allclose(project(truth, lr, matrix), truth, atol=FLOAT32)


@pytest.mark.parametrize("taper", [0.0, 0.2])
@pytest.mark.parametrize("lines", [9, 10])
def test_projection_never_leaves_the_segment(lines: int, taper: float) -> None:
    """With any window every frequency ends between where it was and where the measurement is."""
    matrix = low_pass_matrix(band_window(lines, 24, taper))
    guess, lr = _image(24), _image(24, seed=1)
    moved = np.abs(fft1c(project(guess, lr, matrix) - guess, 0))
    assert np.all(moved <= np.abs(fft1c(lr - guess, 0)) + FLOAT32)


@pytest.mark.parametrize("n", [12, 13])
@pytest.mark.parametrize("size", [18, 19, 24, 36])
def test_zero_filling_interpolates_exactly(n: int, size: int) -> None:
    small = _harmonics(n, np.arange(n), (n - 1) // 2)
    at = n // 2 + (np.arange(size) - size // 2) * n / size
    assert_allclose(zero_fill(small, size, 0), _harmonics(n, at, (n - 1) // 2), rtol=1e-12)
    assert_allclose(zero_fill(small.T, size, 1), zero_fill(small, size, 0).T)


@pytest.mark.parametrize(("n", "factor"), [(12, 2), (12, 3), (13, 3), (16, 4)])
def test_old_samples_lie_on_the_finer_grid(n: int, factor: int) -> None:
    small = _harmonics(n, np.arange(n), (n - 1) // 2)
    large = zero_fill(small, n * factor, 0)
    first = (n * factor) // 2 - (n // 2) * factor
    assert_allclose(large[first::factor], small, rtol=1e-12)
    assert_allclose(large.mean(0), small.mean(0), rtol=1e-12)
    assert zero_fill(small.astype(np.float32), 3 * n, 0).dtype == np.float32


def test_zero_filling_a_plane_keeps_samples_and_what_is_band_limited() -> None:
    y, x = np.indices((16, 12))
    smooth = 3 + np.cos(2 * np.pi * y / 16) * np.sin(4 * np.pi * x / 12)
    finer = zero_fill_plane(smooth[None], 2)
    assert finer.shape == (1, 32, 24)
    assert_allclose(finer[0, ::2, ::2], smooth, atol=1e-12)
    fine_y, fine_x = np.indices((32, 24)) / 2
    assert_allclose(finer[0], 3 + np.cos(2 * np.pi * fine_y / 16) * np.sin(4 * np.pi * fine_x / 12), atol=1e-12)
