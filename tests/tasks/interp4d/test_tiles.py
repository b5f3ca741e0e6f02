import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmrsr.tasks.interp4d.tiles import ramp, starts

SIZES = st.integers(1, 2000)
TILES = st.tuples(st.integers(2, 256), st.integers(0, 128)).filter(lambda t: t[1] < t[0])


@given(SIZES, TILES)
def test_tiles_cover_everything_and_overlap_enough(size: int, tiles: tuple[int, int]) -> None:
    tile, overlap = tiles
    first = starts(size, tile, overlap)
    if size <= tile:
        assert first == [0]
        return
    assert first[0] == 0
    assert first[-1] == size - tile
    steps = np.diff(first)
    assert (steps >= 1).all()
    assert (steps <= tile - overlap).all()
    assert steps.max() - steps.min() <= 1  # evenly spread


@pytest.mark.parametrize(("size", "n"), [(128, 1), (129, 2), (224, 2), (225, 3), (320, 3), (321, 4)])
def test_no_more_tiles_than_needed(size: int, n: int) -> None:
    assert len(starts(size, 128, 32)) == n


@given(st.integers(1, 300), st.integers(1, 64))
def test_weights_rise_from_both_ends_and_are_never_zero(size: int, overlap: int) -> None:
    weight = ramp(size, overlap)
    assert weight.shape == (size,)
    assert weight.dtype == np.float32
    assert weight.min() > 0
    assert weight.max() <= 1
    np.testing.assert_array_equal(weight, weight[::-1])
    half = weight[: (size + 1) // 2]
    assert (np.diff(half) >= 0).all()
    assert (weight[overlap : size - overlap] == 1).all()
    assert (weight[: min(overlap, size // 2)] < 1).all()


def test_where_two_tiles_share_pixels_their_weights_sum_to_one() -> None:
    """So a step between two tiles is spread evenly over what they share."""
    left, right = np.zeros(224), np.zeros(224)
    left[:128], right[96:] = ramp(128, 32), ramp(128, 32)
    np.testing.assert_allclose((left + right)[32:-32], 1)
