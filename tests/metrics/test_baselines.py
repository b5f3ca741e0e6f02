import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UsageError
from cmrsr.metrics.baselines import bicubic, lanczos, small_matrix
from cmrsr.physics.kspace import degrade

SIZES = [(96, 32), (96, 34), (96, 33), (95, 33), (95, 34), (192, 67)]  # every mixture of even and odd


def _smooth(size: int) -> np.ndarray:
    """A positive image of the lowest two frequencies along its first axis, (size, 5)."""
    phase = 2 * np.pi * (np.arange(size)[:, None] + 3 * np.arange(5)) / size
    return 10 + 4 * np.cos(phase + 0.3) + np.sin(2 * phase)


@pytest.mark.parametrize(("size", "lines"), SIZES)
def test_small_matrix_samples_a_band_limited_image(size: int, lines: int) -> None:
    image = _smooth(size)
    positions = size // 2 + (np.arange(lines) - lines // 2) * size / lines
    phase = 2 * np.pi * (positions[:, None] + 3 * np.arange(5)) / size
    assert_allclose(small_matrix(image, 0, lines), 10 + 4 * np.cos(phase + 0.3) + np.sin(2 * phase), rtol=1e-12)


@pytest.mark.parametrize(("size", "lines"), SIZES)
@pytest.mark.parametrize("interpolate", [bicubic, lanczos])
def test_a_smooth_image_comes_back_without_a_shift(interpolate, size: int, lines: int) -> None:
    image = _smooth(size)
    back = interpolate(small_matrix(image, 0, lines), size, 0)
    # A shift of a thousandth of a pixel would turn the lowest frequency by this angle.
    thousandth = 2 * np.pi * 0.001 / size
    turned = np.angle(np.fft.fft(back, axis=0)[1] / np.fft.fft(image, axis=0)[1])
    assert np.abs(turned).max() < thousandth
    assert_allclose(back, image, atol=0.02 * np.ptp(image))


@pytest.mark.parametrize("interpolate", [bicubic, lanczos])
def test_interpolation_keeps_constants_and_its_own_samples(interpolate) -> None:
    assert_allclose(interpolate(np.full((3, 17), 2.5), 50, 1), 2.5)
    small = np.random.default_rng(0).normal(size=(20, 4))
    assert_allclose(interpolate(small, 60, 0)[::3], small, atol=1e-12)


@pytest.mark.parametrize("interpolate", [bicubic, lanczos])
def test_axes_are_equivalent(interpolate) -> None:
    frames = np.random.default_rng(1).gamma(2.0, 1.0, (3, 24, 20))
    along_y = interpolate(small_matrix(frames, 1, 10), 24, 1)
    along_x = interpolate(small_matrix(frames.swapaxes(1, 2), 2, 10), 24, 2)
    assert along_y.shape == frames.shape
    assert_allclose(along_x.swapaxes(1, 2), along_y, rtol=1e-12)


def test_all_lines_are_the_image_itself() -> None:
    image = np.random.default_rng(2).gamma(2.0, 1.0, (30, 12))
    assert_allclose(small_matrix(image, 0, 30), image)


@pytest.mark.parametrize("interpolate", [bicubic, lanczos])
def test_a_truncated_edge_stays_where_it_is(interpolate) -> None:
    edge = np.zeros((96, 4))
    edge[30:66] = 100.0
    lr = degrade(edge, 34, axis=0)
    back = interpolate(small_matrix(lr, 0, 34), 96, 0)[:, 0]
    errors = [np.mean((np.roll(back, shift) - edge[:, 0]) ** 2) for shift in (-1, 0, 1)]
    assert np.argmin(errors) == 1


@pytest.mark.parametrize("lines", [0, 97])
def test_impossible_numbers_of_lines(lines: int) -> None:
    with pytest.raises(UsageError, match="1 to 96"):
        small_matrix(np.ones((96, 96)), 0, lines)
