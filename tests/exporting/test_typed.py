"""Float16 and bfloat16 graphs: types that agree at every node, no needless casts, and the same results."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, defs, helper, numpy_helper

from cmrsr.errors import EngineError
from cmrsr.exporting.low_nodes import FULL, MOVES
from cmrsr.exporting.rounded import rounded
from cmrsr.exporting.typed import TYPES, Low, typed
from cmrsr.runtime.bundle import load, shipped

Array = NDArray[np.float32]
UNIT = {"f16": 2.0**-10, "bf16": 2.0**-7}  # twice the relative rounding error
LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
VARIANTS = [
    pytest.param(folder / variant.file, id=f"{folder.name}-{variant.file}")
    for folder in shipped()
    for graph in load(str(folder)).manifest.graphs.values()
    for variant in graph.variants.values()
]


def network(opset: int = 22) -> onnx.ModelProto:
    """A time embedding, two convolutions with a norm between them, a decay, a projection and an update after them."""
    rng = np.random.default_rng(0)
    weights = {
        "dense": rng.normal(size=(1, 4)), "kernel": rng.normal(size=(36,)) / 3, "last": rng.normal(size=(1, 4, 1, 1)),
        "eps": np.full(1, 1e-9), "until": np.tril(np.ones((8, 8))), "rate": np.full(1, -0.1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Sin", ["time"], ["wave"]),
        helper.make_node("MatMul", ["wave", "dense"], ["film"]),
        helper.make_node("Reshape", ["film", "film_shape"], ["gain"]),
        helper.make_node("Reshape", ["kernel", "kernel_shape"], ["first"]),
        helper.make_node("Mul", ["x", "time_"], ["seen"]),
        helper.make_node("Conv", ["seen", "first"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["h", "gain"], ["g"]),
        helper.make_node("Softplus", ["g"], ["step"]),
        helper.make_node("Mul", ["step", "rate"], ["slow"]),
        helper.make_node("MatMul", ["slow", "until"], ["sums"]),
        helper.make_node("Exp", ["sums"], ["decay"]),
        helper.make_node("Pow", ["g", "two"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axes"], ["mean"]),
        helper.make_node("Reshape", ["mean", "mean_shape"], ["moved"]),
        helper.make_node("Add", ["moved", "eps"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["root"]),
        helper.make_node("Div", ["g", "root"], ["normed"]),
        helper.make_node("Mul", ["normed", "decay"], ["faded"]),
        helper.make_node("Sigmoid", ["faded"], ["gated"]),
        helper.make_node("Conv", ["gated", "last"], ["f"]),
        helper.make_node("MatMul", ["low_pass", "f"], ["projected"]),
        helper.make_node("Sub", ["x", "projected"], ["y"]),
    ]
    whole = {"film_shape": [1, 4, 1, 1], "kernel_shape": [4, 1, 3, 3], "axes": [1, 2, 3], "mean_shape": [-1, 1, 1, 1]}
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    tensors += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in whole.items()]
    tensors += [numpy_helper.from_array(np.full(1, v, np.float32), k) for k, v in (("two", 2), ("time_", 0.7))]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "network",
        [
            value("x", TensorProto.FLOAT, ["n", 1, 8, 8]), value("time", TensorProto.FLOAT, [1, 1]),
            value("low_pass", TensorProto.FLOAT, [8, 8]),
        ],
        [value("y", TensorProto.FLOAT, ["n", 1, 8, 8])], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def inputs() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    shapes = {"x": (3, 1, 8, 8), "time": (1, 1), "low_pass": (8, 8)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value of a graph."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {t.name: t.data_type for t in graph.initializer}


def disagreements(model: onnx.ModelProto) -> list[str]:
    """Nodes whose inputs and outputs of one type parameter differ in type, by the operators' own definitions."""
    types = element_types(model)
    opset = model.opset_import[0].version
    found = []
    for node in model.graph.node:
        schema = defs.get_schema(node.op_type, opset, node.domain)
        seen: dict[str, set[int]] = {}
        for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
            for k, name in enumerate(names):
                if name and not formal[min(k, len(formal) - 1)].type_str.startswith("tensor("):
                    seen.setdefault(formal[min(k, len(formal) - 1)].type_str, set()).add(types[name])
        if any(len(kinds) > 1 for kinds in seen.values()):
            found.append(f"{node.op_type} {node.name}: {seen}")
    return found


def needless_casts(model: onnx.ModelProto) -> list[str]:
    """Casts that undo one before them, that do nothing, or that change the type of a constant."""
    types = element_types(model)
    maker = {name: node for node in model.graph.node for name in node.output}
    constants = {t.name for t in model.graph.initializer if t.data_type in (*LOW, TensorProto.FLOAT)}
    stored = {node.input[0] for node in model.graph.node if node.op_type == "Cast"} & constants
    found = [f"{name} is cast" for name in stored if not name.endswith(".half")]
    for node in model.graph.node:
        if node.op_type != "Cast" or types[node.output[0]] not in (*LOW, TensorProto.FLOAT):
            continue
        source: NodeProto | None = maker.get(node.input[0])
        while source is not None and source.op_type in MOVES:
            source = maker.get(source.input[0])
        kinds = types[node.input[0]], types[node.output[0]]
        undone = source is not None and source.op_type == "Cast" and types[source.input[0]] == kinds[1]
        if kinds[0] == kinds[1] or (undone and kinds[1] == TensorProto.FLOAT):
            found.append(f"{node.name} of {node.input[0]}")
    return found


@pytest.fixture(scope="module", params=["f16", "bf16"])
def precision(request: pytest.FixtureRequest) -> Low:
    found: Low = request.param
    return found


def test_types_agree_at_every_node(precision: Low) -> None:
    model = typed(network(), precision)
    onnx.checker.check_model(model, full_check=True)
    assert not disagreements(model)
    assert not needless_casts(model)
    ports = [*model.graph.input, *model.graph.output]
    assert {v.type.tensor_type.elem_type for v in ports} == {TensorProto.FLOAT}


def test_what_is_low_and_what_stays(precision: Low) -> None:
    model = typed(network(), precision)
    types = element_types(model)
    maker = {name.removesuffix(f".{precision}"): node for node in model.graph.node for name in node.output}
    low, full = TYPES[precision], TensorProto.FLOAT
    for name in ("film", "gain", "first", "h", "g", "normed", "faded", "gated", "f"):
        assert types[maker[name].output[0]] == low, name
    # times, input arithmetic; decays with their sums; the norm's statistics; the sampler's projection and update
    for name in (
        "wave",
        "seen",
        "step",
        "slow",
        "sums",
        "decay",
        "square",
        "mean",
        "moved",
        "safe",
        "root",
        "projected",
        "y",
    ):
        assert types[name] == full, name
    stored = {t.name: t.data_type for t in model.graph.initializer if t.data_type != TensorProto.INT64}
    assert {name for name, kind in stored.items() if kind == low} == {
        f"{name}.{precision}" for name in ("dense", "kernel", "last")
    }
    assert {name for name, kind in stored.items() if kind == full} == {"time_", "rate", "until", "two", "eps"}


def test_the_results_are_the_same_up_to_rounding(precision: Low) -> None:
    given = inputs()
    low = typed(network(), precision)
    sessions = [onnxruntime.InferenceSession(m.SerializeToString()) for m in (network(), rounded(low))]
    wanted, got = (session.run(None, given)[0] for session in sessions)
    error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    assert UNIT[precision] / 20 < error < 4 * UNIT[precision]


def test_every_value_is_rounded_where_a_cpu_would_skip_it(precision: Low) -> None:
    low = typed(network(), precision)
    types = element_types(low)
    names = [n for node in low.graph.node for n in node.output if types[n] == TYPES[precision]]
    shown = rounded(low)
    value = helper.make_tensor_value_info
    shown.graph.output.extend(value(name, TensorProto.FLOAT, None) for name in names)
    found = onnxruntime.InferenceSession(shown.SerializeToString()).run(names, inputs())
    kind = helper.tensor_dtype_to_np_dtype(TYPES[precision])
    for name, values in zip(names, found, strict=True):
        assert np.array_equal(values, values.astype(kind).astype(np.float32)), name
    assert len(names) > 10
    given = inputs()
    if precision == "f16":  # and it is the same graph: apart from these roundings, its results are the runtime's own
        (whole,) = onnxruntime.InferenceSession(low.SerializeToString()).run(None, given)
        (slow,) = onnxruntime.InferenceSession(rounded(low).SerializeToString()).run(None, given)
        assert np.abs(whole - slow).max() < 4 * UNIT[precision] * np.abs(whole).max()


def test_a_constant_beyond_the_type_keeps_its_node_in_float32() -> None:
    model = network()
    mask = numpy_helper.from_array(np.full(1, -1e9, np.float32), "mask")
    model.graph.initializer.append(mask)
    model.graph.node.insert(7, helper.make_node("Max", ["g", "mask"], ["masked"]))
    for node in model.graph.node:
        if node.op_type == "Div":
            node.input[0] = "masked"
    types = {precision: element_types(typed(model, precision)) for precision in TYPES}
    assert types["f16"]["masked"] == TensorProto.FLOAT
    assert types["bf16"]["masked"] == TensorProto.BFLOAT16


def test_a_float32_value_that_is_moved_to_a_float32_reader_is_not_rounded_on_its_way(precision: Low) -> None:
    model = network()
    at = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "faded")
    model.graph.node[at].input[1] = "aside"
    model.graph.node.insert(at, helper.make_node("Pow", ["aside", "two"], ["again"]))
    model.graph.node.insert(at, helper.make_node("Transpose", ["decay"], ["aside"], perm=[0, 1, 3, 2]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["n", 4, 8, 8]))
    low = typed(model, precision)
    types = element_types(low)
    assert (types["aside"], types["faded"]) == (TensorProto.FLOAT, TYPES[precision])
    assert not disagreements(low)
    assert not needless_casts(low)


def test_a_low_output_leaves_in_float32(precision: Low) -> None:
    model = network()
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", 1, 8, 8]))
    low = typed(model, precision)
    onnx.checker.check_model(low, full_check=True)
    assert element_types(low)["f"] == TensorProto.FLOAT
    assert not disagreements(low)


@pytest.mark.parametrize(("precision", "opset", "problem"), [("bf16", 20, "opset 20 has no bf16"), ("f16", 17, "17")])
def test_an_opset_without_the_type(precision: Literal["f16", "bf16"], opset: int, problem: str) -> None:
    model = helper.make_model(network().graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    model.graph.node[12].CopyFrom(helper.make_node("ReduceMean", ["square"], ["mean"], axes=[1, 2, 3]))  # as of old
    with pytest.raises(EngineError, match=problem):
        typed(model, precision)


def test_a_graph_without_products() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["y"])], "gate",
        [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(EngineError, match="gate: nothing to compute in f16"):
        typed(model, "f16")


@pytest.mark.parametrize("path", VARIANTS)
def test_shipped_variants(path: Path) -> None:
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    assert not disagreements(model)
    assert not needless_casts(model)
    types = element_types(model)
    maker = {name: node for node in model.graph.node for name in node.output}
    kinds = [types[node.output[0]] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert kinds
    assert set(kinds) == {TensorProto.FLOAT16}
    assert not [n for n, node in maker.items() if node.op_type in FULL and types[n] != TensorProto.FLOAT]


def test_every_shipped_engine_has_variants() -> None:
    precise = {("causal-s", "graph.onnx"), ("causal-s", "verdict.onnx")}
    for folder in shipped():
        for graph in load(str(folder)).manifest.graphs.values():
            has = "f16" in graph.variants
            assert has != ((folder.name, graph.file) in precise), f"{folder.name} {graph.file}"
            if has:
                assert graph.variants["f16"].parity <= graph.tolerance_low_precision
