"""DDIM loops of the tiny engine on TensorRT, as far as there is no GPU on stand-ins, and on the host to compare."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.gpu.cuda import Gpu, gpus
from cmrsr.runtime.gpu.plan import plan_source
from cmrsr.runtime.gpu.tensor_rt import TensorRtGraph
from cmrsr.runtime.onnx_runtime import OnnxRuntimeGraph

Array = NDArray[np.float32]
BATCH, ROWS, COLUMNS = 2, 16, 12
F32 = 1e-5  # relative: the same sums, run by the same library


@pytest.fixture(scope="module")
def bundle(engine: Path) -> Bundle:
    return load(str(engine), "sr")


def shapes(batch: int = BATCH) -> dict[str, tuple[int, ...]]:
    return {"x_t": (batch, 1, ROWS, COLUMNS), "lr": (batch, 1, ROWS, COLUMNS), "low_pass": (ROWS, ROWS)}


def loaded(bundle: Bundle, batch: int = BATCH, gpu: Gpu | None = None) -> TensorRtGraph:
    step = bundle.manifest.step
    return TensorRtGraph(plan_source(bundle, step, "f32"), step, shapes(batch), gpu=gpu or gpus()[0])


@pytest.fixture
def host(bundle: Bundle) -> OnnxRuntimeGraph:
    return OnnxRuntimeGraph(bundle.step_path, bundle.manifest.step, threads=1, cuda_device=None)


def noise(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def batch_of(seed: int, n_steps: int) -> tuple[Array, dict[str, Array], list[Array]]:
    """x_t, what is given, and the coefficients of each step."""
    x_t, lr = (noise(seed + k, BATCH, 1, ROWS, COLUMNS) for k in (0, 100))
    given = {"lr": lr, "low_pass": 0.1 * noise(seed + 200, ROWS, ROWS)}
    return x_t, given, [0.5 * noise(seed + 300 + i, 5) for i in range(n_steps)]


def error(found: Array, wanted: Array) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def same(found: Array, host: OnnxRuntimeGraph, batch: Any) -> bool:
    return error(found, host.start(*batch)()) < F32
