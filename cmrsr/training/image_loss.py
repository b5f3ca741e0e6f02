"""Losses between images, beside the plain ones: structural similarity, and features of a given network."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.errors import UsageError

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004
K1, K2 = 0.01, 0.03


def ssim(a: Tensor, b: Tensor, peak: float = 1.0) -> Tensor:
    """Mean structural similarity of images (n, 1, y, x), differentiable. Source: Wang et al. 2004."""
    at = torch.arange(WINDOW, device=a.device) - WINDOW // 2
    kernel = torch.exp(-(at**2) / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()

    def smooth(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))

    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.float()
        mean_a, mean_b = smooth(a), smooth(b)
        var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
        both = smooth(a * b) - mean_a * mean_b
        c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
        return (
            ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        ).mean()


class Perceptual(nn.Module):
    """Mean absolute difference of the features that a frozen network finds in two images.

    path: a program saved by ``torch.export.save`` from images (n, 1, y, x) in [0, 1] to one tensor of features, such as
    the first layers of VGG. UsageError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self.features = torch.export.load(path).module()
        except Exception as error:  # torch.export raises anything from OSError to RuntimeError
            raise UsageError(f"loss.perceptual_network: {path} is no program of torch.export ({error})") from error

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        difference: Tensor = self.features(a) - self.features(b)
        return difference.abs().mean()
