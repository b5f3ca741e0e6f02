"""What there is to train on, split by patient before anything is drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One beat of one patient: (t, z, y, x) as a scanner shows it, and the same without noise where that is known."""

    shown: NDArray[Any]
    clean: NDArray[Any] | None = None
    cyclic: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """Whole 4-D stacks, for super-resolution in time."""

    training: Sequence[Stack]
    validation: Sequence[Stack]
    description: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Infarct:
    """One slice: what the model is shown (see ``physics.infarct_signs``), and the truth of it.

    enhancement (y, x): late enhancement in units of its bright signal. labels (y, x): ``phantom.scan.LABELS``, of which
    scar is myocardium too.
    """

    cine: NDArray[np.float16]
    motion: NDArray[np.float16]
    inversions: NDArray[np.float16]
    timing: NDArray[np.float32]
    t1: NDArray[np.float16]
    clusters: NDArray[np.float16]
    enhancement: NDArray[np.float16]
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Infarcts:
    """Slices for the synthesis of enhancement, split by patient."""

    training: Sequence[Infarct]
    validation: Sequence[Infarct]
    description: str


def smallest_side(arrays: Iterable[NDArray[Any]]) -> int:
    """Of (.., y, x) arrays, in pixels."""
    return min(int(min(array.shape[-2:])) for array in arrays)


Data = Images | Stacks | Beats | Infarcts


def check_crop(crop: int, stride: int, smallest: int) -> None:
    """UsageError unless crops of images of that many pixels a side can be cut and go through a model of that stride."""
    if crop % stride or crop > smallest:
        raise UsageError(
            f"data.crop {crop}: expected a multiple of the model's stride {stride}, and at most the {smallest} pixels "
            "of the smallest image"
        )
