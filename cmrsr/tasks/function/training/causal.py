"""The causality-aware multitask model of ``function``: causal encoder, multitask diffusion, joint decoder.

Niu, "Causality-Aware Multitask Diffusion Models for Joint Dynamic Cardiac MRI Super-Resolution and Functional
Assessment"; equation numbers are the paper's, what it leaves open is marked "ours".
Frames are (batch, t, z, y, x): one heart, its phases, its slices.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmrsr.networks.blocks import MatrixConv, PlainBlock, ResidualBlock
from cmrsr.networks.perfgen import PerfGen, PerfGenConfig
from cmrsr.networks.sr3 import SR3, SR3Config

N_CLASSES = 4  # background, RV cavity, LV myocardium, LV cavity
N_HARMONICS = 2  # of the position in the beat
BLOCK = 16  # pixels of one cell of the area densities
ENCODER = (48, 96, 128)  # channels of the encoder at 1/4, 1/8 and 1/16 of the matrix
SCORE_GAIN = 30.0  # lets the graph tell time steps apart that look much alike
N_SIZES = N_CLASSES - 1
SHARE_GAIN = 20.0  # brings shares of the image, a few percent, to the size of other features
CONTRACTION_GAIN = 10.0  # brings differences of the ejection fraction (0..1) to the size of other features


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalConfig:
    """features: of a time step (a node of the graph); messages: width of W_c; reader: channels of the joint decoder at
    1/2, 1/4, 1/8, 1/16; counted: pixels in the middle of a window whose areas are regressed. neighbours: slices on
    either side that the joint decoder sees beside the one it reads. widths, blocks, embedding:
    of the denoiser, see ``PerfGenConfig``; or base, multipliers, see ``SR3Config``. causal: False leaves the encoder
    out (an ablation): the context is then the position in the beat.
    """

    features: int = 64
    messages: int = 64
    widths: tuple[int, int] = (96, 192)
    blocks: tuple[int, int, int] = (2, 4, 2)
    embedding: int = 256
    reader: tuple[int, int, int, int] = (48, 96, 160, 192)
    causal: bool = True
    counted: int = 96
    neighbours: int = 0
    base: int | None = None
    multipliers: tuple[int, ...] = (1, 2, 4, 8)

    @property
    def stride(self) -> int:
        """Matrix sizes must be multiples of this."""
        return BLOCK

    @property
    def context(self) -> int:
        """Channels of what every frame is told of its beat: G_i, G, position in the beat."""
        return 2 * self.messages + 2 * N_HARMONICS


class Graph(NamedTuple):
    """alpha (batch, t, t): rows sum to one; context (batch, t, c): what each time step is told; whole (batch, m): G."""

    alpha: Tensor
    context: Tensor
    whole: Tensor


class Reading(NamedTuple):
    """logits (n, 4, y, x) of the segmentation; areas (n, 3) of RV, myocardium, LV in pixels by direct regression."""

    logits: Tensor
    areas: Tensor


class Causal(nn.Module):
    """The whole model; the denoiser sees LR and the causal graph, the decoder reads what the denoiser restored."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CausalEncoder(config)
        self.denoiser = CausalDenoiser(config)
        self.decoder = JointDecoder(config)


class CausalEncoder(nn.Module):
    """Eq. 1: a graph over the time steps of one beat."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        f, m = config.features, config.messages
        self.stem = nn.Conv2d(16, ENCODER[0], 3, padding=1)
        self.blocks = nn.ModuleList(PlainBlock(c) for c in ENCODER)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(ENCODER))
        self.project = nn.Linear(ENCODER[-1], f - N_SIZES)
        self.norm = nn.LayerNorm(f - N_SIZES)  # without it the features fade, and with them the graph
        self.shares = nn.Conv2d(ENCODER[-1], N_SIZES, 1)
        self.ends = nn.Linear(m, 2)
        self.message = nn.Linear(2 * f, m)  # W_c, b_c
        self.score = nn.Linear(m, 1, bias=False)

    def frame(self, lr: Tensor) -> Tensor:
        """Features (n, f) of single frames (n, 1, y, x); the last are how full the heart is (ours)."""
        return self.look(lr)[0]

    def look(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, f), and the shares of RV, myocardium and LV in cells of BLOCK x BLOCK pixels (n, 3, y, x)."""
        h = self.stem(F.pixel_unshuffle(lr, 4))
        for block, down in zip(self.blocks, [*self.down, None], strict=True):
            h = block(h)
            h = down(F.silu(h)) if down is not None else F.silu(h)
        shares = torch.sigmoid(self.shares(h) - 3.0)  # most of an image is none of the three
        return torch.cat([self.norm(self.project(h.mean((2, 3)))), SHARE_GAIN * shares.mean((2, 3))], 1), shares

    def extremes(self, whole: Tensor) -> Tensor:
        """Share of the LV in the frames at its fullest and its emptiest, (batch, 2), told from G (batch, m) (ours).

        Asked for in training alone: only a graph that finds those time steps can tell.
        """
        out: Tensor = self.ends(whole) / SHARE_GAIN
        return out

    def graph(self, x: Tensor, position: Tensor) -> Graph:
        """Of the nodes x (batch, t, f), means over the slices; position (batch, t): in the beat, 0..1.

        alpha is a softmax over j of a score of the message (ours), so that its rows are distributions; G is divided by
        the number of steps (ours), so that it does not grow with it. The scores know nothing of the position: a heart
        that stands still has equal nodes and a uniform graph.
        """
        return causal_graph(self.message, self.score, x, position, causal=self.config.causal)


def causal_graph(message: nn.Module, score: nn.Module, x: Tensor, position: Tensor, *, causal: bool) -> Graph:
    """``CausalEncoder.graph`` with its layers given."""
    t = x.shape[1]
    pairs = torch.cat([x[:, :, None].expand(-1, -1, t, -1), x[:, None].expand(-1, t, -1, -1)], -1)
    messages = F.relu(message(pairs))  # (batch, i, j, m)
    alpha = (SCORE_GAIN * score(messages)[..., 0]).softmax(-1)
    each = (alpha[..., None] * messages).sum(2)
    whole = each.mean(1)
    if not causal:
        each, whole = torch.zeros_like(each), torch.zeros_like(whole)
    angle = 2 * math.pi * position[..., None] * torch.arange(1, N_HARMONICS + 1, device=x.device)
    context = torch.cat([each, whole[:, None].expand(-1, t, -1), angle.sin(), angle.cos()], -1)
    return Graph(alpha, context, whole)


class CausalDenoiser(nn.Module):
    """Eq. 2, the noise term: a denoiser of ``sr``, told the causal context of its frame beside the time."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.unet: PerfGen | SR3
        if config.base is None:
            self.unet = PerfGen(PerfGenConfig(widths=config.widths, blocks=config.blocks, embedding=config.embedding))
        else:
            self.unet = SR3(SR3Config(base=config.base, multipliers=config.multipliers))
        self.context = nn.Linear(config.context, config.base or config.embedding)
        nn.init.zeros_(self.context.weight)  # at the start every frame is denoised on its own
        nn.init.zeros_(self.context.bias)

    def forward(self, x_t: Tensor, lr: Tensor, context: Tensor, t: Tensor) -> Tensor:
        """x_t, lr (n, 1, y, x), context (n, c), t (n,) in [0, 1] -> (n, 1, y, x)."""
        embedding = self.unet.time(t) if isinstance(self.unet, PerfGen) else self.unet.noise_level(t)
        return self.unet.denoise(x_t, lr, t, embedding + self.context(context))


class JointDecoder(nn.Module):
    """The function head on a restored frame: segmentation, areas by direct regression, abnormality of the beat.

    The image head is the denoiser's last layer: f(x_0) of eq. 2 reads the image itself, so whoever reads the masks
    can see what they were read from.
    """

    told: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        c1, c2, c3, c4 = config.reader
        e = config.embedding
        self.counted = config.counted // BLOCK
        told = torch.ones(config.context)
        told[-2 * N_HARMONICS :] = 0
        self.register_buffer("told", told, persistent=False)
        self.context = nn.Linear(config.context, e)
        self.stem = nn.Conv2d(4 * (1 + 2 * config.neighbours), c1, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in ((c1, c2), (c2, c3), (c3, c4)))
        self.descend = nn.ModuleList(ResidualBlock(c, e) for c in (c1, c2, c3, c4))
        self.middle = ResidualBlock(c4, e)
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in ((c4, c3), (c3, c2), (c2, c1)))
        self.merge = nn.ModuleList(MatrixConv(2 * c, c) for c in (c3, c2, c1))
        self.ascend = nn.ModuleList(ResidualBlock(c, e) for c in (c3, c2, c1))
        self.head = nn.Conv2d(c1, 4 * N_CLASSES, 3, padding=1)
        self.density = nn.Conv2d(c4, N_CLASSES - 1, 1)
        assert self.density.bias is not None
        nn.init.constant_(self.density.bias, -3.0)  # most of an image is none of the three
        self.abnormal = nn.Linear(config.messages + 1, 1)

    def forward(self, image: Tensor, context: Tensor) -> Reading:
        """image (n, 1 + 2 neighbours, y, x) in units of the series' scale, the slice itself first; context (n, c).

        The position in the beat is not read: what is measured must not depend on where a series begins.
        """
        e = F.silu(self.context(context * self.told))
        h = self.stem(F.pixel_unshuffle(image, 2))
        skips = []
        for block, down in zip(self.descend, [*self.down, None], strict=True):
            h = block(h, e)
            if down is not None:
                skips.append(h)
                h = down(h)
        h = self.middle(h, e)
        # each cell says how much of its BLOCK x BLOCK pixels is what; only as many are counted as in training, because
        # a little in each of the others adds up. A mask made of distances would need Abs of a computed constant, which
        # OpenVINO 2026.4 folds to the constant itself
        n_y, n_x = h.shape[2:]
        top, left = (uncounted(n, self.counted) for n in (n_y, n_x))
        inner = self.density(h)[:, :, top : n_y - top, left : n_x - left]
        areas = BLOCK**2 * torch.sigmoid(inner).sum((2, 3))
        for up, merge, block, skip in zip(self.up, self.merge, self.ascend, reversed(skips), strict=True):
            h = block(merge(torch.cat([F.pixel_shuffle(up(h), 2), skip], 1)), e)
        return Reading(F.pixel_shuffle(self.head(F.silu(h)), 2), areas)

    def abnormality(self, whole: Tensor, ef: Tensor) -> Tensor:
        """Logit (batch,) of abnormal function, of G (batch, m) and the regressed ejection fraction (batch,), 0..1."""
        return abnormality(self.abnormal, whole, ef)


def uncounted(n: int, counted: int) -> int:
    """Cells at either end of n that are not counted."""
    out: int = torch.sym_max(0, (n - counted + 1) // 2)  # type: ignore[no-untyped-call]
    return out


def with_neighbours(stack: Tensor, n: int) -> Tensor:
    """Images (batch, t, z, y, x) as frames (batch t z, 1 + 2 n, y, x): each slice, then those before and after it, the
    nearest first; at the ends of the stack the last slice stands in for the missing one.
    """
    shown = [stack]
    for k in range(1, n + 1):
        shown += [torch.cat([stack[:, :, :1].expand(-1, -1, k, -1, -1), stack[:, :, :-k]], 2)[:, :, : stack.shape[2]]]
        shown += [torch.cat([stack[:, :, k:], stack[:, :, -1:].expand(-1, -1, k, -1, -1)], 2)[:, :, -stack.shape[2] :]]
    return torch.stack(shown, 3).flatten(0, 2).contiguous(memory_format=torch.channels_last)


def abnormality(layer: nn.Module, whole: Tensor, ef: Tensor) -> Tensor:
    """``JointDecoder.abnormality`` with its layer given."""
    out: Tensor = layer(torch.cat([whole, CONTRACTION_GAIN * (0.5 - ef[:, None])], -1))[:, 0]
    return out


def causal_consistency(alpha: Tensor) -> Tensor:
    """KL divergence between the causal graphs of neighbouring time steps, KL(alpha_i || alpha_(i+1)), the beat closed.

    Mean over the steps of alpha (batch, t, t).
    """
    following = alpha.roll(-1, 1)
    tiny = torch.finfo(alpha.dtype).tiny
    return (alpha * ((alpha + tiny).log() - (following + tiny).log())).sum(-1).mean()
