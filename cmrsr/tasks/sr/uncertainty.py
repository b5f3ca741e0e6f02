"""How far a super-resolved image may be off: the spread of posterior samples, calibrated by what the image shows.

Samples of a few steps are too alike, and how much so depends on noise and on local detail. What the missing lines hold
shows elsewhere in the image: the readout, which was acquired in full, has the same noise and detail as sharp, and the
outermost lines that were acquired say how fast their power falls. The expected squared error of a pixel is

    scale * s^(1 - detail - edge) * d^detail * e^edge

s: variance of the samples. d: power along the readout beyond the cut, as dense as if noise and detail were alike in
both directions. e: power of the outer half of the acquired band. Each is a mean over a few pixels about. The
three numbers are fitted on pairs that training has not seen (``training.calibration``): the exponents by the
likelihood of the errors, the scale so that 90 % of them lie within 1.645 standard deviations.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter

from cmrsr.runtime.bundle import Uncertainty

COVERED, INTERVAL = 0.9, 1.6449  # of normal errors within so many standard deviations
NEAR = 2.0  # pixels, sd of the means
TAPS = 16  # of the filters to either side
INNERMOST, OUTERMOST = 0.5, 1.0  # of the acquired band
FLOOR = 0.05  # of the samples' variance: what both powers never fall below
NEVER = 1e-12  # a variance in units of the series' scale squared, for images without anything in them

Array = NDArray[np.floating]


def expected_error(shown: Array, variance: Array, fraction: float, model: Uncertainty) -> NDArray[np.float64]:
    """The standard deviation of the error (.., y, x), in the units of ``shown``.

    shown: what the network is given, phase encoding along y; ``fraction`` of its lines were acquired. variance: of the
    posterior samples, unbiased.
    """
    log_error = unscaled(np.log(signs(shown, variance, fraction)), model.detail, model.edge)
    return np.asarray(np.sqrt(model.scale * np.exp(log_error)))


def unscaled(logs: NDArray[np.float64], detail: float, edge: float) -> NDArray[np.float64]:
    """Logarithm of the expected squared error but for the scale; logs: of the three signs, along the first axis."""
    return np.asarray((1 - detail - edge) * logs[0] + detail * logs[1] + edge * logs[2])


def signs(shown: Array, variance: Array, fraction: float) -> NDArray[np.float64]:
    """(3, .., y, x): what ``expected_error`` rests on, s, d and e, all positive."""
    whole = np.asarray(shown, np.float64)
    beyond = whole - _low_pass(whole, fraction, -1)
    outermost = _low_pass(whole, OUTERMOST * fraction, -2) - _low_pass(whole, INNERMOST * fraction, -2)
    spread = np.maximum(_mean_near(np.asarray(variance, np.float64)), NEVER)
    powers = (_mean_near(beyond**2) / fraction, _mean_near(outermost**2))
    return np.stack([spread, *(np.maximum(power, FLOOR * spread) for power in powers)])


def _low_pass(image: NDArray[np.float64], share: float, axis: int) -> NDArray[np.float64]:
    """The central ``share`` of the frequencies along an axis, by a Hann-windowed sinc."""
    n = np.arange(-TAPS, TAPS + 1)
    taps = np.sinc(share * n) * np.hanning(2 * TAPS + 3)[1:-1]
    return np.asarray(convolve1d(image, taps / taps.sum(), axis=axis, mode="reflect"))


def _mean_near(image: NDArray[np.float64]) -> NDArray[np.float64]:
    sd = (0,) * (image.ndim - 2) + (NEAR, NEAR)
    return np.asarray(gaussian_filter(image, sd, mode="reflect"))
