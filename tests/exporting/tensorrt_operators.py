"""What TensorRT's ONNX parser takes: the operators of our graphs, their types and restrictions, and a check of a graph.

Facts from docs/operators.md of onnx-tensorrt for TensorRT 10.15; opsets from the ONNX opset guide of TensorRT 11.x.
An operator that is in no row is refused: look it up there first. Loop, Scan and If, which the parser takes, are left
out on purpose: with them the steps of a sampler could not be captured as one CUDA graph.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

OPSETS = range(9, 26)
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
INTEGERS = frozenset({TensorProto.INT32, TensorProto.INT64})
BOOL = frozenset({TensorProto.BOOL})
INT8 = frozenset({TensorProto.INT8})
NUMBERS = FLOATS | INTEGERS
PLAIN = NUMBERS | BOOL
CAST = PLAIN | {TensorProto.UINT8}

Kinds = frozenset[int]


@dataclass(frozen=True)
class Row:
    """One operator: ``data`` are the types of its inputs, and of its outputs unless ``out`` says else.

    sizes: positions of inputs that hold sizes, axes or indices; condition: of the one that holds booleans. constant:
    of inputs that have to be known when the plan is built; zero: of those that have to be 0. allowed: values of
    attributes, the default first; of a list, of its entries. outputs: how many may be asked for.
    """

    data: Kinds
    out: Kinds | None = None
    sizes: tuple[int, ...] = ()
    condition: int | None = None
    constant: tuple[int, ...] = ()
    zero: tuple[int, ...] = ()
    allowed: Mapping[str, tuple[Any, ...]] | None = None
    outputs: int | None = None


def _rows(names: str, row: Row) -> dict[str, Row]:
    return dict.fromkeys(names.split(), row)


REDUCTIONS = "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare"
OPERATORS: dict[str, Row] = {
    **_rows("Abs Add Div Mul Neg Pow Sub Max Min Relu Sign Mod DepthToSpace SpaceToDepth Range", Row(NUMBERS)),
    **_rows("Sin Cos Exp Log Sqrt Reciprocal Sigmoid Softplus Tanh Erf Softmax Floor Ceil Round Clip", Row(FLOATS)),
    **_rows("Conv ConvTranspose Gemm MatMul GlobalAveragePool Einsum", Row(FLOATS)),
    **_rows("InstanceNormalization GroupNormalization", Row(FLOATS)),
    **_rows("Concat Identity Transpose Where", Row(PLAIN)),
    **_rows("Greater GreaterOrEqual Less LessOrEqual Equal", Row(NUMBERS, out=BOOL)),
    **_rows("And Or Not Xor", Row(BOOL)),
    **_rows("Shape Size", Row(PLAIN, out=INTEGERS)),
    **_rows("Reshape Expand Split Tile Gather GatherElements GatherND Trilu Flatten", Row(PLAIN, sizes=(1,))),
    **_rows("Squeeze Unsqueeze", Row(PLAIN, sizes=(1,), constant=(1,))),
    **_rows(REDUCTIONS, Row(NUMBERS, sizes=(1,), constant=(1,))),
    "Where": Row(PLAIN, condition=0),
    "Slice": Row(PLAIN, sizes=(1, 2, 3, 4)),
    "Cast": Row(CAST),
    "Constant": Row(PLAIN),
    "ConstantOfShape": Row(INTEGERS, out=PLAIN),
    "Gelu": Row(NUMBERS),
    "Pad": Row(NUMBERS, sizes=(1, 3)),
    "LayerNormalization": Row(FLOATS, outputs=1),
    "AveragePool": Row(FLOATS, allowed={"dilations": (1,)}),
    "MaxPool": Row(FLOATS, allowed={"dilations": (1,)}, outputs=1),
    "CumSum": Row(FLOATS, sizes=(1,), constant=(1,)),
    "ScatterND": Row(NUMBERS, sizes=(1,), allowed={"reduction": ("none",)}),
    "QuantizeLinear": Row(FLOATS, out=INT8, constant=(1, 2), zero=(2,)),
    "DequantizeLinear": Row(INT8, out=FLOATS, constant=(1, 2), zero=(2,)),
    "Resize": Row(
        FLOATS, sizes=(3,),
        allowed={
            "mode": ("nearest", "linear"),
            "coordinate_transformation_mode": (
                "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners",
            ),
            "nearest_mode": ("round_prefer_floor", "floor", "ceil", "round_prefer_ceil"),
            "keep_aspect_ratio_policy": ("stretch",),
            "antialias": (0,),
        },
    ),
}  # fmt: skip


def problems(source: Path | onnx.ModelProto) -> list[str]:
    """Why TensorRT would refuse a graph, one line each; none: as far as the table tells, it takes it."""
    model = onnx.load(source, load_external_data=False) if isinstance(source, Path) else source
    found = [
        f"opset {entry.domain or 'ai.onnx'} {entry.version}: expected ai.onnx {OPSETS[0]} to {OPSETS[-1]}"
        for entry in model.opset_import
        if entry.domain not in ("", "ai.onnx") or entry.version not in OPSETS
    ]
    found += [f"function {function.name}" for function in model.functions]
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for port in (*graph.input, *graph.output):
        if types[port.name] != TensorProto.FLOAT:
            found.append(f"port {port.name} of type {_name(types[port.name])}: expected FLOAT")
    for node in graph.node:
        found += [f"{node.op_type} {node.name}: {text}" for text in _refused(node, types, constants)]
    return found


def _refused(node: onnx.NodeProto, types: Mapping[str, int], constants: Mapping[str, TensorProto]) -> Iterable[str]:
    row = OPERATORS.get(node.op_type)
    if row is None or node.domain not in ("", "ai.onnx"):
        yield "an operator that is not in the table"
        return
    if node.op_type == "Constant" and node.attribute[0].name in ("sparse_value", "value_string", "value_strings"):
        yield f"{node.attribute[0].name} is not supported"
    for i, name in enumerate(node.input):
        if not name:
            continue
        wanted = INTEGERS if i in row.sizes else BOOL if i == row.condition else row.data
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and i > 0:
            wanted = FLOATS if i == 1 else INT8
        yield from _of_type(f"input {name}", types.get(name, 0), wanted)
        if i in row.constant and name not in constants:
            yield f"input {name} has to be a constant"
        if i in row.zero and name in constants and np.any(numpy_helper.to_array(constants[name])):
            yield f"zero point {name} is not 0"
    for name in filter(None, node.output):
        yield from _of_type(f"output {name}", types.get(name, 0), row.out or row.data)
    if row.outputs is not None and len(list(filter(None, node.output))) > row.outputs:
        yield f"{len(node.output)} outputs, only {row.outputs} supported"
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for name, values in (row.allowed or {}).items():
        value = given.get(name, values[0])
        for one in value if isinstance(value, list) else [value]:
            if (one.decode() if isinstance(one, bytes) else one) not in values:
                yield f"{name} = {value!r}: expected {' or '.join(map(str, values))}"


def _of_type(what: str, kind: int, wanted: Kinds) -> Iterable[str]:
    if kind not in wanted:
        yield f"{what} of type {_name(kind)}: expected {' or '.join(sorted(map(_name, wanted)))}"


def _name(kind: int) -> str:
    return TensorProto.DataType.Name(kind) if kind else "unknown"
