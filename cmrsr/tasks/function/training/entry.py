"""What training and exporting ask of ``function``: recipes, data, system, graphs. Imports torch when it is needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.tasks.function.training.data import Beats
from cmrsr.tasks.function.training.recipe import FunctionRecipe
from cmrsr.training.cache import OnItem

if TYPE_CHECKING:
    from cmrsr.exporting.checkpoint import Checkpoint, Parts, Reader
    from cmrsr.training.system import System

RECIPES = (FunctionRecipe,)
DATA = Beats


def load_data(recipe: FunctionRecipe, data: str | None, cache: Path, on_item: OnItem = None) -> Beats:
    """The recipe's data, or those of ``data`` instead."""
    from cmrsr.tasks.function.training.sources import load_beats

    return load_beats(recipe.data, data or recipe.data.source, cache, on_item)


def build_system(recipe: FunctionRecipe, data: Beats) -> "System":
    """The system that is trained."""
    from cmrsr.tasks.function.training.system import FunctionSystem

    return FunctionSystem(recipe, data)


def finish(recipe: FunctionRecipe, data: Beats, folder: Path, device: str) -> None:
    """Calibrate the confidence of what was trained, where anything was trained to measure."""
    from cmrsr.tasks.function.training.calibration import calibrate

    if recipe.tasks != "sr":
        calibrate(recipe, data, folder, device)


def parts(first: "Checkpoint", reader: "Reader") -> "Parts":
    """The graphs of what was trained; there is no second stage."""
    from cmrsr.exporting.checkpoint import Parts
    from cmrsr.tasks.function.training.graph import function_graphs

    return Parts(function_graphs(first.model, residual=first.residual))
