"""Against a Gaussian prior x0 ~ N(mu, s^2), whose exact denoiser and transport map are known in closed form."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.diffusion.ddim import ancestral, ddim, ddim_coefficients, read_coefficients
from cmrsr.diffusion.schedule import Schedule

MU, S = 0.7, 0.4
NOISE = np.linspace(-2.5, 2.5, 11)
Denoiser = Callable[[np.ndarray, float], np.ndarray]

COSINE_V, COSINE_X0 = Schedule(prediction="v"), Schedule(prediction="x0")
LINEAR = {p: Schedule(name="linear", prediction=p, n_train=2000) for p in ("v", "x0", "eps")}


def _alpha(schedule: Schedule, condition: float) -> float:
    """The signal amplitude at a conditioning of the network."""
    return float(schedule.alpha_sigma(np.array([condition]))[0][0]) if schedule.name == "cosine" else condition


def _posterior_mean(x_t: np.ndarray, alpha: float) -> np.ndarray:
    """E[x0 | x_t] = mu + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha mu)."""
    return MU + alpha * S**2 / (alpha**2 * S**2 + 1 - alpha**2) * (x_t - alpha * MU)


def _exact(schedule: Schedule) -> Denoiser:
    def denoise(x_t: np.ndarray, condition: float) -> np.ndarray:
        alpha = _alpha(schedule, condition)
        sigma = np.sqrt(1 - alpha**2)
        x0 = _posterior_mean(x_t, alpha)
        if schedule.prediction == "x0":
            return x0
        eps = (x_t - alpha * x0) / sigma
        return eps if schedule.prediction == "eps" else alpha * eps - sigma * x0

    return denoise


def _transport(x_1: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    """Where the probability flow takes x at amplitude alpha: N(alpha mu, alpha^2 s^2 + sigma^2) -> N(mu, s^2)."""
    return MU + S * (x_1 - alpha * MU) / np.sqrt(alpha**2 * S**2 + 1 - alpha**2)


@pytest.mark.parametrize("schedule", [COSINE_V, COSINE_X0], ids=["v", "x0"])
def test_one_step_is_the_posterior_mean(schedule: Schedule) -> None:
    assert_allclose(ddim(_exact(schedule), NOISE, schedule, 1), MU, atol=1e-14)


@pytest.mark.parametrize("schedule", [COSINE_V, COSINE_X0, *LINEAR.values()], ids=lambda s: f"{s.name}-{s.prediction}")
def test_many_steps_land_on_the_transport_map(schedule: Schedule) -> None:
    start = float(schedule.alpha_sigma(np.ones(1))[0][0])
    got = ddim(_exact(schedule), NOISE, schedule, 1000)
    assert_allclose(got, _transport(NOISE, start), atol=4e-3)


@pytest.mark.parametrize("schedule", [COSINE_V, COSINE_X0], ids=["v", "x0"])
def test_order_of_convergence_is_one(schedule: Schedule) -> None:
    steps = np.array([32, 64, 128, 256])
    errors = [np.abs(ddim(_exact(schedule), NOISE, schedule, int(n)) - _transport(NOISE)).max() for n in steps]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 50])
def test_what_is_predicted_does_not_matter(n_steps: int) -> None:
    v, x0 = (ddim(_exact(s), NOISE, s, n_steps) for s in (COSINE_V, COSINE_X0))
    assert_allclose(v, x0, atol=1e-12)
    v, x0, eps = (ddim(_exact(s), NOISE, s, n_steps) for s in LINEAR.values())
    assert_allclose(v, x0, atol=1e-9)
    assert_allclose(eps, x0, atol=1e-9)


@pytest.mark.parametrize("prediction", ["v", "x0", "eps"])
def test_reading_inverts_the_definition(prediction: str) -> None:
    alpha, sigma = 0.6, 0.8
    x0, eps = np.random.default_rng(0).normal(size=(2, 5))
    f = {"v": alpha * eps - sigma * x0, "x0": x0, "eps": eps}[prediction]
    a, b = read_coefficients(prediction, alpha, sigma)  # type: ignore[arg-type]
    assert_allclose(a * (alpha * x0 + sigma * eps) + b * f, x0)


def test_coefficients_follow_the_ddim_update() -> None:
    for n_steps in (1, 3, 10):
        steps = ddim_coefficients(COSINE_V, n_steps)
        assert [s.condition for s in steps] == pytest.approx(np.linspace(1, 0, n_steps + 1)[:-1])
        assert (steps[-1].next_x0, steps[-1].next_x) == (1, 0)  # the last step returns x0
        for i, step in enumerate(steps):
            alpha, sigma = COSINE_V.alpha_sigma(np.array([1 - i / n_steps, 1 - (i + 1) / n_steps]))
            x0, eps = 0.3, -1.2
            x_t = alpha[0] * x0 + sigma[0] * eps
            assert step.next_x0 * x0 + step.next_x * x_t == pytest.approx(alpha[1] * x0 + sigma[1] * eps)


def test_torch_tensors_take_the_same_steps() -> None:
    torch = pytest.importorskip("torch")
    noise = torch.from_numpy(NOISE)
    got = ddim(_exact(COSINE_V), noise, COSINE_V, 5)
    assert torch.is_tensor(got)
    assert_allclose(got.numpy(), ddim(_exact(COSINE_V), NOISE, COSINE_V, 5), rtol=1e-12)


def _noises(seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.normal(size=NOISE.shape)


def test_ancestral_is_equation_8() -> None:
    schedule = LINEAR["eps"]
    betas = np.linspace(1e-6, 1e-2, 2000)
    gamma = np.cumprod(1 - betas)
    denoise, z = _exact(schedule), _noises(1)
    y = NOISE.copy()
    for t in range(2000, 0, -1):
        alpha = 1 - betas[t - 1]
        f = denoise(y, np.sqrt(gamma[t - 1]))
        y = (y - (1 - alpha) / np.sqrt(1 - gamma[t - 1]) * f) / np.sqrt(alpha)
        if t > 1:
            y = y + np.sqrt(1 - alpha) * next(z)
    assert_allclose(ancestral(denoise, NOISE, schedule, _noises(1)), y, rtol=1e-9)


def test_ancestral_samples_the_prior() -> None:
    schedule = Schedule(name="linear", prediction="eps", n_train=2000)
    rng = np.random.default_rng(3)
    x = rng.normal(size=4000)
    samples = ancestral(_exact(schedule), x, schedule, (rng.normal(size=4000) for _ in range(2000)))
    assert samples.mean() == pytest.approx(MU, abs=4 * S / np.sqrt(4000))
    assert samples.std() == pytest.approx(S, rel=0.05)


def test_ancestral_can_be_cut_short_to_be_timed() -> None:
    calls: list[float] = []

    def denoise(x_t: np.ndarray, condition: float) -> np.ndarray:
        calls.append(condition)
        return 0 * x_t

    ancestral(denoise, NOISE, LINEAR["eps"], _noises(0), 3)
    assert calls == pytest.approx(np.sqrt(LINEAR["eps"].gammas()[[2000, 1999, 1998]]))


@pytest.mark.parametrize("schedule", [COSINE_V, LINEAR["v"]])
def test_ancestral_refuses_what_it_is_not_defined_for(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="eps-prediction on the linear schedule"):
        ancestral(lambda x, _: x, NOISE, schedule, _noises(0))
