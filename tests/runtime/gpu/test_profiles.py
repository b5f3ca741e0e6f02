"""Sizes that plans are built for: what they take, which is the narrowest, and whether the tasks' own are among them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cmrsr.heart.window import ENCODED, WINDOW
from cmrsr.runtime.bundle import Bundle, Graph, load, shipped
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.gpu.profiles import Shapes, default_profiles, exact_profile, ranged_profile
from cmrsr.tasks.function.plan import FunctionOptions
from cmrsr.tasks.function.run import Engines
from cmrsr.tasks.interp4d.plan import InterpOptions
from cmrsr.tasks.interp4d.run import JOINT, TILE
from cmrsr.tasks.mie.plan import MieOptions
from cmrsr.tasks.rooms import TASKS, kind_of
from cmrsr.tasks.sr.plan import HEART_WINDOW, SrOptions

BUNDLES = {(bundle := load(str(folder))).manifest.task: bundle for folder in shipped()}


def sized(graph: Graph, **sizes: int) -> Shapes:
    """Shapes of a graph's inputs for sizes of its dynamic dimensions."""
    return {port.name: tuple(n if isinstance(n, int) else sizes[n] for n in port.shape) for port in graph.inputs}


@pytest.fixture
def step(engine: Any) -> Graph:
    return load(str(engine)).manifest.step


def test_a_range_takes_its_ends_and_what_lies_between(step: Graph) -> None:
    profile = ranged_profile(step, {"batch": (1, 4, 8), "rows": (32, 64, 96), "columns": 64})
    assert profile.shapes["low_pass"] == ((32, 32), (64, 64), (96, 96))
    assert "coefficients" not in profile.shapes
    for batch, rows in ((1, 32), (8, 96), (3, 48)):
        assert profile.covers(sized(step, batch=batch, rows=rows, columns=64))
    for batch, rows, columns in ((9, 64, 64), (0, 64, 64), (4, 31, 64), (4, 97, 64), (4, 64, 65)):
        assert not profile.covers(sized(step, batch=batch, rows=rows, columns=columns))


def test_shapes_of_another_rank_or_missing_ones_are_not_taken(step: Graph) -> None:
    shapes = dict(sized(step, batch=2, rows=32, columns=32))
    profile = exact_profile(step, shapes)
    assert profile.covers(shapes)
    assert profile.covers(shapes | {"coefficients": (7,)})  # of a fixed size: not the profile's
    assert not profile.covers(shapes | {"x_t": (2, 1, 32)})
    del shapes["low_pass"]
    assert not profile.covers(shapes)


def test_width_orders_profiles(step: Graph) -> None:
    sizes: list[dict[str, Any]] = [
        {"batch": 8, "rows": 96, "columns": 96},
        {"batch": (4, 8, 8), "rows": 96, "columns": 96},
        {"batch": (1, 8, 8), "rows": 96, "columns": 96},
        {"batch": (1, 8, 8), "rows": (64, 96, 256), "columns": 96},
    ]
    widths = [ranged_profile(step, one).width for one in sizes]
    assert widths[0] == 0
    assert widths == sorted(set(widths))


def test_a_profile_names_its_sizes_in_a_message(step: Graph) -> None:
    assert str(ranged_profile(step, {"batch": 8, "rows": 96, "columns": 64})) == "x_t 8x1x96x64"
    assert str(ranged_profile(step, {"batch": (1, 2, 8), "rows": 96, "columns": 64})) == "x_t 1x1x96x64 to 8x1x96x64"


def test_there_are_sizes_for_every_graph_of_every_task() -> None:
    for task in TASKS:
        assert all(graph.plans for graph in kind_of(task).graphs.values())


@pytest.mark.parametrize("bundle", BUNDLES.values(), ids=lambda bundle: bundle.manifest.name)
def test_default_profiles_are_built_in_order_and_at_the_stride(bundle: Bundle) -> None:
    for name, graph in bundle.manifest.graphs.items():
        profiles = default_profiles(bundle, kind_of(bundle.manifest.task), name)
        widths = [profile.width for profile in profiles]
        assert widths == sorted(widths)
        for profile in profiles:
            for port in graph.inputs:
                for shape in profile.shapes.get(port.name, ()):
                    for dimension, n in zip(port.shape, shape, strict=True):
                        assert n == dimension or isinstance(dimension, str)
                        assert dimension not in ("rows", "columns") or n % graph.stride == 0
            for low, usual, high in profile.shapes.values():
                assert all(0 < a <= b <= c for a, b, c in zip(low, usual, high, strict=True))


def static_and_covered(task: Any, name: str, **sizes: int) -> tuple[bool, bool]:
    """Whether there is a profile for just these sizes, and whether there is one that takes them."""
    bundle = BUNDLES[task]
    graph = bundle.manifest.graphs[name]
    shapes = sized(graph, **sizes)
    profiles = default_profiles(bundle, kind_of(task), name)
    return exact_profile(graph, shapes) in profiles, any(profile.covers(shapes) for profile in profiles)


def test_what_the_tasks_ask_for_without_options_has_a_plan_of_its_own() -> None:
    batch, heart = SrOptions().batch_size, HEART_WINDOW
    assert static_and_covered("sr", "step", batch=batch, rows=heart, columns=heart) == (True, True)
    assert static_and_covered("sr", "step", batch=1, rows=heart, columns=heart) == (True, True)
    batch = FunctionOptions().batch_size
    assert static_and_covered("function", "encoder", batch=batch, rows=ENCODED, columns=ENCODED) == (True, True)
    assert static_and_covered("function", "decoder", batch=batch, rows=WINDOW, columns=WINDOW) == (True, True)
    for name in kind_of("mie").graphs:
        assert static_and_covered("mie", name, batch=MieOptions().batch_size) == (True, True)


def test_what_the_tasks_ask_for_of_other_series_is_in_the_range() -> None:
    for batch in range(1, SrOptions().batch_size + 1):  # halves of a batch that memory does not hold; few slices
        assert static_and_covered("sr", "step", batch=batch, rows=192, columns=144)[1]
        assert static_and_covered("function", "encoder", batch=batch, rows=ENCODED, columns=ENCODED)[1]
        assert static_and_covered("function", "step", batch=batch, rows=256, columns=208)[1]
    for batch, frames in ((InterpOptions(factor=2).batch_size, 1), (1, JOINT)):
        assert static_and_covered("interp4d", "step", batch=batch, frames=frames, rows=192, columns=160)[1]
    assert static_and_covered("interp4d", "volume", batch=1, slices=12, rows=TILE, columns=TILE)[1]
    for frames in (2, 25, 40):
        assert static_and_covered("function", "graph", frames=frames)[1]
    assert static_and_covered("function", "verdict") == (True, True)


def test_what_a_task_runs_in_full_precision_is_built_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, str] = {}

    def load_graph(bundle: Bundle, graph: Graph, shapes: Shapes, choice: DeviceChoice) -> None:
        asked[graph.file] = choice.precision

    monkeypatch.setattr("cmrsr.heart.reader.load_graph", load_graph)
    bundle = BUNDLES["function"]
    plan = SimpleNamespace(super_resolved=True, padded=(96, 96))
    engines = Engines(bundle, plan, 10, 8, DeviceChoice(precision="f16"))  # type: ignore[arg-type]
    with pytest.raises(TypeError):  # no graph was loaded
        engines.graph(np.zeros((3, engines.n_features), np.float32), np.zeros(3, np.float32))
    kinds = kind_of("function").graphs
    names = {graph.file: name for name, graph in bundle.manifest.graphs.items()}
    assert {names[file] for file in asked} == set(kinds)
    precise = {name for name, kind in kinds.items() if kind.precise}
    assert {names[file] for file, precision in asked.items() if precision == "f32"} == precise
