"""Which nodes of a float32 graph may compute in a lower precision, and which have to stay.

Between the first and the last product (convolution, matrix product) everything may be low. What no product precedes
(times, sines, the noise schedule's arithmetic) and what no product follows (the DDIM update) is cheap and stays, and so
do the functions whose results or sums a short mantissa or a small range would spoil.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, defs, helper, numpy_helper

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Nothing is computed here: numbers change their place.
MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
# Always float32: exponentials, powers and roots, everything that sums many numbers, norms with their statistics.
# Attention as one node (opset 23) as well, whose inputs may differ in type: with opset 22 its products are nodes.
FULL = frozenset({
    "Attention", "Cos", "CumSum", "Exp", "GlobalAveragePool", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "Log", "LogSoftmax", "Pow", "RMSNormalization", "Reciprocal", "ReduceL2", "ReduceMean",
    "ReduceSum", "ReduceSumSquare", "Sin", "Softmax", "Softplus", "Sqrt",
})  # fmt: skip
ANY_TYPE = frozenset({"Cast", "Shape", "Size"})  # read a value of whatever type it is


class Nodes:
    """The nodes of a model with who makes and who reads each of its float32 values.

    The model is one graph without branches and loops; its nodes are in topological order, as ONNX has them.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        graph = inferred.graph
        self.list: list[NodeProto] = list(model.graph.node)
        self.opset: int = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.constants: dict[str, TensorProto] = {t.name: t for t in graph.initializer}
        values = [*graph.value_info, *graph.input, *graph.output]
        self.floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self.floats |= {name for name, t in self.constants.items() if t.data_type == TensorProto.FLOAT}
        self.outputs = {v.name for v in graph.output}
        self.maker = {name: i for i, node in enumerate(self.list) for name in node.output if name}
        self.readers: dict[str, list[int]] = defaultdict(list)
        for i, node in enumerate(self.list):
            for name in dict.fromkeys(node.input):
                self.readers[name].append(i)

    def number(self, name: str) -> NDArray[np.float32]:
        """The value of a constant."""
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def before(self, i: int) -> list[int]:
        """The nodes that make the float32 inputs of a node."""
        return [self.maker[name] for name in self.list[i].input if name in self.floats and name in self.maker]

    def after(self, i: int) -> list[int]:
        """The nodes that read the float32 outputs of a node."""
        return [j for name in self.list[i].output if name in self.floats for j in self.readers[name]]

    def lowered(self, i: int) -> list[int]:
        """Positions of the inputs that have the type of the first output; others, as scales, have their own."""
        node = self.list[i]
        schema = defs.get_schema(node.op_type, self.opset, node.domain)
        wanted = schema.outputs[0].type_str
        formal = schema.inputs
        kinds = [formal[min(k, len(formal) - 1)].type_str for k in range(len(node.input))]
        return [k for k, name in enumerate(node.input) if name in self.floats and kinds[k] == wanted]

    def allows(self, i: int, low: int) -> bool:
        """Whether ONNX knows the node in this type, and its constants can be written in it."""
        node = self.list[i]
        schema = defs.get_schema(node.op_type, self.opset, node.domain)
        kind = schema.outputs[0].type_str
        types = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == kind), [kind])
        name = f"tensor({helper.tensor_dtype_to_string(low).split('.')[-1].lower()})"
        return name in types and all(
            _fits(self.number(node.input[k]), low) for k in self.lowered(i) if node.input[k] in self.constants
        )

    @cached_property
    def fixed(self) -> frozenset[int]:
        """Nodes that follow from constants and shapes alone."""
        found: set[int] = set()
        for i, node in enumerate(self.list):
            named = [name for name in node.input if name in self.floats and name not in self.constants]
            if all(name in self.maker and self.maker[name] in found for name in named):
                found.add(i)
        return frozenset(found)

    def is_fixed(self, name: str) -> bool:
        return name in self.constants or self.maker.get(name) in self.fixed


def _fits(value: NDArray[np.float32], low: int) -> bool:
    """Nothing overflows, and no constant becomes zero as a whole."""
    with np.errstate(over="ignore"):
        rounded = value.astype(helper.tensor_dtype_to_np_dtype(low)).astype(np.float32)
    return bool(np.isfinite(rounded).all()) and (bool(rounded.any()) or not value.any())


def low_nodes(nodes: Nodes, low: int) -> set[int]:
    """The nodes that compute in ``low``, a float type of ONNX."""
    heavy = {i for i in products(nodes) - exponents(nodes) if nodes.allows(i, low)}
    chosen = {
        i
        for i in _reached(heavy, nodes.after) & _reached(heavy, nodes.before)
        if _is_float(nodes, i) and nodes.list[i].op_type not in FULL | ANY_TYPE and nodes.allows(i, low)
    } - exponents(nodes)
    for i in reversed(range(len(nodes.list))):  # what is made of constants has the type in which it is read
        readers = nodes.after(i)
        movable = nodes.list[i].op_type in MOVES | {"ConstantOfShape"} or _from_truth(nodes, i)
        if i in nodes.fixed and movable and _is_float(nodes, i) and readers and chosen.issuperset(readers):
            chosen.add(i)
    while True:
        smaller = _without_detours(nodes, _without_islands(nodes, chosen, heavy))
        if smaller == chosen:
            return chosen
        chosen = smaller


def products(nodes: Nodes) -> set[int]:
    """The nodes that are the network's work: products with weights, or of two computed values.

    A matrix product of a computed value with an input is the sampler's (the projection on the acquired band).
    """
    found: set[int] = set()
    computed: set[int] = set()
    for i, node in enumerate(nodes.list):
        follows = [nodes.maker.get(name) in computed for name in node.input]
        weighed = any(nodes.is_fixed(name) for name in node.input)
        if node.op_type in PRODUCTS and (node.op_type != "MatMul" or weighed or all(follows)):
            found.add(i)
        if i in found or any(follows):
            computed.add(i)
    return found


def exponents(nodes: Nodes) -> set[int]:
    """The nodes that make the arguments of exponentials, back to the weights: sums of decays over many time steps.

    Products with constant matrices of zeros and ones are such sums (see ``cmrsr.networks.ssd``) and belong to them;
    before the softplus that makes time steps, only the arithmetic does.
    """
    found: set[int] = set()
    waiting = [(j, False) for i, node in enumerate(nodes.list) if node.op_type == "Exp" for j in nodes.before(i)]
    while waiting:
        i, stepped = waiting.pop()
        node = nodes.list[i]
        trained = node.op_type in PRODUCTS and any(_is_trained(nodes, name) for name in node.input)
        if i in found or trained or (node.op_type in (MOVES if stepped else FULL - {"Softplus"})):
            continue
        found.add(i)
        before = nodes.before(i)
        # softplus makes the time steps; exporters write it as a choice between it and its argument
        stepped |= "Softplus" in {node.op_type, *(nodes.list[j].op_type for j in before)}
        waiting += [(j, stepped) for j in before]
    return found


def _is_trained(nodes: Nodes, name: str) -> bool:
    """A constant, or moved from one, that is no choice of numbers by zeros and ones."""
    if name in nodes.constants:
        value = nodes.number(name)
        return name in nodes.floats and not (np.isin(value, (0, 1)).all() and value.any())
    return nodes.is_fixed(name) and any(_is_trained(nodes, n) for n in nodes.list[nodes.maker[name]].input)


def _is_float(nodes: Nodes, i: int) -> bool:
    return nodes.list[i].output[0] in nodes.floats


def _from_truth(nodes: Nodes, i: int) -> bool:
    """A cast of true and false to 1 and 0, which every type holds."""
    node = nodes.list[i]
    if node.op_type != "Cast" or node.input[0] not in nodes.maker:
        return False
    return nodes.list[nodes.maker[node.input[0]]].op_type in {"And", "Equal", "Greater", "Less", "Not", "Or"}


def _reached(start: set[int], step: Callable[[int], list[int]]) -> set[int]:
    found, waiting = set(start), list(start)
    while waiting:
        for j in step(waiting.pop()):
            if j not in found:
                found.add(j)
                waiting.append(j)
    return found


def _without_islands(nodes: Nodes, chosen: set[int], heavy: set[int]) -> set[int]:
    """Without connected nodes that hold no product: their inputs would be cast down and the results up again."""
    kept = _reached(heavy & chosen, lambda i: [j for j in nodes.before(i) + nodes.after(i) if j in chosen])
    return chosen & kept


def _without_detours(nodes: Nodes, chosen: set[int]) -> set[int]:
    """Without moves by which a float32 value reaches a float32 reader: it would be rounded for nothing."""
    moves = [i for i in sorted(chosen) if nodes.list[i].op_type in MOVES]
    given: set[int] = set()
    for i in moves:
        named = [n for n in nodes.list[i].input if n in nodes.floats and not nodes.is_fixed(n)]
        if any(nodes.maker.get(n, -1) not in chosen or nodes.maker[n] in given for n in named):
            given.add(i)
    wanted: set[int] = set()
    for i in reversed(moves):
        if nodes.outputs.intersection(nodes.list[i].output) or any(
            j in wanted or (j not in chosen and nodes.list[j].op_type not in ANY_TYPE) for j in nodes.after(i)
        ):
            wanted.add(i)
    return chosen - (given & wanted)
