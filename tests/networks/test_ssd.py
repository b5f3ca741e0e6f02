import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmrsr.networks.ssd import GROUP, MatrixLinear, SsdBlock, ssd

F32 = 1e-5  # relative; products of at most a few hundred float32 terms give 3e-7
BF16 = 8e-3  # relative; two roundings to eight bits of mantissa


def _streams(
    length: int, *, heads: int = 3, p: int = 4, n_state: int = 8, batch: int = 2, rate: float = 0.3
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(batch, length, heads, p, generator=generator)
    # heads that remember for ever, for some steps, and hardly at all
    decay_log = -torch.rand(batch, length, heads, generator=generator) * torch.tensor([1e-3, rate, 30.0])[:heads]
    b, c = torch.randn(2, batch, length, n_state, generator=generator)
    return [x, decay_log, b, c]


def _recurrence(x: Tensor, decay_log: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The definition, step by step in float64."""
    x, decay, b, c = x.double(), decay_log.double().exp(), b.double(), c.double()
    h = x.new_zeros(*x[:, 0].shape, b.shape[-1])
    out = []
    for i in range(x.shape[1]):
        h = decay[:, i, :, None, None] * h + x[:, i, :, :, None] * b[:, i, None, None]
        out.append((h * c[:, i, None, None]).sum(-1))
    return torch.stack(out, 1)


def _error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("chunk", [8, 32])
@pytest.mark.parametrize("length", [1, 31, 32, 100, 700])
def test_it_is_the_recurrence_at_any_length(length: int, chunk: int) -> None:
    """700 / 8 is more than GROUP chunks: two levels."""
    streams = _streams(length)
    found = ssd(*streams, chunk=chunk)
    assert found.shape == streams[0].shape
    for head in range(3):
        assert _error(found[:, :, head], _recurrence(*streams)[:, :, head]) < F32


def test_a_long_sequence_in_two_and_three_levels() -> None:
    streams = _streams(8192, batch=1, p=2, n_state=4)
    wanted = _recurrence(*streams)
    for chunk in (32, 1):
        assert 8192 / chunk > (GROUP if chunk == 32 else GROUP**2)
        assert _error(ssd(*streams, chunk=chunk), wanted) < F32


def test_memory_and_causality() -> None:
    """An impulse comes out as the product of the decays since, and not before it."""
    length, at = 200, 37
    x, b = torch.zeros(1, length, 1, 1), torch.ones(1, length, 1)
    x[0, at] = 2.0
    decay_log = torch.full((1, length, 1), -0.05)
    y = ssd(x, decay_log, b, b, chunk=16)[0, :, 0, 0]
    wanted = 2 * torch.exp(-0.05 * (torch.arange(length) - at)) * (torch.arange(length) >= at)
    assert torch.allclose(y, wanted, rtol=F32, atol=1e-7)


def test_forgetting_at_once_neither_overflows_nor_stops_the_gradient() -> None:
    x, _, b, c = _streams(100)
    decay_log = torch.full((2, 100, 3), -1e4, requires_grad=True)
    y = ssd(x, decay_log, b, c)
    assert torch.allclose(y, (b * c).sum(-1)[..., None, None] * x, atol=1e-5)  # only the present
    y.square().sum().backward()
    assert decay_log.grad is not None
    assert decay_log.grad.isfinite().all()


def test_gradient_is_that_of_the_recurrence() -> None:
    found, wanted = ([v.requires_grad_() for v in _streams(45)] for _ in range(2))
    ssd(*found, chunk=8).square().mean().backward()
    _recurrence(*wanted).square().mean().backward()
    for a, b in zip(found, wanted, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert _error(a.grad, b.grad) < F32


def test_decays_are_float32_under_autocast() -> None:
    """An exponent of 9 in bf16 would be wrong by 2 per cent; what is left are the roundings of the results."""
    x = torch.zeros(1, 32, 1, 1)
    x[0, 0] = 1.0
    decay_log, ones = torch.full((1, 32, 1), -0.303), torch.ones(1, 32, 1)
    with torch.autocast("cpu", torch.bfloat16):
        y = ssd(x, decay_log, ones, ones, chunk=32)[0, :, 0, 0].float()
    assert torch.allclose(y, torch.exp(-0.303 * torch.arange(32)), rtol=BF16, atol=0)

    streams = _streams(2000)
    with torch.autocast("cpu", torch.bfloat16):
        assert _error(ssd(*streams).float(), _recurrence(*streams)) < BF16


def _block(**options: int) -> SsdBlock:
    torch.manual_seed(0)
    block = SsdBlock(12, n_state=4, head=8, chunk=8, **options)
    torch.nn.init.normal_(block.outward.matrix, std=0.3)
    return block


def test_block_starts_at_zero_and_learns() -> None:
    torch.manual_seed(0)
    block = SsdBlock(12, n_state=4, head=8, chunk=8)
    tokens = torch.randn(2, 30, 12)
    assert not block(tokens).any()
    optimiser = torch.optim.SGD(block.parameters(), lr=0.5)
    for _ in range(2):
        optimiser.zero_grad()
        (block(tokens) - tokens).square().mean().backward()
        optimiser.step()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_block_is_causal_and_sees_all_before() -> None:
    block, tokens = _block(), torch.randn(1, 40, 12)
    changed = tokens.clone()
    changed[0, 17] += 1
    effect = (block(changed) - block(tokens)).abs().amax((0, 2))
    assert (effect[:17] == 0).all()
    assert (effect[17:] > 0).all()


def test_directions_share_the_projections_alone() -> None:
    block = _block(directions=2, kernel=0)
    gate, mixed, step = block.project(torch.randn(3, 20, 12))
    assert gate.shape == (3, 20, 24)
    both = block.scan(torch.stack([mixed, mixed]), torch.stack([step, step]))
    assert both.shape == (2, 3, 20, 24)
    assert not torch.allclose(both[0], both[1])
    with torch.no_grad():
        for parameter in (block.step_bias, block.rate_log, block.skip):
            parameter[1] = parameter[0]
    both = block.scan(torch.stack([mixed, mixed]), torch.stack([step, step]))
    assert torch.equal(both[0], both[1])
    assert block.finish(both[0], gate).shape == (3, 20, 12)


def test_convolution_is_causal() -> None:
    block, mixed = _block(), torch.randn(1, 9, 32)
    assert block.mixed == 32
    changed = mixed.clone()
    changed[0, 4] += 1
    effect = (block.convolve(changed) - block.convolve(mixed)).abs().amax((0, 2)) > 0
    assert effect.tolist() == [4 <= i < 8 for i in range(9)]


def test_initial_time_steps_and_rates_are_those_of_mamba_2() -> None:
    torch.manual_seed(0)
    block = SsdBlock(64, head=8, directions=6)
    steps, rates = F.softplus(block.step_bias), block.rate_log.exp()
    assert steps.shape == rates.shape == (6, 16)
    assert 9.9e-4 < steps.min() < 0.003
    assert 0.03 < steps.max() < 0.101
    assert 1 <= rates.min() < 3
    assert 13 < rates.max() <= 16


def test_heads_must_fit() -> None:
    with pytest.raises(ValueError, match="expected a multiple of head = 7"):
        SsdBlock(12, head=7)


def test_matrix_linear_is_linear() -> None:
    torch.manual_seed(0)
    layer, x = MatrixLinear(5, 3), torch.randn(4, 5)
    torch.nn.init.normal_(layer.bias)
    assert torch.allclose(layer(x), x @ layer.matrix.T + layer.bias, atol=1e-6)
    assert layer.matrix.abs().max() < 1 / math.sqrt(5)
