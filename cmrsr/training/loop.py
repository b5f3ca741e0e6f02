"""The training loop: plain PyTorch, one process or torchrun, exact resume."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from cmrsr.errors import CmrsrError, UsageError
from cmrsr.io.outputs import output_errors, replacing, write_json_atomic
from cmrsr.training.recipe import Run
from cmrsr.training.start import SUMMARY, WEIGHTS, start_folder, start_summary
from cmrsr.training.system import System


@dataclass(frozen=True, slots=True)
class Progress:
    """What the loop tells its caller after every step."""

    step: int
    n_steps: int
    loss: float
    samples_per_s: float
    gain_db: float | None  # over the baseline on the validation data, at validation steps
    baseline: str


def train(
    recipe: Run,
    build: Callable[[], System],
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train and return the folder with ``weights.safetensors`` (EMA, best on validation) and ``training.json``.

    The batch of a step depends on (seed, rank, step) alone, so a resumed run continues bit for bit where it stopped.
    SIGTERM ends the run after a checkpoint, then takes its usual course. Under torchrun ``cuda`` is each process's own.
    UsageError: data, crop, optimiser and model do not go together, or the checkpoint is another run's.
    CmrsrError: the loss is not finite.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return _train(recipe, build, out, resume, device, on_step)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        return _train(recipe, build, out, resume, device, on_step)
    finally:
        dist.destroy_process_group()


def _train(
    recipe: Run,
    build: Callable[[], System],
    out: Path,
    resume: bool,
    device: str,
    on_step: Callable[[Progress], None] | None,
) -> Path:
    """In one process, or as one of a group."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    began = _began(recipe, out)
    torch.manual_seed(recipe.seed)
    system = build()
    model = system.build(device)
    checkpoint = out / "checkpoint.pt"
    resumed = resume and checkpoint.exists()
    whole_start = bool(recipe.start) and not resumed and system.begin(model, str(recipe.start))
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    o = recipe.optimiser
    optimisers = build_optimisers(recipe, model)
    state = State(step=0, best_gain_db=-1e9, residual_std=system.residual_std)
    if resumed:
        state = _load_checkpoint(checkpoint, model, optimisers, average, device)
        system.residual_std = state.residual_std
    trained: nn.Module = nn.parallel.DistributedDataParallel(model) if world > 1 else model
    bf16 = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=o.bf16)
    if whole_start:
        state.start_gain_db = state.best_gain_db = system.gain_db(average, device)
        if rank == 0:
            _write_weights(out, average, recipe, state, system.description, began)
    started, done_here = time.monotonic(), 0
    stopping = False
    log_file = (out / "log.jsonl").open("a" if resume else "w") if rank == 0 else nullcontext()
    with log_file as log, _StopSignal() as stop:
        while state.step < o.steps and not (stopping or exhausted(recipe, state)):
            step = state.step
            rng = np.random.default_rng((recipe.seed, rank, step))
            generator = torch.Generator().manual_seed((recipe.seed * 1_000_003 + step) * world + rank)
            torch.manual_seed(generator.initial_seed())  # dropout
            for group in (g for optimiser in optimisers for g in optimiser.param_groups):
                group["lr"] = learning_rate(recipe, step)
            frozen = system.frozen(step)
            if step and frozen != system.frozen(step - 1):
                state.best_gain_db = -1e9  # a new stage: what was best in the one before is its beginning
            with bf16:
                loss = system.loss(trained, rng, generator, device, step)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CmrsrError(
                    f"the loss is {value} at step {step + 1}: lower optimiser.learning_rate (now {o.learning_rate:g}), "
                    f"then train again, or go on from {checkpoint} with --resume"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            for name, parameter in model.named_parameters() if frozen else ():
                if name.startswith(frozen):
                    parameter.grad = None  # which optimisers pass over, momentum and weight decay included
            nn.utils.clip_grad_norm_(model.parameters(), o.clip)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            state.step, done_here = step + 1, done_here + 1
            if state.step % o.ema_every == 0:
                _update_average(average, model, o.ema, state.step // o.ema_every)
            gain = None
            if state.step % recipe.validate_every == 0 or state.step == o.steps:
                gain = system.gain_db(average, device)
                state.n_worse += 1
                if gain > state.best_gain_db:
                    state.best_gain_db, state.n_worse = gain, 0
                    if rank == 0:
                        _write_weights(out, average, recipe, state, system.description, began)
            if log:
                rate = done_here * o.batch_size * world / (time.monotonic() - started)
                progress = Progress(state.step, o.steps, value, rate, gain, system.baseline)
                if on_step:
                    on_step(progress)
                if state.step % 50 == 0 or gain is not None:
                    record = {"step": state.step, "loss": progress.loss, "samples_per_s": rate, "gain_db": gain}
                    log.write(json.dumps(record) + "\n")
                    log.flush()
            stopping = stop.agreed(device, world) or exhausted(recipe, state)
            if rank == 0 and (state.step % recipe.checkpoint_every == 0 or state.step == o.steps or stopping):
                _save_checkpoint(checkpoint, model, optimisers, average, state)
    return out


@dataclass(slots=True)
class State:
    """What changes from step to step beside the tensors."""

    step: int
    best_gain_db: float
    residual_std: float | None
    n_worse: int = 0  # validations since the best one
    start_gain_db: float | None = None  # of the weights that fine-tuning began from


def exhausted(recipe: Run, state: State) -> bool:
    """Whether the recipe's patience is at its end."""
    return recipe.patience is not None and state.n_worse >= recipe.patience


class _StopSignal:
    """Holds SIGTERM back inside a ``with`` block, so that the current step ends and a checkpoint is written."""

    def __init__(self) -> None:
        self.received = False
        # Python takes handlers from the main thread only; elsewhere signals are the caller's own affair
        self.listening = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "_StopSignal":
        if self.listening:
            self.before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        if self.listening:
            signal.signal(signal.SIGTERM, self.before or signal.SIG_DFL)
        if self.received:
            signal.raise_signal(signal.SIGTERM)

    def agreed(self, device: str, world: int) -> bool:
        """Whether any process was told to stop: all leave after the same step, or the others would wait for ever."""
        if world == 1:
            return self.received
        told = torch.tensor(float(self.received), device=device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True


def build_optimisers(recipe: Run, model: nn.Module) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the parameters named ``matrix`` and AdamW for the rest.

    UsageError if Muon is asked for and the model has no such parameters.
    """
    o = recipe.optimiser
    named = list(model.named_parameters())
    matrices = [p for name, p in named if o.name == "muon" and name.endswith(".matrix")]
    others = [p for name, p in named if o.name != "muon" or not name.endswith(".matrix")]
    if o.name == "muon" and not matrices:
        raise UsageError(f"optimiser.name muon: {recipe.model.name} keeps no weights as matrices, use adamw")
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


def learning_rate(recipe: Run, step: int) -> float:
    """Linear warm-up, then half a cosine to zero (or constant)."""
    o = recipe.optimiser
    if step < o.warmup:
        return o.learning_rate * (step + 1) / o.warmup
    if o.decay == "none":
        return o.learning_rate
    return o.learning_rate * 0.5 * (1 + float(np.cos(np.pi * (step - o.warmup) / max(1, o.steps - o.warmup))))


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
        "state": asdict(state),
    }
    with replacing(path) as partial:
        torch.save(record, partial)


def _load_checkpoint(
    path: Path,
    model: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    average: dict[str, Tensor],
    device: str,
) -> State:
    """Put a checkpoint into model, optimisers and average, and return where the run stood."""
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, record in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(record)
        average.update(saved["average"])
        return State(**saved["state"])
    except Exception as error:  # torch.load and load_state_dict raise anything from EOFError to UnpicklingError
        raise UsageError(
            f"{path} does not belong to this recipe or is damaged: go on with the recipe that it was trained with, or "
            "leave out --resume to start anew"
        ) from error


def _began(recipe: Run, out: Path) -> dict[str, Any] | None:
    """What is known of the weights that a run begins from. UsageError: it would write over them."""
    if not recipe.start:
        return None
    if start_folder(recipe.start).resolve() == out.resolve():
        raise UsageError(f"start {recipe.start}: the run would write over it; name another folder with -o")
    return start_summary(recipe.start, second_stage=recipe.second_stage)


def _write_weights(
    out: Path,
    average: dict[str, Tensor],
    recipe: Run,
    state: State,
    description: str,
    began: dict[str, Any] | None,
) -> None:
    """``weights.safetensors``, and what they are in ``training.json``."""
    with replacing(out / WEIGHTS) as partial:
        save_file({k: v.contiguous() for k, v in average.items()}, partial)
    record: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "data": description,
        "step": state.step,
        "validation_gain_db": state.best_gain_db,
        "residual_std": state.residual_std,
    }
    if began is not None:
        record["start"] = {"validation_gain_db": state.start_gain_db, "training": began}
    write_json_atomic(out / SUMMARY, record)
