"""CPKDM, the model of ``mie``: kinematics and morphology condition a latent diffusion that synthesises enhancement.

Qi et al., "Cardiac Physiology Knowledge-driven Diffusion Model for Contrast-free Synthesis Myocardial Infarction
Enhancement" (MICCAI 2024); equation numbers are the paper's, what it leaves open is marked "ours".
Images of one slice are (batch, channel, y, x); everything coarse has one cell for CELL x CELL pixels.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.networks.blocks import MatrixConv, PlainBlock, ResidualBlock, TimeEmbedding

CELL = 4  # pixels a side of one cell of the latent
N_INVERSIONS = 8  # images of the recovery
N_CLUSTERS = 6  # of ``physics.tissue_clusters``
N_TISSUES = 4  # background, RV cavity, LV myocardium, LV cavity
N_MOTION = 4  # u_r, u_c (eq. 2), e_rr, e_cc (eq. 1)
CLOSENESS = 0.5  # of the cross-attention at the start: how fast it falls with the square of the distance in cells


@dataclass(frozen=True, slots=True, kw_only=True)
class CpkdmConfig:
    """n_phases of the cine. latent: channels of z. motion, morphology: channels of F_kine and F_morp; gate: of the
    recurrent network. widths: of the denoiser at 1/4, 1/8 and 1/16 of the matrix. critic: of the discriminators. fade:
    whether x_t fades out towards noise, which needs the cosine schedule, where the noise level is the time.

    Ablations: cine, t1: whether each is given at all; strain: whether the strain is (knowledge in cine); atlas: whether
    clusters and T1 are (knowledge in T1).
    """

    n_phases: int = 12
    latent: int = 12
    motion: int = 48
    gate: int = 64
    morphology: int = 128
    widths: tuple[int, int, int] = (96, 160, 192)
    blocks: tuple[int, int, int] = (2, 2, 1)
    embedding: int = 192
    heads: int = 4
    critic: int = 48
    fade: bool = True
    cine: bool = True
    t1: bool = True
    strain: bool = True
    atlas: bool = True

    @property
    def stride(self) -> int:
        """Matrix sizes must be multiples of this."""
        return 4 * CELL


class Cpkdm(nn.Module):
    """The whole model. ``enhancement`` and the critics are used in training alone."""

    def __init__(self, config: CpkdmConfig) -> None:
        super().__init__()
        self.config = config
        self.kinematics = Kinematics(config)
        self.morphology = Morphology(config)
        self.enhancement = Enhancement(config)
        self.denoiser = LatentDenoiser(config)
        self.decoder = Decoder(config)
        self.critic = EdgeCritic(1, config.critic)
        self.mask_critic = EdgeCritic(N_TISSUES - 1, config.critic)


class Kinematics(nn.Module):
    """CM-KMI: F_radi, then F_circ are introduced into F_cine; a recurrent network over the beat gives F_kine."""

    def __init__(self, config: CpkdmConfig) -> None:
        super().__init__()
        self.config = config
        c, g = config.motion, config.gate
        self.stem = nn.Conv2d(CELL**2, c, 3, padding=1)
        self.radial, self.circumferential = (nn.Conv2d(2, c, 3, padding=1) for _ in range(2))
        self.with_radial, self.with_circumferential = PlainBlock(c), PlainBlock(c)
        self.gates = nn.Conv2d(c + g, 2 * g, 1)  # a GRU of every cell (ours)
        self.candidate = nn.Conv2d(c + g, g, 1)
        self.out = PlainBlock(g)

    def forward(self, cine: Tensor, motion: Tensor) -> Tensor:
        """cine (n, t, y, x), motion (n, t, N_MOTION, y / CELL, x / CELL): u_r, u_c, e_rr, e_cc -> (n, gate, ...)."""
        n, t = cine.shape[:2]
        if not self.config.strain:
            motion = torch.zeros_like(motion)
        coarse = motion.shape[-2:]
        h = self.stem(F.pixel_unshuffle(cine, CELL).reshape(n * t, CELL**2, *coarse))
        flat = motion.reshape(n * t, N_MOTION, *coarse)
        h = self.with_radial(h + self.radial(flat[:, 0::2]))
        h = self.with_circumferential(h + self.circumferential(flat[:, 1::2]))
        steps = h.view(n, t, -1, *coarse)
        state = steps.new_zeros(n, self.config.gate, *coarse)
        for k in range(t):
            step = steps[:, k]
            update, reset = torch.sigmoid(self.gates(torch.cat([step, state], 1))).chunk(2, 1)
            new = torch.tanh(self.candidate(torch.cat([step, reset * state], 1)))
            state = state + update * (new - state)
        found: Tensor = self.out(state)
        return found if self.config.cine else torch.zeros_like(found)


class Morphology(nn.Module):
    """MR-ESMP: an autoencoder from the images of the recovery to a mask of tissues, which leads it to F_morp."""

    def __init__(self, config: CpkdmConfig) -> None:
        super().__init__()
        self.config = config
        c = config.morphology
        self.stem = nn.Conv2d((N_INVERSIONS + 1) * CELL**2 + N_CLUSTERS, c, 3, padding=1)
        self.timing = nn.Linear(N_INVERSIONS, c)
        self.encode = nn.ModuleList(PlainBlock(c) for _ in range(2))
        self.clusters = nn.Conv2d(c, N_CLUSTERS, 3, padding=1)
        self.tissues = nn.Conv2d(c, N_TISSUES * CELL**2, 3, padding=1)
        self.guide = MatrixConv(c + N_CLUSTERS + N_TISSUES * CELL**2, c)
        self.refine = PlainBlock(c)

    def forward(self, inversions: Tensor, timing: Tensor, t1: Tensor, clusters: Tensor) -> tuple[Tensor, ...]:
        """inversions (n, N_INVERSIONS, y, x), timing (n, N_INVERSIONS) in s, t1 (n, 1, y, x) in s, clusters
        (n, N_CLUSTERS, y / CELL, x / CELL) -> F_morp (n, c, ...), logits of clusters likewise, of tissues (n, 4, y, x).
        """
        if not self.config.atlas:
            t1, clusters = torch.zeros_like(t1), torch.zeros_like(clusters)
        shown = F.pixel_unshuffle(torch.cat([inversions, t1], 1), CELL)
        h = self.stem(torch.cat([shown, clusters], 1)) + self.timing(timing)[..., None, None]
        for block in self.encode:
            h = block(h)
        a = F.silu(h)
        mask, tissues = self.clusters(a), self.tissues(a)
        told = torch.cat([a, mask.softmax(1), _shares(tissues)], 1)
        found = self.refine(h + self.guide(told))
        if not self.config.t1:
            found = torch.zeros_like(found)
        return found, mask, F.pixel_shuffle(tissues, CELL)


def _shares(tissues: Tensor) -> Tensor:
    """Softmax over the tissues of each pixel, pixels still folded into channels: (n, N_TISSUES * CELL^2, y, x)."""
    n, _, y, x = tissues.shape
    return tissues.view(n, N_TISSUES, CELL**2, y, x).softmax(1).view(n, -1, y, x)


class Enhancement(nn.Module):
    """The encoder of late enhancement: (n, 1, y, x) -> z (n, latent, y / CELL, x / CELL), of unit length per cell."""

    def __init__(self, config: CpkdmConfig) -> None:
        super().__init__()
        c = config.widths[0]
        self.stem = nn.Conv2d(CELL**2, c, 3, padding=1)
        self.blocks = nn.ModuleList(PlainBlock(c) for _ in range(2))
        self.head = nn.Conv2d(c, config.latent, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        h = self.stem(F.pixel_unshuffle(image, CELL))
        for block in self.blocks:
            h = block(h)
        z = self.head(F.silu(h))
        out: Tensor = z * (z.float().square().mean(1, keepdim=True) + 1e-4).rsqrt()
        return out


class Decoder(nn.Module):
    """z and F_morp -> the enhanced image and the logit of scar, (n, 1, y, x) each."""

    def __init__(self, config: CpkdmConfig) -> None:
        super().__init__()
        c = config.morphology
        self.stem = nn.Conv2d(config.latent + config.morphology, c, 3, padding=1)
        self.blocks = nn.ModuleList(PlainBlock(c) for _ in range(2))
        self.head = nn.Conv2d(c, 2 * CELL**2, 3, padding=1)

    def forward(self, z: Tensor, morphology: Tensor) -> tuple[Tensor, Tensor]:
        h = self.stem(torch.cat([z, morphology], 1))
        for block in self.blocks:
            h = block(h)
        image, scar = F.pixel_shuffle(self.head(F.silu(h)), CELL).chunk(2, 1)
        return image, scar - 4.0  # most of an image is no scar


class LatentDenoiser(nn.Module):
    """KMDI: a time-conditional U-Net on latents beside F_morp, with cross-attention on F_kine at two levels (eq. 4)."""

    def __init__(self, config: CpkdmConfig) -> None:
        super().__init__()
        wide, deep, deepest = config.widths
        e, (n_wide, n_deep, n_deepest) = config.embedding, config.blocks
        self.fade = config.fade
        self.time = TimeEmbedding(e)
        self.stem = nn.Conv2d(config.latent + config.morphology, wide, 3, padding=1)
        self.encoder = nn.ModuleList(ResidualBlock(wide, e) for _ in range(n_wide))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(config.widths))
        self.middle = nn.ModuleList(ResidualBlock(deep, e) for _ in range(n_deep))
        self.look = CrossAttention(deep, config.gate, config.heads)
        self.bottom = nn.ModuleList(ResidualBlock(deepest, e) for _ in range(n_deepest))
        self.look_below = CrossAttention(deepest, config.gate, config.heads)
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in ((deepest, deep), (deep, wide)))
        self.merge = nn.ModuleList(MatrixConv(2 * c, c) for c in (deep, wide))
        self.after = nn.ModuleList(ResidualBlock(deep, e) for _ in range(n_deep))
        self.decoder = nn.ModuleList(ResidualBlock(wide, e) for _ in range(n_wide))
        self.head = nn.Conv2d(wide, config.latent, 3, padding=1)

    def forward(self, x_t: Tensor, morphology: Tensor, motion: Tensor, t: Tensor) -> Tensor:
        """x_t (n, latent, y, x), F_morp and F_kine on the same cells, t (n,) in [0, 1] -> like x_t."""
        e = self.time(t)
        # at t = 1 x_t is noise alone: fading it out by its signal amplitude leaves the regression undisturbed
        seen = x_t * torch.cos(math.pi / 2 * t)[:, None, None, None] if self.fade else x_t
        h = self.stem(torch.cat([seen, morphology], 1))
        for block in self.encoder:
            h = block(h, e)
        skip = h
        h = self.down[0](h)
        half = F.avg_pool2d(motion, 2)
        for block in self.middle:
            h = block(h, e)
        h = self.look(h, half)
        skip_below = h
        h = self.down[1](h)
        for block in self.bottom:
            h = block(h, e)
        h = self.look_below(h, F.avg_pool2d(half, 2))
        h = self.merge[0](torch.cat([F.pixel_shuffle(self.up[0](h), 2), skip_below], 1))
        for block in self.after:
            h = block(h, e)
        h = self.merge[1](torch.cat([F.pixel_shuffle(self.up[1](h), 2), skip], 1))
        for block in self.decoder:
            h = block(h, e)
        out: Tensor = self.head(F.silu(h))
        return out


class CrossAttention(nn.Module):
    """x + attention of its cells on another map's, of the same grid; at first they look near themselves (ours)."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width = heads, channels // heads
        self.query, self.key = nn.Conv2d(channels, channels, 1), nn.Conv2d(context, channels, 1)
        self.value, self.out = nn.Conv2d(context, channels, 1), nn.Conv2d(channels, channels, 1)
        self.closeness = nn.Parameter(torch.full((heads,), CLOSENESS))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        n, c, rows, columns = x.shape
        q, k, v = (
            part.reshape(n, self.heads, self.width, rows * columns)
            for part in (self.query(F.silu(x)), self.key(context), self.value(context))
        )
        y = torch.arange(rows, device=x.device, dtype=torch.float32).repeat_interleave(columns)
        column = torch.arange(columns, device=x.device, dtype=torch.float32).repeat(rows)
        far = (y[:, None] - y) ** 2 + (column[:, None] - column) ** 2
        score = q.transpose(2, 3) @ k / math.sqrt(self.width) - F.softplus(self.closeness)[:, None, None] * far
        seen = score.float().softmax(-1).to(v.dtype) @ v.transpose(2, 3)
        out: Tensor = x + self.out(seen.transpose(2, 3).reshape(n, c, rows, columns))
        return out


class EdgeCritic(nn.Module):
    """A discriminator of patches that sees an image and its edges by Sobel's operator (Ea-GAN, Yu et al. 2019)."""

    sobel: Tensor

    def __init__(self, n_images: int, channels: int) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
        self.register_buffer("sobel", torch.stack([across, across.T])[:, None], persistent=False)
        self.first = nn.Conv2d(2 * n_images * CELL**2, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, 2, 1)
        self.third = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """(n, n_images, y, x) -> scores of patches (n, 1, ...): high is real."""
        n, c, y, x = image.shape
        slopes = F.conv2d(image.reshape(n * c, 1, y, x), self.sobel.to(image.dtype), padding=1)
        edges = (slopes.square().sum(1) + 1e-6).sqrt().view(n, c, y, x)
        h = F.leaky_relu(self.first(F.pixel_unshuffle(torch.cat([image, edges], 1), CELL)), 0.2)
        out: Tensor = self.third(F.leaky_relu(self.second(h), 0.2))
        return out
