"""The training of ``mie``: every loss reaches what it should, the critics play against the model, runs resume."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from cmrsr.errors import UsageError
from cmrsr.tasks.mie.training.batches import InfarctBatch, draw_infarcts, whole_infarcts
from cmrsr.tasks.mie.training.cpkdm import Cpkdm
from cmrsr.tasks.mie.training.data import Infarcts
from cmrsr.tasks.mie.training.recipe import MieRecipe
from cmrsr.tasks.mie.training.system import (
    SCORE_PER_DICE,
    Losses,
    MieSystem,
    Reversed,
    hinge,
    image_loss,
    linear_mixture,
    psnr,
    scar_loss,
)
from cmrsr.tasks.registry import load_recipe, train
from tests.ring_infarcts import ring_infarct, ring_infarcts

TINY = (
    "model.latent=4", "model.motion=8", "model.gate=8", "model.morphology=16", "model.widths=[16, 16, 16]",
    "model.blocks=[1, 1, 1]", "model.embedding=16", "model.heads=2", "model.critic=8", "data.crop=32",
    "optimiser.batch_size=2", "optimiser.bf16=false", "optimiser.warmup=1", "validate_every=1000",
)  # fmt: skip
PARTS = {"kinematics", "morphology", "enhancement", "denoiser", "decoder", "critic", "mask_critic"}


@pytest.fixture(scope="module")
def data() -> Infarcts:
    return ring_infarcts()


def recipe(*overrides: str, name: str = "cpkdm-s") -> MieRecipe:
    found = load_recipe(name, [*TINY, *overrides])
    assert isinstance(found, MieRecipe)
    return found


def built(system: MieSystem) -> Cpkdm:
    torch.manual_seed(0)
    model = system.build("cpu")
    assert isinstance(model, Cpkdm)
    return model


def terms(system: MieSystem, model: Cpkdm, batch: InfarctBatch) -> Losses:
    return system.terms(model, batch, torch.Generator().manual_seed(0))


def touched(model: nn.Module) -> set[str]:
    """Parts of a model that have a gradient."""
    return {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }  # fmt: skip


# ---- the terms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("noise", {"kinematics", "morphology", "denoiser"}),
        ("image", {"kinematics", "morphology", "enhancement", "denoiser", "decoder"}),
        ("scar", {"kinematics", "morphology", "enhancement", "denoiser", "decoder"}),
        ("masks", {"morphology"}),
        ("critics", PARTS - {"enhancement"}),
    ],
)
def test_every_loss_reaches_what_it_should(data: Infarcts, term: str, parts: set[str]) -> None:
    """The latent is not drawn towards what is easily denoised: the noise loss leaves its encoder alone."""
    system = MieSystem(recipe(), data)
    model = built(system)
    getattr(terms(system, model, whole_infarcts(data.training[:2])), term).backward()
    assert touched(model) == parts


@pytest.mark.parametrize(
    ("switch", "unused"),
    [
        ("model.cine=false", {"kinematics"}),
        ("model.t1=false", set()),
        ("loss.adversarial=0.0", {"critic", "mask_critic"}),
    ],
)
def test_what_is_switched_off_has_no_gradient(data: Infarcts, switch: str, unused: set[str]) -> None:
    system = MieSystem(recipe(switch), data)
    model = built(system)
    sum(terms(system, model, whole_infarcts(data.training[:2]))).backward()  # type: ignore[union-attr, arg-type]
    assert touched(model) == PARTS - unused


@pytest.mark.parametrize("switch", ["model.strain=false", "model.atlas=false"])
def test_knowledge_can_be_left_out(data: Infarcts, switch: str) -> None:
    """Then motion, or clusters and T1, have no influence; otherwise they have."""
    batch = whole_infarcts(data.training[:2])
    changed = batch._replace(motion=batch.motion + 1, clusters=batch.clusters.roll(1, 1), t1=batch.t1 * 0.5)
    for overrides in ((), (switch,)):
        system = MieSystem(recipe(*overrides), data)
        model = built(system).eval()
        other = batch._replace(**({"motion": changed.motion} if "strain" in switch else
                                  {"clusters": changed.clusters, "t1": changed.t1}))  # fmt: skip
        with torch.no_grad():
            found = [system.synthesise(model, b, torch.Generator().manual_seed(0))[0] for b in (batch, other)]
        assert torch.equal(*found) == bool(overrides)


def test_the_loss_is_the_weighted_sum(data: Infarcts) -> None:
    system = MieSystem(recipe("loss.image=2.0", "loss.scar=3.0", "loss.masks=0.5", "loss.adversarial=0.25"), data)
    model = built(system)
    found = system.loss(model, np.random.default_rng(1), torch.Generator().manual_seed(0), "cpu")
    batch = draw_infarcts(data.training, 32, 2, np.random.default_rng(1))
    t = terms(system, model, batch)
    assert_close(found, t.noise + 2 * t.image + 3 * t.scar + 0.5 * t.masks + 0.25 * t.critics)


@pytest.mark.parametrize("name", ["cpkdm-s", "cpkdm-paper"])
def test_the_clean_latent_is_found_from_any_prediction(data: Infarcts, name: str) -> None:
    """A denoiser that is right has no noise loss, and returns the latent."""
    system = MieSystem(recipe(name=name), data)
    model = built(system)
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    z = z / z.square().mean(1, keepdim=True).sqrt()

    class Oracle(nn.Module):
        def forward(self, x_t: Tensor, _: Tensor, __: Tensor, level: Tensor) -> Tensor:
            t = level.double().numpy()
            if name == "cpkdm-paper":  # which is told the noise level sqrt(gamma)
                alpha, sigma = t, np.sqrt(1 - t**2)
            else:
                alpha, sigma = system.schedule.alpha_sigma(t)
            a, s = (torch.from_numpy(v).float().view(-1, 1, 1, 1) for v in (alpha, sigma))
            eps = (x_t - a * z) / s
            return eps if system.schedule.prediction == "eps" else a * eps - s * z

    model.denoiser = Oracle()  # type: ignore[assignment]
    heart, nothing = torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    loss, found = system._denoise(model, z, nothing, nothing, heart, torch.Generator().manual_seed(3))
    assert loss < 1e-5
    assert_close(found, z, atol=1e-3, rtol=0)


def test_reversed_is_the_identity_forwards_alone() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = Reversed.apply(x)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-3, -5]


def test_what_makes_an_image_works_against_its_critic() -> None:
    """The critic learns to score real images high and made ones low; the image is drawn where it scores high."""
    critic = nn.Linear(1, 1, bias=False)
    nn.init.constant_(critic.weight, 0.1)
    real, made = torch.full((4, 1), 2.0), torch.full((4, 1), -1.0, requires_grad=True)
    assert_close(hinge(critic, real, made), torch.tensor((1 - 0.2) + (1 - 0.1)))
    hinge(critic, real, made).backward()
    assert critic.weight.grad is not None
    assert made.grad is not None
    assert critic.weight.grad.item() == pytest.approx(-3)  # downhill: a larger weight, real apart from made
    assert (made.grad < 0).all()  # downhill: towards higher scores


def test_scar_loss_is_least_at_the_truth() -> None:
    true = torch.zeros(2, 1, 24, 24)
    true[0, :, 5:14, 5:14] = 1
    right = scar_loss(40 * true - 20, true)
    assert right < 0.01
    assert scar_loss(torch.full_like(true, -20.0), true) > 0.3  # nothing found
    assert scar_loss(20 - 40 * true, true) > 1
    assert scar_loss(torch.full((1, 1, 24, 24), -20.0), torch.zeros(1, 1, 24, 24)) < 0.01  # nothing to be found


def test_errors_in_the_heart_count_more() -> None:
    true, heart = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 1, 32, 32)
    heart[..., 8:24, 8:24] = 1
    inside, outside = true.clone(), true.clone()
    inside[..., 12:16, 12:16] += 0.3
    outside[..., 0:4, 12:16] += 0.3
    assert image_loss(true, true, heart) == pytest.approx(0, abs=1e-6)
    assert image_loss(inside, true, heart) > 1.5 * image_loss(outside, true, heart)


# ---- the baseline and validation -------------------------------------------------------------------------------------


def test_linear_mixture_is_the_least_squares_solution(data: Infarcts) -> None:
    rows, wanted = [], []
    for s in data.training:
        images = np.asarray(s.inversions, np.float64)[:, ::4, ::4].reshape(8, -1)
        rows.append(np.vstack([images, np.ones(images.shape[1])]).T)
        wanted.append(np.asarray(s.enhancement, np.float64)[::4, ::4].ravel())
    best, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)
    assert_allclose(linear_mixture(data).numpy(), best, rtol=1e-3, atol=1e-4)


def test_a_mixture_is_found_where_there_is_one(data: Infarcts) -> None:
    """And the baseline is then nearly perfect: only half precision keeps it from it."""
    weights = np.array([0.1, -0.2, 0.05, 0.1, 0.2, 0.1, 0.0, 0.1])
    mixed = [
        replace(s, enhancement=np.float16(np.einsum("k,kyx->yx", weights, s.inversions.astype(float)) + 0.2))
        for s in (*data.training, *data.validation)
    ]
    n = len(data.training)
    exact = Infarcts(training=mixed[:n], validation=mixed[n:], description="mixtures")
    assert_allclose(linear_mixture(exact).numpy(), [*weights, 0.2], atol=0.02)
    assert MieSystem(recipe(), exact).baseline_db > 50 > MieSystem(recipe(), data).baseline_db > 5


def test_psnr_is_that_of_images_cut_to_one() -> None:
    true = torch.full((2, 1, 48, 48), 0.5)
    assert_close(psnr(true + 0.1, true), torch.full((2,), 20.0))
    assert_close(psnr(torch.full_like(true, 7.0), torch.full_like(true, 0.9)), torch.full((2,), 20.0))


def test_perfect_images_are_valued_over_the_baseline(data: Infarcts, monkeypatch: pytest.MonkeyPatch) -> None:
    system = MieSystem(recipe(), data)
    model = built(system)

    def perfect(_: Cpkdm, batch: InfarctBatch, __: object) -> tuple[Tensor, Tensor]:
        return batch.enhancement + 0.01, 9.0 * (2.0 * (batch.labels == 4)[:, None] - 1)

    monkeypatch.setattr(system, "synthesise", perfect)
    gain, dice = system.validate(model, "cpu")
    assert dice == pytest.approx(1)
    assert gain == pytest.approx(40 - system.baseline_db, abs=1)  # pixels near 1 are cut
    assert system.gain_db(model.state_dict(), "cpu") == pytest.approx(gain + SCORE_PER_DICE)


@pytest.mark.parametrize("name", ["cpkdm-s", "cpkdm-paper"])
def test_validation_is_the_same_again(data: Infarcts, name: str) -> None:
    system = MieSystem(recipe(name=name), data)
    weights = built(system).state_dict()
    one, same = system.gain_db(weights, "cpu"), system.gain_db(weights, "cpu")
    assert one == same
    assert np.isfinite(one)


# ---- whole runs ------------------------------------------------------------------------------------------------------


def test_a_run_lowers_the_loss_and_gains_on_the_baseline(data: Infarcts, tmp_path: Path) -> None:
    seen: list[float] = []
    found = recipe("optimiser.steps=24", "optimiser.learning_rate=4e-3")
    system = MieSystem(found, data)
    before = system.gain_db(built(system).state_dict(), "cpu")
    train(found, data, tmp_path, on_step=lambda p: seen.append(p.loss))
    assert np.mean(seen[-8:]) < 0.75 * np.mean(seen[:4])
    assert system.gain_db(load_file(tmp_path / "weights.safetensors"), "cpu") > before + 1


def test_a_run_goes_on_as_if_never_stopped(data: Infarcts, tmp_path: Path) -> None:
    always = ("optimiser.decay=none", "latent_share=1.0")
    whole, part = (recipe(f"optimiser.steps={n}", *always) for n in (4, 2))
    train(whole, data, tmp_path / "whole")
    train(part, data, tmp_path / "part")
    train(whole, data, tmp_path / "part", resume=True)
    one, other = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=True)["model"] for n in ("whole", "part"))
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_the_encoder_rests_after_its_share(data: Infarcts, tmp_path: Path) -> None:
    found = recipe("optimiser.steps=4", "latent_share=0.5", "optimiser.decay=none")
    system = MieSystem(found, data)
    assert [system.frozen(step) for step in range(4)] == [(), (), ("enhancement.",), ("enhancement.",)]
    train(found.model_copy(update={"latent_share": 1.0}), data, tmp_path / "moving")
    train(found, data, tmp_path / "resting")
    moving, resting = (
        torch.load(tmp_path / n / "checkpoint.pt", weights_only=True)["model"] for n in ("moving", "resting")
    )
    short = found.model_copy(update={"optimiser": found.optimiser.model_copy(update={"steps": 2}), "latent_share": 1.0})
    train(short, data, tmp_path / "short")
    halfway = torch.load(tmp_path / "short" / "checkpoint.pt", weights_only=True)["model"]
    key = "enhancement.stem.weight"
    assert torch.equal(resting[key], halfway[key])
    assert not torch.equal(moving[key], resting[key])
    assert not torch.equal(resting["decoder.head.weight"], halfway["decoder.head.weight"])


def test_what_cannot_be_trained(data: Infarcts) -> None:
    for crop in (40, 64):
        with pytest.raises(UsageError, match=rf"data\.crop {crop}: expected a multiple of 16, at most 48"):
            MieSystem(recipe(f"data.crop={crop}"), data)


def test_slices_without_a_scar_can_be_validated() -> None:
    """Nothing to find and nothing found is right."""
    healthy = [ring_infarct(i, scar=False) for i in range(2)]
    system = MieSystem(recipe(), Infarcts(training=healthy, validation=healthy, description="healthy"))
    _, dice = system.validate(built(system).eval(), "cpu")
    assert 0 < dice <= 1
