"""What function is trained on, split by patient before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A labelled beat: images and labels (t, z, y, x), 1 RV cavity, 2 myocardium, 3 LV cavity; square pixels.

    known: whether RV, myocardium and LV were labelled at all; what was not is unknown there, not background.
    pixel_mm, gap_mm: between the centres of pixels and of slices, None where nobody says.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    known: tuple[bool, bool, bool] = (True, True, True)
    pixel_mm: float | None = None
    gap_mm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beats:
    """Labelled beats on pixels of ``READING_MM``, for super-resolution together with function."""

    training: Sequence[Beat]
    validation: Sequence[Beat]
    description: str
    also: Sequence[Beat] = ()  # further ones to train on, of which a batch takes a share of its own
