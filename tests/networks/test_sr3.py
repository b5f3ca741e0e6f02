import math

import pytest
import torch
from torch import Tensor

from cmrsr.networks.sr3 import SR3, NoiseLevelEmbedding, SelfAttention, SR3Config
from cmrsr.tasks.registry import build_model, load_recipe

PUBLISHED = 92_553_473
TINY = SR3Config(base=32, multipliers=(1, 2), n_blocks=1)


def _inputs(size: int = 16, batch: int = 2, level: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_t, lr = torch.randn(2, batch, 1, size, size, generator=generator)
    return x_t, lr, torch.full((batch,), level)


def test_paper_network_has_its_parameters_and_trains() -> None:
    recipe = load_recipe("perfgen-paper")
    model = build_model(recipe.model.model_dump())
    assert isinstance(model, SR3)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED
    assert model.config == SR3Config()
    assert model.config.stride == 16
    assert sum(isinstance(m, SelfAttention) for m in model.modules()) == 1
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    x_t, lr, level = _inputs(32, 1)
    before = model.head.weight.detach().clone()
    loss = (model(x_t, lr, level) - x_t).abs().mean()
    loss.backward()
    optimiser.step()
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(model.head.weight).all()
    assert not torch.equal(model.head.weight, before)


@pytest.fixture(scope="module")
def model() -> SR3:
    torch.manual_seed(0)
    return SR3(TINY).eval()


def test_output_follows_every_input_and_varies_with_position(model: SR3) -> None:
    x_t, lr, level = _inputs()
    base = model(x_t, lr, level)
    assert base.shape == x_t.shape
    assert base.std((2, 3)).min() > 1e-3
    for changed in ((x_t + 1, lr, level), (x_t, lr * 1.5, level), (x_t, lr, level - 0.3)):
        assert (model(*changed) - base).abs().max() > 1e-3


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = SR3(TINY)
    model(*_inputs()).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_is_for_training_only() -> None:
    torch.manual_seed(0)
    model = SR3(TINY)
    assert not torch.equal(model(*_inputs()), model(*_inputs()))
    model.eval()
    assert torch.equal(model(*_inputs()), model(*_inputs()))


def test_attention_is_torch_attention() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(32, 32)
    x = torch.randn(2, 32, 4, 6)
    q, k, v = attention.qkv(attention.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    wanted = x + attention.out(mixed.transpose(1, 2).reshape(x.shape))
    assert torch.allclose(attention(x), wanted, atol=1e-5)


def test_noise_level_embedding_has_the_published_size() -> None:
    embedding = NoiseLevelEmbedding(64)
    assert (embedding.first.in_features, embedding.first.out_features) == (64, 256)
    assert (embedding.second.in_features, embedding.second.out_features) == (256, 64)
    levels = torch.tensor([0.1, 0.5, 0.99])
    out = embedding(levels)
    assert out.shape == (3, 64)
    assert (out[0] - out[1]).abs().max() > 1e-3
