"""The same graph in float16 or bfloat16: the types are written into it, as a strongly typed compiler reads them.

Inputs and outputs stay float32. Which nodes compute low is chosen in ``low_nodes``; here they are rewritten, with a
cast where a value crosses the border and every constant in the type in which it is read.
"""

from typing import Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cmrsr.errors import EngineError
from cmrsr.exporting.low_nodes import ANY_TYPE, Nodes, low_nodes, products

Low = Literal["f16", "bf16"]
TYPES: dict[Low, int] = {"f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
OPSET: dict[str, int] = {"f16": 18, "bf16": 22}  # the oldest whose operators all know the type
FLOAT = TensorProto.FLOAT


def typed(model: onnx.ModelProto, precision: Low) -> onnx.ModelProto:
    """A copy of a float32 graph whose network computes in ``precision``.

    EngineError: the graph has no product to compute in it, or its opset does not know the type.
    """
    nodes = Nodes(model)
    if nodes.opset < OPSET[precision]:
        raise EngineError(
            f"{model.graph.name}: opset {nodes.opset} has no {precision}, expected {OPSET[precision]} or newer: "
            "set opset in the export recipe"
        )
    chosen = low_nodes(nodes, TYPES[precision])
    if not chosen & products(nodes):
        raise EngineError(f"{model.graph.name}: nothing to compute in {precision}; leave this graph out")
    return _Writer(model, nodes, chosen, precision).written()


class _Writer:
    def __init__(self, model: onnx.ModelProto, nodes: Nodes, chosen: set[int], precision: Low) -> None:
        self.model, self.nodes, self.chosen = model, nodes, chosen
        self.precision, self.low = precision, TYPES[precision]
        self.out: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.names: dict[tuple[str, int], str] = {}  # (value, type) -> what it is called in the new graph

    def written(self) -> onnx.ModelProto:
        for i, node in enumerate(self.nodes.list):
            self._node(i, node)
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        graph = result.graph
        for field in (graph.node, graph.initializer, graph.value_info):
            del field[:]
        graph.node.extend(self.out)
        graph.initializer.extend(self.constants.values())
        return result

    def _node(self, i: int, node: NodeProto) -> None:
        new = NodeProto()
        new.CopyFrom(node)
        is_low, any_type = i in self.chosen, node.op_type in ANY_TYPE
        lowered = self.nodes.lowered(i) if is_low and not any_type else []
        for k, name in enumerate(node.input):
            if name in self.nodes.floats:
                new.input[k] = self._named(
                    name, self._type_of(name) if any_type else self.low if k in lowered else FLOAT
                )
            elif name in self.nodes.constants:
                self.constants[name] = self.nodes.constants[name]
        self.out.append(new)
        if is_low:
            self._lower(new)

    def _lower(self, node: NodeProto) -> None:
        """Outputs and attributes of a node of the lower type."""
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                attribute.i = self.low
            elif node.op_type == "ConstantOfShape" and attribute.name == "value":
                attribute.t.CopyFrom(self._stored(attribute.t, attribute.t.name))
        for k, name in enumerate(node.output):
            if name in self.nodes.outputs:
                node.output[k] = self.names[name, self.low] = f"{name}.{self.precision}"
                self.out.append(self._cast(node.output[k], name, FLOAT))
                self.names[name, FLOAT] = name

    def _type_of(self, name: str) -> int:
        return self.low if self.nodes.maker.get(name) in self.chosen else FLOAT

    def _named(self, name: str, kind: int) -> str:
        """What a float value is called in this type; its cast, or its constant, is added where it is first read."""
        known = self.names.get((name, kind))
        if known is not None:
            return known
        given = name
        if name in self.nodes.constants:
            tensor = self.nodes.constants[name]
            given = name if kind == FLOAT else f"{name}.{self.precision}"
            self.constants[given] = tensor if kind == FLOAT else self._stored(tensor, given)
        elif kind != self._type_of(name):
            given = f"{name}.{self.precision if kind == self.low else 'f32'}"
            self.out.append(self._cast(name, given, kind))
        self.names[name, kind] = given
        return given

    def _cast(self, source: str, target: str, kind: int) -> NodeProto:
        return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)

    def _stored(self, tensor: TensorProto, name: str) -> TensorProto:
        value = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(self.low))
        return numpy_helper.from_array(np.ascontiguousarray(value), name)
