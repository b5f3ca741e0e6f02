"""One DDIM step as a graph: the denoiser, the reading of its prediction, the projection and the update, all inside."""

import torch
from torch import Tensor, nn

INPUTS = ("x_t", "lr", "coefficients", "low_pass")
OUTPUTS = ("x_next", "x0")
N_COEFFICIENTS = 5


class Step(nn.Module):
    """(x_t, lr, coefficients, low_pass) -> (x_next, x0), in the units of what is diffused.

    x_t: (batch, 1, y, x) noisy target. lr: (batch, 1, y, x) condition, divided by the series' scale.
    coefficients: (5,) = condition, read_x, read_f, next_x0, next_x of ``cmrsr.diffusion.ddim.StepCoefficients``.
    low_pass: (y, y) weight times the circulant matrix of the acquired band along y; zeros switch the projection off.
    residual: the target is HR - LR, whose acquired band should be zero; otherwise it is HR, whose band should be LR's.
    """

    def __init__(self, denoiser: nn.Module, residual: bool) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.residual = residual

    def forward(self, x_t: Tensor, lr: Tensor, coefficients: Tensor, low_pass: Tensor) -> tuple[Tensor, Tensor]:
        condition, read_x, read_f, next_x0, next_x = coefficients.unbind(0)
        level = condition.expand(x_t.shape[0])
        shown = lr if self.residual else lr * 2 - 1
        x0 = read_x * x_t + read_f * self.denoiser(x_t, shown, level)
        difference = -x0 if self.residual else shown - x0
        x0 = x0 + torch.matmul(low_pass, difference)
        return next_x0 * x0 + next_x * x_t, x0
