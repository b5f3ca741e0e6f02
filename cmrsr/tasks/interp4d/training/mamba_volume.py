"""Stage 2 of TSSC-Net: a residual network that restores the consistency of a volume across its slices.

Slices are encoded one by one at a fraction of their matrix; there, blocks scan the whole volume along three orders of
its axes, each forwards and backwards, with a state-space-dual layer (residual tri-directional Mamba). ``mixer="conv"``
is the ablation: the same network of the same size with a depthwise 3-D convolution in the place of the scans.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.networks.blocks import MatrixConv
from cmrsr.networks.ssd import MatrixLinear, SsdBlock

# Axes (z, y, x) from the slowest to the fastest of each scan: "xyz" has x fastest, "yzx" y, "zxy" z.
ORDERS = ((0, 1, 2), (2, 0, 1), (1, 2, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaVolumeConfig:
    """channels: the frame to correct first, then its conditions (the two known neighbours).

    detail: channels at 1/2 of the matrix; width: of a token at 1/stride; n_state, head, chunk: of the SSD layer.
    """

    mixer: Literal["mamba", "conv"] = "mamba"
    channels: int = 3
    detail: int = 48
    width: int = 64
    n_blocks: int = 3
    stride: int = 4
    expand: int = 2
    n_state: int = 16
    head: int = 64
    chunk: int = 32

    def __post_init__(self) -> None:
        if self.stride not in (2, 4, 8):
            raise ValueError(f"stride {self.stride}: expected 2, 4 or 8")
        if self.mixer not in ("mamba", "conv"):
            raise ValueError(f"mixer {self.mixer!r}: expected mamba or conv")


class MambaVolume(nn.Module):
    """(batch, channels, z, y, x) -> (batch, 1, z, y, x): channel 0 plus its correction.

    Any z; y and x are multiples of the stride.
    """

    def __init__(self, config: MambaVolumeConfig) -> None:
        super().__init__()
        self.config = config
        n_levels = {2: 1, 4: 2, 8: 3}[config.stride]
        widths = [config.detail, *[config.width] * (n_levels - 1)]
        self.stem = nn.Conv2d(4 * config.channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(n, m, 3, stride=2, padding=1) for n, m in pairwise(widths))
        self.inward = MatrixLinear(widths[-1], config.width)
        self.blocks = nn.ModuleList(VolumeBlock(config) for _ in range(config.n_blocks))
        self.outward = MatrixLinear(config.width, widths[-1])
        self.up = nn.ModuleList(nn.Conv2d(m, 4 * n, 1) for n, m in pairwise(widths))
        self.merge = nn.ModuleList(MatrixConv(2 * n, n) for n in widths)
        self.head = nn.Conv2d(widths[0], 4, 3, padding=1)
        with torch.no_grad():  # near the given frame at the start, but not at it: at zero nothing below learns
            self.head.weight.mul_(0.1)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, volume: Tensor) -> Tensor:
        batch, channels, z, y, x = volume.shape
        h = F.pixel_unshuffle(volume.transpose(1, 2).reshape(batch * z, channels, y, x), 2)
        h = self.stem(h)
        skips = [h]
        for down in self.down:
            h = down(F.silu(h))
            skips.append(h)
        tokens = self.inward(F.silu(h).movedim(1, -1))
        tokens = tokens.reshape(batch, z, *tokens.shape[1:])
        for block in self.blocks:
            tokens = block(tokens)
        h = self.outward(tokens).flatten(0, 1).movedim(-1, 1)
        for i in reversed(range(len(skips))):
            h = self.merge[i](F.silu(torch.cat([h, skips[i]], 1)))
            if i > 0:
                h = F.pixel_shuffle(self.up[i - 1](F.silu(h)), 2)
        correction = F.pixel_shuffle(self.head(F.silu(h)), 2)
        out: Tensor = volume[:, :1] + correction.reshape(batch, z, 1, y, x).transpose(1, 2)
        return out


class VolumeBlock(nn.Module):
    """Tokens (batch, z, y, x, width) -> the same: the mixer, then a dense layer on each token, both residual."""

    def __init__(self, config: MambaVolumeConfig) -> None:
        super().__init__()
        self.norm_mixer = nn.LayerNorm(config.width)
        self.mixer = TriDirectional(config) if config.mixer == "mamba" else ConvMixer(config)
        self.norm_dense = nn.LayerNorm(config.width)
        self.first = MatrixLinear(config.width, 2 * config.width)
        self.second = MatrixLinear(2 * config.width, config.width)
        with torch.no_grad():
            self.second.matrix.mul_(0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.mixer(self.norm_mixer(tokens))
        out: Tensor = tokens + self.second(F.silu(self.first(self.norm_dense(tokens))))
        return out


class TriDirectional(nn.Module):
    """Six scans of a volume in one call of the SSD layer, summed in place: (batch, z, y, x, width) -> the same."""

    def __init__(self, config: MambaVolumeConfig) -> None:
        super().__init__()
        self.ssd = SsdBlock(
            config.width, expand=config.expand, n_state=config.n_state, head=config.head, chunk=config.chunk,
            directions=2 * len(ORDERS), kernel=0,
        )  # fmt: skip
        # in space and once, instead of along each of the six sequences (as in VMamba, Liu et al. 2024)
        self.conv = nn.Conv3d(self.ssd.mixed, self.ssd.mixed, 3, padding=1, groups=self.ssd.mixed)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, mixed, step = self.ssd.project(tokens)
        mixed = F.silu(self.conv(mixed.movedim(-1, 1)).movedim(1, -1))
        scanned = self.ssd.scan(scans(mixed), scans(step))
        out: Tensor = self.ssd.finish(unscan(scanned, tokens.shape), gate)
        return out


def scans(volume: Tensor) -> Tensor:
    """The tokens of a volume in six orders: (batch, z, y, x, c) -> (6, batch, z y x, c).

    Each of the three ORDERS forwards, then each backwards.
    """
    forward = [volume.permute(0, *(axis + 1 for axis in order), 4).flatten(1, 3) for order in ORDERS]
    stacked = torch.stack(forward)
    return torch.cat([stacked, stacked.flip(2)])


def unscan(scanned: Tensor, shape: torch.Size) -> Tensor:
    """The mean of six scans, each token back in its own place: (6, batch, z y x, c) -> (batch, z, y, x, c).

    shape: of the volume, whose first four sizes are used. The permutation is over tokens; channels stay as they are.
    """
    batch, sizes = shape[0], shape[1:4]
    both = scanned[: len(ORDERS)] + scanned[len(ORDERS) :].flip(2)
    total = torch.zeros((), dtype=scanned.dtype, device=scanned.device)
    for order, tokens in zip(ORDERS, both, strict=True):
        back = [order.index(axis) + 1 for axis in range(3)]
        total = total + tokens.reshape(batch, *(sizes[axis] for axis in order), -1).permute(0, *back, 4)
    return total / (2 * len(ORDERS))


class ConvMixer(nn.Module):
    """The ablation's mixer: project, depthwise 3x3x3 convolution, gate, project; as many parameters as the scans."""

    def __init__(self, config: MambaVolumeConfig) -> None:
        super().__init__()
        wanted = sum(p.numel() for p in TriDirectional(config).parameters())
        per_channel = 3 * config.width + 2 + 27 + 1  # two projections in, one out, their biases, the kernel
        self.inner = round((wanted - config.width) / per_channel)
        self.inward = MatrixLinear(config.width, 2 * self.inner)
        self.conv = nn.Conv3d(self.inner, self.inner, 3, padding=1, groups=self.inner)
        self.outward = MatrixLinear(self.inner, config.width)
        nn.init.zeros_(self.outward.matrix)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, x = self.inward(tokens).chunk(2, -1)
        x = self.conv(x.movedim(-1, 1)).movedim(1, -1)
        out: Tensor = self.outward(F.silu(x) * F.silu(gate))
        return out


def wavelet_loss(a: Tensor, b: Tensor, n_levels: int = 2) -> Tensor:
    """Mean absolute difference of the Haar subbands of the slices of two volumes (..., y, x), a scalar.

    Orthonormal Haar transform along y and x; ``n_levels`` of detail bands and the last approximation weigh the same.
    An odd last row or column is left out of a level.
    """
    low = a - b  # the transform is linear
    terms = []
    for _ in range(n_levels):
        low, *details = haar(low)
        terms += details
    return torch.stack([band.abs().mean() for band in (*terms, low)]).mean()


def haar(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One level of the orthonormal Haar transform along the last two axes: low-low, low-high, high-low, high-high."""
    y, x = image.shape[-2] // 2 * 2, image.shape[-1] // 2 * 2
    even, odd = image[..., 0:y:2, :x], image[..., 1:y:2, :x]
    low, high = even + odd, even - odd

    def along_x(rows: Tensor) -> tuple[Tensor, Tensor]:
        return (rows[..., 0::2] + rows[..., 1::2]) / 2, (rows[..., 0::2] - rows[..., 1::2]) / 2

    return *along_x(low), *along_x(high)


def total_variation(volume: Tensor) -> Tensor:
    """Sum over z, y and x of the mean absolute difference of neighbours, of (..., z, y, x); a scalar.

    An axis of one element adds nothing.
    """
    steps = [volume.diff(dim=axis) for axis in (-3, -2, -1) if volume.shape[axis] > 1]
    if not steps:
        return volume.sum() * 0
    return torch.stack([step.abs().mean() for step in steps]).sum()
