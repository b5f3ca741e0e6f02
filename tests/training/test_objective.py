from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cmrsr.diffusion.schedule import Schedule
from cmrsr.training.objective import diffusion_loss, draw_times, to_target

COSINE = Schedule()
LINEAR = Schedule(name="linear", prediction="eps", n_train=2000)


class _Oracle(nn.Module):
    """Knows x0, and so the one right answer; ``scale`` is its only parameter, 1 is right."""

    def __init__(self, x0: Tensor, schedule: Schedule) -> None:
        super().__init__()
        self.x0, self.schedule = x0, schedule
        self.scale = nn.Parameter(torch.ones(()))
        self.conditions = torch.empty(0)

    def forward(self, x_t: Tensor, lr: Tensor, condition: Tensor) -> Tensor:
        self.conditions = condition
        alpha = condition if self.schedule.name == "linear" else torch.cos(torch.pi / 2 * condition)
        a = alpha.double()[:, None, None, None]
        s = (1 - a**2).sqrt()
        eps = (x_t - a * self.x0) / s
        answer = {"v": a * eps - s * self.x0, "x0": self.x0.double(), "eps": eps}[self.schedule.prediction]
        return self.scale * answer.float()


def _loss(model: nn.Module, schedule: Schedule, x0: Tensor, **options: Any) -> Tensor:
    settings: dict[str, Any] = {"loss": "l2", "share_at_noise": 0.25} | options
    weight = settings.pop("weight", None)
    generator = torch.Generator().manual_seed(settings.pop("seed", 0))
    return diffusion_loss(model, schedule, x0, (torch.zeros_like(x0),), weight, generator=generator, **settings)


def _x0(n: int = 16) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("loss", ["l1", "l2"])
@pytest.mark.parametrize(
    "schedule",
    [
        COSINE,
        Schedule(prediction="x0"),
        LINEAR,
        Schedule(name="linear", prediction="v", n_train=2000),
        Schedule(name="linear", prediction="x0", n_train=2000),
    ],
    ids=lambda s: f"{s.name}-{s.prediction}",
)
def test_the_right_answer_costs_nothing_and_any_other_has_a_gradient(schedule: Schedule, loss: str) -> None:
    x0 = _x0()
    oracle = _Oracle(x0, schedule)
    assert float(_loss(oracle, schedule, x0, loss=loss).detach()) < 1e-3  # eps is recovered from x_t in float32
    with torch.no_grad():
        oracle.scale.fill_(0.7)
    wrong = _loss(oracle, schedule, x0, loss=loss)
    wrong.backward()  # type: ignore[no-untyped-call]
    assert float(wrong.detach()) > 0.05
    assert oracle.scale.grad is not None
    assert float(oracle.scale.grad) < -0.1


class _Zero(nn.Module):
    def forward(self, x_t: Tensor, lr: Tensor, condition: Tensor) -> Tensor:
        return torch.zeros_like(x_t)


def test_value_on_a_model_that_returns_zero() -> None:
    x0 = torch.full((4, 1, 8, 8), 3.0)
    # at t = T the target v is -x0
    assert float(_loss(_Zero(), COSINE, x0, share_at_noise=1.0).detach()) == pytest.approx(9)
    assert float(_loss(_Zero(), COSINE, x0, share_at_noise=1.0, loss="l1").detach()) == pytest.approx(3)
    weight = torch.tensor([0.3, 0.5, 1.0, 1.3])
    wanted = 9 * float(weight.mean())
    assert float(_loss(_Zero(), COSINE, x0, share_at_noise=1.0, weight=weight).detach()) == pytest.approx(wanted)
    # the eps target has variance 1 at every time
    many = torch.zeros(256, 1, 8, 8)
    assert float(_loss(_Zero(), LINEAR, many).detach()) == pytest.approx(1, abs=0.05)
    assert float(_loss(_Zero(), LINEAR, many, loss="l1").detach()) == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)


def test_same_generator_same_loss() -> None:
    assert float(_loss(_Zero(), COSINE, _x0()).detach()) == float(_loss(_Zero(), COSINE, _x0()).detach())
    assert float(_loss(_Zero(), COSINE, _x0()).detach()) != float(_loss(_Zero(), COSINE, _x0(), seed=1).detach())


def test_the_paper_draws_its_noise_level_between_two_steps() -> None:
    x0 = _x0(512)
    oracle = _Oracle(x0, LINEAR)
    _loss(oracle, LINEAR, x0, share_at_noise=0.0)
    level = oracle.conditions.double().numpy()
    root = np.sqrt(LINEAR.gammas())
    assert root[-1] <= level.min() < level.max() <= 1
    assert np.abs(level[:, None] - root).min(1).max() > 1e-6  # in between, not on the steps
    _loss(oracle, LINEAR, x0, share_at_noise=1.0)
    last = oracle.conditions.double().numpy()
    assert np.all((root[-1] - 1e-9 <= last) & (last <= root[-2] + 1e-9))
    share = (last - root[-1]) / (root[-2] - root[-1])
    assert share.mean() == pytest.approx(0.5, abs=0.05)
    assert share.std() == pytest.approx(1 / np.sqrt(12), abs=0.02)


def test_times() -> None:
    generator = torch.Generator().manual_seed(0)
    t = draw_times(COSINE, 4000, 0.25, generator)
    assert float((t == 1).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert t.min() > 0
    rest = t[t < 1]
    assert float(rest.mean()) == pytest.approx(0.5, abs=0.03)
    assert (draw_times(COSINE, 50, 1.0, generator) == 1).all()
    steps = draw_times(LINEAR, 4000, 0.0, generator).double() * 2000
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert steps.round().min() >= 1
    assert steps.round().max() <= 2000


def test_targets() -> None:
    hr, lr = torch.rand(2, 3, 1, 4, 4)
    assert torch.allclose(to_target(hr, lr, 0.05) * 0.05 + lr, hr)
    assert torch.allclose(to_target(hr, lr, None), 2 * hr - 1)
