"""Calibration of the uncertainty of ``sr``, on pairs that training has not seen."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.optimize import minimize
from torch import Tensor

from cmrsr.io.outputs import write_json_atomic
from cmrsr.runtime.bundle import Uncertainty
from cmrsr.tasks.sr.plan import SAMPLES, SrOptions
from cmrsr.tasks.sr.run import samples_share
from cmrsr.tasks.sr.training.data import Images
from cmrsr.tasks.sr.training.network import build_network
from cmrsr.tasks.sr.training.pairs import Batch, PairConfig, draw_batch
from cmrsr.tasks.sr.training.recipe import SrRecipe
from cmrsr.tasks.sr.training.system import restore
from cmrsr.tasks.sr.uncertainty import COVERED, INTERVAL, signs, unscaled
from cmrsr.training.start import SUMMARY, WEIGHTS

PAIRS = {2: 64, 5: 64, 10: 64, 50: 16}  # by number of steps
BATCH = 16
EVERY = 3  # of the pixels along either axis: neighbours err alike


def calibrate(recipe: SrRecipe, images: Images, folder: Path, device: str = "cpu") -> dict[int, Uncertainty]:
    """Fit the uncertainty of a run's weights for several numbers of steps, and keep it in its ``training.json``.

    The network has to give the posterior mean in one step (``run.one_step_is_mean``).
    """
    summary = json.loads((folder / SUMMARY).read_text())
    model = build_network(recipe.model).to(device).eval()
    model.load_state_dict(load_file(folder / WEIGHTS, device=device))
    residual_std = summary["residual_std"]
    bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=recipe.optimiser.bf16)

    def restored(lr: Tensor, n_steps: int, noise: torch.Generator) -> Tensor:
        return restore(model, lr, recipe.diffusion.build(), n_steps, residual_std, noise, device)

    with torch.inference_mode(), bf16:
        found = {n: _calibrated(recipe, images, restored, n) for n in PAIRS}
    summary["uncertainty"] = {str(n): model.model_dump() for n, model in found.items()}
    write_json_atomic(folder / SUMMARY, summary)
    return found


def _calibrated(
    recipe: SrRecipe, images: Images, restored: Callable[[Tensor, int, torch.Generator], Tensor], n_steps: int
) -> Uncertainty:
    config, rng = PairConfig.of(recipe.data), np.random.default_rng((recipe.seed, 997))
    pairs = draw_batch(images.validation, config, PAIRS[n_steps], rng)
    noise = torch.Generator().manual_seed(n_steps)
    share = samples_share(recipe.diffusion.build(), SrOptions(steps=n_steps))
    means, variances = [], []
    for lr in torch.split(torch.from_numpy(pairs.lr), BATCH):
        estimate = restored(lr, 1, noise)
        samples = torch.stack([restored(lr, n_steps, noise) for _ in range(SAMPLES)])
        means.append((estimate + share * (samples.mean(0) - estimate)).numpy())
        variances.append(samples.var(0).numpy())
    return fitted(pairs, np.concatenate(means), np.concatenate(variances))


def fitted(pairs: Batch, mean: NDArray[np.float32], variance: NDArray[np.float32]) -> Uncertainty:
    """The model under which the errors of ``mean`` (n, 1, y, x) are likeliest, scaled to cover ``COVERED`` of them."""
    logs, errors = [], []
    for lr, hr, image, spread, fraction in zip(pairs.lr, pairs.hr, mean, variance, pairs.fraction, strict=True):
        cut = np.s_[0, EVERY // 2 :: EVERY, EVERY // 2 :: EVERY]
        logs.append([sign[cut] for sign in np.log(signs(lr, spread, float(fraction)))])
        errors.append(np.square(image - hr, dtype=np.float64)[cut])
    found, error = np.stack(logs, 1), np.stack(errors)

    def cost(x: NDArray[np.float64]) -> float:
        log = x[0] + unscaled(found, *x[1:])
        return float((log + error * np.exp(-log)).mean())

    best = minimize(cost, [0.0, 0.3, 0.1], method="L-BFGS-B", bounds=[(None, None), (0.0, 0.8), (0.0, 0.8)]).x
    ratio = np.sqrt(error * np.exp(-unscaled(found, *best[1:])))
    within = float(np.quantile(ratio, COVERED)) / INTERVAL
    return Uncertainty(scale=max(within**2, 1e-12), detail=float(best[1]), edge=float(best[2]))
