"""A tiny engine of ``interp4d`` and a small beating series to run it on."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cmrsr.io.series import Series
from tests.conftest import oblique_affine

RESIDUAL_STD = 0.05
STRIDE = 8
BEND_SHARE = 0.25  # of the curvature that the tiny network adds to the guess
PULL = 0.02  # towards the mean of both known frames, by its stage 2


def write_interp_engine(folder: Path, **changes: Any) -> Path:
    """A valid bundle; ``changes`` replaces keys of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_step(), str(folder / "step.onnx"))
    onnx.save(_volume(), str(folder / "volume.onnx"))
    frames: list[int | str] = ["batch", "frames", "rows", "columns"]
    known: list[int | str] = ["batch", 2, "rows", "columns"]
    shapes = {
        "x_t": frames, "known": known, "base": frames, "bend": frames, "tau": ["batch", "frames"], "coefficients": [5],
    }  # fmt: skip
    volume: list[int | str] = ["batch", 3, "slices", "rows", "columns"]
    corrected: list[int | str] = ["batch", 1, "slices", "rows", "columns"]
    manifest = {
        "format": 2, "name": "tiny", "version": "1", "task": "interp4d",
        "graphs": {
            "step": graph_record("step.onnx", STRIDE, shapes, {"x_next": frames, "x0": frames}),
            "volume": graph_record("volume.onnx", 4, {"volume": volume}, {"corrected": corrected}),
        },
        "normalisation": "the 0.995 quantile of the positive values of the series",
        "diffusion": {"schedule": "cosine", "prediction": "v", "n_train": 1000, "residual_std": RESIDUAL_STD},
        "defaults": {"steps": 1, "samples": 1, "consistency": 1.0},
        "trained": {"gap_ms": [60, 600], "matrix": [16, 512], "spacing_mm": [1, 3]},
        "spread": {"5": 1.5}, "expected_error": {"floor": 0.01, "share": 0.25}, "training": {}, "metrics": {},
        "licence": "Apache-2.0", "intended_use": "tests",
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("step.onnx", "volume.onnx")
        },
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(manifest | changes))
    return folder


def graph_record(
    file: str, stride: int, inputs: dict[str, list[int | str]], outputs: dict[str, list[int | str]]
) -> dict[str, Any]:
    def ports(shapes: dict[str, list[int | str]]) -> list[dict[str, Any]]:
        return [{"name": k, "dtype": "float32", "shape": v} for k, v in shapes.items()]

    return {
        "file": file, "stride": stride, "opset": 20, "parameters": 1, "gflop_96": 0.001, "inputs": ports(inputs),
        "outputs": ports(outputs), "parity": 1e-7, "tolerance": 1e-5, "tolerance_low_precision": 0.05,
    }  # fmt: skip


def _step() -> onnx.ModelProto:
    """f such that one step adds BEND_SHARE of the curvature to the guess; before t = 1 a part of x_t is seen."""
    frames, known = ["batch", "frames", "rows", "columns"], ["batch", 2, "rows", "columns"]
    names = ["condition", "read_x", "read_f", "next_x0", "next_x"]
    nodes = [
        helper.make_node("Split", ["coefficients"], names, axis=0, num_outputs=5),
        helper.make_node("Sub", ["one", "condition"], ["certainty"]),
        helper.make_node("Mul", ["x_t", "certainty"], ["seen"]),
        helper.make_node("Mul", ["bend", "share"], ["wanted"]),
        helper.make_node("Sub", ["seen", "wanted"], ["f"]),  # at t = 1 x0 is -f
        helper.make_node("Mul", ["f", "read_f"], ["a"]),
        helper.make_node("Mul", ["x_t", "read_x"], ["b"]),
        # the other inputs have a part in the graph, but none in its result
        helper.make_node("ReduceSum", ["known"], ["k"], keepdims=0),
        helper.make_node("ReduceSum", ["base"], ["g"], keepdims=0),
        helper.make_node("ReduceSum", ["tau"], ["u"], keepdims=0),
        helper.make_node("Sum", ["k", "g", "u"], ["rest"]),
        helper.make_node("Mul", ["rest", "nothing"], ["zero"]),
        helper.make_node("Sum", ["a", "b", "zero"], ["x0"]),
        helper.make_node("Mul", ["x0", "next_x0"], ["c"]),
        helper.make_node("Mul", ["x_t", "next_x"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["x_next"]),
    ]
    value = helper.make_tensor_value_info
    shapes = {"x_t": frames, "known": known, "base": frames, "bend": frames, "tau": ["batch", "frames"],
              "coefficients": [5]}  # fmt: skip
    constants = {"one": 1.0, "share": BEND_SHARE / RESIDUAL_STD, "nothing": 0.0}
    return onnx_model(
        nodes, [value(k, TensorProto.FLOAT, v) for k, v in shapes.items()],
        [value(k, TensorProto.FLOAT, frames) for k in ("x_next", "x0")],
        {k: np.full(1, v, np.float32) for k, v in constants.items()},
    )  # fmt: skip


def _volume() -> onnx.ModelProto:
    """(1 - PULL) of the frame and PULL of the mean of its neighbours: one 1x1x1 convolution."""
    shape = ["batch", 3, "slices", "rows", "columns"]
    kernel = np.array([1 - PULL, PULL / 2, PULL / 2], np.float32).reshape(1, 3, 1, 1, 1)
    value = helper.make_tensor_value_info
    return onnx_model(
        [helper.make_node("Conv", ["volume", "kernel"], ["corrected"])], [value("volume", TensorProto.FLOAT, shape)],
        [value("corrected", TensorProto.FLOAT, ["batch", 1, *shape[2:]])], {"kernel": kernel},
    )  # fmt: skip


def onnx_model(nodes: Any, inputs: Any, outputs: Any, constants: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    initialisers = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def interp_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny engine; nobody writes into it."""
    return write_interp_engine(tmp_path_factory.mktemp("engines") / "tiny")


def beating_frames(
    n_t: int = 6, n_z: int = 3, n_y: int = 40, n_x: int = 36, *, beats: float = 1.0
) -> NDArray[np.float32]:
    """(t, z, y, x), all positive integers: a bright pool in a ring of muscle that contracts, in ``beats`` beats."""
    t, z, y, x = np.meshgrid(np.arange(n_t), np.arange(n_z), np.arange(n_y), np.arange(n_x), indexing="ij")
    squeeze = 0.5 - 0.5 * np.cos(2 * np.pi * beats * t / n_t)
    radius = np.hypot((y - 0.5 * n_y) / n_y, (x - 0.5 * n_x) / n_x) * (1 + 0.05 * z)
    pool = 1 / (1 + np.exp((radius - 0.22 + 0.07 * squeeze) * 50))
    wall = 1 / (1 + np.exp((radius - 0.33 + 0.02 * squeeze) * 50))
    texture = 20 * np.sin(x / 2.5) * np.cos(y / 3.5)
    return np.rint(100 + 60 * wall + 700 * pool + texture).astype(np.float32)


@pytest.fixture
def cine_series() -> Series:
    """6 phases of 3 slices of 40 x 36, in memory."""
    return Series.from_array(beating_frames(), affine=oblique_affine(), times_ms=np.arange(6) * 150.0, kind="cine")
