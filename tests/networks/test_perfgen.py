import numpy as np
import pytest
import torch
from torch import Tensor

from cmrsr.networks.perfgen import PerfGen, PerfGenConfig
from cmrsr.tasks.registry import build_model, load_recipe

TINY = PerfGenConfig(widths=(8, 16), blocks=(1, 1, 1), embedding=16)


@pytest.fixture(scope="module")
def model() -> PerfGen:
    torch.manual_seed(0)
    return PerfGen(TINY).eval()


def _inputs(height: int = 16, width: int = 24, batch: int = 2, t: float = 0.4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_t, lr = torch.randn(2, batch, 1, height, width, generator=generator)
    return x_t, lr, torch.full((batch,), t)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 24), (28, 12)])
def test_any_multiple_of_the_stride(model: PerfGen, height: int, width: int) -> None:
    assert model(*_inputs(height, width)).shape == (2, 1, height, width)


def test_other_sizes_are_not_for_it(model: PerfGen) -> None:
    assert TINY.stride == 4
    with pytest.raises(RuntimeError):
        model(*_inputs(18, 24))


def test_output_follows_every_input(model: PerfGen) -> None:
    x_t, lr, t = _inputs()
    base = model(x_t, lr, t)
    for changed in ((x_t + 1, lr, t), (x_t, lr * 1.5, t), (x_t, lr, t + 0.2)):
        assert (model(*changed) - base).abs().max() > 1e-3


def test_output_varies_with_position(model: PerfGen) -> None:
    out = model(*_inputs())
    assert out.std((2, 3)).min() > 1e-3
    x_t, lr, t = _inputs(16, 80)
    moved = model(x_t.roll(4, 3), lr.roll(4, 3), t)
    still = model(x_t, lr, t).roll(4, 3)
    inner = slice(32, 48)  # beyond the reach of the borders
    assert torch.allclose(moved[..., inner], still[..., inner], atol=1e-5)


def test_pixels_at_every_phase_of_the_stride_are_seen(model: PerfGen) -> None:
    x_t, lr, t = (v.requires_grad_() if v.ndim == 4 else v for v in _inputs(16, 16, 1))
    model(x_t, lr, t).square().sum().backward()
    for image in (x_t, lr):
        assert image.grad is not None
        seen = image.grad.abs().reshape(4, 4, 4, 4).sum((0, 2))
        assert seen.min() > 0.01 * seen.max()


def test_noise_is_not_seen_at_t_1(model: PerfGen) -> None:
    x_t, lr, t = _inputs(t=1.0)
    assert torch.allclose(model(x_t, lr, t), model(-3 * x_t, lr, t), atol=1e-5)
    assert not torch.allclose(model(x_t, lr, t - 0.05), model(-3 * x_t, lr, t - 0.05), atol=1e-3)


def test_images_of_a_batch_do_not_meet(model: PerfGen) -> None:
    x_t, lr, _ = _inputs()
    t = torch.tensor([0.3, 0.9])
    whole = model(x_t, lr, t)
    for i in (0, 1):
        assert torch.allclose(model(x_t[i : i + 1], lr[i : i + 1], t[i : i + 1]), whole[i : i + 1], atol=1e-6)


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = PerfGen(TINY)
    model(*_inputs()).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs().amax(0) > 0).all(), name  # every input of every layer matters, the skip too


def test_shipped_recipe_builds_the_shipped_size() -> None:
    recipe = load_recipe("perfgen-s")
    model = build_model(recipe.model.model_dump())
    assert isinstance(model, PerfGen)
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 5e6
    matrices = [p for n, p in model.named_parameters() if n.endswith(".matrix")]
    assert all(p.ndim == 2 for p in matrices)
    assert sum(p.numel() for p in matrices) > 0.75 * sum(p.numel() for p in model.parameters())


def test_matrix_convolution_is_a_convolution() -> None:
    from cmrsr.networks.blocks import MatrixConv

    torch.manual_seed(0)
    ours, theirs = MatrixConv(3, 5), torch.nn.Conv2d(3, 5, 3, padding=1)
    with torch.no_grad():
        theirs.weight.copy_(ours.matrix.view(5, 3, 3, 3))
        theirs.bias.copy_(ours.bias.add_(0.3))  # type: ignore[union-attr]
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    bound = 1 / np.sqrt(3 * 9)  # the initialisation of a torch convolution
    assert float(ours.matrix.detach().abs().max()) == pytest.approx(bound, rel=0.1)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown model 'unet'"):
        build_model({"name": "unet"})
