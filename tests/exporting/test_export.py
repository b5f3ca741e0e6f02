import json
import shutil
import socket
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from cmrsr.errors import EngineError, UsageError
from cmrsr.exporting import export as module
from cmrsr.exporting.checkpoint import SMALL
from cmrsr.exporting.measured import count_flops
from cmrsr.exporting.recipe import ExportRecipe, Precision, load_export_recipe
from cmrsr.exporting.shared_weights import LEAST_BYTES
from cmrsr.exporting.spec import GraphSpec
from cmrsr.io.outputs import sha256_file
from cmrsr.runtime.bundle import load
from cmrsr.tasks.registry import Recipe, build_model, export, load_recipe, parse_recipe
from cmrsr.tasks.sr.training.graph import INPUTS, OUTPUTS, Step, example_inputs, sr_step

TINY = load_recipe("perfgen-s", ["model.widths=[8, 16]", "model.blocks=[1, 1, 1]", "model.embedding=16"])
TINY_PAPER = load_recipe("perfgen-paper", ["model.base=32", "model.multipliers=[1, 2]", "model.n_blocks=1"])
FILES = {"bundle.json", "sample.npz", "step.onnx", "training.json", "weights.safetensors"}


def _checkpoint(folder: Path, recipe: Recipe, residual_std: float | None) -> Path:
    """An untrained network as ``cmrsr train`` would leave it."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_file(build_model(recipe.model.model_dump()).state_dict(), folder / "weights.safetensors")
    summary = {
        "recipe": recipe.model_dump(mode="json"), "data": "none", "step": 0, "validation_gain_db": 0.0,
        "residual_std": residual_std,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _checkpoint(tmp_path_factory.mktemp("run") / "tiny", TINY, 0.05)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("engines") / "tiny"
    export(load_export_recipe(checkpoint), out)
    return out


def _torch_step(bundle: Path, recipe: Recipe, residual: bool) -> Step:
    denoiser = build_model(recipe.model.model_dump())
    weights = load_file(bundle / "weights.safetensors")
    denoiser.load_state_dict({k: v.float() for k, v in weights.items()})
    return Step(denoiser, residual=residual).eval()


def _relative_error(bundle: Path, step: Step, shape: tuple[int, int, int]) -> float:
    session = onnxruntime.InferenceSession(str(bundle / "step.onnx"), providers=["CPUExecutionProvider"])
    inputs = example_inputs(*shape, seed=7)
    with torch.inference_mode():
        wanted = step(*inputs)
    got = session.run(list(OUTPUTS), {k: v.numpy() for k, v in zip(INPUTS, inputs, strict=True)})
    return max(float(np.abs(a.numpy() - b).max() / a.abs().max()) for a, b in zip(wanted, got, strict=True))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 160, 36), (5, 20, 44), (8, 96, 96)])
def test_the_graph_is_the_network_at_any_shape(bundle: Path, shape: tuple[int, int, int]) -> None:
    assert _relative_error(bundle, _torch_step(bundle, TINY, residual=True), shape) < 1e-5


def test_the_runtime_reads_the_bundle(bundle: Path, checkpoint: Path) -> None:
    loaded = load(str(bundle), "sr")
    manifest = loaded.manifest
    assert {p.name for p in bundle.iterdir()} == FILES
    assert manifest.sha256 == {name: sha256_file(bundle / name) for name in FILES - {"bundle.json"}}
    assert loaded.digest == sha256_file(bundle / "bundle.json")
    assert (manifest.name, manifest.task) == ("tiny", "sr")
    assert manifest.diffusion.residual_std == 0.05
    assert manifest.diffusion.build().name == "cosine"
    assert parse_recipe(manifest.training["recipe"]) == TINY
    step = manifest.step
    parameters = sum(v.numel() for v in load_file(checkpoint / "weights.safetensors").values())
    assert (step.stride, step.parameters) == (4, parameters)
    assert 0 <= step.parity < step.tolerance
    assert step.gflop_96 == pytest.approx(_flops(_torch_step(bundle, TINY, residual=True), 96) / 1e9)


def test_manifest_states_the_ports_of_the_graph(bundle: Path) -> None:
    manifest = load(str(bundle), "sr").manifest
    graph = onnx.load(bundle / "step.onnx")
    assert graph.opset_import[0].version == manifest.step.opset
    for ports, values in ((manifest.step.inputs, graph.graph.input), (manifest.step.outputs, graph.graph.output)):
        assert [p.name for p in ports] == [v.name for v in values]
        for port, value in zip(ports, values, strict=True):
            dims = value.type.tensor_type.shape.dim
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            assert len(dims) == len(port.shape)
            for stated, dim in zip(port.shape, dims, strict=True):
                assert (stated == dim.dim_value) if isinstance(stated, int) else dim.dim_param.endswith(stated)


def test_nothing_of_the_exporting_machine_is_inside(bundle: Path, checkpoint: Path) -> None:
    places = {checkpoint.parent, bundle.parent, Path.home(), Path(module.__file__).parents[2], Path.cwd()}
    places |= {Path(p) for p in sysconfig.get_paths().values()}
    names = [*map(str, places), socket.gethostname()]  # two letters occur in any compressed file
    secrets = [name for name in names if len(name) > 3] + ["site-packages", "torch/nn", ".py"]
    for name in FILES:
        content = (bundle / name).read_bytes()
        assert not [s for s in secrets if s.encode() in content], name


def test_weights_are_stored_in_half_precision(bundle: Path, checkpoint: Path) -> None:
    stored, trained = (load_file(folder / "weights.safetensors") for folder in (bundle, checkpoint))
    large = [k for k, v in trained.items() if v.numel() >= SMALL]
    assert large
    for name, value in trained.items():
        assert stored[name].dtype == (torch.float16 if name in large else torch.float32)
        assert torch.allclose(stored[name].float(), value, rtol=1e-3, atol=1e-6)
    kinds = {t.data_type for t in onnx.load(bundle / "step.onnx").graph.initializer if np.prod(t.dims) >= SMALL}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_exporting_the_bundle_itself_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    """A bundle is a checkpoint too: its graph can be repeated from what it ships, in place."""
    copy = tmp_path / "tiny"
    shutil.copytree(bundle, copy)
    export(load_export_recipe(copy), copy)
    for name in FILES:
        assert (copy / name).read_bytes() == (bundle / name).read_bytes(), name
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]  # no temporary folder is left


def test_the_papers_network_exports(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path / "paper", TINY_PAPER, None)
    manifest = export(ExportRecipe(name="paper", checkpoint=folder, half_weights=False), tmp_path / "out")
    assert manifest.step.stride == 2
    assert manifest.diffusion.residual_std is None
    assert manifest.diffusion.build().n_train == 2000
    stored = load_file(tmp_path / "out" / "weights.safetensors")
    assert {v.dtype for v in stored.values()} == {torch.float32}
    assert (
        _relative_error(tmp_path / "out", _torch_step(tmp_path / "out", TINY_PAPER, residual=False), (3, 12, 22)) < 1e-5
    )


def test_a_graph_that_differs_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Path
) -> None:
    def reuse(spec: GraphSpec, opset: int) -> onnx.ModelProto:
        graph = onnx.load(bundle / "step.onnx")
        for tensor in graph.graph.initializer:
            if tensor.name == "denoiser.head.bias":
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(4, 0.1, np.float32), tensor.name))
        return graph

    monkeypatch.setattr(module, "to_onnx", reuse)
    with pytest.raises(EngineError, match=r"differs from torch by .* \(tolerance 0.0001\)"):
        export(load_export_recipe(checkpoint), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _break(folder: Path, what: str) -> None:
    summary: dict[str, Any] = json.loads((folder / "training.json").read_text())
    match what:
        case "no summary":
            (folder / "training.json").unlink()
        case "no weights":
            (folder / "weights.safetensors").unlink()
        case "garbled weights":
            (folder / "weights.safetensors").write_bytes(b"garbage" * 9)
        case "no recipe":
            (folder / "training.json").write_text("{}")
        case "wrong recipe":
            summary["recipe"]["optimiser"]["steps"] = 0
            (folder / "training.json").write_text(json.dumps(summary))
        case "another model":
            summary["recipe"]["model"]["widths"] = [8, 24]
            (folder / "training.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    "what", ["no summary", "no weights", "garbled weights", "no recipe", "wrong recipe", "another model"]
)
def test_folders_that_are_no_checkpoints(tmp_path: Path, what: str) -> None:
    folder = _checkpoint(tmp_path / "broken", TINY, 0.05)
    _break(folder, what)
    with pytest.raises(UsageError, match="broken") as error:
        export(ExportRecipe(name="broken", checkpoint=folder), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def _flops(step: Step, size: int) -> float:
    shape = sr_step(build_model(TINY.model.model_dump()), residual=True)
    return count_flops(replace(shape, module=step, flops={"batch": 1, "rows": size, "columns": size}))


def test_flops_are_counted_by_the_definition() -> None:
    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)

        def forward(self, x_t: torch.Tensor, lr: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.convolution(x_t)
            return out

    n = 32
    assert _flops(Step(One(), residual=True), n) == 2 * 9 * n**2 + 2 * n**3  # the network and the projection


def test_a_variant_lies_beside_the_graph_and_in_its_weights(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    recipe = load_export_recipe(checkpoint).model_copy(update={"shared_weights": True, "variants": ("f16", "bf16")})
    export(recipe, tmp_path / "tiny")
    step = load(str(tmp_path / "tiny"), "sr").manifest.step
    plain = load(str(bundle), "sr").manifest.step
    assert step.parity == plain.parity
    assert {name: variant.file for name, variant in step.variants.items()} == {
        "f16": "step.f16.onnx", "bf16": "step.bf16.onnx",
    }  # fmt: skip
    assert step.parity < step.variants["f16"].parity < step.variants["bf16"].parity < step.tolerance_low_precision
    outside = {}
    for file in (step.file, "step.f16.onnx"):
        tensors = onnx.load(tmp_path / "tiny" / file, load_external_data=False).graph.initializer
        external = [t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL]
        outside[file] = {tuple((e.key, e.value) for e in t.external_data) for t in external}
        assert max(len(t.raw_data) for t in tensors) < LEAST_BYTES
    assert outside["step.f16.onnx"]
    assert outside["step.f16.onnx"] <= outside[step.file]  # the same bytes of the same file


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_graphs_of_another_precision(checkpoint: Path, tmp_path: Path, precision: Precision) -> None:
    recipe = load_export_recipe(checkpoint).model_copy(update={"precision": precision, "variants": ("f16",)})
    manifest = export(recipe, tmp_path / "tiny")
    step = load(str(tmp_path / "tiny"), "sr").manifest.step
    assert step == manifest.step
    assert not step.variants
    assert step.tolerance == (recipe.tolerance_low_precision)
    assert 1e-5 < step.parity < step.tolerance
    model = onnx.load(tmp_path / "tiny" / "step.onnx")
    assert model.opset_import[0].version == step.opset >= (22 if precision == "bf16" else 20)
    kind = {"f16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    weights = [t for t in model.graph.initializer if t.data_type == kind[precision]]
    assert sum(np.prod(t.dims) for t in weights) > 0.4 * step.parameters
