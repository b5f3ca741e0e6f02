"""What temporal super-resolution is trained on, split by patient before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


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
