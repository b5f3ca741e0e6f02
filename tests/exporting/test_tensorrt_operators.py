"""Every graph that ships or that a recipe exports is one that TensorRT takes, as far as the table tells."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cmrsr.exporting.measured import measure_parity
from cmrsr.exporting.to_onnx import store, to_onnx
from cmrsr.exporting.typed import typed
from cmrsr.runtime.bundle import load, shipped
from cmrsr.tasks.registry import load_recipe, read_source
from tests.exporting.tensorrt_operators import problems
from tests.exporting.untrained import untrained

FILES = [
    folder / file
    for folder in shipped()
    for graph in load(str(folder)).manifest.graphs.values()
    for file in (graph.file, *(variant.file for variant in graph.variants.values()))
]
# The networks of the publications, narrow: all their kinds of layers.
NARROW = {
    "perfgen-paper": ["model.base=32", "model.multipliers=[1, 2]", "model.n_blocks=1"],
    "causal-paper": [
        "model.base=32", "model.multipliers=[1, 2]", "model.messages=16", "model.reader=[16, 16, 16, 16]",
    ],
    "cpkdm-paper": [
        "model.motion=16", "model.gate=16", "model.morphology=16", "model.widths=[16, 32, 32]", "model.embedding=32",
        "model.heads=4", "model.critic=16",
    ],
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_tensorrt_takes_what_ships(file: Path) -> None:
    assert problems(file) == []


@pytest.mark.parametrize("name", NARROW)
def test_tensorrt_takes_the_published_denoisers(name: str, tmp_path: Path) -> None:
    """What else a published network has is as in the engine that ships."""
    folder = untrained(tmp_path / name, load_recipe(name, NARROW[name]))
    spec = read_source(folder, None, half=True).parts.specs["step"]
    model = to_onnx(spec, 20)
    assert problems(model) == []
    store(model, tmp_path / "step.onnx", half=False, where={})
    assert measure_parity(spec, tmp_path / "step.onnx") < 1e-5
    assert problems(typed(model, "f16")) == []


FLOAT, HALF, INT64, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.DOUBLE
ZERO, ONE, TEN = (np.array(value) for value in (0, 1, 10))


def graph(op: str, inputs: dict[str, Any], *, opset: int = 20, kind: int = FLOAT, **attributes: Any) -> onnx.ModelProto:
    """One node on x (2, 4, 6, 6) and constants, between casts from float32 and to it where ``kind`` is another."""
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in inputs.items() if v is not None]
    nodes = [
        helper.make_node("Cast", ["x"], ["typed"], to=kind),
        helper.make_node(op, ["typed", *inputs], ["found"], **attributes),
        helper.make_node("Cast", ["found"], ["y"], to=FLOAT),
    ]
    image = [2, 4, 6, 6]
    dynamic = [helper.make_tensor_value_info(k, INT64, []) for k, v in inputs.items() if v is None]
    made = helper.make_graph(
        nodes, "one",
        [helper.make_tensor_value_info("x", FLOAT, image), *dynamic], [helper.make_tensor_value_info("y", FLOAT, None)],
        constants,
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


SIZES = {"": np.array([], np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
SCALE, SHIFTED, CENTRED = (
    {"scale": np.float32(0.1)} | zero for zero in ({}, {"zero": np.int8(3)}, {"zero": np.int8(0)})
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (graph("Softmax", {}), None),
        (graph("Softmax", {}, kind=HALF), None),
        (graph("Softmax", {}, kind=DOUBLE), "of type DOUBLE"),
        (graph("Hardmax", {}), "not in the table"),
        (graph("Softmax", {}, opset=8), "opset ai.onnx 8"),
        (graph("Sigmoid", {}, kind=FLOAT, opset=26), "opset ai.onnx 26"),
        (graph("CumSum", {"axis": ONE}), None),
        (graph("CumSum", {"axis": None}), "input axis has to be a constant"),
        (graph("CumSum", {"axis": ONE}, kind=INT64), "of type INT64"),
        (graph("Resize", SIZES, mode="linear"), None),
        (graph("Resize", SIZES, mode="cubic"), "mode = b'cubic'"),
        (graph("Resize", SIZES, mode="nearest", nearest_mode="ceil", antialias=1), "antialias = 1"),
        (graph("Resize", SIZES, coordinate_transformation_mode="half_pixel_symmetric"), "half_pixel_symmetric"),
        (graph("AveragePool", {}, kernel_shape=[2, 2]), None),
        (graph("AveragePool", {}, kernel_shape=[2, 2], dilations=[1, 2]), r"dilations = \[1, 2\]"),
        (graph("QuantizeLinear", CENTRED), "of type INT8"),  # of the cast behind it: only a product may take it
        (graph("QuantizeLinear", SHIFTED), "zero point zero is not 0"),
        (graph("ReduceMean", {"axes": np.array([2, 3])}), None),
        (graph("Cast", {}, to=TensorProto.INT16), "of type INT16"),
    ],
)  # fmt: skip
def test_the_check_tells_what_is_not_taken(model: onnx.ModelProto, found: str | None) -> None:
    reasons = problems(model)
    if found is None:
        assert reasons == []
    else:
        assert any(re.search(found, reason) for reason in reasons), reasons


def test_what_a_port_has_to_be() -> None:
    x = helper.make_tensor_value_info("x", INT64, [3])
    made = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "one", [x], [
        helper.make_tensor_value_info("y", INT64, [3]),
    ])  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert problems(model) == [f"port {name} of type INT64: expected FLOAT" for name in "xy"]


def test_loops_are_refused_whatever_the_table_says() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Abs", ["v"], ["w"])], "body",
        [
            helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []), helper.make_tensor_value_info("w", FLOAT, [2])],
    )  # fmt: skip
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], "one", [value("x", FLOAT, [2])],
        [value("y", FLOAT, [2])], [numpy_helper.from_array(TEN, "n")],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert any(reason.startswith("Loop") for reason in problems(model))
