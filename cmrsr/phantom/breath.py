"""Breathing: how far it has moved heart and diaphragm at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator
DIRECTION = np.array([0.05, 0.3, -0.95])  # RAS: breathing in moves the heart down and a little forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Breath:
    """A breath-hold that ends in breathing: depth in mm, times in s."""

    depth: float
    hold_s: float
    period_s: float
    direction: NDArray[np.float64]  # (3,) RAS
    drift_mm_s: float  # of the diaphragm while the breath is held

    def at(self, time_s: float) -> NDArray[np.float64]:
        """Displacement (3,) in RAS mm."""
        free = max(time_s - self.hold_s, 0.0)
        moved = self.depth * (0.5 - 0.5 * np.cos(2 * np.pi * free / self.period_s)) + self.drift_mm_s * time_s
        return np.asarray(moved * self.direction)


def draw_breath(rng: Generator, length_s: float, depths_mm: tuple[float, ...]) -> Breath:
    """A breath-hold somewhere in a scan of ``length_s``, then breathing of one of the depths, 50 to 150 % of it."""
    direction = DIRECTION + rng.normal(0, 0.12, 3)
    return Breath(
        depth=float(rng.choice(depths_mm) * rng.uniform(0.5, 1.5)),
        hold_s=float(rng.uniform(0, 1) * length_s),
        period_s=float(rng.uniform(3.0, 5.5)),
        direction=direction / np.linalg.norm(direction),
        drift_mm_s=float(rng.normal(0, 0.04)),
    )
