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

    def save(self, folder: Path, summary: str, weights: str) -> None:
        # save_file would let nobody else read it
        (folder / weights).write_bytes(save({k: v.contiguous() for k, v in self.weights.items()}))
        (folder / summary).write_text(json.dumps(self.summary, indent=2) + "\n")


def read(
    folder: Path,
    summary_name: str,
    weights_name: str,
    half: bool,
    parse: Callable[[Any], Any],
    build: Callable[[dict[str, Any]], Any],
) -> Checkpoint:
    """What a folder holds; half: weights rounded to float16. UsageError: it is not a folder of ``cmrsr train``.

    parse: of the recipe in the summary; build: of its network.
    """
    try:
        summary: dict[str, Any] = json.loads((folder / summary_name).read_text())
        recipe = parse(summary["recipe"])
        weights = load_file(folder / weights_name)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise UsageError(
            f"{folder}: {reason}; expected {summary_name} and {weights_name} as `cmrsr train` writes them"
        ) from error
    if half:
        weights = {k: v.half() if v.numel() >= SMALL else v for k, v in weights.items()}
    model = build(recipe.model.model_dump())
    try:
        model.load_state_dict({k: v.float() for k, v in weights.items()})
    except RuntimeError as error:
        raise UsageError(
            f"{folder}: {weights_name} does not fit the model of its {summary_name}: train again"
        ) from error
    return Checkpoint(summary, recipe, weights, model)


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported: a checkpoint, its second stage beside it, and the graphs that both make, by name.

    normalisation: of the network's inputs, in words. residual_weight: see ``cmrsr.diffusion.residual``.
    """

    task: Task
    normalisation: str
    diffusion: Diffusion
    residual_weight: float | None
    first: Checkpoint
    second: Checkpoint | None
    specs: Mapping[str, GraphSpec]

    @property
    def residual_std(self) -> float | None:
        found: float | None = self.first.summary["residual_std"]
        return found

    @property
    def training(self) -> dict[str, Any]:
        """The summaries of the training, for the manifest."""
        return self.first.summary if self.second is None else {**self.first.summary, "volume": self.second.summary}
