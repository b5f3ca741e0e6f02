import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.diffusion.schedule import Schedule, trailing_times


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(name="linear", prediction="eps", n_train=2000)])
def test_signal_and_noise_share_the_energy(schedule: Schedule) -> None:
    t = np.linspace(0, 1, 401)
    alpha, sigma = schedule.alpha_sigma(t)
    assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)
    assert (alpha[0], sigma[0]) == (1, 0)
    assert np.all(np.diff(alpha) < 0)
    assert np.all(np.diff(sigma) > 0)


def test_cosine_ends_in_noise_alone() -> None:
    alpha, sigma = Schedule().alpha_sigma(np.ones(1))
    assert (alpha[0], sigma[0]) == (0, 1)
    t = np.array([0.25, 0.5])
    assert_array_equal(Schedule().condition(t), t)
    assert_allclose(Schedule().alpha_sigma(t)[0], np.cos(np.pi / 2 * t))


def test_linear_is_the_product_of_the_betas() -> None:
    schedule = Schedule(name="linear", prediction="eps", n_train=2000)
    gammas = schedule.gammas()
    assert gammas.shape == (2001,)
    betas = 1 - gammas[1:] / gammas[:-1]
    assert_allclose(betas[[0, -1]], [1e-6, 1e-2], rtol=1e-6)
    assert_allclose(np.diff(betas), np.diff(betas)[0], rtol=1e-4)
    steps = np.array([1, 700, 2000])
    assert_allclose(schedule.alpha_sigma(steps / 2000)[0], np.sqrt(gammas[steps]))
    assert_allclose(schedule.alpha_sigma((steps - 0.3) / 2000)[0], np.sqrt(gammas[steps]))  # rounds to the nearest step
    assert_allclose(schedule.condition(steps / 2000), np.sqrt(gammas[steps]))
    assert gammas[-1] < 1e-4  # 2000 steps reach noise, 1000 do not
    assert Schedule(name="linear", prediction="eps", n_train=1000).gammas()[-1] > 5e-3


def test_trailing_times_begin_at_noise_and_end_at_the_image() -> None:
    assert_array_equal(trailing_times(1), [1, 0])
    assert_allclose(trailing_times(4), [1, 0.75, 0.5, 0.25, 0])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        trailing_times(0)


def test_eps_at_zero_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="eps-prediction is undefined"):
        Schedule(name="cosine", prediction="eps")
