"""One graph to export: the module, the names and shapes of what goes in and out, inputs to try it on."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Shape = tuple[int | str, ...]
Sizes = Mapping[str, int]
LARGEST = 256  # of a dynamic dimension, in strides


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """inputs, outputs: shapes by name, a dimension is a size or a name; "rows" and "columns" are multiples of stride.

    example: inputs of a seed for the sizes of all named dimensions. parity: sizes on which the exported graph is
    compared with torch. flops: sizes for which the arithmetic is counted. sample: sizes that its stored sample
    has instead of the usual ones. precise: always in float32, see
    ``cmrsr.heart.reader``; there are no variants of it.
    """

    file: str
    module: nn.Module
    stride: int
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    example: Callable[[Sizes, int], tuple[Tensor, ...]]
    parity: tuple[Sizes, ...]
    flops: Sizes
    sample: Sizes = field(default_factory=dict)
    precise: bool = False

    def fitting(self, sizes: Sizes) -> dict[str, int]:
        """The sizes with rows and columns raised to the next multiples of the stride."""
        return {
            name: -(-size // self.stride) * self.stride if name in ("rows", "columns") else size
            for name, size in sizes.items()
        }


N_COEFFICIENTS = 5


def example_coefficients(generator: torch.Generator) -> Tensor:
    """Of a step at a random time of the cosine schedule with v-prediction."""
    t = float(torch.rand((), generator=generator)) * 0.8 + 0.1
    return torch.tensor([t, math.cos(math.pi / 2 * t), -math.sin(math.pi / 2 * t), 0.5, 0.4])
