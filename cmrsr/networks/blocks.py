"""What the networks are made of: convolutions kept as matrices, residual blocks, embedding of the time."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DETAIL_GAIN = 24.0  # brings the fine detail of lr (in units of the series scale) to the size of the noise


class ResidualBlock(nn.Module):
    """x + conv(silu(film(conv(x)))), the second convolution small at first."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.first = MatrixConv(channels, channels)
        self.film = nn.Linear(embedding, 2 * channels)
        self.second = MatrixConv(channels, channels)
        with torch.no_grad():  # near the identity at the start, but not at it: at zero nothing below learns
            self.second.matrix.mul_(0.3)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[..., None, None].chunk(2, 1)
        h = self.first(F.silu(x))
        out: Tensor = x + self.second(F.silu(h * (1 + scale) + shift))
        return out


class MatrixConv(nn.Module):
    """A 3x3 convolution whose weights are kept as a matrix (out, in * 9), the form that the Muon optimiser works on."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in = n_in
        self.matrix = nn.Parameter(torch.empty(n_out, n_in * 9))
        self.bias = nn.Parameter(torch.zeros(n_out))
        nn.init.kaiming_uniform_(self.matrix, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.matrix.view(-1, self.n_in, 3, 3), self.bias, padding=1)


class TimeEmbedding(nn.Module):
    """Sines and cosines of t in [0, 1] at geometric frequencies, then two dense layers: (batch,) -> (batch, e)."""

    frequencies: Tensor

    def __init__(self, embedding: int, n_frequencies: int = 32) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0, math.log(1000.0), n_frequencies))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.first = nn.Linear(2 * n_frequencies, embedding)
        self.second = nn.Linear(embedding, embedding)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequencies
        out: Tensor = F.silu(self.second(F.silu(self.first(torch.cat([angle.sin(), angle.cos()], 1)))))
        return out


class PlainBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), both 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = MatrixConv(channels, channels), MatrixConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.silu(self.first(F.silu(x))))
        return out
