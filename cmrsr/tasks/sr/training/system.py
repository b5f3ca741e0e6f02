"""Training of ``sr``: images are degraded, and the residual (or the image itself) is diffused."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmrsr.diffusion.ddim import ddim
from cmrsr.diffusion.schedule import Schedule
from cmrsr.tasks.sr.training.data import Images
from cmrsr.tasks.sr.training.network import build_network
from cmrsr.tasks.sr.training.pairs import Batch, PairConfig, draw_batch, smallest_image
from cmrsr.tasks.sr.training.recipe import SrRecipe
from cmrsr.training.crops import check_crop
from cmrsr.training.objective import diffusion_loss, to_target
from cmrsr.training.start import begin, start_residual_std

VALIDATION_PAIRS = 192
ERROR_FLOOR = 5e-5  # mean square: where next to nothing is missing, the gain in dB would be a ratio of two nothings
VALIDATION_STEPS = 10


class SrSystem:
    """Low-resolution images in, high-resolution ones out. UsageError: crop, model and images do not go together."""

    baseline = "zero-filling"

    def __init__(self, recipe: SrRecipe, images: Images) -> None:
        self.recipe, self.images = recipe, images
        self.schedule = recipe.diffusion.build()
        self.description = images.description
        data = recipe.data
        with torch.device("meta"):  # asked for its stride alone, without drawing any weights
            stride = build_network(recipe.model).config.stride
        check_crop(data.crop, stride, min(smallest_image(pool) for pool in (*images.training, *images.validation)))
        self.pairs = PairConfig.of(data)
        self.validation = draw_batch(
            images.validation, self.pairs, VALIDATION_PAIRS, np.random.default_rng((recipe.seed, 999))
        )
        self.residual_std = self._residual_std()

    def build(self, device: str) -> nn.Module:
        model = build_network(self.recipe.model).to(device)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def begin(self, model: nn.Module, start: str) -> bool:
        begin(model, start)
        return True

    def frozen(self, step: int) -> tuple[str, ...]:
        return ()

    def loss(
        self, model: nn.Module, rng: np.random.Generator, generator: torch.Generator, device: str, step: int = 0
    ) -> Tensor:
        batch = draw_batch(self.images.training, self.pairs, self.recipe.optimiser.batch_size, rng)
        lr, hr, expected = (torch.from_numpy(part) for part in (batch.lr, batch.hr, batch.expected))
        return diffusion_loss(
            model, self.schedule, to_target(hr, lr, self.residual_std).to(device),
            (as_input(lr, self.residual_std).to(device),),
            torch.from_numpy(error_weight(batch, self.residual_std)) if self.residual_std else None,
            loss=self.recipe.diffusion.loss, share_at_noise=self.recipe.diffusion.share_at_noise, generator=generator,
            expected=to_target(expected, lr, self.residual_std).to(device),
        )  # fmt: skip

    def gain_db(self, weights: dict[str, Tensor], device: str) -> float:
        """One step where that is the posterior mean, else the few of ``VALIDATION_STEPS``.

        One step of an eps-prediction from almost no signal would be noise.
        """
        model = self.build(device).eval()
        model.load_state_dict(weights)
        n_steps = 1 if self.schedule.name == "cosine" else VALIDATION_STEPS
        gains = []
        noise = torch.Generator().manual_seed(0)
        bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=self.recipe.optimiser.bf16)
        with torch.inference_mode(), bf16:
            for lr, hr in zip(
                torch.split(torch.from_numpy(self.validation.lr), 16),
                torch.split(torch.from_numpy(self.validation.hr), 16),
                strict=True,
            ):
                sr = restore(model, lr, self.schedule, n_steps, self.residual_std, noise, device)
                before, after = ((image - hr).square().mean((1, 2, 3)) + ERROR_FLOOR for image in (lr, sr))
                gains.append(10 * (before / after).log10())
        return float(torch.cat(gains).mean())

    def _residual_std(self) -> float | None:
        if not self.recipe.diffusion.residual:
            return None
        if self.recipe.start:
            return start_residual_std(self.recipe.start)
        batch = draw_batch(self.images.training, self.pairs, 256, np.random.default_rng((self.recipe.seed, 998)))
        return float((batch.hr - batch.lr).std())


def as_input(lr: Tensor, residual_std: float | None) -> Tensor:
    """The conditioning image as the network sees it: in [-1, 1] for the paper's system, else unchanged."""
    return lr * 2 - 1 if residual_std is None else lr


def restore(
    model: nn.Module, lr: Tensor, schedule: Schedule, n_steps: int, residual_std: float | None, noise: torch.Generator,
    device: str,
) -> Tensor:  # fmt: skip
    """One DDIM run on images lr (batch, 1, y, x) from new noise: the restored images, on the CPU."""
    shown = as_input(lr, residual_std).to(device)

    def denoise(x_t: Tensor, condition: float) -> Tensor:
        out: Tensor = model(x_t, shown, torch.full((len(shown),), condition, device=device)).float()
        return out

    x0 = ddim(denoise, torch.randn(lr.shape, generator=noise).to(device), schedule, n_steps).cpu()
    image: Tensor = (x0 + 1) / 2 if residual_std is None else lr + residual_std * x0
    return image


WEIGHT_FLOOR = 0.15  # of the usual missing power: keeps the weight of images that miss next to nothing bounded


def error_weight(batch: Batch, residual_std: float) -> NDArray[np.float32]:
    """Every image counts by what it misses, as the gain in PSNR does, not by its brightness."""
    missing = np.square(batch.hr - batch.lr).mean((1, 2, 3)) / np.float32(residual_std**2)
    return np.asarray(1 / (missing + np.float32(WEIGHT_FLOOR)), dtype=np.float32)
