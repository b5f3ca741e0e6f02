"""Overlapping tiles of a matrix, and how they are put together again."""

import numpy as np
from numpy.typing import NDArray


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover ``size``, evenly spread, neighbours sharing at least ``overlap`` pixels."""
    if size <= tile:
        return [0]
    n = -(-(size - overlap) // (tile - overlap))
    return [round(i * (size - tile) / (n - 1)) for i in range(n)]


def ramp(size: int, overlap: int) -> NDArray[np.float32]:
    """Weights along one axis of a tile: rising over the overlap at both ends, never zero."""
    edge = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.minimum(edge / max(overlap, 1), 1).astype(np.float32)
