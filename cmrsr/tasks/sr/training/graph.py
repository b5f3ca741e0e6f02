"""One DDIM step of ``sr`` as a graph: denoiser, reading of its prediction, projection and update, all inside."""

import torch
from torch import Tensor, nn

from cmrsr.exporting.spec import N_COEFFICIENTS, GraphSpec, Sizes, example_coefficients
from cmrsr.networks.perfgen import PerfGen
from cmrsr.networks.sr3 import SR3

INPUTS = ("x_t", "lr", "coefficients", "low_pass")
OUTPUTS = ("x_next", "x0")


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


def sr_step(denoiser: PerfGen | SR3, residual: bool) -> GraphSpec:
    """The graph of an ``sr`` bundle."""
    image = ("batch", 1, "rows", "columns")
    return GraphSpec(
        file="step.onnx",
        module=Step(denoiser, residual=residual).eval(),
        stride=denoiser.config.stride,
        inputs=dict(zip(INPUTS, (image, image, (N_COEFFICIENTS,), ("rows", "rows")), strict=True)),
        outputs=dict.fromkeys(OUTPUTS, image),
        example=lambda sizes, seed: example_inputs(sizes["batch"], sizes["rows"], sizes["columns"], seed),
        parity=tuple(_sizes(*shape) for shape in ((1, 32, 48), (3, 96, 96), (2, 64, 40))),
        flops=_sizes(1, 96, 96),
    )


def _sizes(batch: int, rows: int, columns: int) -> Sizes:
    return {"batch": batch, "rows": rows, "columns": columns}


def example_inputs(batch: int, height: int, width: int, seed: int) -> tuple[Tensor, ...]:
    """Inputs of the step graph at a random time, with a projection of half weight."""
    generator = torch.Generator().manual_seed(seed)
    coefficients = example_coefficients(generator)
    image = (batch, 1, height, width)
    return (
        torch.randn(image, generator=generator),
        torch.rand(image, generator=generator),
        coefficients,
        0.5 * torch.eye(height),
    )
