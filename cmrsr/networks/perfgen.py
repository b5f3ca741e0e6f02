"""The small PerfGen denoiser: a U-Net that spends its arithmetic where processors are fast.

Pixel-unshuffle stem, wide layers at low resolution, no normalisation, no attention: every layer is a 3x3 convolution,
a FiLM modulation or SiLU, and residual branches start small.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.networks.blocks import DETAIL_GAIN, MatrixConv, ResidualBlock, TimeEmbedding


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
