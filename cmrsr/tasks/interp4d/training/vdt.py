"""Stage 1 of TSSC-Net: a video diffusion transformer (VDT, Lu et al. 2023) that denoises all unknown frames jointly.

Every block attends across the frames at each place (not modulated), then within each frame, then applies a dense layer,
the latter two modulated by the noise level (adaLN-Zero). Known frames are part of the token video as clean frames at
tau = 0 and 1; tau is a continuous time between them. ``VdtPaper``: the published size on latents. ``Vdt``: small, on
pixels, with the fine detail of the known frames led past the tokens.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.networks.blocks import DETAIL_GAIN, MatrixConv, ResidualBlock, TimeEmbedding
from cmrsr.networks.ssd import MatrixLinear

CHANGE_GAIN = 8.0  # brings differences of frames (in units of the series scale) to the size of the noise
MASKED = -1e4  # the score of a place outside the image


@dataclass(frozen=True, slots=True, kw_only=True)
class VdtConfig:
    """vdt-s. detail: channels at 1/2 and 1/4 of the matrix; width, depth, heads: of the transformer at 1/8.

    window: tokens a side of the squares within which a frame attends; every other block shifts them by half.
    """

    depth: int = 6
    width: int = 192
    heads: int = 6
    window: int = 8
    detail: tuple[int, int] = (48, 96)
    embedding: int = 128

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width}: expected a multiple of heads = {self.heads}")

    @property
    def stride(self) -> int:
        """Matrix sizes must be multiples of this: the patch that a token stands for."""
        return 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VdtPaperConfig:
    """vdt-paper, about 860 M parameters: VDT's largest size on the latents (channels) of an image autoencoder."""

    depth: int = 28
    width: int = 1152
    heads: int = 16
    patch: int = 2
    channels: int = 4
    n_frames: int = 12

    @property
    def stride(self) -> int:
        """Latent sizes must be multiples of this."""
        return self.patch


class Vdt(nn.Module):
    """f(x_t, known, base, bend, tau, t) -> (batch, n, y, x), the prediction for the n unknown frames.

    x_t: (batch, n, y, x) noisy residuals to ``base``, divided by their standard deviation. known: (batch, 2, y, x).
    base, bend: (batch, n, y, x), the guess at each tau and its curvature part (``physics.optical_flow.estimate``).
    tau: (batch, n), 0 to 1. t: (batch,) in [0, 1]. Any n; y and x multiples of the stride. Images are divided by the
    series' scale.
    """

    def __init__(self, config: VdtConfig) -> None:
        super().__init__()
        self.config = config
        fine, coarse = config.detail
        w, e = config.width, config.embedding
        self.level = TimeEmbedding(e)
        self.time = nn.Linear(TAU_TERMS, e)
        self.stem = nn.Conv2d(4 * 6, fine, 3, padding=1)
        self.down_first = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.encoder = ResidualBlock(coarse, e)
        self.down_second = nn.Conv2d(coarse, w, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            VdtBlock(w, config.heads, e, Windows(config.heads, config.window, config.window // 2 * (i % 2)))
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(w)
        self.decoder_coarse = Decoder(w, coarse, e, n_blocks=2)
        self.decoder_fine = Decoder(coarse, fine, e, n_blocks=1)
        self.head = nn.Conv2d(fine, 4, 3, padding=1)

    def forward(self, x_t: Tensor, known: Tensor, base: Tensor, bend: Tensor, tau: Tensor, t: Tensor) -> Tensor:
        batch, n, y, x = x_t.shape
        # at t = 1 x_t is noise alone: fading it out by its signal amplitude leaves the regression undisturbed
        seen = x_t * torch.cos(math.pi / 2 * t)[:, None, None, None]
        none = torch.zeros_like(known)
        residual = torch.cat([none, seen], 1)  # a known frame is its own blend
        image = torch.cat([known, base], 1)
        smooth = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        rise = known[:, 1:] - known[:, :1]
        linear = known[:, :1] + tau[:, :, None, None] * rise
        off_linear, bend = (torch.cat([none, CHANGE_GAIN * change], 1) for change in (base - linear, bend))
        change = CHANGE_GAIN * rise.expand(-1, n + 2, -1, -1)
        frames = torch.stack([residual, image, DETAIL_GAIN * (image - smooth), change, off_linear, bend], 2)

        ends = torch.zeros_like(known[:, :, 0, 0])  # (batch, 2)
        tau = torch.cat([ends + torch.arange(2, device=tau.device, dtype=tau.dtype), tau], 1)
        level = torch.cat([ends, t[:, None].expand(-1, n)], 1)  # known frames are clean
        e = F.silu(self.level(level.flatten()) + self.time(tau_terms(tau.flatten())))  # (batch n+2, embedding)

        fine = self.stem(F.pixel_unshuffle(frames.flatten(0, 1), 2))
        coarse = self.encoder(self.down_first(F.silu(fine)), e)
        h = self.down_second(F.silu(coarse))
        tokens = h.movedim(1, -1).reshape(batch, n + 2, y // 8, x // 8, self.config.width)
        tokens = tokens + sinusoids(tau * TAU_SCALE, self.config.width)[:, :, None, None]
        condition = e.reshape(batch, n + 2, -1)
        for block in self.blocks:
            tokens = block(tokens, condition)
        h = self.norm(tokens[:, 2:]).flatten(0, 1).movedim(-1, 1)

        e = condition[:, 2:].flatten(0, 1)
        h = self.decoder_coarse(h, coarse.reshape(batch, n + 2, *coarse.shape[1:]), e)
        h = self.decoder_fine(h, fine.reshape(batch, n + 2, *fine.shape[1:]), e)
        out: Tensor = F.pixel_shuffle(self.head(F.silu(h)), 2)
        return out.reshape(batch, n, y, x)


class Decoder(nn.Module):
    """Twice the matrix: (batch n, n_in, y, x) and skips (batch, n + 2, n_out, 2 y, 2 x) -> (batch n, n_out, 2 y, 2 x).

    What comes from below adds its own part and says where to use the detail of the two known frames.
    """

    def __init__(self, n_in: int, n_out: int, embedding: int, n_blocks: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(n_in, 8 * n_out, 1)
        self.own = MatrixConv(2 * n_out, n_out)
        self.known = MatrixConv(2 * n_out, n_out)
        self.blocks = nn.ModuleList(ResidualBlock(n_out, embedding) for _ in range(n_blocks))

    def forward(self, h: Tensor, skips: Tensor, embedding: Tensor) -> Tensor:
        batch, n = skips.shape[0], skips.shape[1] - 2
        h, gate = F.pixel_shuffle(self.up(F.silu(h)), 2).chunk(2, 1)
        own = self.own(F.silu(torch.cat([h, skips[:, 2:].flatten(0, 1)], 1)))
        known = self.known(F.silu(skips[:, :2].flatten(1, 2)))  # once for all frames between
        h = own + ((1 + gate).reshape(batch, n, *own.shape[1:]) * known[:, None]).flatten(0, 1)
        for block in self.blocks:
            h = block(h, embedding)
        return h


class VdtPaper(nn.Module):
    """f(x_t, known, tau, t) -> (batch, n, channels, y, x), the prediction for the n unknown frames.

    x_t: (batch, n, channels, y, x) noisy latents; known: (batch, 2, channels, y, x) clean ones, put in the place of
    frames tau = 0 and 1. tau: (batch, n); t: (batch,) in [0, 1], embedded as 1000 t. Fixed sine-cosine embeddings.
    """

    def __init__(self, config: VdtPaperConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.Conv2d(config.channels, w, config.patch, stride=config.patch)
        self.level_first = nn.Linear(256, w)
        self.level_second = nn.Linear(w, w)
        self.blocks = nn.ModuleList(
            VdtBlock(w, config.heads, w, Whole(), temporal_projection=True) for _ in range(config.depth)
        )
        self.modulation = nn.Linear(w, 2 * w)
        self.head = nn.Linear(w, config.patch**2 * config.channels)
        for module in self.modules():
            if isinstance(module, MatrixLinear):
                nn.init.xavier_uniform_(module.matrix)
        for layer in (self.level_first, self.level_second):
            nn.init.normal_(layer.weight, std=0.02)
        for layer in (self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_t: Tensor, known: Tensor, tau: Tensor, t: Tensor) -> Tensor:
        batch, n, channels, y, x = x_t.shape
        p, w = self.config.patch, self.config.width
        tokens = self.stem(torch.cat([known, x_t], 1).flatten(0, 1)).movedim(1, -1).unflatten(0, (batch, n + 2))
        ends = torch.arange(2, device=tau.device, dtype=tau.dtype).expand(batch, -1)
        frame = torch.cat([ends, tau], 1) * (self.config.n_frames - 1)
        tokens = tokens + place_embedding(y // p, x // p, w, tokens) + sinusoids(frame, w)[:, :, None, None]
        condition = self.level_second(F.silu(self.level_first(sinusoids(1000 * t, 256))))
        condition = F.silu(condition)[:, None]  # (batch, 1, w)
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulation(condition)[:, :, None, None].chunk(2, -1)
        h = self.head(modulate(tokens[:, 2:], shift, scale)).unflatten(-1, (p, p, channels))
        out: Tensor = h.permute(0, 1, 6, 2, 4, 3, 5).reshape(batch, n, channels, y, x)
        return out


class VdtBlock(nn.Module):
    """Tokens (batch, frames, y, x, width) and condition (batch, frames or 1, e) -> tokens.

    The modulation starts at zero (adaLN-Zero): at first only the temporal attention acts. temporal_projection: the
    second projection after it that VDT's public code has.
    """

    def __init__(
        self, width: int, heads: int, embedding: int, area: "Windows | Whole", temporal_projection: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.area = heads, area
        self.temporal_norm = nn.LayerNorm(width)
        self.temporal_qkv = MatrixLinear(width, 3 * width)
        self.temporal_out = MatrixLinear(width, width)
        self.temporal_last = MatrixLinear(width, width) if temporal_projection else nn.Identity()
        self.modulation = nn.Linear(embedding, 6 * width)
        self.qkv = MatrixLinear(width, 3 * width)
        self.out = MatrixLinear(width, width)
        self.first = MatrixLinear(width, 4 * width)
        self.second = MatrixLinear(4 * width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.temporal_out.matrix.mul_(0.3)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        h = self.temporal_qkv(self.temporal_norm(tokens)).flatten(2, 3).transpose(1, 2)  # (batch, places, frames, 3 w)
        h = attention(h, self.heads).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + self.temporal_last(self.temporal_out(h))
        shift, scale, gate, shift_dense, scale_dense, gate_dense = (
            self.modulation(condition)[:, :, None, None].chunk(6, -1)
        )  # fmt: skip
        h = self.area(self.qkv(modulate(tokens, shift, scale)), self.heads)
        tokens = tokens + gate * self.out(h)
        h = self.second(F.gelu(self.first(modulate(tokens, shift_dense, scale_dense)), approximate="tanh"))
        out: Tensor = tokens + gate_dense * h
        return out


class Whole(nn.Module):
    """Attention among all tokens of a frame: qkv (batch, frames, y, x, 3 width) -> (batch, frames, y, x, width)."""

    def forward(self, qkv: Tensor, heads: int) -> Tensor:
        return attention(qkv.flatten(2, 3), heads).reshape(*qkv.shape[:-1], -1)


class Windows(nn.Module):
    """Attention within squares of ``size`` tokens, with a learned bias by relative place, in each frame.

    The grid starts ``offset`` tokens outside the image; places outside are masked. A bias that depends on the distance
    alone makes a network trained on crops valid for any matrix.
    """

    def __init__(self, heads: int, size: int, offset: int) -> None:
        super().__init__()
        self.size, self.offset = size, offset
        steps = torch.arange(1 - size, size)
        distance = torch.hypot(steps[:, None].float(), steps.float()).flatten()
        slopes = 2.0 ** -torch.arange(1, heads + 1)  # nearer first, some heads farther than others
        self.bias = nn.Parameter(-slopes[:, None] * distance)

    def forward(self, qkv: Tensor, heads: int) -> Tensor:
        batch, n, y, x, _ = qkv.shape
        s, before = self.size, self.offset
        rows, columns = ((size + before + s - 1) // s for size in (y, x))
        pad = (before, columns * s - before - x, before, rows * s - before - y)

        def cut(grid: Tensor) -> Tensor:
            """(.., y, x, c) -> (.., rows columns, s s, c)."""
            grid = F.pad(grid, (0, 0, *pad)).reshape(-1, rows, s, columns, s, grid.shape[-1])
            return grid.transpose(2, 3).reshape(-1, rows * columns, s * s, grid.shape[-1])

        inside = cut(torch.ones_like(qkv[0, :1, :, :, :1]))  # (1, windows, s s, 1)
        place = torch.arange(s * s, device=qkv.device)
        row, column = ((v[:, None] - v + s - 1) for v in (place // s, place % s))
        bias = self.bias[:, row * (2 * s - 1) + column]  # (heads, s s, s s)
        bias = bias + (1 - inside.transpose(-1, -2))[0, :, None] * MASKED
        h = attention(cut(qkv.flatten(0, 1)), heads, bias)
        h = h.reshape(batch, n, rows, columns, s, s, -1).transpose(3, 4).reshape(batch, n, rows * s, columns * s, -1)
        return h[:, :, before : before + y, before : before + x]


def attention(qkv: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention along the last but one axis: (.., sequence, 3 width) -> (.., sequence, width).

    bias: added to the scores, broadcastable to (.., heads, sequence, sequence).
    """
    q, k, v = qkv.reshape(*qkv.shape[:-1], 3, heads, -1).movedim(-3, 0).transpose(-2, -3).unbind(0)
    if bias is None:
        h = F.scaled_dot_product_attention(_four(q), _four(k), _four(v)).reshape(q.shape)
    else:
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias.to(q.dtype)
        h = scores.softmax(-1).to(v.dtype) @ v
    return h.transpose(-2, -3).flatten(-2)


def _four(x: Tensor) -> Tensor:
    """All leading axes in one: the exporter takes attention on four axes alone."""
    return x.reshape(-1, *x.shape[-3:])


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then shift and scale."""
    return F.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift


def sinusoids(position: Tensor, width: int) -> Tensor:
    """Sines and cosines of a position at ``width / 2`` frequencies from 1 down to 1e-4: (..) -> (.., width)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, device=position.device, dtype=position.dtype) * (-math.log(1e4) / half))
    angle = position[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


def place_embedding(n_y: int, n_x: int, width: int, like: Tensor) -> Tensor:
    """2-D sine-cosine embedding, half of the channels for each axis: (n_y, n_x, width)."""
    y, x = (sinusoids(torch.arange(n, device=like.device, dtype=torch.float32), width // 2) for n in (n_y, n_x))
    return torch.cat([y[:, None].expand(-1, n_x, -1), x[None].expand(n_y, -1, -1)], -1)


TAU_SCALE = 11.0  # tau in the paper's frames: twelve from one known frame to the other
TAU_TERMS = 10


def tau_terms(tau: Tensor) -> Tensor:
    """Sines and cosines of pi tau / 2, pi tau, 2 pi tau, 4 pi tau and 8 pi tau: (m,) -> (m, 10).

    No faster: between the few values of tau seen in training the network has to interpolate.
    """
    angle = tau[:, None] * (math.pi / 2 * 2.0 ** torch.arange(TAU_TERMS // 2, device=tau.device, dtype=tau.dtype))
    return torch.cat([angle.sin(), angle.cos()], -1)
