"""Export of both stages of interp4d: two graphs, one bundle."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cmrsr.errors import UsageError
from cmrsr.exporting.recipe import ExportRecipe, load_export_recipe
from cmrsr.exporting.spec import GraphSpec
from cmrsr.io.outputs import sha256_file
from cmrsr.runtime.bundle import load
from cmrsr.tasks.interp4d.training.graph import ClipStep, clip_step, volume
from cmrsr.tasks.interp4d.training.mamba_volume import MambaVolume
from cmrsr.tasks.interp4d.training.vdt import Vdt
from cmrsr.tasks.registry import Recipe, build_model, export, load_recipe

FIRST = load_recipe(
    "tssc-s", ["model.width=16", "model.depth=2", "model.heads=2", "model.detail=[8, 16]", "model.embedding=16"]
)
SECOND = load_recipe("tssc-s-volume", ["model.detail=8", "model.width=32", "model.n_blocks=1"])
SEQUENTIAL = {"Loop", "Scan", "If", "CumSum", "ScatterND", "Einsum"}


def _checkpoint(folder: Path, recipe: Recipe, residual_std: float | None) -> Path:
    """A network with random weights, the modulations included, as ``cmrsr train`` would leave it."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    model = build_model(recipe.model.model_dump())
    for name, parameter in model.named_parameters():
        if "modulation" in name:
            nn.init.normal_(parameter, std=0.2)
    save_file(model.state_dict(), folder / "weights.safetensors")
    summary = {"recipe": recipe.model_dump(mode="json"), "data": "none", "step": 0, "residual_std": residual_std}
    (folder / "training.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> ExportRecipe:
    runs = tmp_path_factory.mktemp("runs")
    return ExportRecipe(
        name="tiny", checkpoint=_checkpoint(runs / "first", FIRST, 0.04),
        volume_checkpoint=_checkpoint(runs / "second", SECOND, None),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(recipe: ExportRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("engines") / "tiny"
    export(recipe, out)
    return out


def test_the_runtime_reads_both_graphs(bundle: Path) -> None:
    manifest = load(str(bundle), "interp4d").manifest
    assert manifest.task == "interp4d"
    assert manifest.diffusion.residual_std == 0.04
    assert [graph.stride for graph in manifest.graphs.values()] == [8, 4]
    assert manifest.training["recipe"]["system"] == "interp4d"
    assert manifest.training["volume"]["recipe"]["system"] == "interp4d-volume"
    assert manifest.sha256 == {p.name: sha256_file(p) for p in bundle.iterdir() if p.name != "bundle.json"}
    for graph in manifest.graphs.values():
        assert 0 <= graph.parity < 1e-5
        proto = onnx.load(bundle / graph.file)
        assert [p.name for p in graph.inputs] == [v.name for v in proto.graph.input]
        assert [p.name for p in graph.outputs] == [v.name for v in proto.graph.output]


@pytest.mark.parametrize("file", ["step.onnx", "volume.onnx"])
def test_graphs_are_plain_products(bundle: Path, file: str) -> None:
    kinds = Counter(node.op_type for node in onnx.load(bundle / file).graph.node)
    assert not SEQUENTIAL & set(kinds)
    assert kinds["MatMul"] + kinds["Gemm"] > 3


def _spec(bundle: Path, which: str) -> GraphSpec:
    """The graph's module with the weights of the bundle, which are rounded to half precision."""
    from safetensors.torch import load_file

    names = {"step": (FIRST, "weights.safetensors"), "volume": (SECOND, "volume.safetensors")}
    recipe, weights = names[which]
    model = build_model(recipe.model.model_dump())
    model.load_state_dict({k: v.float() for k, v in load_file(bundle / weights).items()})
    if isinstance(model, Vdt):
        return clip_step(model)
    assert isinstance(model, MambaVolume)
    return volume(model)


SIZES = {
    "step": [
        {"batch": 1, "frames": 1, "rows": 16, "columns": 72}, {"batch": 3, "frames": 7, "rows": 40, "columns": 24},
    ],
    "volume": [
        {"batch": 1, "slices": 3, "rows": 16, "columns": 68}, {"batch": 1, "slices": 24, "rows": 44, "columns": 32},
    ],
}  # fmt: skip


@pytest.mark.parametrize("which", ["step", "volume"])
def test_graphs_are_the_networks_at_any_size(bundle: Path, which: str) -> None:
    spec = _spec(bundle, which)
    session = onnxruntime.InferenceSession(str(bundle / spec.file), providers=["CPUExecutionProvider"])
    core = openvino.Core()
    for sizes in SIZES[which]:
        inputs = spec.example(sizes, 5)
        with torch.inference_mode():
            wanted = spec.module(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        values = {k: v.numpy() for k, v in zip(spec.inputs, inputs, strict=True)}
        got = session.run(list(spec.outputs), values)
        model = core.read_model(bundle / spec.file)
        model.reshape({k: list(v.shape) for k, v in values.items()})
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        second = compiled(values)
        for i, a in enumerate(wanted):
            scale = float(a.abs().max())
            assert np.abs(a.numpy() - got[i]).max() < 1e-5 * scale
            assert np.abs(a.numpy() - second[compiled.output(i)]).max() < 1e-4 * scale


def test_the_update_is_that_of_ddim() -> None:
    class Same(nn.Module):
        def forward(self, x_t: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return 2 * x_t

    x_t = torch.randn(1, 2, 8, 8)
    unused = torch.zeros(1)
    x_next, x0 = ClipStep(Same())(x_t, unused, unused, unused, unused, torch.tensor([0.5, 0.3, -0.2, 0.7, 0.1]))
    assert torch.allclose(x0, (0.3 - 0.4) * x_t)
    assert torch.allclose(x_next, 0.7 * x0 + 0.1 * x_t)


def test_a_bundle_repeats_itself(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(bundle, copy)
    (tmp_path / "tiny.toml").write_text('name = "tiny"\ncheckpoint = "tiny"\nvolume_checkpoint = "tiny"\n')
    export(load_export_recipe(tmp_path / "tiny.toml"), copy)
    for path in bundle.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


def test_stages_in_the_wrong_place(recipe: ExportRecipe, tmp_path: Path) -> None:
    first, second = recipe.checkpoint, recipe.volume_checkpoint
    assert second is not None
    for wrong, message in (
        (ExportRecipe(name="x", checkpoint=first), "needs stage 2 as well"),
        (ExportRecipe(name="x", checkpoint=second), "is stage 2 of interp4d"),
        (ExportRecipe(name="x", checkpoint=first, volume_checkpoint=first), "is of interp4d, expected interp4d-volume"),
        (ExportRecipe(name="x", checkpoint=first, volume_checkpoint=tmp_path), "expected training.json"),
    ):
        with pytest.raises(UsageError, match=message):
            export(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()
