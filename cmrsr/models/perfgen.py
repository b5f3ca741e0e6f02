"""The small PerfGen denoiser: a U-Net that spends its arithmetic where processors are fast.

Pixel-unshuffle stem, wide layers at low resolution, no normalisation, no attention: every layer is a 3x3 convolution,
a FiLM modulation or SiLU, and residual branches start small.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DETAIL_GAIN = 24.0  # brings the fine detail of lr (in units of the series scale) to the size of the noise


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfGenConfig:
    """widths: channels at 1/2 and 1/4 of the matrix; blocks: (encoder at 1/2, middle at 1/4, decoder at 1/2)."""

    widths: tuple[int, int] = (128, 256)
    blocks: tuple[int, int, int] = (2, 4, 2)
    embedding: int = 256

    @property
    def stride(self) -> int:
        """Matrix sizes must be multiples of this."""
        return 4


class PerfGen(nn.Module):
    """f(x_t, lr, t): (batch, 1, y, x), (batch, 1, y, x), (batch,) in [0, 1] -> (batch, 1, y, x)."""

    def __init__(self, config: PerfGenConfig) -> None:
        super().__init__()
        self.config = config
        wide, deep = config.widths
        e = config.embedding
        self.time = TimeEmbedding(e)
        self.stem = nn.Conv2d(3 * 4, wide, 3, padding=1)
        self.encoder = nn.ModuleList(ResidualBlock(wide, e) for _ in range(config.blocks[0]))
        self.down = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(ResidualBlock(deep, e) for _ in range(config.blocks[1]))
        self.up = nn.Conv2d(deep, 4 * wide, 1)
        self.merge = MatrixConv(2 * wide, wide)
        self.decoder = nn.ModuleList(ResidualBlock(wide, e) for _ in range(config.blocks[2]))
        self.head = nn.Conv2d(wide, 4, 3, padding=1)

    def forward(self, x_t: Tensor, lr: Tensor, t: Tensor) -> Tensor:
        return self.denoise(x_t, lr, t, self.time(t))

    def denoise(self, x_t: Tensor, lr: Tensor, t: Tensor, e: Tensor) -> Tensor:
        """The same with the embedding e (batch, embedding) that modulates every block given."""
        # at t = 1 x_t is noise alone: fading it out by its signal amplitude leaves the regression on lr undisturbed
        seen = x_t * torch.cos(math.pi / 2 * t)[:, None, None, None]
        detail = DETAIL_GAIN * (lr - F.avg_pool2d(F.pad(lr, (1, 1, 1, 1), mode="replicate"), 3, stride=1))
        h = self.stem(F.pixel_unshuffle(torch.cat([seen, lr, detail], 1), 2))
        for block in self.encoder:
            h = block(h, e)
        skip = h
        h = self.down(h)
        for block in self.middle:
            h = block(h, e)
        h = self.merge(torch.cat([F.pixel_shuffle(self.up(h), 2), skip], 1))
        for block in self.decoder:
            h = block(h, e)
        return F.pixel_shuffle(self.head(F.silu(h)), 2)


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
