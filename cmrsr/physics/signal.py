"""MR signal equations: relaxation times in, magnitude out. Times in ms, relaxation rates in 1/s, angles in degrees."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def relaxation_rate(t1_ms: Array | float, concentration: Array | float, relaxivity: float = 5.6) -> Array:
    """R1 in 1/s of tissue with native ``t1_ms`` and contrast agent in mmol/L: R1 = 1/T1 + r1 C (r1 in L/mmol/s)."""
    return np.asarray(1000.0 / np.asarray(t1_ms) + relaxivity * np.asarray(concentration))


def saturation_recovery(
    rho: Array | float,
    r1: Array,
    *,
    delay_ms: float,
    tr_ms: float,
    flip_deg: float,
    n_before_centre: int,
) -> Array:
    """Saturation-recovery spoiled gradient echo, read when the centre of k-space is reached.

    S = rho sin(a) [(1 - exp(-TD R1)) c^(n-1) + b (1 - c^(n-1)) / (1 - c)], c = cos(a) exp(-TR R1), b = 1 - exp(-TR R1).
    n_before_centre: excitations up to and with the central line (n). Linear in rho, increasing in r1 for usual TD.
    Source: Wissmann et al. 2014 (MRXCAT), equation of the perfusion signal.
    """
    angle = np.deg2rad(flip_deg)
    recovered = 1 - np.exp(-delay_ms / 1000 * r1)
    b = 1 - np.exp(-tr_ms / 1000 * r1)
    c = np.cos(angle) * (1 - b)
    decay = c ** (n_before_centre - 1)
    return np.asarray(rho * np.sin(angle) * (recovered * decay + b * (1 - decay) / (1 - c)))
