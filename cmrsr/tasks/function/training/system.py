"""Training of ``function``: super-resolution, then function on what it restores, then both together."""

import os
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.diffusion.ddim import ddim
from cmrsr.errors import UsageError
from cmrsr.tasks.function.training.batches import BeatBatch, BeatConfig, draw_beats
from cmrsr.tasks.function.training.causal import (
    BLOCK,
    Causal,
    Graph,
    causal_consistency,
    uncounted,
    with_neighbours,
)
from cmrsr.tasks.function.training.data import Beats
from cmrsr.tasks.function.training.network import build_network
from cmrsr.tasks.function.training.recipe import FunctionRecipe
from cmrsr.training.image_loss import Perceptual, ssim
from cmrsr.training.objective import draw_times, error_and_clean, noised
from cmrsr.training.start import load, start_residual_std, start_weights

VALIDATION_BEATS = 12
ALSO_VALIDATION_BEATS = 24  # of the real patients beside virtual ones
CELL_WEIGHT = 5.0  # brings the cross-entropy of the encoder's cells to the size of errors of areas
AREA_UNIT = 300.0  # pixels: brings errors of areas to the size of the other losses
SMALLEST_EDV = 150.0  # pixels of LV cavity in the drawn slices: below, their ejection fraction says nothing
DICE_SMOOTH = 30.0  # pixels: slices without a structure, or all but, count little
SCORE_PER_DICE = 10.0  # dB that perfect masks are worth when the checkpoint is chosen
VALIDATION_STEPS = 10  # of a noise prediction
LATE = 0.3  # times up to which a noise prediction gives an image in one step that can be read
Stage = Literal["graph", "restore", "read", "joint"]
# Of each stage, the parts of the model that stay as they are.
FROZEN: dict[Stage, tuple[str, ...]] = {
    "graph": ("denoiser.", "decoder."), "restore": ("decoder.",), "read": ("encoder.", "denoiser."), "joint": (),
}  # fmt: skip


class Losses(NamedTuple):
    """Terms of the hierarchical loss, each a mean over the batch; zero where a stage has none of it."""

    noise: Tensor
    image: Tensor
    segmentation: Tensor
    function: Tensor
    causal: Tensor


class FunctionSystem:
    """Three stages in one recipe (3.3 of the paper). UsageError: crop, model and beats do not go together."""

    residual_std: float | None
    baseline = f"zero-filling; {SCORE_PER_DICE:g} x Dice added"

    def __init__(self, recipe: FunctionRecipe, beats: Beats) -> None:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # several losses a step do not go through DDP's one call
            raise UsageError("function is trained in one process: start it without torchrun")
        self.recipe, self.beats = recipe, beats
        self.schedule = recipe.diffusion.build()
        self.description = beats.description
        data = recipe.data
        if data.crop % BLOCK:
            raise UsageError(f"data.crop {data.crop}: expected a multiple of {BLOCK}")
        self.config = BeatConfig(
            crop=data.crop, n_phases=data.n_phases, n_slices=data.n_slices, fraction=data.fraction, full=data.full
        )
        plain = BeatConfig(
            crop=data.crop, n_phases=data.n_phases, n_slices=data.n_slices, fraction=(0.5, 0.5), full=0.0, augment=False
        )  # fmt: skip
        self.validation = [
            draw_beats(some, plain, n, np.random.default_rng((recipe.seed, 9)))
            for some, n in ((beats.validation, VALIDATION_BEATS), (beats.also_validation, ALSO_VALIDATION_BEATS))
            if some
        ]
        self.residual_std = self._residual_std(plain)
        self.perceptual = Perceptual(recipe.loss.perceptual_network) if recipe.loss.perceptual_network else None

    def build(self, device: str) -> nn.Module:
        model = build_network(self.recipe.model)
        return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _residual_std(self, plain: BeatConfig) -> float | None:
        """Of what is diffused: as it was where the weights come from, else as these beats have it."""
        if not self.recipe.diffusion.residual:
            return None
        if self.recipe.start:
            return start_residual_std(self.recipe.start)
        some = draw_beats(self.beats.training, plain, 24, np.random.default_rng((self.recipe.seed, 8)))
        return float((some.hr - some.lr).std())

    def begin(self, model: nn.Module, start: str) -> bool:
        """The denoiser alone begins from an engine of ``sr``, everything from one of ``function``."""
        assert isinstance(model, Causal)
        weights = start_weights(start)
        whole = any(name.startswith("decoder.stem") for name in weights)
        if whole and (missing := 4 * (1 + 2 * model.config.neighbours) - weights["decoder.stem.weight"].shape[1]) > 0:
            # the start reads single slices: the neighbours begin without a say
            weights["decoder.stem.weight"] = F.pad(weights["decoder.stem.weight"], (0, 0, 0, 0, 0, missing))
        load(model if whole else model.denoiser.unet, start, weights)
        return whole

    def stage(self, step: int) -> Stage:
        """The stage that a step, from 0, belongs to."""
        tasks = self.recipe.tasks
        if tasks != "both":
            return "restore" if tasks == "sr" else "read"
        first, second, _ = self.recipe.stages
        done = step / self.recipe.optimiser.steps
        if done < self.recipe.warm_up:
            return "graph"
        done = (done - self.recipe.warm_up) / (1 - self.recipe.warm_up)
        return "restore" if done < first else "read" if done < first + second else "joint"

    def frozen(self, step: int) -> tuple[str, ...]:
        return FROZEN[self.stage(step)]

    def loss(
        self, model: nn.Module, rng: np.random.Generator, generator: torch.Generator, device: str, step: int = 0
    ) -> Tensor:
        batch = draw_beats(
            self.beats.training, self.config, self.recipe.optimiser.batch_size, rng,
            also=self.beats.also, also_share=self.recipe.data.also_share,
        )  # fmt: skip
        terms = self.terms(model, batch, self.stage(step), generator, device)
        weights = self.recipe.loss
        return (
            terms.noise + weights.image * terms.image + weights.segmentation * terms.segmentation
            + weights.function * terms.function + weights.causal * terms.causal
        )  # fmt: skip

    def terms(
        self, model: nn.Module, batch: BeatBatch, stage: Stage, generator: torch.Generator, device: str
    ) -> Losses:
        """The losses of a batch in a stage."""
        assert isinstance(model, Causal)
        lr, hr, labels = batch.lr.to(device), batch.hr.to(device), batch.labels.to(device)
        zero = lr.new_zeros(())
        noise = image = segmentation = function = causal = zero
        alone = self.recipe.tasks == "function"
        with torch.set_grad_enabled(stage != "read" or alone):
            features, cells = model.encoder.look(frames(lr))
            graph = model.encoder.graph(features.view(*lr.shape[:3], -1).mean(2), batch.position.to(device))
            if stage != "read" or alone:
                causal = causal_consistency(graph.alpha.float())
            if self.recipe.tasks != "sr" and (stage != "read" or alone) and model.config.causal:
                function = self._size_loss(model, cells, graph, labels, batch.known.to(device))
        if stage == "graph":
            return Losses(noise, image, segmentation, function, causal)
        restored = lr
        degraded = (lr - hr).abs().amax((1, 2, 3, 4)) > 0
        if not alone and bool(degraded.any()):
            with torch.set_grad_enabled(stage != "read"):
                t = draw_times(self.schedule, len(lr), self.recipe.diffusion.share_at_noise, generator).to(device)
                one_step = self.schedule.prediction != "eps"
                if stage == "read":
                    t = torch.ones_like(t) if one_step else LATE * t
                noise, sharp = self._denoise(
                    model, lr[degraded], hr[degraded], graph.context[degraded], t[degraded], generator
                )
                restored = lr.clone()
                clear = t[degraded] <= (1.0 if one_step else LATE)
                restored[degraded] = torch.where(clear[:, None, None, None, None], sharp, lr[degraded])
            if stage != "read":
                image = self._image_loss(sharp, hr[degraded])
        if stage != "restore":
            segmentation, read = self._reading_loss(model, restored, labels, graph, batch, device)
            function = function + read
        return Losses(noise, image, segmentation, function, causal)

    def gain_db(self, weights: dict[str, Tensor], device: str) -> float:
        """PSNR gain over zero-filling of one step, plus ``SCORE_PER_DICE`` times the mean Dice."""
        model = build_network(self.recipe.model)
        assert isinstance(model, Causal)
        model.load_state_dict(weights)
        model = model.to(device).eval()
        gain, dice = self.validate(model, device)
        return gain + SCORE_PER_DICE * dice

    def validate(self, model: Causal, device: str) -> tuple[float, float]:
        """(PSNR gain over zero-filling in dB, mean Dice) on the validation beats, virtual and real ones alike."""
        gain, dice = np.mean([self._validated(model, batch, device) for batch in self.validation], 0)
        return float(gain), float(dice)

    def _validated(self, model: Causal, batch: BeatBatch, device: str) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(0)
        bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=self.recipe.optimiser.bf16)
        gains, logits = [], []
        with torch.inference_mode(), bf16:
            for i in range(len(batch.lr)):
                lr, hr = batch.lr[i : i + 1].to(device), batch.hr[i : i + 1].to(device)
                graph = encode(model, lr, batch.position[i : i + 1].to(device))
                restored = lr
                if self.recipe.tasks != "function":
                    restored = self.restore(model, lr, graph.context, generator)
                before, after = ((x - hr).square().mean().cpu() for x in (lr, restored))
                gains.append(float(10 * (before / after).log10()))
                shown = with_neighbours(restored, model.config.neighbours)
                logits.append(model.decoder(shown, context(graph, lr.shape[2])).logits.float().cpu())
        dice = soft_dice(torch.cat(logits), batch.labels.flatten(0, 2), batch.known.flatten(0, 2))
        return float(np.mean(gains)), float(dice)

    def _denoise(
        self, model: Causal, lr: Tensor, hr: Tensor, told: Tensor, t: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(noise loss, restored images): the noise level is shared over a beat, which is what the period asks for."""
        std = self.residual_std
        x0 = (hr - lr) / std if std else hr * 2 - 1
        made = noised(self.schedule, x0, t, generator)
        out = self._predict(model, made.x_t, lr, told, made.level)
        error, found = error_and_clean(self.schedule, made, x0, out, loss=self.recipe.diffusion.loss, limit=1.0)
        return error.mean(), lr + std * found if std else (found + 1) / 2

    def restore(self, model: Causal, lr: Tensor, told: Tensor, generator: torch.Generator) -> Tensor:
        """Sample beats (batch, t, z, y, x): one step where that is the posterior mean, else a few."""
        n_steps = VALIDATION_STEPS if self.schedule.prediction == "eps" else 1

        def denoise(x_t: Tensor, condition: float) -> Tensor:
            return self._predict(model, x_t, lr, told, torch.full((len(lr),), condition, device=lr.device))

        found: Tensor = ddim(denoise, torch.randn(lr.shape, generator=generator).to(lr.device), self.schedule, n_steps)
        return lr + self.residual_std * found if self.residual_std else (found + 1) / 2

    def _predict(self, model: Causal, x_t: Tensor, lr: Tensor, told: Tensor, level: Tensor) -> Tensor:
        """The denoiser on beats (batch, t, z, y, x); told (batch, t, c), level (batch,)."""
        shown = lr if self.residual_std else lr * 2 - 1
        each = level.view(-1, 1, 1).expand(lr.shape[:3]).flatten()
        told = told[:, :, None].expand(-1, -1, lr.shape[2], -1).flatten(0, 2)
        out: Tensor = model.denoiser(frames(x_t), frames(shown), told, each).float().view(lr.shape)
        return out

    def _image_loss(self, sr: Tensor, hr: Tensor) -> Tensor:
        """L1, in units of the residual, and SSIM; features where a network for them is given (3.3 of the paper)."""
        a, b = frames(sr), frames(hr)
        loss = (a - b).abs().mean() / (self.residual_std or 1.0) + 1 - ssim(a, b)
        return loss + self.perceptual(a, b) if self.perceptual else loss

    def _size_loss(self, model: Causal, cells: Tensor, graph: Graph, labels: Tensor, known: Tensor) -> Tensor:
        """How full the heart is, told from the low resolution: where, by the encoder of frames; how full at most and at
        least over the beat, by the graph.
        """
        one_hot = torch.stack([(labels.flatten(0, 2) == c).float() for c in (1, 2, 3)], 1)
        true = F.avg_pool2d(one_hot, BLOCK)
        each = known.flatten(0, 2)
        with torch.autocast(labels.device.type, enabled=False):
            wrong = F.binary_cross_entropy(cells.float().clamp(1e-6, 1 - 1e-6), true, reduction="none").mean((2, 3))
        where = CELL_WEIGHT * (wrong * each).sum() / each.sum().clamp_min(1)
        lv = true[:, 2].mean((1, 2)).view(labels.shape[:3]).mean(2)
        ends = torch.stack([lv.amax(1), lv.amin(1)], 1)
        told = model.encoder.extremes(graph.whole).float()
        return where + (told - ends).abs().mean() * labels.shape[-2] * labels.shape[-1] / AREA_UNIT

    def _reading_loss(
        self, model: Causal, restored: Tensor, labels: Tensor, graph: Graph, batch: BeatBatch, device: str
    ) -> tuple[Tensor, Tensor]:
        """(segmentation, function): cross-entropy and Dice; areas, ejection fraction and abnormality of the beats."""
        n, n_t, n_z = restored.shape[:3]
        known = batch.known.to(device)
        reading = model.decoder(with_neighbours(restored, model.config.neighbours), context(graph, n_z))
        logits, areas = reading.logits.float(), reading.areas.float()
        flat = labels.flatten(0, 2)
        each = known.flatten(0, 2)
        segmentation = cross_entropy(logits, flat, each) + 1 - soft_dice(logits, flat, each)
        counted = flat[:, self._counted(model, flat.shape[1]), self._counted(model, flat.shape[2])]
        true = torch.stack([(counted == c).sum((1, 2)) for c in (1, 2, 3)], 1).float()
        error = (areas - true).abs() / AREA_UNIT
        function = (error * each).sum() / each.sum().clamp_min(1)
        lv_true = true[:, 2].view(n, n_t, n_z).sum(2)
        lv = areas[:, 2].view(n, n_t, n_z).sum(2)
        (edv, ed), (esv, es) = lv_true.max(1), lv_true.min(1)
        pick = torch.arange(n, device=device)
        ef = 1 - lv[pick, es] / lv[pick, ed].clamp_min(1.0)
        counts = (edv > SMALLEST_EDV).float()
        function = function + ((ef - (1 - esv / edv.clamp_min(1.0))).abs() * counts).mean()
        logit = model.decoder.abnormality(graph.whole.float(), ef)
        return segmentation, function + F.binary_cross_entropy_with_logits(logit, batch.abnormal.to(device))

    @staticmethod
    def _counted(model: Causal, n: int) -> slice:
        """Of n pixels along an axis, those whose areas are regressed."""
        edge = BLOCK * uncounted(n // BLOCK, model.decoder.counted)
        return slice(edge, n - edge)


def frames(x: Tensor) -> Tensor:
    """(batch, t, z, y, x) as single images (n, 1, y, x)."""
    return x.flatten(0, 2)[:, None].contiguous(memory_format=torch.channels_last)


def context(graph: Graph, n_z: int) -> Tensor:
    """What every frame of ``frames`` is told, (n, c)."""
    return graph.context[:, :, None].expand(-1, -1, n_z, -1).flatten(0, 2)


def encode(model: Causal, lr: Tensor, position: Tensor) -> Graph:
    """The causal graphs of beats (batch, t, z, y, x): a node is the mean over the slices."""
    nodes = model.encoder.frame(frames(lr)).view(*lr.shape[:3], -1).mean(2)
    return model.encoder.graph(nodes, position)


def cross_entropy(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Where RV or myocardium were not labelled (``known`` (n, 3)), background and they are one class."""
    merged = _merged(logits, known)
    mask = known.gather(1, (labels.flatten(1) - 1).clamp_min(0)).view(labels.shape) & (labels > 0)
    picked = merged.gather(1, torch.where(mask, labels, 0)[:, None])[:, 0]
    return -picked.mean()


def soft_dice(logits: Tensor, labels: Tensor, known: Tensor | None) -> Tensor:
    """Mean over the three structures, each pooled over the batch."""
    p = logits.softmax(1)
    scores, weights = [], []
    for c in (1, 2, 3):
        true = (labels == c).float()
        here = p[:, c]
        if known is not None:
            true, here = true[known[:, c - 1]], here[known[:, c - 1]]
        scores.append((2 * (here * true).sum() + DICE_SMOOTH) / (here.sum() + true.sum() + DICE_SMOOTH))
        weights.append(float(len(true) > 0))
    return sum((w * s for w, s in zip(weights, scores, strict=True)), p.new_zeros(())) / max(sum(weights), 1.0)


def _merged(logits: Tensor, known: Tensor) -> Tensor:
    """Log probabilities; those of classes that are not ``known`` are added to the background."""
    unknown = torch.cat([torch.ones_like(known[:, :1]), ~known], 1)[..., None, None]
    total = logits.logsumexp(1, keepdim=True)
    background = logits.masked_fill(~unknown, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, logits[:, 1:]], 1) - total
