"""Export of ``mie``: four graphs that are the parts of the model, whose updates are those of the sampler."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from cmrsr.diffusion.ddim import ddim, ddim_coefficients
from cmrsr.diffusion.schedule import Schedule
from cmrsr.exporting.recipe import ExportRecipe
from cmrsr.exporting.spec import GraphSpec
from cmrsr.heart import window as function_window
from cmrsr.io.outputs import sha256_file
from cmrsr.runtime.bundle import load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.engine import load_graph
from cmrsr.tasks.mie.engine import ENGINE
from cmrsr.tasks.mie.features import signs as infarct_signs
from cmrsr.tasks.mie.training.cpkdm import Cpkdm
from cmrsr.tasks.mie.training.graph import WINDOW, mie_graphs
from cmrsr.tasks.registry import build_model, export, load_recipe

SIZES = {
    "latent": 4, "motion": 8, "gate": 16, "morphology": 16, "widths": [16, 16, 24], "blocks": [1, 1, 1],
    "embedding": 16, "heads": 2, "critic": 4,
}  # fmt: skip
TINY = load_recipe("cpkdm-s", [f"model.{key}={value}" for key, value in SIZES.items()])
GRAPHS = tuple(ENGINE.graphs)
FLOAT32 = 2e-5  # relative to the largest output: sums in another order
BF16 = 3e-2  # 8 bits of mantissa through some twenty layers
SEQUENTIAL = {"Loop", "Scan", "If", "GRU", "CumSum", "ScatterND", "Einsum"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, exported as ``cmrsr train`` would have left it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    model = build_model(TINY.model.model_dump())
    save_file(model.state_dict(), folder / "weights.safetensors")
    summary = {"recipe": TINY.model_dump(mode="json"), "data": "none", "step": 0, "residual_std": None}
    (folder / "training.json").write_text(json.dumps(summary))
    out = tmp_path_factory.mktemp("engines") / "tiny"
    export(ExportRecipe(name="tiny", checkpoint=folder, shared_weights=True), out)
    return out


@pytest.fixture(scope="module")
def model(bundle: Path) -> Cpkdm:
    """The model with the weights of the bundle, which are rounded to half precision."""
    model = build_model(TINY.model.model_dump())
    model.load_state_dict({k: v.float() for k, v in load_file(bundle / "weights.safetensors").items()})
    assert isinstance(model, Cpkdm)
    return model.eval()


def _wanted(spec: GraphSpec, batch: int) -> tuple[dict[str, NDArray[np.float32]], list[NDArray[np.float32]]]:
    inputs = spec.example({"batch": batch}, 5)
    with torch.inference_mode():
        found = spec.module(*inputs)
    found = found if isinstance(found, tuple) else (found,)
    return {k: v.numpy() for k, v in zip(spec.inputs, inputs, strict=True)}, [v.numpy() for v in found]


def test_the_runtime_reads_all_graphs(bundle: Path) -> None:
    manifest = load(str(bundle), "mie").manifest
    assert (manifest.task, manifest.diffusion.residual_std) == ("mie", None)
    assert manifest.training["recipe"]["system"] == "mie"
    assert manifest.sha256 == {p.name: sha256_file(p) for p in bundle.iterdir() if p.name != "bundle.json"}
    for name in GRAPHS:
        graph = manifest.graphs[name]
        proto = onnx.load(bundle / graph.file, load_external_data=False)
        for ports, values in ((graph.inputs, proto.graph.input), (graph.outputs, proto.graph.output)):
            assert [p.name for p in ports] == [v.name for v in values]
            for port, value in zip(ports, values, strict=True):
                for stated, dim in zip(port.shape, value.type.tensor_type.shape.dim, strict=True):
                    assert (stated == dim.dim_value) if isinstance(stated, int) else dim.dim_param == stated
        assert 0 <= graph.parity < FLOAT32
        assert not SEQUENTIAL & {node.op_type for node in proto.graph.node}, name


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_the_parts_of_the_model_for_any_batch(bundle: Path, model: Cpkdm, name: str) -> None:
    spec = mie_graphs(model)[name]
    session = onnxruntime.InferenceSession(str(bundle / spec.file), providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        inputs, wanted = _wanted(spec, batch)
        for a, b in zip(wanted, session.run(list(spec.outputs), inputs), strict=True):
            assert np.abs(a - b).max() < FLOAT32 * np.abs(a).max()


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("precision", "tolerance"), [("f32", FLOAT32), ("bf16", BF16)])
def test_openvino_agrees(bundle: Path, model: Cpkdm, name: str, precision: str, tolerance: float) -> None:
    if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bf16")
    spec = mie_graphs(model)[name]
    inputs, wanted = _wanted(spec, 3)
    loaded = load(str(bundle), "mie")
    shapes = {k: v.shape for k, v in inputs.items() if k != "coefficients"}
    choice = DeviceChoice(backend="openvino", precision=precision, threads=1)  # type: ignore[arg-type]
    engine = load_graph(loaded, loaded.manifest.graphs[name], shapes, choice)
    found = engine(*inputs.values())
    engine.close()
    for a, b in zip(wanted, found, strict=True):
        assert np.abs(a - b).max() < tolerance * np.abs(a).max()


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(name="linear", prediction="eps")])
def test_the_steps_in_a_row_are_the_sampler(model: Cpkdm, schedule: Schedule) -> None:
    step = mie_graphs(model)["step"]
    x_t, morphology, motion, _ = step.example({"batch": 2}, 3)
    x = x_t
    with torch.inference_mode():
        for c in ddim_coefficients(schedule, 3):
            x, x0 = step.module(x, morphology, motion, torch.from_numpy(c.array()))
        wanted = ddim(lambda x, level: model.denoiser(x, morphology, motion, torch.full((2,), level)), x_t, schedule, 3)
    scale = float(wanted.abs().max())
    assert float((x - wanted).abs().max()) < FLOAT32 * scale
    assert float((x - x0).abs().max()) < FLOAT32 * scale  # the last step returns its estimate


def test_tissues_and_scar_are_probabilities(model: Cpkdm) -> None:
    graphs = mie_graphs(model)
    _, (_, tissues) = _wanted(graphs["morphology"], 2)
    np.testing.assert_allclose(tissues.sum(1), 1, rtol=1e-5)
    assert tissues.min() > 0
    _, (_, scar) = _wanted(graphs["decoder"], 2)
    assert 0 < scar.min() < scar.max() < 1


def test_windows_are_those_of_the_task(model: Cpkdm) -> None:
    assert function_window.WINDOW == WINDOW
    n, cells = WINDOW, WINDOW // infarct_signs.CELL
    inputs = mie_graphs(model)["kinematics"].inputs
    assert inputs == {
        "cine": ("batch", infarct_signs.N_PHASES, n, n),
        "motion": ("batch", infarct_signs.N_PHASES, len(infarct_signs.MOTION_UNITS), cells, cells),
    }
    assert mie_graphs(model)["morphology"].inputs == {
        "inversions": ("batch", infarct_signs.N_INVERSIONS, n, n), "timing": ("batch", infarct_signs.N_INVERSIONS),
        "t1": ("batch", 1, n, n), "clusters": ("batch", infarct_signs.N_CLUSTERS, cells, cells),
    }  # fmt: skip
