"""What a processor with float16 or bfloat16 makes of a typed graph, in float32: every low value is rounded.

On a CPU ONNX Runtime has few kernels for these types: it computes in float32 and leaves the roundings in between out,
which flatters the graph. Here they are casts of the graph's own. Sums are in float32, as tensor cores add up.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in float32 whose values are those of the low types, where the graph has them."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type in LOW:
            tensor.CopyFrom(_whole(tensor))
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        nodes += _rounding(node, types)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.value_info[:]
    return result


def _rounding(node: NodeProto, types: dict[str, int]) -> list[NodeProto]:
    """The node in float32, and casts there and back behind it where its outputs are low."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i in LOW:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type in LOW:
            attribute.t.CopyFrom(_whole(attribute.t))
    nodes = [node]
    for k, name in enumerate(node.output):
        if types.get(name) in LOW:
            node.output[k] = f"{name}.exact"
            nodes += [
                helper.make_node("Cast", [f"{name}.exact"], [f"{name}.low"], to=types[name]),
                helper.make_node("Cast", [f"{name}.low"], [name], to=TensorProto.FLOAT),
            ]
    return nodes


def _whole(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
