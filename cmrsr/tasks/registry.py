"""How each task is trained and exported: its recipes, data, networks and graphs.

With ``rooms`` and the command line this is the one place that names all tasks; a fifth one is a folder beside it and a
line in each table and function here. Nothing of torch is imported before a function that needs it is called.
"""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from cmrsr.errors import UsageError
from cmrsr.tasks.function.training.data import Beats
from cmrsr.tasks.function.training.recipe import FunctionRecipe
from cmrsr.tasks.interp4d.training.data import Stacks
from cmrsr.tasks.interp4d.training.recipe import ClipRecipe, VolumeRecipe
from cmrsr.tasks.mie.training.data import Infarcts
from cmrsr.tasks.mie.training.recipe import MieRecipe
from cmrsr.tasks.rooms import kind_of
from cmrsr.tasks.sr.training.data import Images
from cmrsr.tasks.sr.training.recipe import SrRecipe
from cmrsr.training.cache import OnItem
from cmrsr.training.recipe import RECIPES, first_problem, merged, override_key

if TYPE_CHECKING:
    from cmrsr.exporting.checkpoint import Source
    from cmrsr.exporting.recipe import ExportRecipe
    from cmrsr.networks.perfgen import PerfGen
    from cmrsr.networks.sr3 import SR3
    from cmrsr.runtime.bundle import Bundle, Graph, Manifest
    from cmrsr.runtime.choice import DeviceChoice, Engine
    from cmrsr.tasks.function.training.causal import Causal
    from cmrsr.tasks.interp4d.training.mamba_volume import MambaVolume
    from cmrsr.tasks.interp4d.training.vdt import Vdt, VdtPaper
    from cmrsr.tasks.mie.training.cpkdm import Cpkdm
    from cmrsr.training.loop import Progress
    from cmrsr.training.system import System

    Model = PerfGen | SR3 | Vdt | VdtPaper | MambaVolume | Causal | Cpkdm

Recipe = SrRecipe | ClipRecipe | VolumeRecipe | FunctionRecipe | MieRecipe
Data = Images | Stacks | Beats | Infarcts
_RECIPE: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="system")])


# ---- recipes and training ------------------------------------------------------------------------------------------


def parse_recipe(tree: Any) -> Recipe:
    """A recipe of what its TOML file or ``training.json`` holds. pydantic.ValidationError: it is not one."""
    return _RECIPE.validate_python(tree)


def load_recipe(name_or_path: str, overrides: Sequence[str] = (), start: str | None = None) -> Recipe:
    """A recipe by the name of a shipped one or by the path of a TOML file.

    overrides: ``key.sub=value``, the value as in TOML. start: weights to begin from; what the recipe's table
    ``fine_tuning`` says then stands in for the rest of it. UsageError: no such recipe, an unknown key, a bad value.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise UsageError(f"no recipe {name_or_path!r}: give the path of a TOML file or one of: {known}")
    try:
        tree: dict[str, Any] = tomllib.loads(path.read_text())
        fine_tuning = tree.pop("fine_tuning", {})
        if not isinstance(fine_tuning, dict):
            raise UsageError(f"recipe {path}: fine_tuning {fine_tuning!r}: expected a table of the recipe's own keys")
        tuned = {**merged(tree, fine_tuning), **({} if start is None else {"start": start})}
        for override in overrides:
            override_key(tree, override)
            override_key(tuned, override)
        parsed = parse_recipe(tuned)  # read even where it is not used: a mistake in it must not wait for that day
        return parse_recipe(tree) if start is None else parsed
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {first_problem(error)}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def load_data(recipe: Recipe, data: str | None, cache: Path, on_item: OnItem = None) -> Data:
    """The data of a recipe, or of ``data`` instead; ``on_item`` is told (done, total) as they are rendered or read.

    UnusableError: the folder holds too few patients. UsageError: every virtual patient is held out.
    """
    source = data or recipe.data.source
    if isinstance(recipe, SrRecipe):
        from cmrsr.tasks.sr.training.scenes import load_images

        return load_images(recipe.data, source, cache, on_item)
    if isinstance(recipe, FunctionRecipe):
        from cmrsr.tasks.function.training.sources import load_beats

        return load_beats(recipe.data, source, cache, on_item)
    if isinstance(recipe, MieRecipe):
        from cmrsr.tasks.mie.training.sources import load_infarcts

        return load_infarcts(recipe.data, source, cache, on_item)
    from cmrsr.tasks.interp4d.training.sources import load_stacks

    n_slices = recipe.data.n_slices if isinstance(recipe, VolumeRecipe) else 1
    return load_stacks(recipe.data, n_slices, source, cache, on_item)


def build_model(config: dict[str, Any]) -> "Model":
    """The network of a recipe's ``[model]`` table: ``name`` and the fields of that network's configuration."""
    from cmrsr.networks.build import build
    from cmrsr.tasks.function.training.network import NETWORKS as FUNCTION
    from cmrsr.tasks.interp4d.training.network import NETWORKS as INTERP4D
    from cmrsr.tasks.mie.training.network import NETWORKS as MIE
    from cmrsr.tasks.sr.training.network import NETWORKS as SR

    model: Model = build(config, {**SR, **INTERP4D, **FUNCTION, **MIE})
    return model


def build_system(recipe: Recipe, data: Data) -> "System":
    """The trainable system of a recipe on its data. UsageError: they do not go together."""
    if isinstance(recipe, SrRecipe) and isinstance(data, Images):
        from cmrsr.tasks.sr.training.system import SrSystem

        return SrSystem(recipe, data)
    if isinstance(recipe, ClipRecipe | VolumeRecipe) and isinstance(data, Stacks):
        from cmrsr.tasks.interp4d.training.latent_system import LatentClipSystem
        from cmrsr.tasks.interp4d.training.system import ClipSystem, VolumeSystem

        if isinstance(recipe, VolumeRecipe):
            return VolumeSystem(recipe, data)
        return LatentClipSystem(recipe, data) if recipe.model.name == "tssc-paper" else ClipSystem(recipe, data)
    if isinstance(recipe, FunctionRecipe) and isinstance(data, Beats):
        from cmrsr.tasks.function.training.system import FunctionSystem

        return FunctionSystem(recipe, data)
    if isinstance(recipe, MieRecipe) and isinstance(data, Infarcts):
        from cmrsr.tasks.mie.training.system import MieSystem

        return MieSystem(recipe, data)
    raise UsageError(f"{recipe.system} cannot be trained on {type(data).__name__.lower()}")


def train(
    recipe: Recipe,
    data: Data,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    on_step: "Callable[[Progress], None] | None" = None,
) -> Path:
    """``cmrsr.training.loop.train`` of the recipe's system on its data."""
    from cmrsr.training.loop import train as run

    return run(recipe, lambda: build_system(recipe, data), out, resume=resume, device=device, on_step=on_step)


# ---- exporting -----------------------------------------------------------------------------------------------------


def read_source(folder: Path, volume_folder: Path | None, *, half: bool) -> "Source":
    """The graphs of a folder of ``cmrsr train``, or of a bundle; of interp4d, ``volume_folder`` holds stage 2.

    half: weights are rounded to float16, as they are stored. UsageError: not such a folder, or not of the right stage.
    """
    from cmrsr.exporting.checkpoint import Source, read
    from cmrsr.training.start import SUMMARY, WEIGHTS

    first = read(folder, SUMMARY, WEIGHTS, half, parse_recipe, build_model)
    trained, model, residual = first.recipe, first.model, first.summary["residual_std"] is not None
    if isinstance(trained, VolumeRecipe):
        raise UsageError(f"{folder} is stage 2 of interp4d: name it as volume_checkpoint beside stage 1 in a recipe")
    second, specs = None, {}
    if isinstance(trained, SrRecipe):
        from cmrsr.tasks.sr.training.graph import sr_step

        specs = {"step": sr_step(model, residual=residual)}
    elif isinstance(trained, FunctionRecipe):
        from cmrsr.tasks.function.training.graph import function_graphs

        specs = function_graphs(model, residual=residual)
    elif isinstance(trained, MieRecipe):
        from cmrsr.tasks.mie.training.graph import mie_graphs

        specs = mie_graphs(model)
    else:
        assert isinstance(trained, ClipRecipe)
        from cmrsr.tasks.interp4d.training.graph import interp4d_graphs, read_second

        if trained.model.name == "tssc-paper":
            raise UsageError(f"{folder}: {trained.model.name} works on latents and has no engine")
        second = read_second(folder, volume_folder, half, parse_recipe, build_model)
        specs = interp4d_graphs(model, second.model)
    weight = trained.residual_weight if isinstance(trained, ClipRecipe) else None
    words = kind_of(trained.system).normalisation
    return Source(trained.system, words, trained.diffusion, weight, first, second, specs)


def export(recipe: "ExportRecipe", out: Path) -> "Manifest":
    """``cmrsr.exporting.export.export`` of what the recipe names as its checkpoint."""
    from cmrsr.exporting.export import export as write

    return write(recipe, read_source(recipe.checkpoint, recipe.volume_checkpoint, half=recipe.half_weights), out)


def load_torch(bundle: "Bundle", graph: "Graph", shapes: Any, choice: "DeviceChoice") -> "Engine":
    """As ``cmrsr.runtime.engine.load_graph``, with torch; it takes any shapes. UsageError: weights are not there."""
    from cmrsr.exporting.torch_engine import torch_graph
    from cmrsr.training.start import VOLUME_SUMMARY

    stage_two = bundle.path if (bundle.path / VOLUME_SUMMARY).is_file() else None
    return torch_graph(read_source(bundle.path, stage_two, half=False).specs.values(), graph, choice)
