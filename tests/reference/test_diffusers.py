"""Our samplers against those of diffusers: same network, same betas, same starting noise."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from cmrsr.diffusion.ddim import ancestral, ddim
from cmrsr.diffusion.schedule import Schedule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations at import of a third party
    diffusers = pytest.importorskip("diffusers")

N_TRAIN = 1000
FLOAT64 = 1e-9
BETAS: dict[str, Any] = {
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "num_train_timesteps": N_TRAIN,
    "beta_schedule": "linear",
}


def _schedule(prediction: str) -> Schedule:
    return Schedule(
        name="linear", prediction=prediction, n_train=N_TRAIN, beta_first=1e-4, beta_last=0.02  # type: ignore[arg-type]
    )  # fmt: skip


def _network(x: torch.Tensor, alpha: float) -> torch.Tensor:
    """Anything nonlinear in the image and the noise level."""
    return torch.tanh(1.3 * x * alpha) + 0.2 * torch.sin(3 * x) - 0.1 * (1 - alpha)


def _noise() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 4, 4)))


def _theirs(scheduler: Any, n_steps: int, **options: Any) -> torch.Tensor:
    # their timestep i is our step i + 1: they count the noise levels from 0 and leave the clean image out
    alphas = scheduler.alphas_cumprod.double().sqrt()
    scheduler.set_timesteps(n_steps)
    x = _noise() * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(_network(x, float(alphas[t])), t, x, **options).prev_sample
    return x


def _betas64(scheduler: Any) -> Any:
    """Give a scheduler its betas in float64: in float32 the 1000-fold product alone is off by 1e-5."""
    scheduler.betas = torch.linspace(1e-4, 0.02, N_TRAIN, dtype=torch.float64)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)
    return scheduler


def _dpm(prediction: str) -> Any:
    return _betas64(
        diffusers.DPMSolverMultistepScheduler(
            **BETAS, solver_order=1, timestep_spacing="trailing", prediction_type=prediction, final_sigmas_type="zero"
        )
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 6, 7, 10, 16, 25, 37, 50])
@pytest.mark.parametrize(("ours", "theirs"), [("eps", "epsilon"), ("v", "v_prediction"), ("x0", "sample")])
def test_ddim_is_first_order_dpm_solver(ours: str, theirs: str, n_steps: int) -> None:
    # They keep their sigmas in float32, whatever the betas. Not every N can be compared: for 48 or 80 a time falls half
    # way between two steps, and for 61 they take 62.
    wanted = _theirs(_dpm(theirs), n_steps)
    got = ddim(_network, _noise(), _schedule(ours), n_steps)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "n_steps", [1, 2, 4, 5, 8, 10]
)  # others: their DDIM steps to t - T // N, not to the next entry
@pytest.mark.parametrize(("ours", "theirs"), [("eps", "epsilon"), ("v", "v_prediction"), ("x0", "sample")])
def test_ddim_is_their_ddim(ours: str, theirs: str, n_steps: int) -> None:
    scheduler = _betas64(
        diffusers.DDIMScheduler(
            **BETAS, timestep_spacing="trailing", prediction_type=theirs, clip_sample=False, set_alpha_to_one=True
        )
    )
    wanted = _theirs(scheduler, n_steps, eta=0.0)
    got = ddim(_network, _noise(), _schedule(ours), n_steps)
    torch.testing.assert_close(got, wanted, rtol=FLOAT64, atol=FLOAT64)


def test_ancestral_is_their_ddpm() -> None:
    scheduler = _betas64(
        diffusers.DDPMScheduler(**BETAS, variance_type="fixed_large", clip_sample=False, prediction_type="epsilon")
    )
    wanted = _theirs(scheduler, N_TRAIN, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    noises = (torch.randn((1, 1, 4, 4), generator=generator, dtype=torch.float64) for _ in range(N_TRAIN))
    got = ancestral(_network, _noise(), _schedule("eps"), noises)
    torch.testing.assert_close(got, wanted, rtol=FLOAT64, atol=FLOAT64)
