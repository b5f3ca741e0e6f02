"""Graphs that point into one weights file: the same results, a fraction of the bytes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from cmrsr.exporting.shared_weights import CONSTANTS, LEAST_BYTES, gather, places, point_into

RNG = np.random.default_rng(0)
LARGE = RNG.normal(size=(48, 64)).astype(np.float16)
OTHER = RNG.normal(size=(64, 48)).astype(np.float32)
SMALL = RNG.normal(size=(48,)).astype(np.float32)


def graph() -> onnx.ModelProto:
    """x (2, 48) -> (x LARGE) OTHER + SMALL."""
    nodes = [
        helper.make_node("Cast", ["large"], ["large32"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "large32"], ["h"]),
        helper.make_node("MatMul", ["h", "other"], ["y0"]),
        helper.make_node("Add", ["y0", "small"], ["y"]),
    ]
    tensors = {"large": LARGE, "other": OTHER, "small": SMALL}
    return helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 48])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 48])],
            [numpy_helper.from_array(value, name) for name, value in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    weights = tmp_path / "weights.safetensors"
    # the same bytes under another name and shape, as exporters fold them
    save_file({"a": RNG.normal(size=(5, 7)).astype(np.float32), "b": LARGE.reshape(6, 8, 64), "c": OTHER}, weights)
    model = graph()
    whole = len(model.SerializeToString())
    point_into(model, places(weights))
    onnx.save(model, str(tmp_path / "graph.onnx"))
    assert (tmp_path / "graph.onnx").stat().st_size < whole - LARGE.nbytes - OTHER.nbytes + 1000
    return tmp_path


def test_engines_find_the_weights(bundle: Path) -> None:
    x = RNG.normal(size=(2, 48)).astype(np.float32)
    wanted = (x @ LARGE.astype(np.float32)) @ OTHER + SMALL
    (got,) = onnxruntime.InferenceSession(str(bundle / "graph.onnx")).run(None, {"x": x})
    assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    compiled = ov.Core().compile_model(bundle / "graph.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_allclose(compiled({"x": x})[0], wanted, rtol=1e-4, atol=1e-4)


def test_what_the_file_lacks_and_what_is_small_stays_in_the_graph(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    assert SMALL.nbytes < LEAST_BYTES
    save_file({"large": LARGE, "small": SMALL}, weights)
    model = graph()
    point_into(model, places(weights))
    outside = {t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL}
    assert outside == {"large"}


def test_what_several_graphs_hold_lies_in_one_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        onnx.save(graph(), str(tmp_path / f"{name}.onnx"))
    before = (tmp_path / "a.onnx").stat().st_size
    x = RNG.normal(size=(2, 48)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(str(tmp_path / "a.onnx")).run(None, {"x": x})
    gather(tmp_path)
    shared = LARGE.nbytes + OTHER.nbytes
    assert shared < (tmp_path / CONSTANTS).stat().st_size < shared + 1000
    for name in ("a", "b"):
        assert (tmp_path / f"{name}.onnx").stat().st_size < before - shared + 1000
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
        (got,) = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx")).run(None, {"x": x})
        assert np.array_equal(got, wanted)


def test_one_graph_alone_keeps_what_it_holds(tmp_path: Path) -> None:
    onnx.save(graph(), str(tmp_path / "a.onnx"))
    before = (tmp_path / "a.onnx").read_bytes()
    gather(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_bytes() == before
