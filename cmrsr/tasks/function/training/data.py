"""What function is trained on, split by patient before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A labelled beat: images and labels (t, z, y, x), 1 RV cavity, 2 myocardium, 3 LV cavity; square pixels.

    known: whether RV, myocardium and LV were labelled at all; what was not is unknown there, not background.
    unsure_rv: (t, z) where the RV is unknown all the same, None where nowhere.
    pixel_mm, gap_mm: between the centres of pixels and of slices, None where nobody says.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    known: tuple[bool, bool, bool] = (True, True, True)
    pixel_mm: float | None = None
    gap_mm: float | None = None
    unsure_rv: NDArray[np.bool_] | None = None

    def known_in(self, phases: NDArray[np.int64], slices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether RV, myocardium and LV are labelled in phases and slices, (t, z, 3)."""
        known = np.tile(np.array(self.known), (len(phases), len(slices), 1))
        if self.unsure_rv is not None:
            known[..., 0] &= ~self.unsure_rv[np.ix_(phases, slices)]
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Beats:
    """Labelled beats on pixels of ``READING_MM``, for super-resolution together with function."""

    training: Sequence[Beat]
    validation: Sequence[Beat]
    description: str
    also: Sequence[Beat] = ()  # further ones to train on, of which a batch takes a share of its own
    also_validation: Sequence[Beat] = ()  # and to validate on
