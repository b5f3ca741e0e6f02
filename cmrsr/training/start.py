"""Weights that training begins from: those of an engine, or of an earlier run."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cmrsr.errors import UsageError
from cmrsr.runtime.bundle import find

SUMMARY, WEIGHTS = "training.json", "weights.safetensors"
VOLUME_SUMMARY, VOLUME_WEIGHTS = "volume.json", "volume.safetensors"  # of stage 2, in an engine that has two


def start_folder(start: str) -> Path:
    """Where the weights lie: a run's folder, or an engine by its name."""
    return Path(start) if (Path(start) / WEIGHTS).is_file() else find(start)


def start_files(start: str, second_stage: bool = False) -> tuple[Path, Path]:
    """The summary and the weights; an engine of two stages holds those of its second beside the first's."""
    folder = start_folder(start)
    own = second_stage and (folder / VOLUME_WEIGHTS).is_file()
    return (folder / VOLUME_SUMMARY, folder / VOLUME_WEIGHTS) if own else (folder / SUMMARY, folder / WEIGHTS)


def start_weights(start: str, second_stage: bool = False) -> dict[str, Tensor]:
    """float32 tensors by name. UsageError: the folder holds none."""
    _, path = start_files(start, second_stage)
    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"start {start}: no weights in {path} ({error}); name an engine, or a folder written by `cmrsr train`"
        ) from error


def begin(model: nn.Module, start: str) -> None:
    """Put the weights into the model. UsageError: they are another model's."""
    load(model, start, start_weights(start))


def load(model: nn.Module, start: str, weights: dict[str, Tensor]) -> None:
    """Put given weights of ``start`` into a model. UsageError: they are another model's."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(
            f"start {start}: the weights in {start_folder(start)} are not of this model; set model to what {SUMMARY} "
            "beside them says"
        ) from error


def start_summary(start: str, second_stage: bool = False) -> dict[str, Any]:
    """What was written about the weights' own training. UsageError: nothing readable."""
    path, _ = start_files(start, second_stage)
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        float(found["residual_std"] or 0.0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"start {start}: no residual_std in {path} ({error})") from error
    return found


def start_residual_std(start: str) -> float | None:
    """What the weights' residuals were divided by; None where they are not residuals."""
    found = start_summary(start)["residual_std"]
    return None if found is None else float(found)
