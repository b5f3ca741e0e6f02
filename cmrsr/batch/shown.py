"""The bounded part of a case that its report shows, whatever the length and the matrix of the series."""

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.window import window_around

Array = NDArray[np.float32]
SHOWN_FRAMES = 240  # evenly chosen
SHOWN_WINDOW = 112  # pixels around the heart


class ShownFrames:
    """Some frames of a result, each cut to a window about ``centre`` (y, x) of the middle slice.

    frames: their indices. window: x, y, width and height in pixels of the matrix (y, x).
    """

    def __init__(self, n_frames: int, n_slices: int, matrix: tuple[int, int], centre: tuple[float, float]) -> None:
        self.plane = n_slices // 2
        self.frames = np.unique(np.linspace(0, n_frames - 1, min(n_frames, SHOWN_FRAMES)).round().astype(int))
        self.window = window_around(centre, matrix, SHOWN_WINDOW)
        self._row = {int(t): row for row, t in enumerate(self.frames)}

    def row(self, t: int) -> int | None:
        """Where frame ``t`` is among those shown; None if it is not."""
        return self._row.get(t)

    def cut(self, volume: Array) -> Array:
        """The window of a volume (z, y, x)."""
        left, top, width, height = self.window
        return volume[self.plane, top : top + height, left : left + width]

    def blank(self) -> Array:
        """Zeros for all frames shown, (n, height, width)."""
        _, _, width, height = self.window
        return np.zeros((len(self.frames), height, width), np.float32)
