"""Root mean square."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rms(values: NDArray[Any]) -> float:
    """Root mean square of all values, summed in double precision."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
