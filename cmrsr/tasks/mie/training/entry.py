"""What training and exporting ask of ``mie``: recipes, data, system, graphs. Imports torch when it is needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.tasks.mie.training.data import Infarcts
from cmrsr.tasks.mie.training.recipe import MieRecipe
from cmrsr.training.cache import OnItem

if TYPE_CHECKING:
    from cmrsr.exporting.checkpoint import Checkpoint, Parts, Reader
    from cmrsr.training.system import System

RECIPES = (MieRecipe,)
DATA = Infarcts


def load_data(recipe: MieRecipe, data: str | None, cache: Path, on_item: OnItem = None) -> Infarcts:
    """The recipe's data, or those of ``data`` instead."""
    from cmrsr.tasks.mie.training.sources import load_infarcts

    return load_infarcts(recipe.data, data or recipe.data.source, cache, on_item)


def build_system(recipe: MieRecipe, data: Infarcts) -> "System":
    """The system that is trained."""
    from cmrsr.tasks.mie.training.system import MieSystem

    return MieSystem(recipe, data)


def parts(first: "Checkpoint", reader: "Reader") -> "Parts":
    """The graphs of what was trained; there is no second stage."""
    from cmrsr.exporting.checkpoint import Parts
    from cmrsr.tasks.mie.training.graph import mie_graphs

    return Parts(mie_graphs(first.model))
