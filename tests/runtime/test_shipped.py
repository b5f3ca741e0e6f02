"""The shipped engines: every backend within the tolerance of the manifest, and the same bits however work is cut up."""

from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.runtime.bundle import Bundle, Graph, load, shipped
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.engine import load_graph
from cmrsr.runtime.open_vino import best_precision

BUNDLES = [load(str(folder)) for folder in shipped()]
CASES = [(bundle, graph) for bundle in BUNDLES for graph in bundle.manifest.graphs.values()]
pytestmark = pytest.mark.skipif(not BUNDLES, reason="no engine is shipped in this checkout")
each_graph = pytest.mark.parametrize(
    ("bundle", "graph"), CASES, ids=[f"{bundle.manifest.name}-{graph.file}" for bundle, graph in CASES]
)
Inputs = dict[str, NDArray[np.float32]]


def inputs(bundle: Bundle, graph: Graph, batch: int) -> Inputs:
    """Random images, a time in the middle of a run, a projection of half weight, times between the known frames."""
    sizes = {"batch": batch, "frames": 2, "slices": 5, "rows": 8 * graph.stride, "columns": 6 * graph.stride}
    rng = np.random.default_rng(0)
    step = ddim_coefficients(bundle.manifest.diffusion.build(), 3)[1]
    special: dict[str, Any] = {
        "coefficients": step.array(),
        "low_pass": 0.5 * np.eye(sizes["rows"]),
        "tau": np.tile([0.3, 0.8], (batch, 1)),
    }
    shapes = {port.name: [d if isinstance(d, int) else sizes[d] for d in port.shape] for port in graph.inputs}
    return {name: np.asarray(special.get(name, rng.random(shape)), np.float32) for name, shape in shapes.items()}


def outputs(bundle: Bundle, graph: Graph, choice: DeviceChoice, given: Inputs) -> tuple[NDArray[np.float32], ...]:
    shapes = {name: value.shape for name, value in given.items() if name != "coefficients"}
    engine = load_graph(bundle, graph, shapes, choice)
    found = engine(*given.values())
    engine.close()
    return found


@each_graph
def test_backends_agree_within_the_tolerance(bundle: Bundle, graph: Graph) -> None:
    """Every output: an error in a small one does not hide behind a large one."""
    given = inputs(bundle, graph, 2)
    reference = outputs(bundle, graph, DeviceChoice(backend="onnxruntime", device="cpu"), given)
    limits: dict[tuple[Any, Any], float] = {("openvino", "f32"): graph.tolerance}
    if best_precision(openvino.Core()) == "bf16":
        limits["openvino", "bf16"] = graph.tolerance_low_precision
    for precision in graph.variants:
        limits["onnxruntime", precision] = graph.tolerance_low_precision
    for (backend, precision), limit in limits.items():
        choice = DeviceChoice(backend=backend, precision=precision, device="cpu")
        for port, found, wanted in zip(graph.outputs, outputs(bundle, graph, choice, given), reference, strict=True):
            assert np.abs(found - wanted).max() / np.abs(wanted).max() < limit, (backend, precision, port.name)


@pytest.mark.parametrize(
    ("bundle", "graph"),
    [(bundle, graph) for bundle, graph in CASES if any(port.shape[:1] == ("batch",) for port in graph.inputs)],
    ids=lambda one: one.manifest.name if isinstance(one, Bundle) else one.file,
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_its_single_images_bit_for_bit(bundle: Bundle, graph: Graph, threads: int) -> None:
    given = inputs(bundle, graph, 3)
    together = outputs(bundle, graph, DeviceChoice(threads=2), given)
    batched = {port.name for port in graph.inputs if port.shape[0] == "batch"}
    singles = [{k: v[i : i + 1] if k in batched else v for k, v in given.items()} for i in range(3)]
    alone = [outputs(bundle, graph, DeviceChoice(threads=threads), single) for single in singles]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.manifest.name)
def test_the_card_lies_beside_the_engine(bundle: Bundle) -> None:
    assert (bundle.path / "CARD.md").is_file()
