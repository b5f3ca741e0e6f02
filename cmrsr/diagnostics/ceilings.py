"""What a graph's speed is held against: a plain matrix product, and the graph's own products run alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cmrsr.runtime.choice import default_threads
from cmrsr.runtime.open_vino import cpu_core

Arithmetic = Literal["bf16", "f16", "f32"]
Shapes = Mapping[str, tuple[int, ...]]
SIDE = 2048  # of the matrices: large enough to be bound by arithmetic, small enough to be over in a blink


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One matrix product in one arithmetic on one kind of device ("cpu", "cuda"); ``run`` carries it out once."""

    device: str
    precision: Arithmetic
    flop: float
    run: Callable[[], object]

    @property
    def name(self) -> str:
        return f"matrix product {self.device} {self.precision}"


def matrix_product(precision: Arithmetic, threads: int | None, side: int = SIDE) -> Ceiling:
    """The product of two matrices on the processor, by OpenVINO."""
    values = np.random.default_rng(0).standard_normal((2, side, side)).astype(np.float32)
    x = ops.parameter([side, side], np.float32)
    model = ov.Model([ops.matmul(x, ops.constant(values[1]), False, False)], [x])
    return Ceiling("cpu", precision, 2.0 * side**3, _runs(model, precision, threads, [values[0]]))


class LayersAlone:
    """The convolutions and matrix products of a graph, one after the other, without anything that lies between them.

    What an evaluation would take if all else were free. Each is compiled alone; layers that are alike share one
    compiled model. ``flop``: of all of them, two a multiply-add.
    """

    def __init__(self, path: Path, shapes: Shapes, *, precision: Arithmetic, threads: int | None) -> None:
        kept: dict[str, Callable[[], object]] = {}
        self._calls: list[Callable[[], object]] = []
        self.flop = 0.0
        for node, fixed in _products(path, shapes):
            self.flop += _flop(node)
            alike = f"{node.get_type_name()} {_input_shapes(node)} {fixed} {node.get_attributes()}"
            if alike not in kept:
                kept[alike] = _alone(node, fixed, precision, threads)
            self._calls.append(kept[alike])

    def __call__(self) -> None:
        for call in self._calls:
            call()


def count_flop(path: Path, shapes: Shapes) -> float:
    """Arithmetic of one evaluation of an ONNX graph: its convolutions and matrix products, two a multiply-add."""
    return sum(_flop(node) for node, _ in _products(path, shapes))


def _products(path: Path, shapes: Shapes) -> list[tuple[Any, list[bool]]]:
    """The layers, and which of the inputs of each are weights: computed from no input of the graph."""
    model = ov.Core().read_model(path)
    model.reshape({name: list(shape) for name, shape in shapes.items()})
    found, varying = [], set()
    for node in model.get_ordered_ops():
        fixed = [port.get_source_output().get_node().get_name() not in varying for port in node.inputs()]
        if node.get_type_name() == "Parameter" or not all(fixed):
            varying.add(node.get_name())
            if node.get_type_name() in _INNER:
                found.append((node, fixed))
    return found


# Multiply-adds of one entry of the output.
_INNER: dict[str, Callable[[Any], float]] = {
    "MatMul": lambda node: node.input(0).get_shape()[-2 if node.get_attributes()["transpose_a"] else -1],
    "Convolution": lambda node: float(np.prod(list(node.input(1).get_shape())[1:])),
    "GroupConvolution": lambda node: float(np.prod(list(node.input(1).get_shape())[2:])),
}


def _flop(node: Any) -> float:
    return 2.0 * float(np.prod(list(node.output(0).get_shape()))) * _INNER[node.get_type_name()](node)


def _input_shapes(node: Any) -> list[list[int]]:
    return [list(port.get_shape()) for port in node.inputs()]


def _alone(node: Any, fixed: list[bool], precision: Arithmetic, threads: int | None) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    parameters, given, values = [], [], []
    for port, weights in zip(node.inputs(), fixed, strict=True):
        value = rng.standard_normal(list(port.get_shape())).astype(np.float32)
        if weights:
            given.append(ops.constant(value))
            continue
        given.append(ops.parameter(list(value.shape), np.float32))
        parameters.append(given[-1])
        values.append(value)
    attributes = node.get_attributes()
    if node.get_type_name() == "MatMul":
        layer = ops.matmul(*given, attributes["transpose_a"], attributes["transpose_b"])
    else:
        convolution = ops.convolution if node.get_type_name() == "Convolution" else ops.group_convolution
        layer = convolution(*given, *(attributes[name] for name in ("strides", "pads_begin", "pads_end", "dilations")))
    return _runs(ov.Model([layer], parameters), precision, threads, values)


def _runs(model: ov.Model, precision: Arithmetic, threads: int | None, values: list[Any]) -> Callable[[], object]:
    hints = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads or default_threads(),
    }
    request = cpu_core().compile_model(model, "CPU", hints).create_infer_request()
    return lambda: request.infer(values, share_inputs=True)
