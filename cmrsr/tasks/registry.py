"""How each task is trained and exported; what is of one task lies in the file ``training/entry.py`` of its room.

Nothing of torch is imported before a function that needs it is called.
"""

import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, TypeAdapter, ValidationError

from cmrsr.errors import UsageError
from cmrsr.tasks.rooms import TASKS, file_of, kind_of
from cmrsr.training.cache import OnItem
from cmrsr.training.recipe import RECIPES, Run, first_problem, merged, override_key

if TYPE_CHECKING:
    from cmrsr.exporting.checkpoint import Source
    from cmrsr.exporting.recipe import ExportRecipe
    from cmrsr.runtime.bundle import Bundle, Graph, Manifest
    from cmrsr.runtime.choice import DeviceChoice, Engine
    from cmrsr.training.loop import Progress
    from cmrsr.training.system import System

Recipe = Run  # of any task
Data = Any  # of the recipe's task


# ---- recipes and training ------------------------------------------------------------------------------------------


def parse_recipe(tree: Any) -> Recipe:
    """A recipe of what its TOML file or ``training.json`` holds. pydantic.ValidationError: it is not one."""
    return _adapter().validate_python(tree)


@cache
def _adapter() -> TypeAdapter[Recipe]:
    """Reads the recipes of all tasks."""
    kinds = tuple(kind for task in TASKS for kind in _entry(task).RECIPES)
    union: Any = Annotated[Union[kinds], Field(discriminator="system")]  # noqa: UP007  # of a tuple
    return TypeAdapter(union)


def _entry(task: str) -> Any:
    return file_of(task, "training.entry")


def task_of(recipe: Recipe) -> str:
    """The task that a recipe is of; one may have several systems, which ``recipe.system`` tells apart."""
    return next(task for task in TASKS if isinstance(recipe, _entry(task).RECIPES))


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
    return _entry(task_of(recipe)).load_data(recipe, data, cache, on_item)


def build_model(config: dict[str, Any]) -> Any:
    """The network of a recipe's ``[model]`` table: ``name`` and the fields of that network's configuration."""
    from cmrsr.networks.build import build

    known = {name: network for task in TASKS for name, network in file_of(task, "training.network").NETWORKS.items()}
    return build(config, known)


def build_system(recipe: Recipe, data: Data) -> "System":
    """The trainable system of a recipe on its data. UsageError: they do not go together."""
    entry = _entry(task_of(recipe))
    if not isinstance(data, entry.DATA):
        raise UsageError(f"{recipe.system} cannot be trained on {type(data).__name__.lower()}")
    system: System = entry.build_system(recipe, data)
    return system


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


def finish(recipe: Recipe, data: Data, folder: Path, device: str = "cpu") -> None:
    """What a task does with weights once they are trained: it calibrates what they say about their own errors."""
    after = getattr(_entry(task_of(recipe)), "finish", None)
    if after is not None:
        after(recipe, data, folder, device)


# ---- exporting -----------------------------------------------------------------------------------------------------


def read_source(folder: Path, volume_folder: Path | None, *, half: bool) -> "Source":
    """The graphs of a folder of ``cmrsr train``, or of a bundle; ``volume_folder`` holds a second stage.

    half: weights are rounded to float16, as they are stored. UsageError: not such a folder, or not of the right stage.
    """
    from cmrsr.exporting.checkpoint import Reader, Source
    from cmrsr.training.start import SUMMARY, WEIGHTS

    reader = Reader(folder=folder, volume_folder=volume_folder, half=half, parse=parse_recipe, build=build_model)
    first = reader.read(folder, SUMMARY, WEIGHTS)
    task = task_of(first.recipe)
    return Source(task, kind_of(task).normalisation, first, _entry(task).parts(first, reader))


def export(recipe: "ExportRecipe", out: Path) -> "Manifest":
    """``cmrsr.exporting.export.export`` of what the recipe names as its checkpoint."""
    from cmrsr.exporting.export import export as write

    return write(recipe, read_source(recipe.checkpoint, recipe.volume_checkpoint, half=recipe.half_weights), out)


def load_torch(bundle: "Bundle", graph: "Graph", shapes: Any, choice: "DeviceChoice") -> "Engine":
    """As ``cmrsr.runtime.engine.load_graph``, with torch; it takes any shapes. UsageError: weights are not there."""
    from cmrsr.exporting.torch_engine import torch_graph
    from cmrsr.training.start import VOLUME_SUMMARY

    stage_two = bundle.path if (bundle.path / VOLUME_SUMMARY).is_file() else None
    return torch_graph(read_source(bundle.path, stage_two, half=False).parts.specs.values(), graph, choice)
