"""The recipes in export/: the shipped engines repeat themselves from them, the published networks have one each."""

import json
from pathlib import Path

import numpy as np
import pytest

from cmrsr.cli import run
from cmrsr.diagnostics.verify import example
from cmrsr.errors import UsageError
from cmrsr.exporting.recipe import load_export_recipe
from cmrsr.runtime.bundle import MANIFEST, Bundle, load, shipped
from cmrsr.runtime.onnx_runtime import OnnxRuntimeGraph
from cmrsr.runtime.sample import SAMPLE, read_sample
from cmrsr.tasks.registry import load_recipe, read_source
from cmrsr.training.recipe import RECIPES
from tests.exporting.untrained import untrained

FOLDER = Path(__file__).parents[2] / "export"
SHIPPED = [load(str(folder)) for folder in shipped()]
PAPER = sorted(path.stem for path in RECIPES.glob("*-paper.toml"))
QUICK = ("cpkdm-s", "perfgen-s")  # with all kinds of graphs between them; the others take minutes
SAME = 1e-5  # relative, where another version of the exporter, or another processor, orders the arithmetic otherwise


def test_every_engine_and_every_published_network_has_a_recipe() -> None:
    recipes = {path.stem: load_export_recipe(path) for path in FOLDER.glob("*.toml")}
    assert {name: recipe.name for name, recipe in recipes.items()} == {name: name for name in recipes}
    assert set(recipes) == {bundle.manifest.name for bundle in SHIPPED} | set(PAPER)
    for name in PAPER:
        assert recipes[name].checkpoint == FOLDER.parent / "runs" / name  # where `cmrsr train` puts it


@pytest.mark.parametrize("bundle", SHIPPED, ids=lambda bundle: bundle.manifest.name)
def test_an_engine_says_what_its_recipe_says(bundle: Bundle) -> None:
    manifest, recipe = bundle.manifest, load_export_recipe(FOLDER / f"{bundle.manifest.name}.toml")
    assert recipe.checkpoint == bundle.path.resolve()
    for field in ("version", "defaults", "trained", "spread", "expected_error", "metrics", "licence", "intended_use"):
        assert getattr(manifest, field) == getattr(recipe, field), field
    assert {tuple(graph.variants) for graph in manifest.graphs.values()} - {()} == {recipe.variants}


@pytest.mark.parametrize("name", QUICK)
def test_an_engine_repeats_itself_from_what_it_ships(name: str, tmp_path: Path) -> None:
    assert run(["export", str(FOLDER / f"{name}.toml"), "-o", str(tmp_path / name)]) == 0
    old, new = load(name), load(str(tmp_path / name))
    assert set(new.manifest.sha256) == set(old.manifest.sha256)
    wrong = {file for file, sha in old.manifest.sha256.items() if new.manifest.sha256[file] != sha}
    assert not {file for file in wrong - {SAMPLE} if not file.endswith(".onnx")}
    assert list(new.manifest.graphs) == list(old.manifest.graphs)
    for part, graph in old.manifest.graphs.items():
        if graph.file in wrong:
            assert _difference(part, old, new) < SAME
    for one, other in zip(read_sample(old).values(), read_sample(new).values(), strict=True):
        for port, kept in one.expected.items():
            np.testing.assert_array_equal(kept.at, other.expected[port].at)
            assert np.abs(kept.values - other.expected[port].values).max() < SAME * np.abs(kept.values).max()
    told = [json.loads((bundle.path / MANIFEST).read_text()) for bundle in (old, new)]
    assert told[0].keys() == told[1].keys()


def _difference(name: str, old: Bundle, new: Bundle) -> float:
    """Largest of all outputs of a graph on the same inputs, relative to the largest value."""
    graph, given = old.manifest.graphs[name], example(old, name).values()
    engines = [OnnxRuntimeGraph(bundle.path / graph.file, graph, threads=1, cuda_device=None) for bundle in (old, new)]
    pairs = zip(*(engine(*given) for engine in engines), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


def test_a_network_on_latents_has_no_engine(tmp_path: Path) -> None:
    narrow = ["model.depth=1", "model.width=32", "model.heads=2"]
    first = untrained(tmp_path / "first", load_recipe("tssc-paper", narrow))
    second = untrained(tmp_path / "second", load_recipe("tssc-s-volume", ["model.detail=8", "model.width=32"]))
    with pytest.raises(UsageError, match="works on latents and has no engine"):
        read_source(first, second, half=True)
