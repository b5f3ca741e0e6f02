"""A tiny engine of ``function`` that tells tissue by its brightness, in the stacks of ``tests.beating_heart``."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.cine import graph_record, onnx_model

Shape = list[int | str]
RESIDUAL_STD = 0.05
STRIDE = 8
# Brightness of background, RV, wall and LV in units of the series' scale. Neighbours in the heart are neighbours here,
# but for RV and wall: a voxel between wall and background would else be taken for RV.
TISSUE = (0.35, 0.05, 0.65, 1.0)
SHARPNESS = 200.0  # of the choice between them
SHARPENING = 0.1  # of the difference between a pixel and its neighbours that restoring adds
FEATURES, CONTEXT = 2, 4
IMAGE: Shape = ["batch", 1, "rows", "columns"]
PORTS: dict[str, tuple[dict[str, Shape], dict[str, Shape]]] = {
    "step": (
        {"x_t": IMAGE, "lr": IMAGE, "context": ["batch", CONTEXT], "coefficients": [5]},
        {"x_next": IMAGE, "x0": IMAGE},
    ),
    "encoder": ({"lr": IMAGE}, {"features": ["batch", FEATURES]}),
    "graph": (
        {"nodes": ["frames", FEATURES], "position": ["frames"]},
        {"alpha": ["frames", "frames"], "context": ["frames", CONTEXT], "whole": [1, FEATURES]},
    ),
    "decoder": (
        {"image": IMAGE, "context": ["batch", CONTEXT]},
        {"probabilities": ["batch", 4, "rows", "columns"], "areas": ["batch", 3]},
    ),
    "verdict": ({"whole": [1, FEATURES], "ef": [1]}, {"probability": [1]}),
}


def write_heart_engine(folder: Path, **changes: Any) -> Path:
    """A valid bundle; ``changes`` replaces keys of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {"step": _step, "encoder": _encoder, "graph": _graph, "decoder": _decoder, "verdict": _verdict}
    for name, make in makers.items():
        nodes, constants = make()
        inputs, outputs = PORTS[name]
        model = onnx_model(
            nodes,
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in outputs.items()],
            {k: np.asarray(v, np.float32) for k, v in constants.items()},
        )
        onnx.save(model, str(folder / f"{name}.onnx"))
    manifest = {
        "format": 2, "name": "tiny", "version": "1", "task": "function",
        "graphs": {
            name: graph_record(f"{name}.onnx", 1 if name in ("graph", "verdict") else STRIDE, *PORTS[name])
            for name in makers
        },
        "normalisation": "the 0.995 quantile of the window around the heart",
        "diffusion": {"schedule": "cosine", "prediction": "v", "n_train": 1000, "residual_std": RESIDUAL_STD},
        "defaults": {"steps": 1, "samples": 1},
        "trained": {"matrix": [16, 512], "spacing_mm": [1.0, 2.5]},
        "spread": {"5": 1.5}, "training": {}, "metrics": {}, "licence": "Apache-2.0", "intended_use": "tests",
        "sha256": {f"{n}.onnx": hashlib.sha256((folder / f"{n}.onnx").read_bytes()).hexdigest() for n in makers},
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(manifest | changes))
    return folder


Made = tuple[list[onnx.NodeProto], dict[str, Any]]


def _step() -> Made:
    """One step adds SHARPENING of the difference to the neighbours; before t = 1 a part of x_t is seen."""
    kernel = np.full((3, 3), -1 / 8)
    kernel[1, 1] = 1
    node = helper.make_node
    return [
        node("Split", ["coefficients"], ["condition", "read_x", "read_f", "next_x0", "next_x"], axis=0, num_outputs=5),
        node("Sub", ["one", "condition"], ["certainty"]),
        node("Mul", ["x_t", "certainty"], ["seen"]),
        node("Conv", ["lr", "kernel"], ["wanted"], pads=[1, 1, 1, 1]),
        node("Sub", ["seen", "wanted"], ["g"]),  # at t = 1 x0 is -f
        node("ReduceSum", ["context"], ["told"], keepdims=0),
        node("Mul", ["told", "nothing"], ["zero"]),
        node("Add", ["g", "zero"], ["f"]),
        node("Mul", ["f", "read_f"], ["a"]),
        node("Mul", ["x_t", "read_x"], ["b"]),
        node("Add", ["a", "b"], ["x0"]),
        node("Mul", ["x0", "next_x0"], ["c"]),
        node("Mul", ["x_t", "next_x"], ["d"]),
        node("Add", ["c", "d"], ["x_next"]),
    ], {"one": [1], "nothing": [0], "kernel": (SHARPENING / RESIDUAL_STD * kernel)[None, None]}  # fmt: skip


def _encoder() -> Made:
    """Mean, and mean of the squares."""
    node = helper.make_node
    return [
        node("Mul", ["lr", "lr"], ["squares"]),
        node("Concat", ["lr", "squares"], ["both"], axis=1),
        node("GlobalAveragePool", ["both"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"], axis=1),
    ], {}


def _graph() -> Made:
    """A step rests on those that look like it; the context is what it rests on, and its position in the beat."""
    node = helper.make_node
    return [
        node("Constant", [], ["first"], value_ints=[0]),
        node("Constant", [], ["second"], value_ints=[1]),
        node("Constant", [], ["last"], value_ints=[2]),
        node("Unsqueeze", ["nodes", "second"], ["rows"]),
        node("Unsqueeze", ["nodes", "first"], ["columns"]),
        node("Sub", ["rows", "columns"], ["apart"]),
        node("ReduceL2", ["apart", "last"], ["distance"], keepdims=0),
        node("Mul", ["distance", "focus"], ["score"]),
        node("Softmax", ["score"], ["alpha"], axis=1),
        node("MatMul", ["alpha", "nodes"], ["each"]),
        node("ReduceMean", ["each", "first"], ["whole"], keepdims=1),
        node("Mul", ["position", "turn"], ["angle"]),
        node("Unsqueeze", ["angle", "second"], ["angles"]),
        node("Sin", ["angles"], ["sine"]),
        node("Cos", ["angles"], ["cosine"]),
        node("Concat", ["each", "sine", "cosine"], ["context"], axis=1),
    ], {"focus": [-100], "turn": [2 * np.pi]}


def _decoder() -> Made:
    """Each pixel by its brightness alone; areas are the sums of the probabilities, in pixels."""
    node = helper.make_node
    return [
        node("Constant", [], ["plane"], value_ints=[2, 3]),
        node("Constant", [], ["parts"], value_ints=[1, 2, 3]),
        node("Sub", ["image", "tissue"], ["apart"]),
        node("Mul", ["apart", "apart"], ["squares"]),
        node("Mul", ["squares", "sharpness"], ["score"]),
        node("ReduceSum", ["context"], ["told"], keepdims=0),
        node("Mul", ["told", "nothing"], ["zero"]),
        node("Add", ["score", "zero"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        node("ReduceSum", ["probabilities", "plane"], ["sums"], keepdims=0),
        node("Gather", ["sums", "parts"], ["areas"], axis=1),
    ], {"tissue": np.reshape(TISSUE, (1, 4, 1, 1)), "sharpness": [-SHARPNESS], "nothing": [0]}


def _verdict() -> Made:
    """The further an EF lies below a half, the surer."""
    node = helper.make_node
    return [
        node("ReduceSum", ["whole"], ["total"], keepdims=0),
        node("Mul", ["total", "nothing"], ["zero"]),
        node("Sub", ["half", "ef"], ["below"]),
        node("Mul", ["below", "steepness"], ["score"]),
        node("Add", ["score", "zero"], ["logit"]),
        node("Sigmoid", ["logit"], ["probability"]),
    ], {"half": [0.5], "steepness": [20], "nothing": [0]}


@pytest.fixture(scope="session")
def heart_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny engine; nobody writes into it."""
    return write_heart_engine(tmp_path_factory.mktemp("engines") / "tiny-function")
