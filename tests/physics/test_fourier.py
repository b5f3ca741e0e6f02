import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.physics.fourier import centre_crop, centre_pad, fft1c, fftnc, ifft1c, ifftnc

SHAPES = [(8, 6), (9, 7), (8, 7), (9, 6)]  # every mixture of even and odd
ROUNDING = 1e-12  # float64


def _complex(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (-2, -1)])
def test_transforms_are_unitary(shape: tuple[int, int], axes: tuple[int, ...]) -> None:
    x, k = _complex(shape), _complex(shape, 1)
    assert_allclose(ifftnc(fftnc(x, axes), axes), x, atol=ROUNDING)
    assert_allclose(
        np.vdot(k, fftnc(x, axes)), np.vdot(ifftnc(k, axes), x), rtol=ROUNDING
    )  # the inverse is the adjoint
    assert_allclose(np.linalg.norm(fftnc(x, axes)), np.linalg.norm(x), rtol=ROUNDING)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_one_axis_against_the_definition(shape: tuple[int, int], axis: int) -> None:
    n = shape[axis]
    at = np.arange(n) - n // 2
    kernel = np.exp(-2j * np.pi * np.outer(at, at) / n) / np.sqrt(n)
    x = _complex(shape)
    assert_allclose(fft1c(x, axis), np.moveaxis(np.tensordot(kernel, x, (1, axis)), 0, axis), atol=ROUNDING)
    assert_allclose(ifft1c(fft1c(x, axis), axis), x, atol=ROUNDING)


@pytest.mark.parametrize("n", [6, 7])
@pytest.mark.parametrize("size", [7, 8, 13])
def test_padding_and_cropping_are_adjoint_and_keep_the_centre(n: int, size: int) -> None:
    small, large = _complex((3, n)), _complex((3, size), 1)
    padded = centre_pad(small, size, 1)
    assert padded.shape == (3, size)
    assert_allclose(padded[:, size // 2], small[:, n // 2])
    assert_allclose(np.vdot(large, padded), np.vdot(centre_crop(large, n, 1), small), rtol=ROUNDING)
    assert_allclose(centre_crop(padded, n, 1), small)
    assert_allclose(centre_pad(small.T, size, 0).T, padded)
