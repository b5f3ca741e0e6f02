"""What is timed of an engine: one of its graphs at the size that its task usually has, with values like data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.runtime.bundle import Bundle, Graph, Task

Array = NDArray[np.float32]
Sizes = Mapping[str, int]
IMAGES = ("batch", "frames", "slices")  # dimensions that count images
MANY = 8  # images at a time: the default --batch-size of most tasks
# A whole slice of each task at its usual matrix; the networks on windows see 128 pixels (see cmrsr.tasks).
USUAL: dict[Task, dict[str, Sizes]] = {
    "sr": {"step": {"batch": MANY, "rows": 96, "columns": 96}},
    "interp4d": {
        "step": {"batch": 2, "frames": 3, "rows": 192, "columns": 192},
        "volume": {"batch": 1, "slices": 10, "rows": 192, "columns": 192},
    },
    "mie": {name: {"batch": MANY} for name in ("step", "kinematics", "morphology", "decoder")},
    "function": {
        "step": {"batch": 1, "rows": 256, "columns": 256},
        "encoder": {"batch": MANY, "rows": 128, "columns": 128},
        "graph": {"frames": 25},
        "decoder": {"batch": MANY, "rows": 128, "columns": 128},
        "verdict": {},
    },
}


@dataclass(frozen=True, slots=True)
class Workload:
    """A graph of a bundle, by its name in the manifest, and the sizes of the dimensions that may change."""

    bundle: Bundle
    graph_name: str
    sizes: Sizes

    @property
    def graph(self) -> Graph:
        return self.bundle.manifest.named(self.graph_name)

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
        found = {}
        for port in self.graph.inputs:
            shape = self._sized(port.shape)
            draw = rng.standard_normal if port.name in NOISE else rng.random
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


NOISE = ("x_t", "latent", "morphology", "motion", "bend", "nodes", "context", "whole")  # inputs of either sign


def usual(bundle: Bundle, graph_name: str = "step") -> Workload:
    """A graph at the size that it usually runs at."""
    return Workload(bundle, graph_name, USUAL[bundle.manifest.task][graph_name])
