import numpy as np
import pytest

from cmrsr.diffusion.residual import Residual


def test_all_of_it_half_way_and_nothing_at_the_known_frames() -> None:
    residual = Residual(std=0.05, weight=0.8)
    assert residual.gain(0.5) == pytest.approx(0.04)
    assert residual.gain(0.0) == residual.gain(1.0) == 0
    tau = np.linspace(0, 1, 101)
    gain = residual.gain(tau)
    assert np.allclose(gain, gain[::-1])
    assert np.abs(np.diff(gain)).max() < 0.002  # continuous
    assert (gain[1:-1] > 0).all()
