import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from cmrsr.diffusion.ddim import StepCoefficients, ddim, ddim_coefficients
from cmrsr.diffusion.schedule import Schedule
from cmrsr.exporting.spec import N_COEFFICIENTS
from cmrsr.physics.kspace import band_window, low_pass_matrix, project
from cmrsr.tasks.sr.training.graph import INPUTS, OUTPUTS, Step

FLOAT32 = 1e-5


class _Denoiser(nn.Module):
    """Anything that depends on all of its inputs."""

    def forward(self, x_t: Tensor, lr: Tensor, level: Tensor) -> Tensor:
        return torch.tanh(x_t) + 0.3 * lr - level[:, None, None, None]


def _denoise(x_t: np.ndarray, lr: np.ndarray, level: float) -> np.ndarray:
    return np.asarray(np.tanh(x_t) + 0.3 * lr - level)


def _images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x_t, lr = rng.normal(size=(2, 3, 1, 12, 10)).astype(np.float32)
    return x_t, np.abs(lr)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("residual", [True, False])
def test_a_step_is_read_project_update(residual: bool, weight: float) -> None:
    x_t, lr = _images()
    c = StepCoefficients(condition=0.7, read_x=0.4, read_f=-0.9, next_x0=0.55, next_x=0.3)
    matrix = weight * low_pass_matrix(band_window(5, 12, 0.2))
    inputs = (x_t, lr, np.array([c.condition, c.read_x, c.read_f, c.next_x0, c.next_x], np.float32), matrix)
    x_next, x0 = Step(_Denoiser(), residual=residual)(*(torch.from_numpy(v.astype(np.float32)) for v in inputs))
    shown = lr if residual else 2 * lr - 1
    wanted = c.read_x * x_t + c.read_f * _denoise(x_t, shown, c.condition)
    # the acquired band of a residual is empty; that of an image is LR's
    wanted = project(wanted, np.zeros_like(lr) if residual else shown, matrix)
    assert_allclose(x0.numpy(), wanted, atol=FLOAT32)
    assert_allclose(x_next.numpy(), c.next_x0 * wanted + c.next_x * x_t, atol=FLOAT32)


def test_full_projection_empties_the_acquired_band_of_a_residual() -> None:
    x_t, lr = _images()
    matrix = low_pass_matrix(band_window(5, 12))
    coefficients = torch.tensor([0.7, 0.4, -0.9, 0.55, 0.3])
    _, x0 = Step(_Denoiser(), residual=True)(
        torch.from_numpy(x_t), torch.from_numpy(lr), coefficients, torch.from_numpy(matrix)
    )
    assert_allclose(matrix @ x0.numpy(), 0, atol=FLOAT32)


@pytest.mark.parametrize("n_steps", [1, 2, 5])
@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_the_steps_in_a_row_are_the_sampler(prediction: str, n_steps: int) -> None:
    schedule = Schedule(prediction=prediction)  # type: ignore[arg-type]
    x_t, lr = _images()
    step, off = Step(_Denoiser(), residual=True), torch.zeros(12, 12)
    x = torch.from_numpy(x_t)
    for c in ddim_coefficients(schedule, n_steps):
        coefficients = torch.tensor([c.condition, c.read_x, c.read_f, c.next_x0, c.next_x])
        assert coefficients.numel() == N_COEFFICIENTS
        x, x0 = step(x, torch.from_numpy(lr), coefficients, off)
    wanted = ddim(lambda x, level: _denoise(x, lr, level), x_t.astype(np.float64), schedule, n_steps)
    assert_allclose(x.numpy(), wanted, atol=FLOAT32)
    assert_allclose(x0.numpy(), x.numpy())  # the last step returns its estimate


def test_names_are_the_protocol_of_the_runtime() -> None:
    assert INPUTS == ("x_t", "lr", "coefficients", "low_pass")
    assert OUTPUTS == ("x_next", "x0")
