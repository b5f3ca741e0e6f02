"""The training loop: plain PyTorch, one process or torchrun, exact resume."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from cmrsr.diffusion.ddim import read_coefficients
from cmrsr.diffusion.schedule import Schedule
from cmrsr.models import build_model
from cmrsr.training.objective import diffusion_loss, to_target
from cmrsr.training.pairs import Batch, PairConfig, draw_batch
from cmrsr.training.recipe import Recipe

VALIDATION_PAIRS = 96


@dataclass(frozen=True, slots=True)
class Progress:
    """What the loop tells its caller after every step."""

    step: int
    n_steps: int
    loss: float
    samples_per_s: float
    gain_db: float | None  # over zero-filling on the validation pairs, at validation steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Frames (y, x) to make pairs from, split by patient before anything is drawn."""

    training: list[NDArray[Any]]
    validation: list[NDArray[Any]]
    description: str


def train(
    recipe: Recipe,
    images: Images,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train and return the folder with ``weights.safetensors`` (EMA, best on validation) and ``training.json``.

    The batch of a step depends on (seed, rank, step) alone, so a resumed run continues bit for bit where it stopped.
    SIGTERM writes a checkpoint and ends the run.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    schedule = Schedule(
        name=recipe.diffusion.schedule, prediction=recipe.diffusion.prediction, n_train=recipe.diffusion.n_train
    )
    model = build_model(recipe.model.model_dump()).to(device).to(memory_format=torch.channels_last)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    o = recipe.optimiser
    optimisers = build_optimisers(recipe, model)
    pairs = PairConfig(
        crop=recipe.data.crop, fraction=recipe.data.fraction, phase_share=recipe.data.phase_share
    )  # fmt: skip
    validation = draw_batch(images.validation, pairs, VALIDATION_PAIRS, np.random.default_rng((recipe.seed, 999)))
    state = State(step=0, best_gain_db=-1e9, residual_std=_residual_std(recipe, images, pairs))
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, record in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(record)
        average = saved["average"]
        state = State(**saved["state"])
    trained: nn.Module = nn.parallel.DistributedDataParallel(model) if world > 1 else model
    stop = _StopSignal()
    log = (out / "log.jsonl").open("a") if rank == 0 else None
    bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=o.bf16)
    started, done_here = time.monotonic(), 0
    while state.step < o.steps and not stop.received:
        step = state.step
        batch = draw_batch(images.training, pairs, o.batch_size, np.random.default_rng((recipe.seed, rank, step)))
        generator = torch.Generator().manual_seed((recipe.seed * 1_000_003 + step) * world + rank)
        torch.manual_seed(generator.initial_seed())  # dropout
        lr, x0 = _tensors(batch, state.residual_std, device)
        for group in (g for optimiser in optimisers for g in optimiser.param_groups):
            group["lr"] = learning_rate(recipe, step)
        with bf16:
            loss = diffusion_loss(
                trained, schedule, x0, lr, torch.from_numpy(batch.brightness) if state.residual_std else None,
                loss=recipe.diffusion.loss, share_at_noise=recipe.diffusion.share_at_noise, generator=generator,
            )  # fmt: skip
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), o.clip)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        state.step, done_here = step + 1, done_here + 1
        if state.step % o.ema_every == 0:
            _update_average(average, model, o.ema, state.step // o.ema_every)
        gain = None
        if state.step % recipe.validate_every == 0 or state.step == o.steps:
            gain = validation_gain_db(recipe, schedule, average, validation, state.residual_std, device)
            if gain > state.best_gain_db and rank == 0:
                state.best_gain_db = gain
                save_file({k: v.contiguous() for k, v in average.items()}, out / "weights.safetensors")
                _write_summary(out, recipe, state, images.description)
        if log:
            rate = done_here * o.batch_size * world / (time.monotonic() - started)
            progress = Progress(state.step, o.steps, float(loss.detach()), rate, gain)
            if on_step:
                on_step(progress)
            if state.step % 50 == 0 or gain is not None:
                record = {"step": state.step, "loss": progress.loss, "samples_per_s": rate, "gain_db": gain}
                log.write(json.dumps(record) + "\n")
                log.flush()
        if rank == 0 and (state.step % recipe.checkpoint_every == 0 or state.step == o.steps or stop.received):
            _save_checkpoint(checkpoint, model, optimisers, average, state)
    if log:
        log.close()
    if world > 1:
        dist.destroy_process_group()
    return out


@dataclass(slots=True)
class State:
    """What changes from step to step beside the tensors."""

    step: int
    best_gain_db: float
    residual_std: float | None


class _StopSignal:
    """Turns SIGTERM into a flag, so that the current step ends and a checkpoint is written."""

    def __init__(self) -> None:
        self.received = False
        if hasattr(signal, "SIGTERM"):
            try:
                signal.signal(signal.SIGTERM, self._receive)
            except ValueError:  # not in the main thread: the caller handles signals
                pass

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True


def build_optimisers(recipe: Recipe, model: nn.Module) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the parameters named ``matrix`` and AdamW for the rest."""
    o = recipe.optimiser
    named = list(model.named_parameters())
    matrices = [p for name, p in named if o.name == "muon" and name.endswith(".matrix")]
    others = [p for name, p in named if o.name != "muon" or not name.endswith(".matrix")]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=o.learning_rate, weight_decay=o.weight_decay, betas=(0.9, 0.99), fused=True)
    ]
    if matrices:
        optimisers.append(
            torch.optim.Muon(
                matrices, lr=o.learning_rate, weight_decay=o.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimisers


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then half a cosine to zero (or constant)."""
    o = recipe.optimiser
    if step < o.warmup:
        return o.learning_rate * (step + 1) / o.warmup
    if o.decay == "none":
        return o.learning_rate
    return o.learning_rate * 0.5 * (1 + float(np.cos(np.pi * (step - o.warmup) / max(1, o.steps - o.warmup))))


def validation_gain_db(
    recipe: Recipe, schedule: Schedule, weights: dict[str, Tensor], batch: Batch, residual_std: float | None, device: str
) -> float:
    """Mean PSNR gain over zero-filling of the one-step estimate on the validation pairs, in dB."""
    model = build_model(recipe.model.model_dump()).to(device).to(memory_format=torch.channels_last).eval()
    model.load_state_dict(weights)
    alpha, sigma = (float(v[0]) for v in schedule.alpha_sigma(np.ones(1)))
    a, b = read_coefficients(schedule.prediction, alpha, sigma)
    condition = float(schedule.condition(np.ones(1))[0])
    gains = []
    noise = torch.Generator().manual_seed(0)
    with torch.inference_mode(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled=recipe.optimiser.bf16):
        for lr, hr in zip(torch.from_numpy(batch.lr).split(16), torch.from_numpy(batch.hr).split(16), strict=True):
            x_t = torch.randn(lr.shape, generator=noise).to(device)
            f = model(x_t, _input(lr.to(device), residual_std), torch.full((len(lr),), condition, device=device))
            x0 = (a * x_t + b * f.float()).cpu()
            sr = (x0 + 1) / 2 if residual_std is None else lr + residual_std * x0
            before, after = ((image - hr).square().mean((1, 2, 3)) for image in (lr, sr))
            gains.append(10 * (before / after).log10())
    return float(torch.cat(gains).mean())


def _tensors(batch: Batch, residual_std: float | None, device: str) -> tuple[Tensor, Tensor]:
    lr, hr = torch.from_numpy(batch.lr), torch.from_numpy(batch.hr)
    return _input(lr, residual_std).to(device), to_target(hr, lr, residual_std).to(device)


def _input(lr: Tensor, residual_std: float | None) -> Tensor:
    """The conditioning image as the network sees it: in [-1, 1] for the paper's system, as it is for the residual one."""
    return lr * 2 - 1 if residual_std is None else lr


def _residual_std(recipe: Recipe, images: Images, pairs: PairConfig) -> float | None:
    if not recipe.diffusion.residual:
        return None
    batch = draw_batch(images.training, pairs, 256, np.random.default_rng((recipe.seed, 998)))
    return float((batch.hr - batch.lr).std())


def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float, n_updates: int) -> None:
    decay = min(decay, (1 + n_updates) / (10 + n_updates))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            average[key].lerp_(value, 1 - decay)


def _save_checkpoint(
    path: Path, model: nn.Module, optimisers: list[torch.optim.Optimizer], average: dict[str, Tensor], state: State
) -> None:
    record = {
        "model": model.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers],
        "average": average,
        "state": {"step": state.step, "best_gain_db": state.best_gain_db, "residual_std": state.residual_std},
    }
    partial = path.with_suffix(".partial")
    torch.save(record, partial)
    partial.rename(path)


def _write_summary(out: Path, recipe: Recipe, state: State, description: str) -> None:
    record = {
        "recipe": recipe.model_dump(mode="json"),
        "data": description,
        "step": state.step,
        "validation_gain_db": state.best_gain_db,
        "residual_std": state.residual_std,
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
