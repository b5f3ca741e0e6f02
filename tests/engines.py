"""A tiny engine: one 3x3 convolution as the denoiser, in the step graph and the bundle that every backend reads."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cmrsr.physics.kspace import degrade
from tests.conftest import perfusion_frames

RESIDUAL_STD = 0.05
STRIDE = 4
# Sharpens along the rows of the network's image (the phase axis), keeps the mean, and is symmetric in no direction.
SEEN_LR = np.array([[0.0, -3.0, 0.5], [0.0, 6.0, -1.5], [0.0, -2.0, 0.0]], np.float32)
SEEN_X_T = np.array([[0.0, 0.1, 0.0], [0.1, -0.8, 0.1], [0.0, 0.1, 0.2]], np.float32)


def write_engine(folder: Path, **changes: Any) -> Path:
    """A valid bundle; ``changes`` replaces keys of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(step_graph(), str(folder / "step.onnx"))
    manifest = manifest_of(folder) | changes
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def manifest_of(folder: Path) -> dict[str, Any]:
    image = ["batch", 1, "rows", "columns"]
    shapes: dict[str, list[int | str]] = {"x_t": image, "lr": image, "coefficients": [5], "low_pass": ["rows", "rows"]}
    return {
        "format": 2, "name": "tiny", "version": "1", "task": "sr",
        "graphs": {"step": {
            "file": "step.onnx", "stride": STRIDE, "opset": 20, "parameters": 18, "gflop_96": 0.0003,
            "inputs": [{"name": k, "dtype": "float32", "shape": v} for k, v in shapes.items()],
            "outputs": [{"name": k, "dtype": "float32", "shape": image} for k in ("x_next", "x0")],
            "parity": 1e-7, "tolerance": 1e-5, "tolerance_low_precision": 0.05,
        }},
        "normalisation": "the 0.995 quantile of the positive values of the series",
        "diffusion": {"schedule": "cosine", "prediction": "v", "n_train": 1000, "residual_std": RESIDUAL_STD},
        "defaults": {"steps": 1, "samples": 1, "consistency": 0.0},
        "trained": {"fraction": [0.3, 0.5], "matrix": [16, 512], "spacing_mm": [1, 3]},
        "spread": {"5": 1.5}, "training": {}, "metrics": {}, "licence": "Apache-2.0", "intended_use": "tests",
        "sha256": {"step.onnx": hashlib.sha256((folder / "step.onnx").read_bytes()).hexdigest()},
    }  # fmt: skip


def step_graph() -> onnx.ModelProto:
    """The graph of ``sr.training.graph.Step`` around f = conv([(1 - condition) x_t, lr]): no noise at t = 1."""
    image = ["batch", 1, "rows", "columns"]
    weights = np.stack([SEEN_X_T, SEEN_LR])[None]
    names = ["condition", "read_x", "read_f", "next_x0", "next_x"]
    nodes = [
        helper.make_node("Split", ["coefficients"], names, axis=0, num_outputs=5),
        helper.make_node("Sub", ["one", "condition"], ["certainty"]),
        helper.make_node("Mul", ["x_t", "certainty"], ["seen"]),
        helper.make_node("Concat", ["seen", "lr"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "weights"], ["f"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["f", "read_f"], ["a"]),
        helper.make_node("Mul", ["x_t", "read_x"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["free"]),
        helper.make_node("MatMul", ["low_pass", "free"], ["acquired"]),
        helper.make_node("Sub", ["free", "acquired"], ["x0"]),
        helper.make_node("Mul", ["x0", "next_x0"], ["c"]),
        helper.make_node("Mul", ["x_t", "next_x"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["x_next"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "step",
        [
            value("x_t", TensorProto.FLOAT, image), value("lr", TensorProto.FLOAT, image),
            value("coefficients", TensorProto.FLOAT, [5]), value("low_pass", TensorProto.FLOAT, ["rows", "rows"]),
        ],
        [value("x_next", TensorProto.FLOAT, image), value("x0", TensorProto.FLOAT, image)],
        [
            numpy_helper.from_array(np.ones(1, np.float32), "one"),
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny engine; nobody writes into it."""
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny")


def acquired_frames(
    n_t: int = 6, n_z: int = 1, n_y: int = 40, n_x: int = 32, *, axis: int = 2, fraction: float = 0.4
) -> NDArray[np.float32]:
    """Perfusion frames (t, z, y, x) of which ``fraction`` of the lines along array axis ``axis`` were acquired."""
    frames = perfusion_frames(n_t, n_z, n_y, n_x)
    return degrade(frames, round(fraction * frames.shape[axis]), axis)
