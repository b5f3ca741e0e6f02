"""Whether the result of a run makes sense, where the truth is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Outcome:
    """passed, why in a few words, the figures behind it, and the result itself to compare with that of a second run."""

    passed: bool
    found: str
    figures: dict[str, float]
    result: tuple[Array, ...]


# A task once on a virtual patient: with which engine (name or folder), on which patient, by which choice of devices.
TaskRun = Callable[[str, Any, Any], Outcome]


def broken(found: NDArray[np.float32], shape: tuple[int, ...]) -> str:
    """What is wrong with a result as an array; empty where nothing is."""
    if found.shape != shape:
        return f"result of {'x'.join(map(str, found.shape))}, expected {'x'.join(map(str, shape))}"
    return "" if np.isfinite(found).all() else "result holds values that are not finite"
