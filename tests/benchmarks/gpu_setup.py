"""What the benchmark of a GPU measures, on what, and how large."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch

from cmrsr.diagnostics.ceilings import Ceiling
from cmrsr.diagnostics.contenders import Contender, runtime_contender
from cmrsr.diagnostics.workload import Workload
from cmrsr.exporting.torch_engine import matrix_rate_call
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Precision
from cmrsr.tasks.registry import load_torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is measured, on what, how large and how often.

    latencies: loops of which the median is taken. profiled: steps of the loops whose calls of CUDA are listed; a loop
    that runs by itself waits as often for 50 as for 1.
    """

    device: str
    found: tuple[Contender, ...]
    oracle: Contender
    precisions: tuple[Literal["bf16", "f16", "f32"], ...]
    side: int
    network: tuple[str, list[str]]
    batches: tuple[int, ...]
    matrix: int
    seconds: float
    latencies: int
    profiled: tuple[int, ...]


def torch_on(device: str, precision: Precision) -> Contender:
    return Contender(f"torch {device} {precision}", load_torch, DeviceChoice(device=device, precision=precision))


def on_gpu() -> Setup:
    """Of the first GPU; without a torch that sees it, errors are against the processor and there is no ceiling."""
    device, seen = "cuda:0", torch.cuda.is_available()
    return Setup(
        device=device,
        found=(
            torch_on(device, "bf16"), runtime_contender("tensorrt", device, "f16"),
            runtime_contender("onnxruntime", device, "f16"), runtime_contender("onnxruntime", device, "f32"),
        ),
        oracle=torch_on(device if seen else "cpu", "f32"), precisions=("bf16", "f16", "f32") if seen else (), side=8192,
        network=("perfgen-paper", []), batches=(32, 256), matrix=96, seconds=20.0, latencies=200, profiled=(1, 5, 50),
    )  # fmt: skip


def dry() -> Setup:
    return Setup(
        device="cpu", found=(torch_on("cpu", "bf16"), runtime_contender("onnxruntime", "cpu", "f32")),
        oracle=torch_on("cpu", "f32"), precisions=("bf16", "f32"), side=256,
        network=("perfgen-s", ["model.widths=[8, 16]", "model.blocks=[1, 1, 1]", "model.embedding=16"]),
        batches=(1, 2), matrix=16, seconds=0.0, latencies=3, profiled=(1, 2),
    )  # fmt: skip


def machine(device: str) -> dict[str, str]:
    """The GPU, as far as torch sees it, and the versions of what runs on it."""
    found = {"torch": torch.__version__}
    if device != "cpu" and torch.cuda.is_available():
        found = {"GPU": torch.cuda.get_device_name(device), "CUDA": str(torch.version.cuda), **found}
    for name in ("tensorrt", "onnxruntime"):
        if importlib.util.find_spec(name):
            found[name] = importlib.import_module(name).__version__
    return found


def ceilings(setup: Setup) -> list[Ceiling]:
    kind = setup.device.partition(":")[0]
    flop = 2.0 * setup.side**3
    return [Ceiling(kind, p, flop, matrix_rate_call(setup.device, p, setup.side)) for p in setup.precisions]


def workload(setup: Setup, bundle: Bundle, batch: int) -> Workload:
    return Workload(bundle, "step", {"batch": batch, "rows": setup.matrix, "columns": setup.matrix})
