"""What training and exporting ask of ``sr``: recipes, data, system, graphs. Imports torch when it is needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.tasks.sr.training.data import Images
from cmrsr.tasks.sr.training.recipe import SrRecipe
from cmrsr.training.cache import OnItem

if TYPE_CHECKING:
    from cmrsr.exporting.checkpoint import Checkpoint, Parts, Reader
    from cmrsr.training.system import System

RECIPES = (SrRecipe,)
DATA = Images


def load_data(recipe: SrRecipe, data: str | None, cache: Path, on_item: OnItem = None) -> Images:
    """The recipe's data, or those of ``data`` instead."""
    from cmrsr.tasks.sr.training.scenes import load_images

    return load_images(recipe.data, data or recipe.data.source, cache, on_item)


def build_system(recipe: SrRecipe, data: Images) -> "System":
    """The system that is trained."""
    from cmrsr.tasks.sr.training.system import SrSystem

    return SrSystem(recipe, data)


def finish(recipe: SrRecipe, data: Images, folder: Path, device: str) -> None:
    """Calibrate the uncertainty of what was trained, where one step gives the posterior mean."""
    from cmrsr.tasks.sr.run import one_step_is_mean
    from cmrsr.tasks.sr.training.calibration import calibrate

    if one_step_is_mean(recipe.diffusion.build()):
        calibrate(recipe, data, folder, device)


def parts(first: "Checkpoint", reader: "Reader") -> "Parts":
    """The graphs of what was trained; there is no second stage."""
    from cmrsr.exporting.checkpoint import Parts
    from cmrsr.tasks.sr.training.graph import sr_step

    return Parts({"step": sr_step(first.model, residual=first.residual)})
