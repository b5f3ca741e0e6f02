"""What is exported: the networks of a trained folder, or of a bundle, as graphs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from cmrsr.errors import UsageError
from cmrsr.exporting.function_graph import function_graphs
from cmrsr.exporting.graph import sr_step
from cmrsr.exporting.interp4d_graph import clip_step, volume
from cmrsr.exporting.mie_graph import mie_graphs
from cmrsr.exporting.spec import GraphSpec
from cmrsr.models import Model, build_model
from cmrsr.models.causal import Causal
from cmrsr.models.cpkdm import Cpkdm
from cmrsr.models.mamba_volume import MambaVolume
from cmrsr.models.vdt import Vdt
from cmrsr.training.recipe import (
    FunctionRecipe,
    MieRecipe,
    Recipe,
    SrRecipe,
    VolumeRecipe,
    first_problem,
    parse_recipe,
)

SUMMARY, WEIGHTS = "training.json", "weights.safetensors"
VOLUME_SUMMARY, VOLUME_WEIGHTS = "volume.json", "volume.safetensors"  # of stage 2 in a bundle of interp4d
SMALL = 1024  # tensors with fewer entries stay float32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What ``cmrsr train`` wrote: the summary, the recipe in it, the weights as they are stored, the network."""

    summary: dict[str, Any]
    recipe: Recipe
    weights: dict[str, torch.Tensor]
    model: Model

    def save(self, folder: Path, summary: str, weights: str) -> None:
        # save_file would let nobody else read it
        (folder / weights).write_bytes(save({k: v.contiguous() for k, v in self.weights.items()}))
        (folder / summary).write_text(json.dumps(self.summary, indent=2) + "\n")


def _read(folder: Path, summary_name: str, weights_name: str, half: bool) -> Checkpoint:
    try:
        summary: dict[str, Any] = json.loads((folder / summary_name).read_text())
        recipe = parse_recipe(summary["recipe"])
        weights = load_file(folder / weights_name)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise UsageError(
            f"{folder}: {reason}; expected {summary_name} and {weights_name} as `cmrsr train` writes them"
        ) from error
    if half:
        weights = {k: v.half() if v.numel() >= SMALL else v for k, v in weights.items()}
    model = build_model(recipe.model.model_dump())
    try:
        model.load_state_dict({k: v.float() for k, v in weights.items()})
    except RuntimeError as error:
        raise UsageError(
            f"{folder}: {weights_name} does not fit the model of its {summary_name}: train again"
        ) from error
    return Checkpoint(summary, recipe, weights, model)


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint, stage 2 of interp4d beside it, and the graphs that both make, by the names of a manifest."""

    first: Checkpoint
    second: Checkpoint | None
    specs: dict[str, GraphSpec]

    @property
    def residual_std(self) -> float | None:
        found: float | None = self.first.summary["residual_std"]
        return found

    @property
    def training(self) -> dict[str, Any]:
        """The summaries of the training, for the manifest."""
        return self.first.summary if self.second is None else {**self.first.summary, "volume": self.second.summary}


def read_source(folder: Path, volume_folder: Path | None, *, half: bool) -> Source:
    """The graphs of a folder of ``cmrsr train``, or of a bundle; of interp4d, ``volume_folder`` holds stage 2.

    half: weights are rounded to float16, as they are stored. UsageError: not such a folder, or not of the right stage.
    """
    first = _read(folder, SUMMARY, WEIGHTS, half)
    trained, model = first.recipe, first.model
    if isinstance(trained, VolumeRecipe):
        raise UsageError(f"{folder} is stage 2 of interp4d: name it as volume_checkpoint beside stage 1 in a recipe")
    residual = first.summary["residual_std"] is not None
    if isinstance(trained, SrRecipe):
        return Source(first, None, {"step": sr_step(model, residual=residual)})
    if isinstance(trained, FunctionRecipe):
        assert isinstance(model, Causal)
        return Source(first, None, function_graphs(model, residual=residual))
    if isinstance(trained, MieRecipe):
        assert isinstance(model, Cpkdm)
        return Source(first, None, mie_graphs(model))
    second = _read_second(folder, volume_folder, half)
    if not isinstance(model, Vdt):
        raise UsageError(f"{folder}: {trained.model.name} works on latents and has no engine")
    assert isinstance(second.model, MambaVolume)
    return Source(first, second, {"step": clip_step(model), "volume": volume(second.model)})


def _read_second(stage_one: Path, folder: Path | None, half: bool) -> Checkpoint:
    """Stage 2 of interp4d, from the folder that it was trained in or from a bundle."""
    if folder is None:
        raise UsageError(
            f"{stage_one} is stage 1 of interp4d, whose engine needs stage 2 as well: write an export recipe "
            "(TOML) with checkpoint and volume_checkpoint"
        )
    in_bundle = (folder / VOLUME_SUMMARY).is_file()
    names = (VOLUME_SUMMARY, VOLUME_WEIGHTS) if in_bundle else (SUMMARY, WEIGHTS)
    second = _read(folder, *names, half)
    if not isinstance(second.recipe, VolumeRecipe):
        raise UsageError(f"volume_checkpoint {folder} is of {second.recipe.system}, expected interp4d-volume")
    # the folder of stage 1 is the trainer's own affair
    second.summary["recipe"]["stage_one"] = Path(second.summary["recipe"]["stage_one"]).name
    return second
