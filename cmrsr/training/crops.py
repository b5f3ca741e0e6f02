"""Where crops are cut, and whether they can be."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError


def corner(shape: tuple[int, ...], crop: int, rng: np.random.Generator) -> tuple[int, int]:
    """A corner for the crop: the mean of two uniform draws, which prefers the middle."""
    y, x = (int((rng.random() + rng.random()) / 2 * (n - crop + 1)) for n in shape)
    return y, x


def smallest_side(arrays: Iterable[NDArray[Any]]) -> int:
    """Shortest side of (.., y, x) arrays, in pixels."""
    return min(int(min(array.shape[-2:])) for array in arrays)


def check_crop(crop: int, stride: int, smallest: int) -> None:
    """UsageError unless crops of images of that many pixels a side can be cut and go through a model of that stride."""
    if crop % stride or crop > smallest:
        raise UsageError(
            f"data.crop {crop}: expected a multiple of the model's stride {stride}, and at most the {smallest} pixels "
            "of the smallest image"
        )
