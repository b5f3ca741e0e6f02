import numpy as np
import pytest
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


@pytest.mark.parametrize("delay_s", [0.0, 0.5, 4.0])
def test_tissue_curve_is_the_convolution(delay_s: float) -> None:
    t = np.arange(0, 60, 0.1)
    aif = arterial_input(t, 3.0, 8.0, 0.4)
    fine = np.arange(0, 60, 0.005)
    product = np.convolve(arterial_input(fine, 3.0, 8.0, 0.4), fermi_response(fine, 2.0, delay_s))[: fine.size]
    exact = 0.005 * product[::20]
    # a left sum on a grid of 0.1 s runs ahead by half a step: 0.05 s of the steepest rise
    tolerance = 0.06 * np.abs(np.gradient(exact, 0.1)).max()
    assert_allclose(tissue_concentration(t, aif, 2.0, delay_s), exact, atol=tolerance)
    assert_allclose(tissue_concentration(t + 100, aif, 2.0, delay_s), tissue_concentration(t, aif, 2.0, delay_s))


def test_more_flow_enhances_more_and_earlier() -> None:
    t = np.arange(0, 60, 0.1)
    aif = arterial_input(t, 3.0)
    slow, fast = (tissue_concentration(t, aif, mbf, 0.5) for mbf in (1.0, 3.5))
    assert_allclose(fast, 3.5 * slow)
    assert 0 < slow.max() < aif.max()
    assert t[slow.argmax()] > t[aif.argmax()]
