"""From a module to an ONNX graph in float32 with dynamic sizes, and from the graph to its file."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from cmrsr.exporting.checkpoint import SMALL
from cmrsr.exporting.shared_weights import Places, point_into
from cmrsr.exporting.spec import LARGEST, GraphSpec


def to_onnx(spec: GraphSpec, opset: int) -> onnx.ModelProto:
    """The graph with all weights inside, in float32; nothing in it tells of the machine."""
    names = dict.fromkeys(d for shape in spec.inputs.values() for d in shape if isinstance(d, str))
    dims: dict[str, Any] = {}
    for name in names:
        whole = name in ("rows", "columns")
        dim = torch.export.Dim(name, min=2 if whole else 1, max=LARGEST)
        dims[name] = spec.stride * dim if whole else dim
    dynamic = tuple(
        {axis: dims[d] for axis, d in enumerate(shape) if isinstance(d, str)} or None for shape in spec.inputs.values()
    )
    usual = {"batch": 2, "frames": 3, "slices": 6, "rows": 8 * spec.stride, "columns": 6 * spec.stride}
    with warnings.catch_warnings():
        # of the exporter's own making: a deprecation, and the names of axes that two inputs share
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)
        program = torch.onnx.export(
            spec.module,
            spec.example(usual, 0),
            dynamo=True,
            opset_version=opset,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_shapes=dynamic,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces with the paths of the exporting machine
        node.doc_string = ""
    return model


def store(model: onnx.ModelProto, path: Path, *, half: bool, where: Places) -> None:
    """Check the graph and write it; half: large float32 weights as float16; where: what lies in files beside it."""
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    if half:
        _halve(stored)
    onnx.checker.check_model(stored, full_check=True)
    point_into(stored, where)
    onnx.save(stored, str(path))


def _halve(model: onnx.ModelProto) -> None:
    """Store large float32 initialisers as float16 behind a Cast, which engines fold when they load the graph."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALL:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
