"""What a bundle's graphs gave when they were exported: small inputs, and torch float32's outputs at some positions."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import EngineError
from cmrsr.runtime.bundle import Bundle, Graph

Array = NDArray[np.float32]
SAMPLE = "sample.npz"


def key(graph: str, part: str, port: str) -> str:
    """Name of an array in the file. part: "input", and for an output "shape", "at" and "values", see ``Kept``."""
    return f"{graph}/{part}/{port}"


@dataclass(frozen=True, slots=True)
class Kept:
    """One output of a graph at the flat positions ``at`` (n,): ``values`` (n,); ``shape``: of the whole output."""

    shape: tuple[int, ...]
    at: NDArray[np.int32]
    values: Array

    def error(self, found: Array) -> float:
        """Largest error relative to the largest value; infinite where shapes differ or a value is not finite."""
        if found.shape != self.shape or not np.isfinite(found).all():
            return float("inf")
        scale = float(np.abs(self.values).max()) or 1.0
        return float(np.abs(found.reshape(-1)[self.at] - self.values).max()) / scale


@dataclass(frozen=True, slots=True)
class GraphSample:
    """Inputs and outputs of one graph by name, in the order of its manifest."""

    inputs: Mapping[str, Array]
    expected: Mapping[str, Kept]

    def dynamic_shapes(self, graph: Graph) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs that the graph leaves open: what it is loaded for."""
        open_ = [port.name for port in graph.inputs if any(isinstance(n, str) for n in port.shape)]
        return {name: self.inputs[name].shape for name in open_}

    def error(self, outputs: tuple[Array, ...]) -> float:
        """The largest of all outputs, see ``Kept.error``."""
        pairs = zip(self.expected.values(), outputs, strict=True)
        return max(kept.error(found) for kept, found in pairs)


def read_sample(bundle: Bundle) -> dict[str, GraphSample]:
    """The stored sample of every graph of the bundle, by the graph's name.

    EngineError: the bundle has none, or it cannot be read, or it does not fit the graphs.
    """
    name, path = bundle.manifest.name, bundle.path / SAMPLE
    if SAMPLE not in bundle.manifest.sha256:
        raise EngineError(
            f"engine {name} was exported without a {SAMPLE} to compare with: install a newer one, or export it again"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise EngineError(f"{path} cannot be read: {error}; export or install engine {name} anew") from error
    found = {}
    for part, graph in bundle.manifest.graphs.items():
        try:
            found[part] = _graph_sample(arrays, part, graph)
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{path} does not fit graph {part}: {error}; export engine {name} anew") from error
    return found


def _graph_sample(arrays: Mapping[str, NDArray[np.generic]], name: str, graph: Graph) -> GraphSample:
    inputs: dict[str, Array] = {}
    for port in graph.inputs:
        value = np.asarray(arrays[key(name, "input", port.name)], np.float32)
        if not _fits(value.shape, port.shape):
            raise ValueError(f"{port.name} has shape {value.shape}, expected {port.shape}")
        inputs[port.name] = value
    expected: dict[str, Kept] = {}
    for port in graph.outputs:
        shape = tuple(arrays[key(name, "shape", port.name)].tolist())
        at = np.asarray(arrays[key(name, "at", port.name)], np.int32)
        values = np.asarray(arrays[key(name, "values", port.name)], np.float32)
        if not _fits(shape, port.shape):
            raise ValueError(f"{port.name} has shape {shape}, expected {port.shape}")
        if at.ndim != 1 or at.shape != values.shape or not at.size or at.min() < 0 or at.max() >= np.prod(shape):
            raise ValueError(f"{port.name}: positions outside of its shape {shape}, or not one a value")
        expected[port.name] = Kept(shape, at, values)
    return GraphSample(inputs, expected)


def _fits(shape: tuple[int, ...], port: tuple[int | str, ...]) -> bool:
    return len(shape) == len(port) and all(not isinstance(b, int) or a == b for a, b in zip(shape, port, strict=True))
