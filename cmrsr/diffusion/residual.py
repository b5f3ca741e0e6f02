"""How much of a predicted residual is added to the guess of a frame between two known ones."""

from typing import Any, NamedTuple


class Residual(NamedTuple):
    """std: of the residuals in training, in units of the series' scale: what is diffused has variance 1.

    weight: below 1 hedges against images unlike those of the training.
    """

    std: float
    weight: float

    def gain(self, tau: Any) -> Any:
        """What a network's output is multiplied by: weight std half-way, none at the known frames, tau 0 and 1.

        So the series stays continuous in time. tau: number, numpy array or torch tensor.
        """
        return 4 * self.weight * self.std * tau * (1 - tau)
