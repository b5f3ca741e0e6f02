"""The denoiser of the PerfGen paper: the U-Net of SR3 (Saharia et al. 2023), 92,553,473 parameters as published."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class SR3Config:
    """Base channels, their multiple at each level, residual blocks a level, dropout in the second half of a block."""

    base: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    n_blocks: int = 2
    dropout: float = 0.2
    groups: int = 32

    @property
    def stride(self) -> int:
        """Matrix sizes must be multiples of this."""
        return int(2 ** (len(self.multipliers) - 1))


class SR3(nn.Module):
    """eps(x_t, lr, sqrt(gamma)): (batch, 1, y, x), (batch, 1, y, x), (batch,) -> (batch, 1, y, x)."""

    def __init__(self, config: SR3Config) -> None:
        super().__init__()
        self.config = config
        base, levels = config.base, [config.base * m for m in config.multipliers]
        self.noise_level = NoiseLevelEmbedding(base)
        self.stem = nn.Conv2d(2, base, 3, padding=1)
        channels, skips = base, [base]
        self.encoder = nn.ModuleList()
        for i, level in enumerate(levels):
            for _ in range(config.n_blocks):
                self.encoder.append(ResidualBlock(channels, level, config))
                channels = level
                skips.append(channels)
            if i < len(levels) - 1:
                self.encoder.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                skips.append(channels)
        self.middle_first = ResidualBlock(channels, channels, config)
        self.attention = SelfAttention(channels, config.groups)
        self.middle_second = ResidualBlock(channels, channels, config)
        self.decoder = nn.ModuleList()
        for i, level in reversed(list(enumerate(levels))):
            for _ in range(config.n_blocks + 1):
                self.decoder.append(ResidualBlock(channels + skips.pop(), level, config))
                channels = level
            if i > 0:
                self.decoder.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.head_norm = nn.GroupNorm(config.groups, channels)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x_t: Tensor, lr: Tensor, level: Tensor) -> Tensor:
        return self.denoise(x_t, lr, level, self.noise_level(level))

    def denoise(self, x_t: Tensor, lr: Tensor, level: Tensor, e: Tensor) -> Tensor:
        """The same with the embedding e (batch, base) that is added in every block given."""
        h = self.stem(torch.cat([lr, x_t], 1))
        skips = [h]
        for layer in self.encoder:
            h = layer(h, e) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)
        h = self.middle_second(self.attention(self.middle_first(h, e)), e)
        for layer in self.decoder:
            if isinstance(layer, ResidualBlock):
                h = layer(torch.cat([h, skips.pop()], 1), e)
            else:
                h = layer(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        out: Tensor = self.head(F.silu(self.head_norm(h)))
        return out


class ResidualBlock(nn.Module):
    """Two (GroupNorm, Swish, conv 3x3); the noise level is added between them."""

    def __init__(self, n_in: int, n_out: int, config: SR3Config) -> None:
        super().__init__()
        self.norm_first = nn.GroupNorm(config.groups, n_in)
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.level = nn.Linear(config.base, n_out)
        self.norm_second = nn.GroupNorm(config.groups, n_out)
        self.dropout = nn.Dropout(config.dropout)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.first(F.silu(self.norm_first(x))) + self.level(e)[..., None, None]
        out: Tensor = self.second(self.dropout(F.silu(self.norm_second(h)))) + self.shortcut(x)
        return out


class SelfAttention(nn.Module):
    """One-head attention over all positions, residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, y, x_size = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)  # (b, y x, c)
        weights = (q @ k.transpose(1, 2) / math.sqrt(c)).softmax(-1)
        out: Tensor = x + self.out((weights @ v).transpose(1, 2).reshape(b, c, y, x_size))
        return out


class NoiseLevelEmbedding(nn.Module):
    """sqrt(gamma) -> sines and cosines -> Linear 4 n -> Swish -> Linear n: (batch,) -> (batch, n)."""

    frequencies: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        half = n // 2
        frequencies = torch.exp(-math.log(1e4) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.first = nn.Linear(n, 4 * n)
        self.second = nn.Linear(4 * n, n)

    def forward(self, level: Tensor) -> Tensor:
        angle = level[:, None] * self.frequencies
        out: Tensor = self.second(F.silu(self.first(torch.cat([angle.sin(), angle.cos()], 1))))
        return out
