import numpy as np
import pytest
import scipy.integrate
from numpy.testing import assert_allclose

from cmrsr.physics.kinetics import (
    DENSITY,
    FERMI,
    GAMMA_A,
    GAMMA_B_S,
    arterial_input,
    fermi_response,
    gamma_variate,
    tissue_concentration,
)


def test_bolus_peaks_where_and_as_high_as_asked() -> None:
    t = np.arange(0, 40, 0.001)
    c = gamma_variate(t, onset_s=3.0, peak=7.0)
    assert t[c.argmax()] == pytest.approx(3 + GAMMA_A * GAMMA_B_S, abs=0.001)
    assert c.max() == pytest.approx(7.0, rel=1e-6)
    assert_allclose(c[t <= 3], 0)
    u = t[t > 3] - 3
    formula = 7 * (u / (GAMMA_A * GAMMA_B_S)) ** GAMMA_A * np.exp(GAMMA_A - u / GAMMA_B_S)
    assert_allclose(c[t > 3], formula, rtol=1e-9, atol=1e-12)


def test_arterial_input_has_a_first_pass_a_second_and_a_plateau() -> None:
    t = np.arange(0, 200, 0.01)
    c = arterial_input(t, onset_s=2.0, peak=10.0, b_s=0.4)
    first = 2 + GAMMA_A * 0.4
    assert_allclose(c[t <= 2], 0)
    assert t[c.argmax()] == pytest.approx(first, abs=0.5)
    assert 10 <= c.max() < 11
    assert c[-1] == pytest.approx(1.5, rel=0.01)
    turning = np.flatnonzero(np.diff(np.sign(np.diff(c[t < 4 * first]))) < 0)
    assert len(turning) == 2  # the bolus and its recirculation


def test_fermi_response_starts_at_the_flow_and_holds_a_volume() -> None:
    t = np.arange(0, 120, 0.001)
    flow = 3.0 * DENSITY / 60
    r = fermi_response(t, mbf=3.0, delay_s=1.5)
    assert_allclose(r[t < 1.5], 0)
    assert r[t >= 1.5][0] == pytest.approx(flow, rel=1e-3)
    assert r.max() <= flow * (1 + 1e-12)
    assert np.all(np.diff(r[t >= 1.5]) <= 0)
    # integral of (1 + a) / (1 + a exp(b t)) over t >= 0: (1 + a) / b ln((1 + a) / a)
    volume = flow * (1 + FERMI) / FERMI * np.log((1 + FERMI) / FERMI)
    assert r.sum() * 0.001 == pytest.approx(volume, rel=1e-3)
    assert_allclose(fermi_response(t, mbf=6.0, delay_s=1.5), 2 * r)


@pytest.mark.parametrize(("alpha", "beta"), [(0.05, 0.8), (2.0, 0.1), (0.25, 20.0)])
def test_fermi_response_of_other_shapes(alpha: float, beta: float) -> None:
    t = np.linspace(0, 200, 400001)
    r = fermi_response(t, 1.5, alpha=alpha, beta=beta)
    flow = 1.5 * DENSITY / 60
    assert_allclose(r[:2000], flow * (1 + alpha) / (1 + alpha * np.exp(beta * t[:2000])), rtol=1e-12)
    volume = flow * (1 + alpha) / beta * np.log((1 + alpha) / alpha)
    assert scipy.integrate.trapezoid(r, t) == pytest.approx(volume, rel=1e-5)


def _volume_until(t: np.ndarray) -> np.ndarray:
    """The integral of (1 + a) / (1 + a exp(b s)) over s from 0 to t, with both constants FERMI."""
    return (1 + FERMI) * (t - np.log((1 + FERMI * np.exp(FERMI * t)) / (1 + FERMI)) / FERMI)


@pytest.mark.parametrize("delay_s", [0.0, 0.5, 1.23])
def test_tissue_curve_of_a_step_is_the_integral_of_the_response(delay_s: float) -> None:
    t = np.arange(0, 60, 0.1)
    exact = 3.0 * 2.0 * DENSITY / 60 * np.where(t > delay_s, _volume_until(np.maximum(t - delay_s, 0)), 0)
    # second order: (0.1 s)^2 / 12 times the change of the slope of the response, and the interpolation of the delay
    assert_allclose(tissue_concentration(t, np.full(t.size, 3.0), 2.0, delay_s), exact, atol=2e-4)


@pytest.mark.parametrize("delay_s", [0.0, 0.5, 1.23])
def test_tissue_curve_is_of_second_order(delay_s: float) -> None:
    """Half the step, a quarter of the error, against a grid 16 times finer; the left sum had half the error."""

    def curve(step: float) -> np.ndarray:
        t = np.linspace(0, 48, round(48 / step) + 1)
        return tissue_concentration(t, arterial_input(t, 3.0, 8.0, 0.5), 2.0, delay_s)

    exact = curve(0.4 / 32)
    coarse, half = (np.abs(curve(step) - exact[:: round(32 * step / 0.4)]).max() for step in (0.4, 0.2))
    assert 3 < coarse / half < 6
    assert coarse < 0.005 * exact.max()


def test_tissue_curve_does_not_run_ahead() -> None:
    """The mean time of the tissue curve of a bolus is that of the bolus and that of the response, added."""
    t = np.arange(0, 200, 0.2)
    bolus = gamma_variate(t, 3.0, 8.0, b_s=0.4)
    tissue = tissue_concentration(t, bolus, 1.0, 0.7)
    fine = np.arange(0, 200, 0.001)

    def mean_time(curve: np.ndarray, times: np.ndarray) -> float:
        return float(scipy.integrate.trapezoid(curve * times, times) / scipy.integrate.trapezoid(curve, times))

    expected = mean_time(bolus, t) + mean_time(fermi_response(fine, 1.0), fine) + 0.7
    assert mean_time(tissue, t) == pytest.approx(expected, abs=0.005)  # the left sum: 0.1 s early
    assert_allclose(tissue_concentration(t + 100, bolus, 1.0, 0.7), tissue, atol=1e-12)


def test_more_flow_enhances_more_and_earlier() -> None:
    t = np.arange(0, 60, 0.1)
    aif = arterial_input(t, 3.0)
    slow, fast = (tissue_concentration(t, aif, mbf, 0.5) for mbf in (1.0, 3.5))
    assert_allclose(fast, 3.5 * slow)
    assert 0 < slow.max() < aif.max()
    assert t[slow.argmax()] > t[aif.argmax()]
