"""What is exported: the networks of a trained folder, or of a bundle, as graphs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from cmrsr.errors import UsageError
from cmrsr.exporting.spec import GraphSpec
from cmrsr.runtime.bundle import Task
from cmrsr.training.recipe import Diffusion, first_problem

SMALL = 1024  # tensors with fewer entries stay float32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What ``cmrsr train`` wrote: the summary, the recipe in it, the weights as they are stored, the network."""

    summary: dict[str, Any]
    recipe: Any
    weights: dict[str, torch.Tensor]
    model: Any

    @property
    def residual_std(self) -> float | None:
        found: float | None = self.summary["residual_std"]
        return found

    @property
    def residual(self) -> bool:
        """Whether residuals are diffused, not images."""
        return self.residual_std is not None

    def save(self, folder: Path, summary: str, weights: str) -> None:
        # save_file would let nobody else read it
        (folder / weights).write_bytes(save({k: v.contiguous() for k, v in self.weights.items()}))
        (folder / summary).write_text(json.dumps(self.summary, indent=2) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads what is to be exported from ``folder``; ``volume_folder`` holds a second stage, where there is one.

    half: weights are rounded to float16, as they are stored. parse: of the recipe in a summary; build: of its network.
    """

    folder: Path
    volume_folder: Path | None
    half: bool
    parse: Callable[[Any], Any]
    build: Callable[[dict[str, Any]], Any]

    def read(self, folder: Path, summary_name: str, weights_name: str) -> Checkpoint:
        """What a folder holds. UsageError: it is not a folder of ``cmrsr train``."""
        try:
            summary: dict[str, Any] = json.loads((folder / summary_name).read_text())
            recipe = self.parse(summary["recipe"])
            weights = load_file(folder / weights_name)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = first_problem(error) if isinstance(error, ValidationError) else error
            raise UsageError(
                f"{folder}: {reason}; expected {summary_name} and {weights_name} as `cmrsr train` writes them"
            ) from error
        if self.half:
            weights = {k: v.half() if v.numel() >= SMALL else v for k, v in weights.items()}
        model = self.build(recipe.model.model_dump())
        try:
            model.load_state_dict({k: v.float() for k, v in weights.items()})
        except RuntimeError as error:
            raise UsageError(
                f"{folder}: {weights_name} does not fit the model of its {summary_name}: train again"
            ) from error
        return Checkpoint(summary, recipe, weights, model)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a task makes of a checkpoint: its graphs by name, a second stage, and the weight of residuals, if any.

    residual_weight: see ``cmrsr.diffusion.residual``.
    """

    specs: Mapping[str, GraphSpec]
    second: Checkpoint | None = None
    residual_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported: a checkpoint, and what its task makes of it. normalisation: of the inputs, in words."""

    task: Task
    normalisation: str
    first: Checkpoint
    parts: Parts

    @property
    def diffusion(self) -> Diffusion:
        found: Diffusion = self.first.recipe.diffusion
        return found

    @property
    def training(self) -> dict[str, Any]:
        """The summaries of the training, for the manifest."""
        second = self.parts.second
        return self.first.summary if second is None else {**self.first.summary, "volume": second.summary}
