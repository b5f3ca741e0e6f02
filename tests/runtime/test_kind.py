"""What a task expects of its engines: one that lacks it is refused before anything is run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cmrsr.errors import EngineError
from cmrsr.runtime.bundle import load, shipped
from cmrsr.runtime.kind import check_graphs, restored_image
from cmrsr.tasks.rooms import TASKS, kind_of, load_engine
from tests.cine import write_interp_engine
from tests.engines import write_engine
from tests.heart_engine import write_heart_engine
from tests.infarct_engine import write_infarct_engine

WRITERS = {
    "sr": write_engine, "interp4d": write_interp_engine, "function": write_heart_engine, "mie": write_infarct_engine,
}  # fmt: skip
each_graph = pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task in TASKS for name in kind_of(task).graphs]
)


def changed(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> str:
    """A bundle with other graphs in its manifest."""
    path = folder / "bundle.json"
    record = json.loads(path.read_text())
    change(record["graphs"])
    path.write_text(json.dumps(record))
    return str(folder)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_takes_its_own_engines(task: str, tmp_path: Path) -> None:
    folder = WRITERS[task](tmp_path / "engine")
    bundle = load(str(folder))
    assert kind_of(task).load(str(folder)) == load_engine(str(folder)) == load_engine(str(folder), task) == bundle
    other = next(one for one in TASKS if one != task)
    with pytest.raises(EngineError, match=f"engine tiny is for `cmrsr {task}`, not for `cmrsr {other}`"):
        load_engine(str(folder), other)


@pytest.mark.parametrize("task", TASKS)
def test_the_engine_by_default_is_one_that_is_shipped(task: str) -> None:
    if not shipped():
        pytest.skip("no engine is shipped in this checkout")
    kind = kind_of(task)
    bundle = kind.load(kind.default)
    assert list(bundle.manifest.graphs) == list(kind.graphs)
    assert bundle.manifest.normalisation == kind.normalisation


@each_graph
@pytest.mark.parametrize("what", ["inputs", "outputs"])
def test_ports_are_checked_in_their_order(task: str, name: str, what: str, tmp_path: Path) -> None:
    """A backend takes inputs and gives outputs by position."""

    def change(graphs: dict[str, dict[str, object]]) -> None:
        ports = graphs[name][what]
        assert isinstance(ports, list)
        ports[0]["name"], ports[-1]["name"] = ports[-1]["name"], "image" if len(ports) == 1 else ports[0]["name"]

    folder = changed(WRITERS[task](tmp_path / "engine"), change)
    wanted = ", ".join(getattr(kind_of(task).graphs[name], what))
    with pytest.raises(EngineError, match=rf"not a valid engine manifest: graph {name}: {what} .*, expected {wanted};"):
        load_engine(folder)


@each_graph
def test_every_graph_is_needed(task: str, name: str, tmp_path: Path) -> None:
    folder = changed(WRITERS[task](tmp_path / "engine"), lambda graphs: graphs.pop(name))
    needs = "every engine needs" if name == "step" else f"an engine for {task} needs"
    with pytest.raises(EngineError, match=f"not a valid engine manifest: no graph {name}, which {needs}"):
        load_engine(folder)


def test_no_other_graph_is_taken(tmp_path: Path) -> None:
    folder = changed(write_engine(tmp_path / "engine"), lambda graphs: graphs.update(second=graphs["step"]))
    with pytest.raises(EngineError, match="graph second, which no engine for sr has"):
        load_engine(folder)
    bundle = load(folder)
    assert check_graphs(bundle, kind_of("sr").graphs) is bundle  # those that are needed are there


def test_an_engine_for_a_task_that_is_not_known(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "engine", task="lge")
    with pytest.raises(EngineError, match=r"is for `cmrsr lge`, expected one of sr, interp4d, function, mie"):
        load_engine(str(folder))
    with pytest.raises(EngineError, match="is for `cmrsr lge`, not for `cmrsr sr`"):
        load_engine(str(folder), "sr")


def test_what_the_last_step_gives_is_said_in_words(engine: Path) -> None:
    diffusion = load(str(engine)).manifest.diffusion
    assert restored_image(diffusion) == "The image is lr + 0.05 x_next."
    assert restored_image(diffusion.model_copy(update={"residual_std": None})) == "The image is (x_next + 1) / 2."
    assert kind_of("sr").result(diffusion) == restored_image(diffusion)
    assert kind_of("interp4d").result(diffusion) == "A new frame is base + 0.2 tau (1 - tau) x_next."
    assert kind_of("mie").result(diffusion) == "The last x_next is the latent that decoder takes."
