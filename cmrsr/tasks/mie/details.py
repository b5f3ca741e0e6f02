"""What the report of ``cmrsr mie`` needs of one case."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.tasks.mie.measure import MieMeasured
from cmrsr.tasks.mie.plan import MiePlan
from cmrsr.tasks.mie.result import MieFrame, MieSlice


@dataclass(frozen=True, slots=True)
class MieDetails:
    """What was found in every slice, the numbers, and the result on the grid of the T1 series, whose affine it is."""

    slices: tuple[MieSlice, ...]
    measured: MieMeasured
    plan: MiePlan
    frame: MieFrame
    device: str
    affine: NDArray[np.float64]
