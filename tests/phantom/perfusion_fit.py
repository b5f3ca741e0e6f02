"""Quantification of the first pass: contrast agent from the signal, blood flow from the contrast agent.

Concentrations in mmol/L, times in s, blood flow in mL/g/min.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.interpolate
import scipy.optimize
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.physics.kinetics import tissue_concentration
from cmrsr.physics.signal import relaxation_rate, saturation_recovery

Array = NDArray[np.floating[Any]]

MAX_MMOL_L = 30.0  # twice and more of what arterial blood reaches at 0.1 mmol/kg
N_TABLE = 1 << 16  # relaxation rates 0.003 1/s apart: linear interpolation errs by 1e-6 mmol/L
TIME_STEP_S = 0.05  # of the convolution
LOWEST = np.array([1e-3, 0.01, 0.0])  # alpha, beta (1/s), delay (s)
HIGHEST = np.array([100.0, 5.0, 6.0])
# alpha and beta as in MRXCAT, a plateau with a steep end, nearly an exponential
STARTS = ((0.25, 0.25), (0.02, 1.0), (2.0, 0.1))
START_DELAYS_S = (0.2, 1.5, 3.0)
MIN_BEATS = 8  # four free numbers, and a first pass that can be told from its recirculation


def concentration_from_signal(
    signal: Array,
    baseline: Array | float,
    t1_native_ms: Array | float,
    *,
    delay_ms: float,
    tr_ms: float,
    flip_deg: float,
    n_before_centre: int,
    relaxivity: float = 5.6,
) -> Array:
    """Contrast agent (mmol/L) from the signal of a saturation-recovery gradient echo; arrays broadcast.

    baseline: the signal before contrast, which calibrates proton density, coil and gain; t1_native_ms: T1 before it.
    Sequence parameters as in ``signal.saturation_recovery``, whose inverse this is. That signal grows with R1 at any
    flip angle up to 90 degrees, from 0 to rho sin(a), so that the answer is unique; beyond about 1/TD it grows ever
    more slowly and noise is amplified. Noise below the baseline gives negative values, which keeps means unbiased.
    NaN where no concentration up to ``MAX_MMOL_L`` explains the signal (saturated, or below zero), and where baseline
    or T1 are not positive. T2* is not modelled: it makes the arterial input look lower at long echo times.
    UsageError: a flip angle outside of 0 to 90 degrees.
    """
    if not 0 < flip_deg <= 90:
        raise UsageError(f"found a flip angle of {flip_deg} degrees: expected 0 to 90, else two rates give one signal")
    per_rho = functools.partial(
        saturation_recovery, 1.0, delay_ms=delay_ms, tr_ms=tr_ms, flip_deg=flip_deg, n_before_centre=n_before_centre
    )
    t1 = np.asarray(t1_native_ms, np.float64)
    native = relaxation_rate(np.where(t1 > 0, t1, np.nan), 0.0)
    highest = float(np.max(native, where=np.isfinite(native), initial=0.0)) + relaxivity * MAX_MMOL_L
    rates = np.linspace(0.0, highest, N_TABLE)
    before = np.asarray(baseline, np.float64)
    measured = per_rho(native) * signal / np.where(before > 0, before, np.nan)
    agent = (np.interp(measured, per_rho(rates), rates, left=np.nan, right=np.nan) - native) / relaxivity
    return np.asarray(np.where(agent <= MAX_MMOL_L, agent, np.nan))


@dataclass(frozen=True, slots=True, kw_only=True)
class FermiFit:
    """Blood flow (mL/g/min) and the shape of the Fermi response that explain a tissue curve.

    residual: root mean square of the fit's error over the beats, relative to the highest tissue concentration.
    """

    mbf: float
    alpha: float
    beta: float  # 1/s
    delay_s: float
    residual: float


def fit_fermi(times_s: Array, tissue: Array, arterial: Array) -> FermiFit:
    """Fermi deconvolution of one tissue curve by an arterial input, concentrations ``(t,)`` at beats of any spacing.

    Both start before contrast arrives. The arterial input is interpolated by a cubic spline to ``TIME_STEP_S``, the
    model evaluated at the beats. The flow is linear and solved for at once; alpha, beta and the delay are searched
    within ``LOWEST`` .. ``HIGHEST`` from the best of several starts. Flow is the height of the response at its front,
    the less certain the slower the bolus: noise of 3 % of the peak gives a standard deviation of 4 to 8 %.
    Arterial concentration is that of whole blood as measured; no correction for the haematocrit is made.
    UsageError: fewer than ``MIN_BEATS`` beats, times that do not increase, values that are not finite, no enhancement.
    Source: Jerosch-Herold et al. 1998.
    """
    times, curve, aif = (np.asarray(x, np.float64) for x in (times_s, tissue, arterial))
    _check(times, curve, aif)
    grid = times[0] + TIME_STEP_S * np.arange(np.ceil((times[-1] - times[0]) / TIME_STEP_S) + 1)
    fine_aif = scipy.interpolate.CubicSpline(times, aif)(np.minimum(grid, times[-1]))
    scale = float(curve.max())

    def model(shape: Array) -> Array:
        """The curve of a flow of 1 mL/g/min; a spline carries the delay, for it to have a smooth derivative."""
        alpha, beta = np.exp(shape[:2])
        undelayed = scipy.interpolate.CubicSpline(grid, tissue_concentration(grid, fine_aif, 1.0, 0.0, alpha, beta))
        late = times - shape[2]
        return np.where(late > grid[0], undelayed(np.maximum(late, grid[0])), 0.0)

    def flow(unit: Array) -> float:
        energy = float(unit @ unit)
        return max(float(unit @ curve) / energy, 0.0) if energy > 0 else 0.0

    def error(shape: Array) -> Array:
        unit = model(shape)
        return (flow(unit) * unit - curve) / scale

    low, high = (np.r_[np.log(edge[:2]), edge[2]] for edge in (LOWEST, HIGHEST))
    starts = [np.r_[np.log(shape), delay] for shape in STARTS for delay in START_DELAYS_S]
    start = min(starts, key=lambda shape: float(np.sum(error(shape) ** 2)))
    best = scipy.optimize.least_squares(error, start, bounds=(low, high), xtol=1e-10, ftol=1e-12).x
    return FermiFit(
        mbf=flow(model(best)),
        alpha=float(np.exp(best[0])),
        beta=float(np.exp(best[1])),
        delay_s=float(best[2]),
        residual=float(np.sqrt(np.mean(error(best) ** 2))),
    )


def _check(times: Array, tissue: Array, arterial: Array) -> None:
    if times.ndim != 1 or not times.shape == tissue.shape == arterial.shape:
        raise UsageError(
            f"found times {times.shape}, tissue {tissue.shape} and arterial input {arterial.shape}: "
            "expected one number per beat in each"
        )
    if times.size < MIN_BEATS or not np.all(np.diff(times) > 0):
        raise UsageError(f"found {times.size} beats: expected at least {MIN_BEATS}, at increasing times")
    if not (np.isfinite(tissue).all() and np.isfinite(arterial).all()):
        raise UsageError("found concentrations that are not finite: leave those beats out of all three")
    if tissue.max() <= 0 or arterial.max() <= 0:
        raise UsageError("found no enhancement: expected concentrations in mmol/L that rise above zero")
