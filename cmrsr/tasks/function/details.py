"""What the report of ``cmrsr function`` needs of one case."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.references.reference import Reference
from cmrsr.io.series import Series
from cmrsr.tasks.function.measure import Measured
from cmrsr.tasks.function.plan import FunctionPlan


@dataclass(frozen=True, slots=True)
class FunctionDetails:
    """The numbers of a case, and its frames in a window around the heart on a grid of square pixels.

    alpha: (t, t), the causal graph; row i says on which time steps step i rests, and sums to one. images, labels:
    (t, z, h, w), restored frames in one grey scale and their masks.
    """

    series: Series
    plan: FunctionPlan
    measured: Measured
    alpha: NDArray[np.float64]
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    pixel_mm: float
    device: str
    reference: Reference | None = None
