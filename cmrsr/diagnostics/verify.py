"""Every graph of a bundle on every backend of this machine, on random inputs, beside ONNX Runtime in float32."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cmrsr.diagnostics.bench import relative_error
from cmrsr.diagnostics.contenders import Contender, any_gpu, cpu_precisions, installed, runtime_contender
from cmrsr.diagnostics.selftest import allowed
from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.runtime.bundle import Bundle, Graph
from cmrsr.runtime.choice import Precision
from cmrsr.runtime.engine import cuda_provider
from cmrsr.runtime.gpu.profiles import default_profiles
from cmrsr.runtime.host_loop import COEFFICIENTS
from cmrsr.tasks.rooms import kind_of

Array = NDArray[np.float32]
SMOOTH_PIXELS = 1.5  # as images are


@dataclass(frozen=True, slots=True)
class Verified:
    """One graph on one backend: the largest error of any output, relative to its largest value, and what is allowed."""

    graph: str
    backend: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed


def verify(
    bundle: Bundle, device: str = "cuda", precision: Precision = "auto", others: Sequence[Contender] = (),
    on_result: Callable[[Verified], None] = lambda result: None,
) -> list[Verified]:  # fmt: skip
    """All graphs of a bundle; ``others``: ways to run them besides the runtime's; ``on_result``: told of each at once.

    device, precision: of TensorRT. EngineError: a backend cannot load a graph. DeviceError: it fails on one.
    """
    results = []
    oracle = runtime_contender("onnxruntime", "cpu", "f32")
    for name, graph in bundle.manifest.graphs.items():
        given = example(bundle, name)
        wanted, _ = _run(oracle, bundle, graph, given)
        for way in (*others, *_ways(graph, device, precision)):
            found, limit = _run(way, bundle, graph, given)
            results.append(Verified(name, way.name, relative_error(found, wanted), limit))
            on_result(results[-1])
    return results


def _ways(graph: Graph, device: str, precision: Precision) -> Iterator[Contender]:
    """What this machine runs the graph with besides the oracle."""
    if installed("openvino"):
        for kind in cpu_precisions():
            yield runtime_contender("openvino", "cpu", kind)
    half: list[Precision] = ["f16"] if "f16" in graph.variants else []
    for kind in half:
        yield runtime_contender("onnxruntime", "cpu", kind)
    if cuda_provider():
        for kind in ("f32", *half):
            yield runtime_contender("onnxruntime", device, kind)
    if installed("tensorrt") and any_gpu():
        yield runtime_contender("tensorrt", device, precision)


def example(bundle: Bundle, name: str) -> dict[str, Array]:
    """Inputs of a graph at a size that its task asks for, for which there is a plan where there are plans.

    Noise, smooth images and features from 0 to 1, a time in the middle of a run, a projection of half weight.
    """
    graph = bundle.manifest.graphs[name]
    profile = default_profiles(bundle, kind_of(bundle.manifest.task), name)[0]
    usual = {port: shape for port, (_, shape, _) in profile.shapes.items()}
    rng = np.random.default_rng(0)
    values = {}
    for port in graph.inputs:
        shape = usual.get(port.name) or tuple(int(n) for n in port.shape)
        drawn: NDArray[Any] = rng.standard_normal(shape) if port.name == "x_t" else rng.random(shape)
        if port.name == COEFFICIENTS:
            drawn = ddim_coefficients(bundle.manifest.diffusion.build(), 3)[1].array()
        elif port.name == "low_pass":
            drawn = 0.5 * np.eye(shape[0])
        elif port.name == "tau":
            drawn = np.broadcast_to((np.arange(shape[1]) + 1) / (shape[1] + 1), shape)
        elif len(shape) > 2 and port.name != "x_t":
            smooth = gaussian_filter(drawn, SMOOTH_PIXELS, axes=(-2, -1))
            drawn = (smooth - smooth.min()) / np.ptp(smooth)
        values[port.name] = np.ascontiguousarray(drawn, np.float32)
    return values


def _run(way: Contender, bundle: Bundle, graph: Graph, given: dict[str, Array]) -> tuple[tuple[Array, ...], float]:
    """The outputs, and the error that is allowed for them."""
    shapes = {port.name: given[port.name].shape for port in graph.inputs if port.name != COEFFICIENTS}
    engine = way.factory(bundle, graph, shapes, way.choice)
    try:
        return engine(*given.values()), allowed(graph, engine)
    finally:
        engine.close()
