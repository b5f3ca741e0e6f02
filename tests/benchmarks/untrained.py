"""An engine with random weights, for speed alone."""

from pathlib import Path

from cmrsr.exporting.recipe import ExportRecipe
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.tasks.registry import export, load_recipe
from tests.exporting.untrained import untrained


def untrained_bundle(folder: Path, recipe_name: str, changes: list[str]) -> Bundle:
    """Export the network of a training recipe of ``sr`` as it is initialised, with a variant in f16."""
    checkpoint = untrained(folder / "checkpoint", load_recipe(recipe_name, changes))
    order = ExportRecipe(
        name=recipe_name, checkpoint=checkpoint, variants=("f16",), tolerance=1e-2, tolerance_low_precision=1.0
    )
    export(order, folder / recipe_name)
    return load(str(folder / recipe_name), "sr")
