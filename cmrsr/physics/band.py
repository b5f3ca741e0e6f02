"""Which in-plane axis was phase-encoded coarsely, and how many lines were acquired, read from the spectrum itself."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

EDGE_DB = 4.0  # a fall within a few lines that anatomy does not show: full spectra have less than 2, truncated 6-40
WINDOW = 3  # lines averaged on either side of the edge
UNPAIRED_DB = 2.0  # the last line of an even number falls by 3 to 7 dB, that of an odd number by less than 1.5
NOISE_DB = -140.0  # below the strongest line by so much is rounding, not signal


@dataclass(frozen=True, slots=True)
class Band:
    """``lines`` of ``size`` k-space lines hold acquired signal; ``edge_db``: how far the power falls beyond them."""

    lines: int
    size: int
    edge_db: float

    @property
    def fraction(self) -> float:
        return self.lines / self.size


def detect_band(power: NDArray[np.float64]) -> Band:
    """The acquired band of a mean power spectrum (n,), zero frequency at n // 2.

    The magnitude of a zero-filled image leaks power beyond the acquired lines (rectification, noise), but the power
    still falls steeply at the last acquired line. The steepest fall over ``WINDOW`` lines, against the fall expected
    from the lines around it, marks the edge; without one above ``EDGE_DB`` the whole matrix counts as acquired.
    """
    n = power.size
    half = n // 2
    folded = power[half:].copy()  # frequencies 0 .. (n - 1) // 2
    negative = power[half - 1 :: -1] if n % 2 else power[half - 1 : 0 : -1]
    folded[1 : 1 + negative.size] = (folded[1 : 1 + negative.size] + negative) / 2
    level = 10 * np.log10(np.maximum(folded / folded.max(), 10 ** (NOISE_DB / 10)))
    best, best_edge = 0.0, None
    for edge in range(max(WINDOW + 2, n // 16), level.size - WINDOW):
        inside = level[edge - WINDOW : edge].mean()
        outside = level[edge : edge + WINDOW].mean()
        before = level[max(1, edge - 2 * WINDOW) : edge - WINDOW].mean() - inside
        fall = inside - outside - max(before, 0.0)
        if fall > best:
            best, best_edge = float(fall), edge
    if best_edge is None or best < EDGE_DB:
        return Band(n, n, best)
    # The outermost of an even number of lines has no partner of opposite frequency, so that a magnitude image holds
    # only half of its amplitude (-6 dB): the edge must not be put before it, and it counts as one line.
    if level[best_edge] - level[best_edge + 1] > level[best_edge - 1] - level[best_edge]:
        best_edge += 1
    slope = max(0.0, (level[best_edge - 5] - level[best_edge - 2]) / 3)
    unpaired = level[best_edge - 2] - level[best_edge - 1] > slope + UNPAIRED_DB
    return Band(2 * best_edge - (2 if unpaired else 1), n, best)


def coarse_axis(band_x: Band, band_y: Band) -> Literal["x", "y"] | None:
    """The axis with clearly fewer acquired lines than the other, None where neither is."""
    narrow, wide = sorted((band_x.fraction, band_y.fraction))
    if narrow > 0.85 * wide:
        return None
    return "x" if band_x.fraction < band_y.fraction else "y"
