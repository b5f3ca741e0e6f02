"""Training of ``mie``: masks, latent and decoder first, then the diffusion that is conditioned on motion."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.diffusion.ddim import ddim
from cmrsr.errors import UsageError
from cmrsr.phantom.scan import LABELS
from cmrsr.tasks.mie.features.signs import heart_crop
from cmrsr.tasks.mie.training.batches import InfarctBatch, draw_infarcts, whole_infarcts
from cmrsr.tasks.mie.training.cpkdm import CELL, Cpkdm
from cmrsr.tasks.mie.training.data import Infarcts
from cmrsr.tasks.mie.training.network import build_network
from cmrsr.tasks.mie.training.recipe import MieRecipe
from cmrsr.training.image_loss import ssim
from cmrsr.training.objective import draw_times, error_and_clean, noised
from cmrsr.training.start import begin

SCORE_PER_DICE = 10.0  # dB that perfect scars are worth when the checkpoint is chosen
DICE_SMOOTH = 30.0  # pixels
HEART_WEIGHT = 4.0  # of errors in and around the heart, beside 1 elsewhere
AROUND_HEART = 9  # pixels that the heart is widened by for it, in all
VALIDATION_STEPS = 10  # of a noise prediction
LARGEST_LATENT = 4.0  # of the numbers of a latent, whose mean square is 1
SCAR_WEIGHT = 8.0  # of a pixel of scar in the cross-entropy, beside 1 elsewhere


class Losses(NamedTuple):
    """Terms of the loss, each a mean over the batch."""

    noise: Tensor
    image: Tensor
    scar: Tensor
    masks: Tensor
    critics: Tensor


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round: what helps the critic after it harms the model before it."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return -gradient


class MieSystem:
    """All parts at once; the latent's encoder rests after ``recipe.latent_share`` of the steps."""

    residual_std: float | None = None
    baseline = f"a linear mixture of the T1 images; {SCORE_PER_DICE:g} x Dice of scar added"

    def __init__(self, recipe: MieRecipe, data: Infarcts) -> None:
        self.recipe, self.data = recipe, data
        self.schedule = recipe.diffusion.build()
        self.description = data.description
        self.validation = whole_infarcts(data.validation)
        stride, side = 4 * CELL, self.validation.labels.shape[-1]
        if recipe.data.crop % stride or recipe.data.crop > side:
            raise UsageError(f"data.crop {recipe.data.crop}: expected a multiple of {stride}, at most {side}")
        self.mixture = linear_mixture(data)
        mixed = _mixed(self.validation.inversions, self.mixture)
        self.baseline_db = float(psnr(mixed, self.validation.enhancement).mean())

    def build(self, device: str) -> nn.Module:
        model = build_network(self.recipe.model)
        return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def begin(self, model: nn.Module, start: str) -> bool:
        begin(model, start)
        return True

    def frozen(self, step: int) -> tuple[str, ...]:
        return ("enhancement.",) if step >= self.recipe.latent_share * self.recipe.optimiser.steps else ()

    def loss(
        self, model: nn.Module, rng: np.random.Generator, generator: torch.Generator, device: str, step: int = 0
    ) -> Tensor:
        batch = draw_infarcts(self.data.training, self.recipe.data.crop, self.recipe.optimiser.batch_size, rng)
        terms = self.terms(model, batch.to(device), generator)
        weights = self.recipe.loss
        return (
            terms.noise + weights.image * terms.image + weights.scar * terms.scar + weights.masks * terms.masks
            + weights.adversarial * terms.critics
        )  # fmt: skip

    def terms(self, model: nn.Module, batch: InfarctBatch, generator: torch.Generator) -> Losses:
        """The losses of a batch."""
        if isinstance(model, nn.parallel.DistributedDataParallel):  # whose gradients follow its own call alone
            raise UsageError("mie is trained in one process: start it without torchrun")
        assert isinstance(model, Cpkdm)
        true, heart = batch.enhancement, _heart(batch.labels)
        motion = model.kinematics(batch.cine, batch.motion)
        morphology, clusters, tissues = model.morphology(batch.inversions, batch.timing, batch.t1, batch.clusters)
        z = model.enhancement(true).float()
        rebuilt, scar_of_true = model.decoder(z, morphology)
        noise, x0 = self._denoise(model, z.detach(), morphology, motion, F.avg_pool2d(heart, CELL), generator)
        found, scar = model.decoder(x0, morphology)
        image = image_loss(rebuilt.float(), true, heart) + image_loss(found.float(), true, heart)
        scars = (batch.labels == LABELS["scar"])[:, None].float()
        told = scar_loss(scar.float(), scars) + 0.5 * scar_loss(scar_of_true.float(), scars)
        masks = self._mask_loss(model, clusters.float(), tissues.float(), batch)
        critics = true.new_zeros(())
        if self.recipe.loss.adversarial:
            critics = hinge(model.critic, true, found) + self._edges(model, tissues, batch.labels)
        return Losses(noise, image, told, masks, critics)

    def _denoise(
        self, model: Cpkdm, z: Tensor, morphology: Tensor, motion: Tensor, heart: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(loss of eq. 4, the clean latent as one evaluation sees it)."""
        settings = self.recipe.diffusion
        t = draw_times(self.schedule, len(z), settings.share_at_noise, generator)
        made = noised(self.schedule, z, t, generator)
        out = model.denoiser(made.x_t, morphology, motion, made.level).float()
        error, found = error_and_clean(self.schedule, made, z, out, loss=settings.loss, limit=LARGEST_LATENT)
        weight = 1 + HEART_WEIGHT * heart
        return (error * weight).mean() / weight.mean(), found

    def _mask_loss(self, model: Cpkdm, clusters: Tensor, tissues: Tensor, batch: InfarctBatch) -> Tensor:
        """The constraint on the morphological mask: the clusters, and the tissues that are known."""
        loss = F.cross_entropy(tissues, _tissue(batch.labels))
        if model.config.atlas:
            loss = loss + F.cross_entropy(clusters, batch.clusters)
        return loss

    def _edges(self, model: Cpkdm, tissues: Tensor, labels: Tensor) -> Tensor:
        true = F.one_hot(_tissue(labels), 4).movedim(-1, 1)[:, 1:].float()
        return hinge(model.mask_critic, true, tissues.float().softmax(1)[:, 1:])

    def gain_db(self, weights: dict[str, Tensor], device: str) -> float:
        """PSNR gain over the linear mixture, plus ``SCORE_PER_DICE`` times the Dice of all scar."""
        model = build_network(self.recipe.model)
        assert isinstance(model, Cpkdm)
        model.load_state_dict(weights)
        gain, dice = self.validate(model.to(device).eval(), device)
        return gain + SCORE_PER_DICE * dice

    def validate(self, model: Cpkdm, device: str) -> tuple[float, float]:
        """(PSNR gain over the linear mixture in dB, Dice of scar) on the validation slices."""
        generator = torch.Generator().manual_seed(0)
        bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=self.recipe.optimiser.bf16)
        quality, both, total = [], 0.0, 0.0
        with torch.inference_mode(), bf16:
            for i in range(0, len(self.validation.labels), 8):
                batch = InfarctBatch(*(x[i : i + 8] for x in self.validation)).to(device)
                image, scar = self.synthesise(model, batch, generator)
                quality.append(psnr(image, batch.enhancement).cpu())
                true, here = (batch.labels == LABELS["scar"]), scar[:, 0] > 0
                both += float((true & here).sum())
                total += float(true.sum() + here.sum())
        return float(torch.cat(quality).mean()) - self.baseline_db, (2 * both + 1) / (total + 1)

    def synthesise(self, model: Cpkdm, batch: InfarctBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(image, logit of scar): one step where that is the posterior mean, else a few."""
        motion = model.kinematics(batch.cine, batch.motion)
        morphology, *_ = model.morphology(batch.inversions, batch.timing, batch.t1, batch.clusters)
        n_steps = VALIDATION_STEPS if self.schedule.prediction == "eps" else 1

        def denoise(x_t: Tensor, condition: float) -> Tensor:
            level = torch.full((len(x_t),), condition, device=x_t.device)
            out: Tensor = model.denoiser(x_t, morphology, motion, level).float()
            return out

        shape = (len(batch.cine), model.config.latent, *morphology.shape[-2:])
        z: Tensor = ddim(denoise, torch.randn(shape, generator=generator).to(morphology.device), self.schedule, n_steps)
        image, scar = model.decoder(z, morphology)
        return image.float(), scar.float()


def linear_mixture(data: Infarcts) -> Tensor:
    """Weights (9,) of the eight images of the recovery and 1 that come nearest to the enhancement of the slices."""
    square, product = np.zeros((9, 9)), np.zeros(9)
    for s in data.training:
        images = np.asarray(s.inversions, np.float64)[:, ::4, ::4].reshape(8, -1)
        x = np.concatenate([images, np.ones((1, images.shape[1]))])
        square += x @ x.T
        product += x @ np.asarray(s.enhancement, np.float64)[::4, ::4].ravel()
    return torch.from_numpy(np.linalg.solve(square, product)).float()


def _mixed(inversions: Tensor, mixture: Tensor) -> Tensor:
    return (inversions * mixture[:-1, None, None]).sum(1, keepdim=True) + mixture[-1]


def psnr(image: Tensor, true: Tensor) -> Tensor:
    """In dB of each (n, 1, y, x) about the heart, both cut to [0, 1]."""
    error = heart_crop((image.clamp(0, 1) - true.clamp(0, 1)).square()).mean((1, 2, 3))
    return -10 * error.clamp_min(1e-12).log10()


def image_loss(image: Tensor, true: Tensor, heart: Tensor) -> Tensor:
    """Absolute and squared error, weighted towards the heart, and SSIM."""
    weight = 1 + HEART_WEIGHT * heart
    error = (image - true).abs() + 4 * (image - true).square()
    return (error * weight).mean() / weight.mean() * 4 + 0.5 * (1 - ssim(image, true))


def scar_loss(logit: Tensor, true: Tensor) -> Tensor:
    """Cross-entropy, in which scar counts more, and Dice over the batch."""
    entropy = F.binary_cross_entropy_with_logits(logit, true)
    p = logit.sigmoid()
    dice = (2 * (p * true).sum() + DICE_SMOOTH) / (p.sum() + true.sum() + DICE_SMOOTH)
    return SCAR_WEIGHT * entropy + 0.5 * (1 - dice)


def hinge(critic: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    """The critic's hinge loss, of which what made the image gets the gradient reversed."""
    turned = Reversed.apply(made)  # type: ignore[no-untyped-call]
    loss: Tensor = F.relu(1 - critic(real)).mean() + F.relu(1 + critic(turned)).mean()
    return loss


def _heart(labels: Tensor) -> Tensor:
    """1 in and around the heart, (n, 1, y, x)."""
    return F.max_pool2d((labels > 0)[:, None].float(), AROUND_HEART, 1, AROUND_HEART // 2)


def _tissue(labels: Tensor) -> Tensor:
    """Scar is myocardium."""
    return torch.where(labels == LABELS["scar"], LABELS["myocardium"], labels)
