"""Noise schedules: how much signal is left at a time, and how a prediction is read.

A schedule gives alpha(t) = sqrt(gamma) and sigma(t) = sqrt(1 - gamma) with x_t = alpha x0 + sigma eps and t in [0, 1];
t = 1 is where sampling starts.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Prediction = Literal["v", "x0", "eps"]
ScheduleName = Literal["cosine", "linear"]
Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``cosine``: alpha = cos(pi t / 2), zero signal at t = 1 (zero terminal SNR).
    ``linear``: ``n_train`` discrete steps with beta from ``beta_first`` to ``beta_last`` (DDPM; PerfGen, SR3).
    """

    name: ScheduleName = "cosine"
    prediction: Prediction = "v"
    n_train: int = 1000
    beta_first: float = 1e-6
    beta_last: float = 1e-2

    def __post_init__(self) -> None:
        if self.name == "cosine" and self.prediction == "eps":
            raise ValueError("eps-prediction is undefined at zero SNR: use v or x0 with the cosine schedule")

    def gammas(self) -> NDArray[np.float64]:
        """The cumulative products gamma_0 = 1, gamma_1 .. gamma_T of the linear schedule, (n_train + 1,)."""
        betas = np.linspace(self.beta_first, self.beta_last, self.n_train)
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    def alpha_sigma(self, t: Array) -> tuple[Array, Array]:
        """Signal and noise amplitude at times in [0, 1]; ``linear`` rounds t to the nearest of its discrete steps."""
        t = np.asarray(t, dtype=np.float64)
        if self.name == "cosine":
            # exact zeros at the ends: cos(pi/2) is 6e-17, and 1/alpha must not pretend to know more
            alpha = np.where(t == 1, 0.0, np.cos(np.pi / 2 * t))
            return np.asarray(alpha), np.sin(np.pi / 2 * t)
        gamma = self.gammas()[np.round(t * self.n_train).astype(int)]
        return np.sqrt(gamma), np.sqrt(1 - gamma)

    def condition(self, t: Array) -> Array:
        """What the network is told of the noise: the time itself, or sqrt(gamma) for ``linear`` (SR3, PerfGen)."""
        return np.asarray(t) if self.name == "cosine" else self.alpha_sigma(t)[0]


def trailing_times(n_steps: int) -> NDArray[np.float64]:
    """The times of ``n_steps`` steps, from t = 1 down to and with t = 0: (n_steps + 1,).

    Trailing spacing always begins at pure noise (Lin et al. 2024, "Common diffusion noise schedules ... are flawed").
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    return np.linspace(1.0, 0.0, n_steps + 1)
