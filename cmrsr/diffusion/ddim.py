"""The DDIM sampler and the paper's ancestral sampler, each on one screen.

The same formulas serve numpy arrays and torch tensors: only arithmetic is used. ``denoise(x_t, c)`` returns the
network's raw prediction at the conditioning c of the schedule; noise is always an argument.
Sources: Song et al. 2021 (DDIM); Salimans and Ho 2022 (v-prediction); Ho et al. 2020 and PerfGen eq. 8 (ancestral).
"""

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.schedule import Prediction, Schedule, trailing_times


@dataclass(frozen=True, slots=True)
class StepCoefficients:
    """What one step needs, as plain numbers: x0 = read_x x_t + read_f f, then x_next = next_x0 x0 + next_x x_t.

    The step graph of an engine takes exactly these and the network's conditioning, so a backend knows no schedule.
    """

    condition: float
    read_x: float
    read_f: float
    next_x0: float
    next_x: float

    def array(self) -> NDArray[np.float32]:
        """The five numbers in this order, as the step graph takes them."""
        return np.array(astuple(self), np.float32)


def read_coefficients(prediction: Prediction, alpha: float, sigma: float) -> tuple[float, float]:
    """(a, b) such that x0 = a x_t + b f for the network's output f."""
    if prediction == "v":  # v = alpha eps - sigma x0
        return alpha, -sigma
    if prediction == "x0":
        return 0.0, 1.0
    return 1 / alpha, -sigma / alpha  # eps


def ddim_coefficients(schedule: Schedule, n_steps: int) -> list[StepCoefficients]:
    """The steps of a deterministic DDIM run with trailing times.

    x_next = alpha' x0 + sigma' eps with eps = (x_t - alpha x0) / sigma, hence
    x_next = (alpha' - alpha sigma'/sigma) x0 + (sigma'/sigma) x_t; the last step (sigma' = 0) returns x0.
    """
    times = trailing_times(n_steps)
    alphas, sigmas = schedule.alpha_sigma(times)
    steps = []
    for i in range(n_steps):
        alpha, sigma = float(alphas[i]), float(sigmas[i])
        ratio = float(sigmas[i + 1]) / sigma
        a, b = read_coefficients(schedule.prediction, alpha, sigma)
        condition = float(schedule.condition(times[i : i + 1])[0])
        steps.append(StepCoefficients(condition, a, b, float(alphas[i + 1]) - alpha * ratio, ratio))
    return steps


def ddim(denoise: Callable[[Any, float], Any], x_t: Any, schedule: Schedule, n_steps: int) -> Any:
    """Sample x0 from noise ``x_t`` in ``n_steps`` evaluations. One step at zero terminal SNR is the posterior mean."""
    for step in ddim_coefficients(schedule, n_steps):
        x0 = step.read_x * x_t + step.read_f * denoise(x_t, step.condition)
        x_t = step.next_x0 * x0 + step.next_x * x_t
    return x_t


def ancestral(
    denoise: Callable[[Any, float], Any],
    x_t: Any,
    schedule: Schedule,
    noises: Iterator[Any],
    n_first: int | None = None,
) -> Any:
    """The paper's sampler: every one of the ``n_train`` steps, fresh noise at each but the last (PerfGen eq. 8).

    y_(t-1) = (y_t - (1 - alpha_t)/sqrt(1 - gamma_t) eps) / sqrt(alpha_t) + sqrt(1 - alpha_t) z, for an eps-predictor.
    n_first: stop after so many steps (to time a few of them); None runs all.
    """
    if schedule.prediction != "eps" or schedule.name != "linear":
        raise ValueError("the ancestral sampler is defined for eps-prediction on the linear schedule")
    gammas = schedule.gammas()
    stop = 0 if n_first is None else schedule.n_train - n_first
    for i in range(schedule.n_train, stop, -1):
        alpha = float(gammas[i] / gammas[i - 1])
        eps = denoise(x_t, float(gammas[i]) ** 0.5)
        x_t = (x_t - (1 - alpha) / (1 - float(gammas[i])) ** 0.5 * eps) / alpha**0.5
        if i > 1:
            x_t = x_t + (1 - alpha) ** 0.5 * next(noises)
    return x_t
