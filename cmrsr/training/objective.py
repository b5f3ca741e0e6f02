"""The diffusion loss that the systems share."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cmrsr.diffusion.schedule import Schedule


def to_target(hr: Tensor, lr: Tensor, residual_std: float | None) -> Tensor:
    """What is diffused: the scaled residual, or the image in [-1, 1] (residual_std None)."""
    return hr * 2 - 1 if residual_std is None else (hr - lr) / residual_std


def draw_times(schedule: Schedule, n: int, share_at_noise: float, generator: torch.Generator) -> Tensor:
    """Times in (0, 1]: uniform, but for a share at t = 1, where one step has to be the posterior mean."""
    t = 1 - torch.rand(n, generator=generator)
    at_noise = torch.rand(n, generator=generator) < share_at_noise
    t = torch.where(at_noise, torch.ones_like(t), t)
    return t if schedule.name == "cosine" else (t * schedule.n_train).ceil() / schedule.n_train


class Noised(NamedTuple):
    """Clean x0 with noise: x_t, the level that the network is told (batch,), and the alpha, sigma, eps that made it."""

    x_t: Tensor
    level: Tensor
    alpha: Tensor
    sigma: Tensor
    eps: Tensor


def noised(schedule: Schedule, x0: Tensor, t: Tensor, generator: torch.Generator) -> Noised:
    """x0 (batch, ...) at times t (batch,)."""
    times = t.double().cpu().numpy()
    alpha, sigma = (
        torch.from_numpy(v).float().to(x0.device).reshape(-1, *[1] * (x0.ndim - 1)) for v in schedule.alpha_sigma(times)
    )
    eps = torch.randn(x0.shape, generator=generator).to(x0.device)
    level = torch.from_numpy(schedule.condition(times)).float().to(x0.device)
    return Noised(alpha * x0 + sigma * eps, level, alpha, sigma, eps)


def error_and_clean(
    schedule: Schedule, of: Noised, x0: Tensor, out: Tensor, *, loss: str, limit: float
) -> tuple[Tensor, Tensor]:
    """(error of the prediction ``out``, elementwise; the clean x0 that it means).

    limit: that the clean one of a noise prediction is held within, which is undefined at noise.
    """
    target = {"v": of.alpha * of.eps - of.sigma * x0, "x0": x0, "eps": of.eps}[schedule.prediction]
    error = (out - target).abs() if loss == "l1" else (out - target).square()
    if schedule.prediction == "v":
        return error, of.alpha * of.x_t - of.sigma * out
    if schedule.prediction == "x0":
        return error, out
    return error, ((of.x_t - of.sigma * out) / of.alpha).clamp(-limit, limit)


def diffusion_loss(
    model: nn.Module,
    schedule: Schedule,
    x0: Tensor,
    conditions: tuple[Tensor, ...],
    weight: Tensor | None,
    *,
    loss: str,
    share_at_noise: float,
    generator: torch.Generator,
    expected: Tensor | None = None,
) -> Tensor:
    """Mean loss of one batch: x0 (batch, ...) and what the model is given between x_t and the time.

    weight: (batch,) of each image or clip, None for equal ones. expected: the mean of x0 over noise that the model
    cannot know; at full noise, where x_t holds nothing of x0, it is the better target. For the linear schedule
    the noise level is drawn continuously, sqrt(gamma) ~ U(sqrt(gamma_(t-1)), sqrt(gamma_t)) (Chen et al. 2021; eq. 9).
    """
    n = x0.shape[0]
    t = draw_times(schedule, n, share_at_noise, generator)
    alpha_now, sigma_now = schedule.alpha_sigma(t.double().numpy())
    alpha = torch.from_numpy(alpha_now)
    if schedule.name == "linear":
        before = torch.from_numpy(schedule.alpha_sigma((t.double() - 1 / schedule.n_train).numpy())[0])
        alpha = alpha + torch.rand(n, generator=generator).double() * (before - alpha)
        sigma = (1 - alpha**2).sqrt()
        condition = alpha
    else:
        sigma = torch.from_numpy(sigma_now)
        condition = t.double()
    device = x0.device
    if expected is not None:
        x0 = torch.where((alpha == 0).to(device).reshape(-1, *[1] * (x0.ndim - 1)), expected, x0)
    a, s = (v.float().to(device).reshape(-1, *[1] * (x0.ndim - 1)) for v in (alpha, sigma))
    eps = torch.randn(x0.shape, generator=generator).to(device)
    predicted: Tensor = model(a * x0 + s * eps, *conditions, condition.float().to(device)).float()
    target = {"v": a * eps - s * x0, "x0": x0, "eps": eps}[schedule.prediction]
    error = predicted - target
    per_image = (error.abs() if loss == "l1" else error.square()).flatten(1).mean(1)
    return (per_image if weight is None else per_image * weight.to(device)).mean()
