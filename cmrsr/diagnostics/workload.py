"""What is timed of an engine: one of its graphs at the size that its task usually has, with values like data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.runtime.bundle import STEP, Bundle, Graph
from cmrsr.tasks.rooms import kind_of

Array = NDArray[np.float32]
Sizes = Mapping[str, int]
IMAGES = ("batch", "frames", "slices")  # dimensions that count images


@dataclass(frozen=True, slots=True)
class Workload:
    """A graph of a bundle, by its name in the manifest, and the sizes of the dimensions that may change."""

    bundle: Bundle
    graph_name: str
    sizes: Sizes

    @property
    def graph(self) -> Graph:
        return self.bundle.manifest.graphs[self.graph_name]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs whose shape may change, as ``cmrsr.runtime.engine.load_graph`` takes them."""
        return {
            port.name: self._sized(port.shape)
            for port in self.graph.inputs
            if any(isinstance(d, str) for d in port.shape)
        }

    @property
    def n_images(self) -> int:
        """Images (or what stands for one: a latent, a time step) that one evaluation makes."""
        named = dict.fromkeys(d for port in self.graph.outputs for d in port.shape if d in IMAGES)
        return int(np.prod([self.sizes[str(name)] for name in named], dtype=np.int64))

    def inputs(self, seed: int = 0) -> dict[str, Array]:
        """Images in 0..1 and noise; a time in the middle of a run, a projection of half weight."""
        rng = np.random.default_rng(seed)
        signed = kind_of(self.bundle.manifest.task).graphs[self.graph_name].signed
        found = {}
        for port in self.graph.inputs:
            shape = self._sized(port.shape)
            draw = rng.standard_normal if port.name in signed else rng.random
            found[port.name] = draw(shape).astype(np.float32)
        if "low_pass" in found:
            found["low_pass"] = 0.5 * np.eye(*found["low_pass"].shape, dtype=np.float32)
        if "coefficients" in found:
            found["coefficients"] = self.coefficients(3)[1]
        return found

    def coefficients(self, n_steps: int) -> list[Array]:
        return [step.array() for step in ddim_coefficients(self.bundle.manifest.diffusion.build(), n_steps)]

    def _sized(self, shape: tuple[int | str, ...]) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else self.sizes[d] for d in shape)


def usual(bundle: Bundle, graph_name: str = STEP) -> Workload:
    """A graph at the size that it usually runs at."""
    return Workload(bundle, graph_name, kind_of(bundle.manifest.task).graphs[graph_name].usual)
