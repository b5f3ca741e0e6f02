"""The same graph in int8: weights and inputs of its products between pairs of quantise and dequantise nodes.

Static, symmetric (zero points 0, as TensorRT wants them), weights a scale for each output channel. The first and the
last product stay float32, which halved the error of a denoiser, and so does what follows from the noise schedule and
the times: its dense layers (Gemm) are small, and every pixel depends on them.
"""

import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from cmrsr.errors import EngineError
from cmrsr.exporting.low_nodes import MOVES, Nodes, exponents, products

Array = NDArray[np.float32]
PERCENTILE = 99.99  # of the magnitudes of a product's input: what is above is cut off


def quantised(model: onnx.ModelProto, inputs: Sequence[Mapping[str, Array]]) -> onnx.ModelProto:
    """A copy of a float32 graph with int8 products, whose ranges are those met on ``inputs``.

    EngineError: the graph has no product with constant weights between its first and its last.
    """
    folded = _folded(model)
    nodes = Nodes(folded)
    chosen = [nodes.list[i].name for i in sorted(products(nodes) - exponents(nodes)) if _weighs(nodes, i)]
    chosen = chosen[1:-1]
    if not chosen:
        raise EngineError(f"{model.graph.name}: nothing to compute in int8; leave this graph out")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            folded, str(out), _Reader(inputs),
            quant_format=QuantFormat.QDQ, nodes_to_quantize=chosen, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                "CalibPercentile": PERCENTILE,
            },
        )  # fmt: skip
        return onnx.load(str(out))


def _weighs(nodes: Nodes, i: int) -> bool:
    node = nodes.list[i]
    return node.op_type in ("Conv", "MatMul") and node.input[1] in nodes.constants


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which constants that are only moved (reshaped kernels) are constants themselves."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    known = {t.name: t for t in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type in MOVES and all(name in known for name in node.input if name):
            values = {name: numpy_helper.to_array(known[name]) for name in node.input if name}
            made = ReferenceEvaluator(node).run(None, values)
            for name, value in zip(node.output, made, strict=True):
                known[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
                graph.initializer.append(known[name])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {v.name for v in graph.output}
    left = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress on standard output, and advice to prepare the graph as ``_folded`` has done."""
    logger = logging.getLogger()
    logger.addFilter(_refuse)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.removeFilter(_refuse)


def _refuse(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The inputs one after the other, as ONNX Runtime asks for them."""

    def __init__(self, inputs: Sequence[Mapping[str, Array]]) -> None:
        self._left: Iterator[Mapping[str, Array]] = iter(inputs)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._left, None)
