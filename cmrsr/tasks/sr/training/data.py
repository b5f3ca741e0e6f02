"""What super-resolution is trained on, split by patient before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Images (y, x) of one kind, and the share of the pairs that they make.

    sharp: scenes that a scanner is yet to see (see ``training.acquisition``), not images of one. recoloured: their grey
    values are mapped at random, as images of another contrast.
    """

    images: Sequence[NDArray[Any]]
    share: float = 1.0
    sharp: bool = False
    recoloured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Frames (y, x), each on its own, for super-resolution in space."""

    training: Sequence[Pool]
    validation: Sequence[Pool]
    description: str
