"""What is measured of a graph at export: its error against torch, and its arithmetic."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from cmrsr.exporting.recipe import Precision
from cmrsr.exporting.rounded import rounded
from cmrsr.exporting.spec import GraphSpec

Evaluate = Callable[[list[Any]], list[Any]]


def measure_parity(spec: GraphSpec, path: Path, precision: Precision = "f32") -> float:
    """Largest error of the ONNX graph against torch float32, relative to the largest output, by ONNX Runtime.

    Over the spec's examples of several sizes and times. A typed graph is measured with all its roundings.
    """
    evaluate = _evaluator(path, spec, typed=precision != "f32")
    worst = 0.0
    for i, sizes in enumerate(spec.parity):
        inputs = spec.example(spec.fitting(sizes), i)
        with torch.inference_mode():
            wanted = spec.module(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        got = evaluate([v.numpy() for v in inputs])
        for a, b in zip(wanted, got, strict=True):
            worst = max(worst, float(np.abs(a.numpy() - b).max() / np.abs(a.numpy()).max()))
    return worst


def _evaluator(path: Path, spec: GraphSpec, *, typed: bool) -> Evaluate:
    graph = rounded(onnx.load(str(path))).SerializeToString() if typed else str(path)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(list(spec.outputs), dict(zip(spec.inputs, inputs, strict=True)))


def count_flops(spec: GraphSpec) -> float:
    """Operations of one evaluation at the spec's size, two a multiply-add, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        spec.module(*spec.example(spec.fitting(spec.flops), 0))
    return float(counter.get_total_flops())
