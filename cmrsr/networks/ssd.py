"""The state-space-dual layer of Mamba-2 by matrix products only, so that it exports to plain ONNX.

h_l = exp(decay_log_l) h_(l-1) + x_l b_l^T,  y_l = h_l c_l, one decay a head (Dao and Gu 2024, "Transformers are SSMs").
Inside chunks the recurrence is a masked product, between chunks a small matrix of decays. Every exponent is a sum of
non-positive terms, made by a product with a constant 0/1 matrix: nothing overflows, and nothing cancels in bf16.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 64  # the chunk-to-chunk matrix costs the cube of its size: beyond so many chunks it works in two levels


def ssd(x: Tensor, decay_log: Tensor, b: Tensor, c: Tensor, chunk: int = 32) -> Tensor:
    """The outputs y of the recurrence for a whole sequence, (batch, length, heads, p).

    x: (batch, length, heads, p), already multiplied by its time step. decay_log: (batch, length, heads), <= 0.
    b, c: (batch, length, n_state), shared by the heads. Any length: the last chunk is padded.
    """
    batch, length, heads, p = x.shape
    n_state = b.shape[-1]
    n = (length + chunk - 1) // chunk
    pad = n * chunk - length
    x = F.pad(x, (0, 0, 0, 0, 0, pad)).reshape(batch, n, chunk, heads, p).transpose(2, 3)
    decay_log = F.pad(decay_log.float(), (0, 0, 0, pad)).reshape(batch, n, chunk, heads).transpose(2, 3)
    b = F.pad(b, (0, 0, 0, pad)).reshape(batch, n, 1, chunk, n_state)
    c = F.pad(c, (0, 0, 0, pad)).reshape(batch, n, 1, chunk, n_state)

    step = torch.arange(chunk, device=x.device)
    until = _sums(decay_log, (step[:, None] <= step).float())  # (batch, n, heads, chunk): from the start of the chunk
    after = _sums(decay_log, (step[:, None] > step).float())  # to its end
    causal = (c @ b.transpose(-1, -2)) * (step[:, None] >= step)
    y = (causal * _segment_decays(decay_log, step).to(x.dtype)) @ x

    written = (x * after.exp()[..., None].to(x.dtype)).transpose(-1, -2) @ b  # (batch, n, heads, p, n_state)
    state = written.transpose(1, 2).reshape(batch, heads, n, p * n_state)
    entering = _entering(state, until[..., -1].transpose(1, 2))
    entering = entering.reshape(batch, heads, n, p, n_state).transpose(1, 2)
    y = y + (c @ entering.transpose(-1, -2)) * until.exp()[..., None].to(x.dtype)
    return y.transpose(2, 3).reshape(batch, n * chunk, heads, p)[:, :length]


def _entering(state: Tensor, decay_log: Tensor, grouped: bool = False) -> Tensor:
    """What earlier chunks have left at the start of each chunk.

    state: (batch, heads, n, k) written by each chunk; decay_log: (batch, heads, n) over each whole chunk.
    grouped: the chunks are groups of chunks already. An export of unknown length always takes two levels.
    """
    batch, heads, n, k = state.shape
    if n <= GROUP if isinstance(n, int) else grouped:
        step = torch.arange(n, device=state.device)
        earlier = (step[:, None] > step).float()
        return (_segment_decays(decay_log, step, exclusive=True) * earlier).to(state.dtype) @ state
    m = (n + GROUP - 1) // GROUP
    pad = m * GROUP - n
    state = F.pad(state, (0, 0, 0, pad)).reshape(batch, heads * m, GROUP, k)
    decay_log = F.pad(decay_log, (0, pad)).reshape(batch, heads * m, GROUP)
    inside = _entering(state, decay_log, grouped=True)
    step = torch.arange(GROUP, device=state.device)
    before = _sums(decay_log, (step[:, None] < step).float())
    after = _sums(decay_log, (step[:, None] > step).float())
    left = after.exp()[..., None, :].to(state.dtype) @ state  # (batch, heads m, 1, k)
    total = decay_log.sum(-1)
    carried = _entering(left.reshape(batch, heads, m, k), total.reshape(batch, heads, m), grouped=True)
    entering = inside + before.exp()[..., None].to(state.dtype) * carried.reshape(batch, heads * m, 1, k)
    return entering.reshape(batch, heads, m * GROUP, k)[:, :, :n]


def _segment_decays(decay_log: Tensor, step: Tensor, exclusive: bool = False) -> Tensor:
    """exp(sum of decay_log_k over j < k <= i), at [i, j]: (..., n) -> (..., n, n). exclusive: over j < k < i."""
    n = decay_log.shape[-1]
    k, i, j = step[:, None, None], step[:, None], step
    keep = (k > j) & ((k < i) if exclusive else (k <= i))
    return _sums(decay_log, keep.float().reshape(n, n * n)).exp().reshape(*decay_log.shape, n)


def _sums(decay_log: Tensor, matrix: Tensor) -> Tensor:
    """Sums chosen by a 0/1 matrix, in float32 under autocast too."""
    if torch.is_autocast_enabled(decay_log.device.type):
        with torch.autocast(decay_log.device.type, enabled=False):
            return decay_log @ matrix
    return decay_log @ matrix


class SsdBlock(nn.Module):
    """Mamba-2 mixer over a sequence: (batch, length, width) -> the same, without the residual connection.

    In-projection, short causal depthwise convolution, SSD with skip D, gate, RMS norm, out-projection that starts at 0.
    A caller that scans the same tokens in several orders takes the parts: ``project`` and ``finish`` work token by
    token and are called once, ``scan`` takes all ``directions`` stacked, each with time steps, decays and a skip of its
    own. kernel = 0: the caller convolves, in space for instance, and applies SiLU.
    """

    def __init__(
        self,
        width: int,
        *,
        expand: int = 2,
        n_state: int = 16,
        head: int = 64,
        kernel: int = 4,
        chunk: int = 32,
        directions: int = 1,
    ) -> None:
        super().__init__()
        inner = expand * width
        if inner % head:
            raise ValueError(f"expand * width = {inner}: expected a multiple of head = {head}")
        self.inner, self.n_state, self.head, self.chunk = inner, n_state, head, chunk
        self.heads = inner // head
        self.mixed = inner + 2 * n_state
        self.inward = MatrixLinear(width, inner + self.mixed + self.heads)
        self.conv = nn.Conv1d(self.mixed, self.mixed, kernel, groups=self.mixed) if kernel else None
        # the initial ranges of Mamba-2: rates in [1, 16], time steps in [0.001, 0.1]
        step = torch.exp(torch.empty(directions, self.heads).uniform_(math.log(1e-3), math.log(1e-1)))
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus gives the step back
        self.rate_log = nn.Parameter(torch.empty(directions, self.heads).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(directions, self.heads))
        self.gain = nn.Parameter(torch.ones(inner))
        self.outward = MatrixLinear(inner, width)
        nn.init.zeros_(self.outward.matrix)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, mixed, step = self.project(tokens)
        return self.finish(self.scan(F.silu(self.convolve(mixed))[None], step[None])[0], gate)

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Token by token, (..., width) -> gate (..., inner), x b c (..., mixed), raw time steps (..., heads)."""
        gate, mixed, step = torch.split(self.inward(tokens), [self.inner, self.mixed, self.heads], -1)
        return gate, mixed, step

    def convolve(self, mixed: Tensor) -> Tensor:
        """The causal convolution along the sequence, (batch, length, mixed) -> the same."""
        assert self.conv is not None, "kernel = 0 leaves the convolution to the caller"
        padded = F.pad(mixed.transpose(1, 2), (self.conv.kernel_size[0] - 1, 0))
        out: Tensor = self.conv(padded).transpose(1, 2)
        return out

    def scan(self, mixed: Tensor, step: Tensor) -> Tensor:
        """All directions in one call: (directions, batch, length, mixed), (.., heads) -> (.., inner)."""
        d, batch, length, _ = mixed.shape
        mixed = mixed.reshape(d * batch, length, self.mixed)
        x, b, c = torch.split(mixed, [self.inner, self.n_state, self.n_state], -1)
        x = x.reshape(d * batch, length, self.heads, self.head)
        step = F.softplus(step.float() + self.step_bias[:, None, None])
        decay_log = -self.rate_log.exp()[:, None, None] * step
        step, decay_log = (v.reshape(d * batch, length, self.heads) for v in (step, decay_log))
        y = ssd(x * step[..., None].to(x.dtype), decay_log, b, c, self.chunk)
        apart = (d, batch, length, self.heads, self.head)
        y = y.reshape(apart) + self.skip[:, None, None, :, None].to(x.dtype) * x.reshape(apart)
        out: Tensor = y.reshape(d, batch, length, self.inner)
        return out

    def finish(self, y: Tensor, gate: Tensor) -> Tensor:
        """Gate, norm and out-projection, token by token."""
        y = (y * F.silu(gate)).float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5) * self.gain
        out: Tensor = self.outward(y)
        return out


class MatrixLinear(nn.Module):
    """A dense layer whose weights are called ``matrix``, the name by which the Muon optimiser finds them."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.empty(n_out, n_in).uniform_(-(n_in**-0.5), n_in**-0.5))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.matrix, self.bias)
