"""Tracer kinetics of the first pass: arterial input and tissue response. Time in s, concentration in mmol/L."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

GAMMA_A = 15.126  # shape of the bolus in arterial blood (MRXCAT)
GAMMA_B_S = 0.7386  # its time scale in s: the peak comes a b = 11.2 s after the onset
PEAK_MMOL_L = 12.0  # for 0.1 mmol/kg
DENSITY = 1.05  # g/mL of myocardium
FERMI = 0.25  # both Fermi constants: alpha (no unit) and beta in 1/s


def gamma_variate(t: Array, onset_s: float, peak: float, a: float = GAMMA_A, b_s: float = GAMMA_B_S) -> Array:
    """Bolus with its peak (mmol/L) a b after its onset t0: peak ((t - t0)/(a b))^a exp(a - (t - t0)/b), 0 before it.

    Source: MRXCAT (Wissmann et al. 2014).
    """
    u = np.clip((t - onset_s) / (a * b_s), 0.0, None)
    return np.asarray(peak * (u * np.exp(1 - u)) ** a)


def arterial_input(t: Array, onset_s: float, peak: float = PEAK_MMOL_L, b_s: float = GAMMA_B_S) -> Array:
    """First pass, recirculation and slow equilibrium of the contrast agent in blood, mmol/L.

    The second and third terms are ours: a broader bolus of a fifth of the height one circulation later, and a plateau.
    """
    rise_s = GAMMA_A * b_s
    second = gamma_variate(t, onset_s + 0.9 * rise_s, 0.2 * peak, b_s=1.5 * b_s)
    since = np.clip(t - onset_s - rise_s, 0.0, None)
    plateau = 0.15 * peak * (1 - np.exp(-since / (0.7 * rise_s)))
    return np.asarray(gamma_variate(t, onset_s, peak, b_s=b_s) + second + plateau)


def fermi_response(t: Array, mbf: float, delay_s: float = 0.0, alpha: float = FERMI, beta: float = FERMI) -> Array:
    """Fermi impulse response in 1/s for a blood flow ``mbf`` in mL/g/min; its value at the front is the flow.

    R(t) = F (1 + alpha) / (1 + alpha exp(beta (t - delay))), F = mbf density / 60; alpha > 0, beta >= 0 in 1/s.
    Source: Jerosch-Herold 1998; constants of MRXCAT.
    """
    flow = mbf * DENSITY / 60
    fall = np.exp(-beta * np.clip(t - delay_s, 0.0, None))  # falling, so that late times cannot overflow
    return np.where(t < delay_s, 0.0, flow * (1 + alpha) * fall / (fall + alpha))


def tissue_concentration(
    t: Array, aif: Array, mbf: float, delay_s: float = 0.0, alpha: float = FERMI, beta: float = FERMI
) -> Array:
    """Convolution of the arterial input with the Fermi response on an even time grid ``t`` (s), from 0 at its start.

    The trapezoid rule, of second order in the time step. The delay shifts the result: the jump of a delayed response
    inside a step would cost the second order.
    """
    response = fermi_response(t - t[0], mbf, alpha=alpha, beta=beta)
    both_ends = (aif[0] * response + aif * response[0]) / 2
    undelayed = (np.convolve(aif, response)[: t.size] - both_ends) * float(t[1] - t[0])
    return np.asarray(undelayed if delay_s == 0 else np.interp(t - delay_s, t, undelayed, left=0.0))
