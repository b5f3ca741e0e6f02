"""Training of ``interp4d``: stage 1 diffuses the frames between two known ones, stage 2 corrects whole volumes."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cmrsr.diffusion.residual import Residual
from cmrsr.errors import UsageError
from cmrsr.tasks.interp4d.training.clips import ClipConfig, Clips, draw_clips, draw_volumes
from cmrsr.tasks.interp4d.training.data import Stack, Stacks
from cmrsr.tasks.interp4d.training.mamba_volume import total_variation, wavelet_loss
from cmrsr.tasks.interp4d.training.network import build_network
from cmrsr.tasks.interp4d.training.recipe import ClipData, ClipRecipe, VolumeRecipe
from cmrsr.tasks.interp4d.training.vdt import Vdt
from cmrsr.training.crops import check_crop, smallest_side
from cmrsr.training.objective import diffusion_loss
from cmrsr.training.recipe import first_problem
from cmrsr.training.start import SUMMARY, WEIGHTS, begin, load, start_folder, start_residual_std, start_weights

Array = NDArray[np.float32]
VALIDATION_CLIPS = 64
VALIDATION_VOLUMES = 8
WEIGHT_FLOOR = 0.1  # of the mean squared residual: keeps the weight of nearly still clips, which are noise, bounded


class ClipSystem:
    """Stage 1: the residual of the unknown frames to the classical estimate is diffused, all frames jointly."""

    baseline = "the linear blend"

    def __init__(self, recipe: ClipRecipe, stacks: Stacks) -> None:
        self.recipe, self.stacks = recipe, stacks
        self.schedule = recipe.diffusion.build()
        self.description = stacks.description
        self.config = clip_config(recipe.data)
        self._check()
        self.validation = draw_clips(
            stacks.validation, self.config, VALIDATION_CLIPS, np.random.default_rng((recipe.seed, 999))
        )
        some = draw_clips(stacks.training, self.config, 128, np.random.default_rng((recipe.seed, 998)))
        own = float((some.target - some.base).std())
        self.residual_std: float | None = start_residual_std(recipe.start) if recipe.start else own

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
        assert self.residual_std is not None
        clips = draw_clips(self.stacks.training, self.config, self.recipe.optimiser.batch_size, rng)
        x0 = (_tensor(clips.target, device) - _tensor(clips.base, device)) / self.residual_std
        # like PSNR, every clip counts by the size of its own error
        weight = 1 / (x0.square().mean((1, 2, 3)) + WEIGHT_FLOOR)
        return diffusion_loss(
            model, self.schedule, x0, conditions(clips, device), weight / weight.mean(), generator=generator,
            loss=self.recipe.diffusion.loss, share_at_noise=self.recipe.diffusion.share_at_noise,
        )  # fmt: skip

    def gain_db(self, weights: dict[str, Tensor], device: str) -> float:
        model = self.build(device).eval()
        model.load_state_dict(weights)
        assert self.residual_std is not None
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=self.recipe.optimiser.bf16):
            frames = predict(model, self.validation, Residual(self.residual_std, self.recipe.residual_weight), device)
        return _gain(linear(self.validation), frames.cpu().numpy(), self.validation.target)

    def _check(self) -> None:
        with torch.device("meta"):  # asked for its stride alone, without drawing any weights
            model = build_network(self.recipe.model)
        assert isinstance(model, Vdt)
        check_crop(self.recipe.data.crop, model.config.stride, smallest_side(s.shown for s in _all(self.stacks)))
        check_phases(self.recipe.data, self.stacks)


class VolumeSystem:
    """Stage 2: (one-step frame of the frozen stage 1, both known frames) of a stack -> the stack's true frame."""

    baseline = "stage 1"
    residual_std: float | None = None

    def __init__(self, recipe: VolumeRecipe, stacks: Stacks) -> None:
        self.recipe, self.stacks = recipe, stacks
        self.description = stacks.description
        self.config = clip_config(recipe.data)
        self.first, self.residual = load_stage_one(recipe.stage_one)
        stride = max(recipe.model.stride, self.first.config.stride)  # both are powers of two
        check_crop(recipe.data.crop, stride, smallest_side(s.shown for s in _all(stacks)))
        check_phases(recipe.data, stacks)
        fewest = min(s.shown.shape[1] for s in _all(stacks))
        if recipe.data.n_slices > fewest:
            raise UsageError(
                f"data.n_slices {recipe.data.n_slices}: expected at most the {fewest} of the smallest stack"
            )
        self.validation = draw_volumes(
            stacks.validation, self.config, VALIDATION_VOLUMES, recipe.data.n_slices,
            np.random.default_rng((recipe.seed, 999)),
        )  # fmt: skip

    def build(self, device: str) -> nn.Module:
        self.first.to(device)
        return build_network(self.recipe.model).to(device)

    def begin(self, model: nn.Module, start: str) -> bool:
        load(model, start, start_weights(start, second_stage=True))
        return True

    def frozen(self, step: int) -> tuple[str, ...]:
        return ()

    def loss(
        self, model: nn.Module, rng: np.random.Generator, generator: torch.Generator, device: str, step: int = 0
    ) -> Tensor:
        clips = draw_volumes(
            self.stacks.training, self.config, self.recipe.optimiser.batch_size, self.recipe.data.n_slices, rng
        )
        shown, target = self._volumes(clips, device)
        corrected: Tensor = model(shown).float()
        weights = self.recipe.loss
        scale = (shown[:, :1] - target).square().mean((1, 2, 3, 4), keepdim=True).sqrt() + 5e-3
        error = (corrected - target) / scale  # every volume counts by the error that it starts with
        return (
            weights.mse * error.square().mean()
            + weights.wavelet * wavelet_loss(corrected / scale, target / scale)
            + weights.total_variation * total_variation((corrected - shown[:, :1]) / scale)
        )

    def gain_db(self, weights: dict[str, Tensor], device: str) -> float:
        model = self.build(device).eval()
        model.load_state_dict(weights)
        shown, target = self._volumes(self.validation, device)
        bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=self.recipe.optimiser.bf16)
        with torch.inference_mode(), bf16:
            corrected = torch.cat([model(one).float() for one in torch.split(shown, 1)])
        return _gain(shown[:, 0].cpu().numpy(), corrected[:, 0].cpu().numpy(), target[:, 0].cpu().numpy())

    def _volumes(self, clips: Clips, device: str) -> tuple[Tensor, Tensor]:
        """Inputs (volumes n, 3, z, y, x) and targets (volumes n, 1, z, y, x) of stage 2."""
        frames = predict(self.first, clips, self.residual, device)
        n_z = self.recipe.data.n_slices

        def volumes(x: Tensor) -> Tensor:
            """(volumes z, n, y, x) -> (volumes n, 1, z, y, x)."""
            return x.reshape(-1, n_z, *x.shape[1:]).transpose(1, 2).flatten(0, 1)[:, None]

        known = _tensor(clips.known, device)
        ends = [known[:, i : i + 1].expand_as(frames) for i in range(2)]
        return torch.cat([volumes(x) for x in (frames, *ends)], 1), volumes(_tensor(clips.target, device))


def clip_config(data: ClipData) -> ClipConfig:
    """How clips are drawn for a recipe."""
    return ClipConfig(crop=data.crop, n_frames=data.n_frames, gap=data.gap)


def check_phases(data: ClipData, stacks: Stacks) -> None:
    """UsageError if a stack is too short for two known frames with one between them."""
    fewest = min(s.shown.shape[0] for s in _all(stacks))
    if fewest <= data.gap[0]:
        raise UsageError(f"data.gap from {data.gap[0]} phases: expected fewer than the {fewest} of the shortest stack")


def load_stage_one(where: Path) -> tuple[Vdt, Residual]:
    """The trained network of stage 1, frozen, and the use of its residual. UsageError: it is not one.

    where: the folder of a run, or an engine by its name.
    """
    expected = "expected an engine's name, or a folder in which `cmrsr train tssc-s` trained stage 1"
    folder = where if where.parts[:-1] or where.is_dir() else start_folder(str(where))
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        if summary["recipe"]["system"] != "interp4d":
            raise UsageError(f"stage_one {folder} holds {summary['recipe']['model']['name']}; {expected}")
        recipe = ClipRecipe.model_validate(summary["recipe"])
        residual_std = summary["residual_std"]
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"stage_one {folder}: {reason}; {expected}") from error
    model = build_network(recipe.model)
    if not isinstance(model, Vdt):
        raise UsageError(f"stage_one {folder} holds {recipe.model.name}; {expected}")
    try:
        model.load_state_dict({k: v.float() for k, v in weights.items()})
    except RuntimeError as error:  # of many lines
        raise UsageError(
            f"stage_one {folder}: weights.safetensors does not fit the model of its training.json: train again"
        ) from error
    return model.eval().requires_grad_(False), Residual(float(residual_std), recipe.residual_weight)


@torch.inference_mode()
def predict(model: nn.Module, clips: Clips, residual: Residual, device: str) -> Tensor:
    """The posterior mean of the unknown frames, (batch, n, y, x), by one step from zero signal."""
    parts = []
    base = _tensor(clips.base, device)
    for start, *given in zip(*(torch.split(x, 16) for x in (base, *conditions(clips, device))), strict=True):
        v = model(torch.zeros_like(start), *given, torch.ones(len(start), device=device)).float()
        parts.append(start - residual.gain(given[-1])[..., None, None] * v)
    return torch.cat(parts)


def conditions(clips: Clips, device: str) -> tuple[Tensor, ...]:
    """What stage 1 is given beside x_t and t."""
    return tuple(_tensor(x, device) for x in (clips.known, clips.base, clips.bend, clips.tau))


def linear(clips: Clips) -> Array:
    """The blend of the known frames: (batch, n, y, x)."""
    tau = clips.tau[..., None, None]
    return (1 - tau) * clips.known[:, :1] + tau * clips.known[:, 1:]


def _gain(before: Array, after: Array, target: Array) -> float:
    """Mean over clips of the PSNR gain in dB."""
    errors = [np.square(x - target).reshape(len(x), -1).mean(1) + 1e-12 for x in (before, after)]  # a still clip
    return float(np.mean(10 * np.log10(errors[0] / errors[1])))


def _tensor(array: Array, device: str) -> Tensor:
    return torch.from_numpy(array).to(device)


def _all(stacks: Stacks) -> list[Stack]:
    return [*stacks.training, *stacks.validation]
