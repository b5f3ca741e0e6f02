"""What can run an engine on this machine, for a comparison of speeds."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from cmrsr.diagnostics.ceilings import Arithmetic, Ceiling, matrix_product
from cmrsr.diagnostics.cold_start import Factory
from cmrsr.runtime.choice import BackendName, DeviceChoice, Precision
from cmrsr.runtime.engine import TENSORRT, backends, cuda_provider, load_graph


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a graph; ``name`` says what and in which arithmetic."""

    name: str
    factory: Factory
    choice: DeviceChoice


def contenders(device: str, backend: str, threads: int | None) -> list[Contender]:
    """What is installed to run graphs with on ``device`` (auto: on all there are), or of that ``backend`` alone."""
    found: list[tuple[BackendName, str, Precision]] = []
    if device in ("auto", "cpu"):
        found += [("openvino", "cpu", precision) for precision in cpu_precisions()]
        found.append(("onnxruntime", "cpu", "f32"))
    if device not in ("auto", "cpu"):
        found += [("tensorrt", device, "auto"), ("onnxruntime", device, "f32")]
    elif device == "auto" and any_gpu():
        found += [("tensorrt", "cuda", "auto"), ("onnxruntime", "cuda", "f32")]
    return [
        runtime_contender(name, where, precision, threads)
        for name, where, precision in found
        if backend in ("auto", name) and installed(name)
    ]


def runtime_contender(backend: BackendName, device: str, precision: Precision, threads: int | None = None) -> Contender:
    """One of the runtime's backends; anything else in its place is an error."""
    name = f"{backend} {'' if device == 'cpu' else f'{device} '}{precision}"
    choice = DeviceChoice(device=device, backend=backend, precision=precision, threads=threads, strict=True)
    return Contender(name, load_graph, choice)


def oracle(threads: int | None) -> Contender:
    """What errors are measured against: float32 by ONNX Runtime, by OpenVINO where that is absent."""
    return runtime_contender("onnxruntime" if installed("onnxruntime") else "openvino", "cpu", "f32", threads)


def installed(backend: BackendName) -> bool:
    """Whether the library of a backend can be imported."""
    return any(map(importlib.util.find_spec, TENSORRT if backend == "tensorrt" else (backend,)))


def cpu_precisions() -> list[Precision]:
    """What the processor computes in, the fastest first."""
    known: Precision = next((b["precision"] for b in backends() if b["name"] == "openvino"), "f32")
    return list(dict.fromkeys((known, "f32")))


def any_gpu() -> bool:
    """Whether a GPU can be used by one of the backends."""
    return cuda_provider() or any(b["devices"] for b in backends() if b["name"] in TENSORRT)


def cpu_ceilings(found: Sequence[Contender], threads: int | None) -> list[Ceiling]:
    """A matrix product in each arithmetic that the contenders on the processor use."""
    wanted = dict.fromkeys(one.choice.precision for one in found if one.choice.device == "cpu")
    return [matrix_product(cast(Arithmetic, precision), threads) for precision in wanted]
