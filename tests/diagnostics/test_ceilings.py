"""What speeds are held against: arithmetic counted from graphs, layers run alone."""

from pathlib import Path

import numpy as np
import pytest

from cmrsr.diagnostics.ceilings import SIDE, LayersAlone, count_flop, matrix_product
from cmrsr.diagnostics.workload import Workload, usual
from cmrsr.runtime.bundle import Bundle, load, shipped

BUNDLES = [load(str(folder)) for folder in shipped()]
AT_96 = {"batch": 1, "rows": 96, "columns": 96, "frames": 1, "slices": 8}  # what gflop_96 is counted at
CASES = [(bundle, name) for bundle in BUNDLES for name in bundle.manifest.graphs if name not in ("graph", "verdict")]
IDS = [f"{bundle.manifest.name}-{name}" for bundle, name in CASES]
COUNTED = 0.005  # torch counts attention a little differently


@pytest.mark.parametrize(("bundle", "name"), CASES, ids=IDS)
def test_arithmetic_is_what_the_manifest_says(bundle: Bundle, name: str) -> None:
    one = Workload(bundle, name, AT_96)
    counted = count_flop(bundle.path / one.graph.file, one.shapes)
    assert counted / 1e9 == pytest.approx(one.graph.gflop_96, rel=COUNTED)


def test_arithmetic_grows_with_the_images(engine: Path) -> None:
    bundle = load(str(engine))
    pixels = {(b, n): Workload(bundle, "step", {"batch": b, "rows": n, "columns": 8}) for b, n in ((1, 8), (3, 8))}
    one, three = (count_flop(bundle.step_path, w.shapes) for w in pixels.values())
    convolution = 2 * 8 * 8 * 2 * 9
    projection = 2 * 8 * 8 * 8
    assert (one, three) == (convolution + projection, 3 * (convolution + projection))


def test_layers_run_alone_in_both_kinds(engine: Path) -> None:
    one = Workload(load(str(engine)), "step", {"batch": 2, "rows": 8, "columns": 12})
    layers = LayersAlone(one.bundle.step_path, one.shapes, precision="f32", threads=1)
    outputs = [call() for call in layers._calls]
    assert sorted(next(iter(o.values())).shape for o in outputs) == [(2, 1, 8, 12), (2, 1, 8, 12)]  # type: ignore[attr-defined]
    assert layers.flop == count_flop(one.bundle.step_path, one.shapes)


@pytest.mark.skipif(not BUNDLES, reason="no engine is shipped in this checkout")
def test_layers_that_are_alike_are_compiled_once() -> None:
    one = Workload(load("perfgen-s"), "step", {"batch": 1, "rows": 16, "columns": 16})
    layers = LayersAlone(one.bundle.step_path, one.shapes, precision="f32", threads=1)
    assert len(set(map(id, layers._calls))) < len(layers._calls) == 21 + 11  # convolutions, products
    layers()


def test_a_ceiling_is_a_product_of_two_matrices() -> None:
    ceiling = matrix_product("f32", 1, side=64)
    product = next(iter(ceiling.run().values()))  # type: ignore[attr-defined]
    x, y = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(product, x @ y, rtol=1e-4, atol=1e-4)
    assert ceiling.flop == 2 * 64**3
    assert ceiling.name == "matrix product cpu f32"
    assert SIDE >= 1024


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.manifest.name)
def test_every_graph_has_a_usual_size(bundle: Bundle) -> None:
    for name, graph in bundle.manifest.graphs.items():
        one = usual(bundle, name)
        inputs = one.inputs()
        assert list(inputs) == [port.name for port in graph.inputs]
        assert {k: v.shape for k, v in inputs.items() if k in one.shapes} == one.shapes
        assert all(n % graph.stride == 0 for k, n in one.sizes.items() if k in ("rows", "columns"))
        assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in inputs.values())


def test_images_are_counted_over_all_their_dimensions() -> None:
    by_task = {b.manifest.task: b for b in BUNDLES}
    if len(by_task) < 4:
        pytest.skip("not all engines are shipped in this checkout")
    clip = Workload(by_task["interp4d"], "step", {"batch": 2, "frames": 3, "rows": 16, "columns": 16})
    volume = Workload(by_task["interp4d"], "volume", {"batch": 1, "slices": 5, "rows": 16, "columns": 16})
    assert (clip.n_images, volume.n_images, usual(by_task["mie"]).n_images) == (6, 5, 8)
