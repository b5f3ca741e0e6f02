import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.physics.signal import relaxation_rate, saturation_recovery


def _step_by_step(r1: float, delay_ms: float, tr_ms: float, flip_deg: float, n: int) -> float:
    """Mz pulse by pulse: saturation, recovery, then n excitations a TR apart with full spoiling."""
    mz = 0.0
    mz = 1 - (1 - mz) * np.exp(-delay_ms * r1 / 1000)
    signal = 0.0
    for _ in range(n):
        signal = mz * np.sin(np.deg2rad(flip_deg))
        mz *= np.cos(np.deg2rad(flip_deg))
        mz = 1 - (1 - mz) * np.exp(-tr_ms * r1 / 1000)
    return float(signal)


@pytest.mark.parametrize("n", [1, 2, 17, 60])
@pytest.mark.parametrize("flip_deg", [5.0, 12.0, 90.0])
def test_formula_is_the_recursion(n: int, flip_deg: float) -> None:
    r1 = np.array([0.5, 1.0, 4.0, 30.0])
    timing = {"delay_ms": 120.0, "tr_ms": 2.2, "flip_deg": flip_deg}
    wanted = [0.8 * _step_by_step(r, n=n, **timing) for r in r1]
    assert_allclose(saturation_recovery(0.8, r1, n_before_centre=n, **timing), wanted, rtol=1e-12)


def test_limits() -> None:
    timing = {"tr_ms": 2.2, "flip_deg": 12.0}
    fast = saturation_recovery(0.7, np.array([1e5]), delay_ms=100.0, n_before_centre=30, **timing)
    assert_allclose(fast, 0.7 * np.sin(np.deg2rad(12)), rtol=1e-12)  # recovers fully before every pulse
    none = saturation_recovery(1.0, np.array([1.0]), delay_ms=0.0, n_before_centre=1, **timing)
    assert_allclose(none, 0.0)  # read at once after the saturation
    c, b = np.cos(np.deg2rad(12)) * np.exp(-0.0022), 1 - np.exp(-0.0022)
    steady = saturation_recovery(1.0, np.array([1.0]), delay_ms=100.0, n_before_centre=5000, **timing)
    assert_allclose(steady, np.sin(np.deg2rad(12)) * b / (1 - c), rtol=1e-9)  # Ernst: the preparation is forgotten


def test_contrast_agent_brightens() -> None:
    r1 = relaxation_rate(1000.0, np.linspace(0, 8, 50))
    assert_allclose(r1, 1 + 5.6 * np.linspace(0, 8, 50))
    signal = saturation_recovery(1.0, r1, delay_ms=120.0, tr_ms=2.2, flip_deg=12.0, n_before_centre=30)
    assert np.all(np.diff(signal) > 0)
    twice = saturation_recovery(2.0, r1, delay_ms=120.0, tr_ms=2.2, flip_deg=12.0, n_before_centre=30)
    assert_allclose(twice, 2 * signal)
