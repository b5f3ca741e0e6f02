"""What training and exporting ask of ``interp4d``: recipes, data, system, graphs. Imports torch when it is needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.errors import UsageError
from cmrsr.tasks.interp4d.training.data import Stacks
from cmrsr.tasks.interp4d.training.recipe import ClipRecipe, VolumeRecipe
from cmrsr.training.cache import OnItem

if TYPE_CHECKING:
    from cmrsr.exporting.checkpoint import Checkpoint, Parts, Reader
    from cmrsr.training.system import System

RECIPES = (ClipRecipe, VolumeRecipe)
DATA = Stacks


def load_data(recipe: ClipRecipe | VolumeRecipe, data: str | None, cache: Path, on_item: OnItem = None) -> Stacks:
    """The recipe's data, or those of ``data`` instead."""
    from cmrsr.tasks.interp4d.training.sources import load_stacks

    n_slices = recipe.data.n_slices if isinstance(recipe, VolumeRecipe) else 1
    return load_stacks(recipe.data, n_slices, data or recipe.data.source, cache, on_item)


def build_system(recipe: ClipRecipe | VolumeRecipe, data: Stacks) -> "System":
    """The system that is trained: one of the two stages."""
    from cmrsr.tasks.interp4d.training.latent_system import LatentClipSystem
    from cmrsr.tasks.interp4d.training.system import ClipSystem, VolumeSystem

    if isinstance(recipe, VolumeRecipe):
        return VolumeSystem(recipe, data)
    return LatentClipSystem(recipe, data) if recipe.model.name == "tssc-paper" else ClipSystem(recipe, data)


def parts(first: "Checkpoint", reader: "Reader") -> "Parts":
    """The graphs of both stages. UsageError: the folder is not one of stage 1, or that of stage 2 is not named."""
    from cmrsr.exporting.checkpoint import Parts
    from cmrsr.tasks.interp4d.training.graph import interp4d_graphs, read_second

    trained = first.recipe
    if isinstance(trained, VolumeRecipe):
        raise UsageError(
            f"{reader.folder} is stage 2 of interp4d: name it as volume_checkpoint beside stage 1 in a recipe"
        )
    if trained.model.name == "tssc-paper":
        raise UsageError(f"{reader.folder}: {trained.model.name} works on latents and has no engine")
    second = read_second(reader)
    return Parts(interp4d_graphs(first.model, second.model), second, trained.residual_weight)
