"""``cmrsr export``."""

import logging
from pathlib import Path

from rich.console import Console

from cmrsr.cli.extras import need


def run_export_command(source: Path, out: Path | None) -> None:
    """Export one recipe or trained folder to a bundle."""
    need("train", "torch", "onnx", "onnxscript", "safetensors")
    need("onnxruntime", "onnxruntime")
    from cmrsr.exporting.export import export
    from cmrsr.exporting.recipe import load_export_recipe

    recipe = load_export_recipe(source)
    folder = out or Path("engines") / recipe.name
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports every absent optional package
    manifest = export(recipe, folder)
    console = Console(highlight=False)
    for graph in manifest.graphs:
        size = (folder / graph.file).stat().st_size / 1e6
        console.print(
            f"{folder / graph.file}: {graph.parameters / 1e6:.2f} M parameters, {size:.1f} MB, "
            f"parity with torch float32 {graph.parity:.1e} (tolerance {graph.tolerance:g})"
        )
