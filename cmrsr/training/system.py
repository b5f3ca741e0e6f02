"""What the training loop needs to know of the system that it trains."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


class System(Protocol):
    """Draws its own batches, so that a step depends on (seed, rank, step) alone.

    baseline: what ``gain_db`` is measured over, in words. residual_std: of what is diffused, None where it is not a
    residual.
    """

    baseline: str
    description: str
    residual_std: float | None

    def build(self, device: str) -> nn.Module: ...

    def begin(self, model: nn.Module, start: str) -> bool:
        """Put the weights of ``start`` into the model; whether they are all of it, so that this is fine-tuning.

        UsageError: no weights there, or another model's.
        """

    def frozen(self, step: int) -> tuple[str, ...]:
        """Beginnings of the names of the parameters that a step leaves as they are."""

    def loss(
        self, model: nn.Module, rng: np.random.Generator, generator: torch.Generator, device: str, step: int = 0
    ) -> Tensor:
        """The mean loss of one newly drawn batch at a step, from 0."""

    def gain_db(self, weights: dict[str, Tensor], device: str) -> float:
        """Mean PSNR gain over the baseline on the validation data."""
