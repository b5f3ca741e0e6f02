"""Int8 graphs: scales for each output channel, zero points 0, what stays in float32, and an error as large as it is."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cmrsr.errors import EngineError
from cmrsr.exporting.quantised import quantised

Array = NDArray[np.float32]
STEP = 1 / 127  # of int8, relative to the largest magnitude


def network(n_layers: int = 4) -> onnx.ModelProto:
    """Convolutions and ReLUs; the kernels are stored as matrices and reshaped, as the models have them."""
    rng = np.random.default_rng(0)
    nodes, tensors, name = [], [], "x"
    for i in range(n_layers):
        kernel = rng.normal(size=(4, 36)) * np.array([0.2, 0.5, 1, 2])[:, None] / 6
        tensors.append(numpy_helper.from_array(kernel.astype(np.float32), f"matrix{i}"))
        tensors.append(numpy_helper.from_array(rng.normal(size=4).astype(np.float32), f"bias{i}"))
        nodes += [
            helper.make_node("Reshape", [f"matrix{i}", "shape"], [f"kernel{i}"]),
            helper.make_node("Conv", [name, f"kernel{i}", f"bias{i}"], [f"h{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"h{i}"], [f"r{i}"]),
        ]
        name = f"r{i}"
    nodes.append(helper.make_node("MatMul", ["low_pass", name], ["y"], name="projection"))
    tensors.append(numpy_helper.from_array(np.array([4, 4, 3, 3], np.int64), "shape"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "network",
        [value("x", TensorProto.FLOAT, ["n", 4, 8, 8]), value("low_pass", TensorProto.FLOAT, [8, 8])],
        [value("y", TensorProto.FLOAT, ["n", 4, 8, 8])], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def images(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(2, 4, 8, 8)).astype(np.float32), "low_pass": np.eye(8, dtype=np.float32)}


@pytest.fixture(scope="module")
def int8() -> onnx.ModelProto:
    return quantised(network(), [images(seed) for seed in range(4)])


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_what_is_quantised(int8: onnx.ModelProto) -> None:
    onnx.checker.check_model(int8, full_check=True)
    maker = {name: node.op_type for node in int8.graph.node for name in node.output}
    for node in int8.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            inside = node.name in ("conv1", "conv2")  # neither the ends nor the sampler's projection
            assert [maker.get(name) == "DequantizeLinear" for name in node.input[:2]] == [inside, inside], node.name
            if node.op_type == "Conv":
                assert maker.get(node.input[2]) is None  # the bias is as it was


def test_zero_points_are_zero_and_kernels_have_a_scale_for_each_output_channel(int8: onnx.ModelProto) -> None:
    values = constants(int8)
    kernels = 0
    for node in int8.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()
            if node.input[0] in values:
                kernels += 1
                assert values[node.input[0]].dtype == np.int8
                assert values[node.input[1]].shape == (4,)
                assert np.abs(values[node.input[0]].astype(int)).max((1, 2, 3)).tolist() == [127] * 4
    assert kernels == 2


def test_the_error_is_of_the_size_of_a_step(int8: onnx.ModelProto) -> None:
    given = images(1)  # one of those that the ranges are from: beyond them numbers are cut off
    (wanted,) = onnxruntime.InferenceSession(network().SerializeToString()).run(None, given)
    (got,) = onnxruntime.InferenceSession(int8.SerializeToString()).run(None, given)
    error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    assert STEP / 10 < error < 10 * STEP


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    quantised(network(3), [images(0)])
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_graph_with_nothing_between_its_ends() -> None:
    with pytest.raises(EngineError, match="network: nothing to compute in int8"):
        quantised(network(2), [images(0)])
