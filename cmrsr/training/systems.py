"""The system that a recipe trains."""

from cmrsr.errors import UsageError
from cmrsr.training.data import Beats, Data, Images, Infarcts, Stacks
from cmrsr.training.function_system import FunctionSystem
from cmrsr.training.interp4d_system import ClipSystem, VolumeSystem
from cmrsr.training.latent_system import LatentClipSystem
from cmrsr.training.mie_system import MieSystem
from cmrsr.training.recipe import ClipRecipe, FunctionRecipe, MieRecipe, Recipe, SrRecipe, VolumeRecipe
from cmrsr.training.sr_system import SrSystem
from cmrsr.training.system import System


def build_system(recipe: Recipe, data: Data) -> System:
    """The trainable system of a recipe on its data. UsageError: they do not go together."""
    if isinstance(recipe, SrRecipe) and isinstance(data, Images):
        return SrSystem(recipe, data)
    if isinstance(recipe, ClipRecipe) and isinstance(data, Stacks):
        return LatentClipSystem(recipe, data) if recipe.model.name == "tssc-paper" else ClipSystem(recipe, data)
    if isinstance(recipe, VolumeRecipe) and isinstance(data, Stacks):
        return VolumeSystem(recipe, data)
    if isinstance(recipe, FunctionRecipe) and isinstance(data, Beats):
        return FunctionSystem(recipe, data)
    if isinstance(recipe, MieRecipe) and isinstance(data, Infarcts):
        return MieSystem(recipe, data)
    raise UsageError(f"{recipe.system} cannot be trained on {type(data).__name__.lower()}")
