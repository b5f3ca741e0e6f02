"""What infarct enhancement is trained on, split by patient before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
