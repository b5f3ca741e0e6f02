"""MR signal equations: relaxation times in, signal out. Times in ms, relaxation rates in 1/s, angles in degrees.

Signals are real; those of inversion recovery are signed, and a magnitude image shows their absolute value.
"""

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
    n_before_centre: excitations up to and with the central line (n). Linear in rho, increasing in r1
    up to a flip angle of 90 degrees.
    Source: Wissmann et al. 2014 (MRXCAT), equation of the perfusion signal.
    """
    angle = np.deg2rad(flip_deg)
    recovered = 1 - np.exp(-delay_ms / 1000 * r1)
    b = 1 - np.exp(-tr_ms / 1000 * r1)
    c = np.cos(angle) * (1 - b)
    decay = c ** (n_before_centre - 1)
    return np.asarray(rho * np.sin(angle) * (recovered * decay + b * (1 - decay) / (1 - c)))


def bssfp(
    rho: Array | float,
    t1_ms: Array | float,
    t2_ms: Array | float,
    *,
    te_ms: float,
    flip_deg: float,
    tr_ms: float | None = None,
    off_resonance_hz: Array | float | None = None,
) -> Array:
    """Magnitude of balanced steady-state free precession at the echo; TE is TR / 2 on scanners.

    Without ``tr_ms`` the limit TR << T2 on resonance:
    S = rho sin(a) / ((T1/T2 + 1) - cos(a) (T1/T2 - 1)) exp(-TE/T2).
    With it the full steady state of one isochromat at ``off_resonance_hz`` (0 where not given), the sign of the pulses
    alternating: 0 Hz lies in the middle of the pass band, the dark bands at odd multiples of 1 / (2 TR).
    ValueError: an off-resonance without ``tr_ms``.
    Source: Freeman and Hill 1971; Hargreaves et al. 2001; Wissmann et al. 2014 (MRXCAT) for the limit.
    """
    t1, t2, angle = np.asarray(t1_ms), np.asarray(t2_ms), np.deg2rad(flip_deg)
    echo = np.exp(-te_ms / t2)
    if tr_ms is None:
        if off_resonance_hz is not None:
            raise ValueError("found an off-resonance without tr_ms: the phase between pulses needs the repetition time")
        return np.asarray(rho * np.sin(angle) / ((t1 / t2 + 1) - np.cos(angle) * (t1 / t2 - 1)) * echo)
    hertz = 0.0 if off_resonance_hz is None else np.asarray(off_resonance_hz)
    # with alternating pulses the frame turns by half a cycle a TR: without it 0 Hz would be the dark band
    turned = np.cos(2 * np.pi * hertz * tr_ms / 1000 + np.pi)
    e1, e2 = np.exp(-tr_ms / t1), np.exp(-tr_ms / t2)
    transverse = np.sin(angle) * (1 - e1) * np.sqrt(1 + e2**2 - 2 * e2 * turned)
    pulled_back = (1 - e1 * np.cos(angle)) * (1 - e2 * turned) - e2 * (e1 - np.cos(angle)) * (e2 - turned)
    return np.asarray(rho * transverse / pulled_back * echo)


def inversion_recovery(
    rho: Array | float, t1_ms: Array | float, inversion_ms: Array | float, efficiency: float = 1.0
) -> Array:
    """Signed signal a time TI after the inversion of fully recovered magnetisation: rho (1 - (1 + f) exp(-TI/T1)).

    efficiency: f, 1 for a perfect inversion, 0 for a saturation. The arrays broadcast.
    """
    return np.asarray(rho * (1 - (1 + efficiency) * np.exp(-np.asarray(inversion_ms) / np.asarray(t1_ms))))


def inversion_recovery_gre(
    rho: Array | float, t1_ms: Array | float, *, inversion_ms: float, beat_ms: float, n_beats: int = 2
) -> Array:
    """Signed steady-state signal of an inversion-recovery gradient echo (LGE), inverted once every ``n_beats`` beats.

    S = rho [1 - 2 exp(-TI/T1) + exp(-T/T1)], T = n_beats beat_ms: what was read at TI is taken to be used up, and
    recovers for T - TI until the next inversion. Source: Bydder and Young 1985.
    """
    t1 = np.asarray(t1_ms)
    return np.asarray(rho * (1 - 2 * np.exp(-inversion_ms / t1) + np.exp(-n_beats * beat_ms / t1)))


def null_time(t1_ms: Array | float, *, beat_ms: float, n_beats: int = 2) -> Array:
    """The inversion time (ms) at which ``inversion_recovery_gre`` vanishes: TI = T1 ln(2 / (1 + exp(-T/T1))).

    It holds for any flip angle: there is nothing to read at the null, so that reading changes nothing.
    """
    t1 = np.asarray(t1_ms)
    return np.asarray(t1 * np.log(2 / (1 + np.exp(-n_beats * beat_ms / t1))))
