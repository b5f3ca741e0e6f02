"""CPKDM: what each part reads, where it looks, what its switches leave out, and that all of it learns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from cmrsr.diffusion.schedule import Schedule
from cmrsr.tasks.mie.training.cpkdm import (
    CELL,
    N_CLUSTERS,
    N_INVERSIONS,
    N_MOTION,
    N_TISSUES,
    Cpkdm,
    CpkdmConfig,
    CrossAttention,
    EdgeCritic,
)
from cmrsr.tasks.mie.training.recipe import MieRecipe
from cmrsr.tasks.registry import build_model, load_recipe

TINY = CpkdmConfig(
    n_phases=3, latent=4, motion=8, gate=8, morphology=16, widths=(16, 16, 24), blocks=(1, 1, 1), embedding=16,
    heads=2, critic=4,
)  # fmt: skip
SIDE = 32
CELLS = SIDE // CELL
PAPER_PARAMETERS = 82_987_920  # of the sizes that we gave it: the paper states none
Inputs = dict[str, Tensor]


def made(**changes: Any) -> Cpkdm:
    torch.manual_seed(0)
    return Cpkdm(replace(TINY, **changes)).eval()


def shown(n: int = 2) -> Inputs:
    """Everything that the model is given, by name, with a latent on its way."""
    g = torch.Generator().manual_seed(1)
    return {
        "cine": torch.rand(n, TINY.n_phases, SIDE, SIDE, generator=g),
        "motion": torch.randn(n, TINY.n_phases, N_MOTION, CELLS, CELLS, generator=g),
        "inversions": torch.rand(n, N_INVERSIONS, SIDE, SIDE, generator=g),
        "timing": torch.rand(n, N_INVERSIONS, generator=g).sort(1).values * 4,
        "t1": 0.3 + torch.rand(n, 1, SIDE, SIDE, generator=g),
        "clusters": torch.rand(n, N_CLUSTERS, CELLS, CELLS, generator=g),
        "x_t": torch.randn(n, TINY.latent, CELLS, CELLS, generator=g),
    }  # fmt: skip


def synthesised(model: Cpkdm, given: Inputs, t: float = 0.4) -> Tensor:
    """Image and logit of scar (n, 2, y, x) that one evaluation of the denoiser leads to."""
    motion = model.kinematics(given["cine"], given["motion"])
    morphology, *_ = model.morphology(given["inversions"], given["timing"], given["t1"], given["clusters"])
    z = model.denoiser(given["x_t"], morphology, motion, torch.full((len(motion),), t))
    return torch.cat(model.decoder(z, morphology), 1)


@contextmanager
def hooked(module: nn.Module) -> Iterator[list[Tensor]]:
    """What a module is given meanwhile."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    yield seen
    handle.remove()


ALL = {"cine", "motion", "inversions", "timing", "t1", "clusters", "x_t"}


@pytest.mark.parametrize(
    ("switches", "left_out"),
    [
        ((), set()),
        (("cine",), {"cine", "motion"}),
        (("t1",), {"inversions", "timing", "t1", "clusters"}),
        (("strain",), {"motion"}),
        (("atlas",), {"t1", "clusters"}),
        (("strain", "atlas"), {"motion", "t1", "clusters"}),
    ],
)
def test_a_switch_leaves_out_just_its_inputs(switches: tuple[str, ...], left_out: set[str]) -> None:
    model, given = made(**dict.fromkeys(switches, False)), shown()
    with torch.inference_mode():
        before = synthesised(model, given)
        used = {k for k in ALL if not torch.equal(before, synthesised(model, {**given, k: given[k] * 1.5 + 0.1}))}
    assert used == ALL - left_out


@pytest.mark.parametrize("name", ["cine", "motion", "inversions", "t1", "clusters", "x_t"])
def test_what_changes_somewhere_shows_there(name: str) -> None:
    """In the upper left corner: the output changes there, and more than on the other side."""
    model, given = made(), shown(1)
    changed = {k: v.clone() for k, v in given.items()}
    size = changed[name].shape[-1] // 4
    changed[name][..., :size, :size] += 1
    with torch.inference_mode():
        change = (synthesised(model, changed) - synthesised(model, given)).abs().mean((0, 1))
    near, far = change[: SIDE // 4, : SIDE // 4].mean(), change[-SIDE // 4 :, -SIDE // 4 :].mean()
    assert near > 0
    assert near > 3 * far


def test_every_map_varies_with_position() -> None:
    model, given = made(), shown(1)
    with torch.inference_mode():
        motion = model.kinematics(given["cine"], given["motion"])
        parts = model.morphology(given["inversions"], given["timing"], given["t1"], given["clusters"])
        z = model.denoiser(given["x_t"], parts[0], motion, torch.ones(1))
    for found in (motion, *parts, z, *model.decoder(z, parts[0])):
        assert (found.std((2, 3)) > 1e-3).all()


@pytest.mark.parametrize(("direction", "components"), [("radial", (0, 2)), ("circumferential", (1, 3))])
def test_each_direction_has_its_encoder(direction: str, components: tuple[int, int]) -> None:
    """Displacement and strain along it; with that encoder silenced nothing else tells them."""
    model, given = made().kinematics, shown(1)
    nn.init.zeros_(getattr(model, direction).weight)
    with torch.inference_mode():
        before = model(given["cine"], given["motion"])
        for k in range(N_MOTION):
            changed = given["motion"].clone()
            changed[:, :, k] += 1
            assert torch.equal(model(given["cine"], changed), before) == (k in components)


def test_the_order_of_the_beat_matters() -> None:
    model, given = made(), shown(1)
    with torch.inference_mode():
        found = model.kinematics(given["cine"], given["motion"])
        back = model.kinematics(given["cine"].flip(1), given["motion"].flip(1))
    assert (found - back).abs().max() > 1e-3


def test_a_batch_is_its_single_slices() -> None:
    model, given = made(), shown(3)
    with torch.inference_mode():
        together = synthesised(model, given)
        alone = [synthesised(model, {k: v[i : i + 1] for k, v in given.items()}) for i in range(3)]
    assert_close(together, torch.cat(alone))


def test_at_pure_noise_the_latent_is_not_seen() -> None:
    """One step from t = 1 is then a regression, that no noise disturbs."""
    model, given = made(), shown()
    with torch.inference_mode():
        first, second = (synthesised(model, {**given, "x_t": x}, t=1.0) for x in (given["x_t"], 3 * given["x_t"]))
    assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_cross_attention_looks_near_its_own_place_at_first() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(8, 6, 2).eval()
    x, context = torch.randn(1, 8, 9, 9), torch.randn(1, 6, 9, 9)
    other = context.clone()
    other[..., 4, 4] += 3

    def change() -> Tensor:
        with torch.inference_mode():
            return (attention(x, other) - attention(x, context)).abs().mean((0, 1))

    found = change()
    assert found[4, 4] > 10 * found[4, 7]
    assert found[4, 4] > 10 * found[1, 4]
    assert found[0, 0] < 1e-5
    nn.init.constant_(attention.closeness, -30.0)  # distance without a price: every cell sees every other
    everywhere = change()
    assert everywhere.min() > 0.02 * everywhere.max()


def test_cross_attention_reads_the_context_alone() -> None:
    """x + a mean of the context's values: what x holds elsewhere has no part in a cell."""
    torch.manual_seed(0)
    attention = CrossAttention(8, 6, 2).eval()
    x, context = torch.randn(1, 8, 5, 4), torch.randn(1, 6, 5, 4)
    other = x.clone()
    other[..., 2, 2] += 1
    with torch.inference_mode():
        change = (attention(other, context) - attention(x, context)).abs().sum((0, 1))
        # of an even context every mean is the same, wherever one looks
        even = attention(x, torch.ones(1, 6, 5, 4)) - x
    assert change[2, 2] > 0
    assert (change > 0).sum() == 1
    assert_close(even, even[..., :1, :1].expand_as(even), atol=1e-6, rtol=1e-5)


def test_the_latent_has_unit_length_in_every_cell() -> None:
    model = made()
    with torch.inference_mode():
        model.enhancement.head.weight *= 10  # as training leaves it: far above what keeps the root finite
        z = model.enhancement(torch.rand(2, 1, SIDE, SIDE))
    assert z.shape == (2, TINY.latent, CELLS, CELLS)
    assert_close(z.square().mean(1), torch.ones(2, CELLS, CELLS), atol=0.01, rtol=0)


def test_knowledge_of_the_mask_leads_the_features() -> None:
    model, given = made(), shown()
    inputs = [given[k] for k in ("inversions", "timing", "t1", "clusters")]
    with torch.inference_mode():
        with hooked(model.morphology.guide) as told:
            found, clusters, tissues = model.morphology(*inputs)
        assert clusters.shape == (2, N_CLUSTERS, CELLS, CELLS)
        assert_close(F.pixel_shuffle(told[0][:, -N_TISSUES * CELL**2 :], CELL), tissues.softmax(1))
        assert_close(told[0][:, TINY.morphology :][:, :N_CLUSTERS], clusters.softmax(1))
        nn.init.constant_(model.morphology.tissues.bias[: CELL**2], 20.0)  # everything is background
        other = model.morphology(*inputs)
    assert (other[2].argmax(1) == 0).all()  # each tissue's pixels lie together
    assert (other[0] - found).abs().max() > 1e-3


def _everything(model: Cpkdm, given: Inputs, denoise: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """A loss in which every part has a say, as in training: ``denoise(z, morphology, motion)`` is the noise term."""
    true = torch.rand(len(given["cine"]), 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    motion = model.kinematics(given["cine"], given["motion"])
    morphology, clusters, tissues = model.morphology(*(given[k] for k in ("inversions", "timing", "t1", "clusters")))
    z = model.enhancement(true)
    image, scar = model.decoder(z, morphology)
    labels = (true * N_TISSUES).long()[:, 0]
    masks = F.cross_entropy(tissues, labels) + clusters.log_softmax(1)[:, 0].mean().neg()
    critics = model.critic(image).mean() + model.mask_critic(tissues.softmax(1)[:, 1:]).mean()
    rebuilt = (image - true).square().mean() + F.binary_cross_entropy_with_logits(scar, (true > 0.9).float())
    return denoise(z.detach(), morphology, motion) + rebuilt + masks + critics


def test_a_gradient_reaches_every_parameter() -> None:
    model, given = made(), shown()

    def denoise(z: Tensor, morphology: Tensor, motion: Tensor) -> Tensor:
        return (model.denoiser(given["x_t"], morphology, motion, torch.tensor([0.3, 0.8])) - z).square().mean()

    _everything(model, given, denoise).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without


def _edges(critic: EdgeCritic, image: Tensor) -> tuple[Tensor, Tensor]:
    """What the first layer of a critic sees: images and their edges, (n, c, y, x) each."""
    with hooked(critic.first) as seen:
        critic(image)
    images, edges = F.pixel_shuffle(seen[0], CELL).chunk(2, 1)
    return images, edges


def test_the_critic_sees_images_with_their_edges_by_sobel() -> None:
    critic = EdgeCritic(2, 4)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    image = torch.stack([3 * x + 4 * y, torch.full_like(x, 7.0)])[None]
    images, edges = _edges(critic, image)
    assert_close(images, image)
    inside = edges[..., 1:-1, 1:-1]
    assert_close(inside[0, 0], torch.full((14, 14), 2 * 5.0))  # [1 2 1] / 4 across, a step of two pixels along
    assert inside[0, 1].max() < 2e-3
    step = (x >= 8).float().expand(1, 2, 16, 16)
    _, upright = _edges(critic, step)
    _, level = _edges(critic, step.transpose(2, 3))
    assert_close(upright, level.transpose(2, 3))
    assert upright[0, 0, 8, 7] == upright[0, 0, 8, 8] > 100 * upright[0, 0, 8, 4]


def test_the_critic_scores_patches() -> None:
    critic = EdgeCritic(1, 4)
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    scores = critic(image)
    assert scores.shape == (1, 1, 8, 8)
    scores[..., 0, 0].sum().backward()
    assert image.grad is not None
    assert image.grad[..., :8, :8].abs().max() > 0
    assert image.grad[..., 40:, 40:].abs().max() == 0


def test_the_papers_configuration_learns_from_noise_it_predicts() -> None:
    recipe = load_recipe("cpkdm-paper")
    assert isinstance(recipe, MieRecipe)
    schedule = recipe.diffusion.build()
    assert (schedule.name, schedule.prediction, schedule.n_train) == ("linear", "eps", 2000)
    torch.manual_seed(0)
    model = build_model(recipe.model.model_dump())
    assert isinstance(model, Cpkdm)
    assert sum(p.numel() for p in model.parameters()) == PAPER_PARAMETERS
    given = shown(1)
    for name in ("cine", "motion"):  # the whole beat
        given[name] = given[name].repeat_interleave(model.config.n_phases // TINY.n_phases, 1)
    eps = torch.randn(1, model.config.latent, CELLS, CELLS, generator=torch.Generator().manual_seed(3))
    alpha, sigma, level = _noise(schedule, 0.5)

    def denoise(z: Tensor, morphology: Tensor, motion: Tensor) -> Tensor:
        out = model.denoiser(alpha * z + sigma * eps, morphology, motion, torch.full((1,), level))
        return (out - eps).square().mean()

    before = _everything(model, given, denoise)
    before.backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    with torch.inference_mode():
        assert _everything(model, given, denoise) < before


@pytest.mark.parametrize(("fade", "sees"), [(True, True), (False, False)])
def test_noise_levels_that_are_no_times_do_not_fade_what_is_seen(fade: bool, sees: bool) -> None:
    torch.manual_seed(0)
    model = Cpkdm(replace(TINY, fade=fade))
    given = [torch.randn(1, c, CELLS, CELLS) for c in (TINY.morphology, TINY.gate)]
    one, other = torch.randn(2, 1, TINY.latent, CELLS, CELLS)
    with torch.inference_mode():
        a, b = (model.denoiser(x, *given, torch.ones(1)) for x in (one, other))
    assert torch.allclose(a, b, atol=1e-6) == sees


def _noise(schedule: Schedule, t: float) -> tuple[float, float, float]:
    """(alpha, sigma, what the network is told) at a time."""
    alpha, sigma = schedule.alpha_sigma(np.array([t]))
    return float(alpha[0]), float(sigma[0]), float(schedule.condition(np.array([t]))[0])
