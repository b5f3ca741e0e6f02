"""Training of the published stage 1 of ``interp4d``: whole frames are diffused as latents of a frozen autoencoder."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cmrsr.diffusion.ddim import ddim
from cmrsr.errors import UsageError
from cmrsr.tasks.interp4d.training.clips import Clips, draw_clips
from cmrsr.tasks.interp4d.training.data import Stacks
from cmrsr.tasks.interp4d.training.network import build_network
from cmrsr.tasks.interp4d.training.recipe import ClipRecipe
from cmrsr.tasks.interp4d.training.system import clip_config
from cmrsr.tasks.interp4d.training.vdt import VdtPaper
from cmrsr.training.crops import check_crop, smallest_side
from cmrsr.training.objective import diffusion_loss
from cmrsr.training.start import begin

FACTOR = 8  # pixels of an image along one side of a latent
VALIDATION_CLIPS = 16
VALIDATION_STEPS = 10


class LatentClipSystem:
    """The clean latents of the known frames are given at every step; the loss covers the unknown frames only.

    recipe.autoencoder: a program saved by ``torch.export.save`` that maps (batch, 1, y, x) in [-1, 1] to latents
    (batch, channels, y / 8, x / 8) of about unit variance. The noise level sqrt(gamma) stands for the time.
    """

    baseline = "the linear blend of the latents"
    residual_std: float | None = None

    def __init__(self, recipe: ClipRecipe, stacks: Stacks) -> None:
        assert recipe.model.name == "tssc-paper"
        self.recipe, self.stacks = recipe, stacks
        self.schedule = recipe.diffusion.build()
        self.description = stacks.description
        self.config = clip_config(recipe.data)
        self.encoder = load_encoder(recipe.autoencoder)
        check_crop(
            recipe.data.crop,
            FACTOR * recipe.model.patch,
            smallest_side(s.shown for s in (*stacks.training, *stacks.validation)),
        )
        self.validation = draw_clips(
            stacks.validation, self.config, VALIDATION_CLIPS, np.random.default_rng((recipe.seed, 999))
        )

    def build(self, device: str) -> nn.Module:
        self.encoder.to(device)
        model = build_network(self.recipe.model)
        assert isinstance(model, VdtPaper)
        return model.to(device)

    def begin(self, model: nn.Module, start: str) -> bool:
        begin(model, start)
        return True

    def frozen(self, step: int) -> tuple[str, ...]:
        return ()

    def loss(
        self, model: nn.Module, rng: np.random.Generator, generator: torch.Generator, device: str, step: int = 0
    ) -> Tensor:
        clips = draw_clips(self.stacks.training, self.config, self.recipe.optimiser.batch_size, rng)
        known, target, tau = self._latents(clips, device)
        return diffusion_loss(
            model, self.schedule, target, (known, tau), None, generator=generator,
            loss=self.recipe.diffusion.loss, share_at_noise=self.recipe.diffusion.share_at_noise,
        )  # fmt: skip

    def gain_db(self, weights: dict[str, Tensor], device: str) -> float:
        model = self.build(device).eval()
        model.load_state_dict(weights)
        bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=self.recipe.optimiser.bf16)
        gains = []
        with torch.inference_mode(), bf16:
            known, target, tau = self._latents(self.validation, device)
            noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0)).to(device)
            for k, wanted, at, start in zip(*(torch.split(x, 4) for x in (known, target, tau, noise)), strict=True):

                def denoise(x_t: Tensor, condition: float, k: Tensor = k, at: Tensor = at) -> Tensor:
                    out: Tensor = model(x_t, k, at, torch.full((len(k),), condition, device=device)).float()
                    return out

                found = ddim(denoise, start, self.schedule, VALIDATION_STEPS)
                blend = k[:, :1] + at[..., None, None, None] * (k[:, 1:] - k[:, :1])
                before, after = ((x - wanted).square().flatten(1).mean(1) for x in (blend, found))
                gains.append(10 * (before / after).log10())
        return float(torch.cat(gains).mean())

    def _latents(self, clips: Clips, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Latents of known (batch, 2, c, y, x) and unknown frames (batch, n, c, y, x); tau (batch, n), in order."""
        order = np.argsort(clips.tau, axis=1)
        target = np.take_along_axis(clips.target, order[..., None, None], 1)
        tau = np.take_along_axis(clips.tau, order, 1)
        frames = torch.from_numpy(np.concatenate([clips.known, target], 1)).to(device).clamp(0, 1) * 2 - 1
        with torch.no_grad():
            latents = self.encoder(frames.flatten(0, 1)[:, None]).unflatten(0, frames.shape[:2])
        return latents[:, :2], latents[:, 2:], torch.from_numpy(tau).to(device)


def load_encoder(path: Path | None) -> nn.Module:
    """The frozen encoder. UsageError: no path, or not a program of torch.export."""
    if path is None:
        raise UsageError("tssc-paper works on latents: give the encoder with --set autoencoder=FILE.pt2 (torch.export)")
    try:
        return torch.export.load(path).module()
    except Exception as error:  # torch raises anything, from FileNotFoundError to zip errors
        raise UsageError(f"autoencoder {path}: {error}; expected a program saved by torch.export.save") from error
