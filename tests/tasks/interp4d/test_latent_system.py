from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cmrsr.errors import UsageError
from cmrsr.tasks.interp4d.training.data import Stack, Stacks
from cmrsr.tasks.interp4d.training.latent_system import LatentClipSystem, load_encoder
from cmrsr.tasks.interp4d.training.recipe import ClipRecipe
from cmrsr.tasks.registry import load_recipe, train

TINY = (
    "model.depth=1", "model.width=32", "model.heads=2", "model.n_frames=5", "data.n_frames=3", "data.gap=[4, 4]",
    "data.crop=32", "optimiser.batch_size=2", "optimiser.bf16=false", "optimiser.steps=2", "optimiser.warmup=1",
)  # fmt: skip


class _Encoder(nn.Module):
    """Averages 8 x 8 pixels into four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor([1.0, -1.0, 0.5, 2.0]))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image, 8) * self.mix[:, None, None]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("autoencoder") / "encoder.pt2"
    batch = torch.export.Dim("batch")
    program = torch.export.export(_Encoder(), (torch.zeros(4, 1, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def _recipe(encoder: Path, *overrides: str) -> ClipRecipe:
    recipe = load_recipe("tssc-paper", [*TINY, f'autoencoder="{encoder}"', *overrides])
    assert isinstance(recipe, ClipRecipe)
    return recipe


def _stacks() -> Stacks:
    frames = np.random.default_rng(0).random((9, 2, 40, 40)).astype(np.float32)
    return Stacks(training=[Stack(shown=frames)], validation=[Stack(shown=frames)], description="noise")


def test_it_trains_through_the_loop(encoder: Path, tmp_path: Path) -> None:
    train(_recipe(encoder), _stacks(), tmp_path)
    assert (tmp_path / "weights.safetensors").is_file()


def test_the_loss_covers_the_unknown_frames_and_sees_the_known(encoder: Path) -> None:
    system = LatentClipSystem(_recipe(encoder), _stacks())
    seen: list[tuple[Tensor, ...]] = []

    class Spy(nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return torch.zeros_like(inputs[0])

    loss = system.loss(Spy(), np.random.default_rng(1), torch.Generator().manual_seed(0), "cpu")
    x_t, known, tau, level = seen[0]
    assert x_t.shape == (2, 3, 4, 4, 4)
    assert known.shape == (2, 2, 4, 4, 4)
    assert torch.equal(tau, tau.sort(1).values)
    assert ((level > 0) & (level <= 1)).all()
    assert float(loss) == pytest.approx(1, abs=0.2)  # the eps target has variance 1


def test_latents_are_those_of_the_encoder(encoder: Path) -> None:
    system = LatentClipSystem(_recipe(encoder), _stacks())
    known, target, _ = system._latents(system.validation, "cpu")
    wanted = torch.from_numpy(system.validation.known).clamp(0, 1) * 2 - 1
    assert torch.allclose(known[:, :, 0], nn.functional.avg_pool2d(wanted, 8), atol=1e-6)
    assert not target.requires_grad


def test_encoders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the encoder"):
        load_encoder(None)
    (tmp_path / "x.pt2").write_bytes(b"no program")
    with pytest.raises(UsageError, match=r"expected a program saved by torch\.export\.save"):
        load_encoder(tmp_path / "x.pt2")


def test_recipes_that_do_not_fit() -> None:
    for wrong in ("diffusion.residual=true", "data.n_frames=4"):
        with pytest.raises(UsageError, match="tssc-paper needs") as error:
            load_recipe("tssc-paper", [wrong])
        assert isinstance(error.value.__cause__, ValidationError)
