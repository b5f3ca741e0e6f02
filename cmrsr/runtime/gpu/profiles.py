"""Which sizes of its inputs a TensorRT plan is built for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cmrsr.runtime.bundle import Bundle, Graph
from cmrsr.runtime.kind import COLUMNS, ROWS, EngineKind, Range

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
USUAL_MATRIX = 192  # pixels along a side of a short-axis image


@dataclass(frozen=True, slots=True)
class Profile:
    """Smallest, usual (where the plan is fastest) and largest shape of every dynamic input."""

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]

    def covers(self, shapes: Shapes) -> bool:
        """Whether a plan for this profile takes inputs of ``shapes`` (others than the dynamic ones do not matter)."""
        return all(
            name in shapes
            and len(shapes[name]) == len(low)
            and all(a <= n <= b for a, n, b in zip(low, shapes[name], high, strict=True))
            for name, (low, _, high) in self.shapes.items()
        )

    @property
    def width(self) -> float:
        """How far the sizes range, 0 for a single one: the narrower, the faster is the plan."""
        return sum(
            math.log(b / a) for low, _, high in self.shapes.values() for a, b in zip(low, high, strict=True) if a
        )

    def __str__(self) -> str:
        """Shapes of the first input, from smallest to largest: "x_t 8x1x96x96", "x_t 1x1x64x64 to 8x1x256x256"."""
        for name, (low, _, high) in self.shapes.items():
            ends = ["x".join(map(str, end)) for end in dict.fromkeys((low, high))]
            return f"{name} {' to '.join(ends)}"
        return "its fixed sizes"


def exact_profile(graph: Graph, shapes: Shapes) -> Profile:
    """For inputs of exactly these shapes."""
    return Profile({name: (tuple(shapes[name]),) * 3 for name in _dynamic(graph)})


def ranged_profile(graph: Graph, sizes: Mapping[str, int | Range]) -> Profile:
    """From the sizes of the dynamic dimensions by name, of which the graph must have no others."""
    spread = {name: (size,) * 3 if isinstance(size, int) else size for name, size in sizes.items()}
    shapes = {}
    for name, dimensions in _dynamic(graph).items():
        ends = [tuple(n if isinstance(n, int) else spread[n][i] for n in dimensions) for i in range(3)]
        shapes[name] = (ends[0], ends[1], ends[2])
    return Profile(shapes)


def default_profiles(bundle: Bundle, kind: EngineKind, name: str) -> list[Profile]:
    """For a graph of a bundle of that kind: the sizes that its task uses without options, then one range."""
    graph = bundle.manifest.graphs[name]
    stride = graph.stride
    low, high = bundle.manifest.trained.matrix
    ends = max(1, low // stride) * stride, -(-high // stride) * stride
    usual = min(max(round(USUAL_MATRIX / stride) * stride, ends[0]), ends[1])
    matrix: Range = (ends[0], usual, ends[1])
    trained: dict[str, int | Range] = {ROWS: matrix, COLUMNS: matrix}
    return [ranged_profile(graph, trained | dict(sizes)) for sizes in kind.graphs[name].plans]


def _dynamic(graph: Graph) -> dict[str, tuple[int | str, ...]]:
    return {port.name: port.shape for port in graph.inputs if any(isinstance(n, str) for n in port.shape)}
