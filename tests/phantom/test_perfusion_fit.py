import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.physics.kinetics import GAMMA_B_S, arterial_input, tissue_concentration
from cmrsr.physics.signal import relaxation_rate, saturation_recovery
from tests.phantom.perfusion_fit import MAX_MMOL_L, concentration_from_signal, fit_fermi

Array = NDArray[np.float64]
SEQUENCE = {"delay_ms": 120.0, "tr_ms": 2.2, "flip_deg": 12.0, "n_before_centre": 30}
FINE = np.arange(0, 60, 0.01)


def measured(
    mbf: float, delay_s: float, beat_s: float, sharpness: float = 0.5, alpha: float = 0.25, beta: float = 0.25
) -> tuple[Array, Array, Array]:
    """Beat times of natural variation, tissue and arterial concentrations there: 50 s from 4 s before the bolus."""
    rng = np.random.default_rng(round(1000 * (mbf + delay_s + beat_s)))
    beats = np.cumsum(np.r_[0.0, rng.normal(beat_s, 0.04 * beat_s, round(50 / beat_s))])
    aif = arterial_input(FINE, 4.0, 8.0, sharpness * GAMMA_B_S)
    tissue = tissue_concentration(FINE, aif, mbf, delay_s, alpha, beta)
    return beats, np.interp(beats, FINE, tissue), np.interp(beats, FINE, aif)


# --- flow -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mbf", [0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("delay_s", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("beat_s", [0.6, 1.0])
def test_flow_returns(mbf: float, delay_s: float, beat_s: float) -> None:
    fit = fit_fermi(*measured(mbf, delay_s, beat_s))
    assert fit.mbf == pytest.approx(mbf, rel=0.005)
    assert fit.delay_s == pytest.approx(delay_s, abs=0.02)
    assert (fit.alpha, fit.beta) == pytest.approx((0.25, 0.25), rel=0.05)
    assert fit.residual < 0.002


@pytest.mark.parametrize("sharpness", [0.3, 1.0])
@pytest.mark.parametrize(("alpha", "beta"), [(0.05, 0.8), (1.0, 0.1)])
def test_other_boluses_and_responses_return(sharpness: float, alpha: float, beta: float) -> None:
    fit = fit_fermi(*measured(1.7, 0.8, 0.9, sharpness, alpha, beta))
    assert fit.mbf == pytest.approx(1.7, rel=0.01)
    assert fit.beta == pytest.approx(beta, rel=0.1)


@pytest.mark.parametrize(("sharpness", "spread"), [(0.5, 0.06), (1.0, 0.10)])
def test_noise_does_not_bias_the_flow(sharpness: float, spread: float) -> None:
    """3 % of the tissue's peak and 1 % of the blood's: the standard deviation of the flow is a few per cent."""
    rng, flows = np.random.default_rng(11), []
    beats, tissue, arterial = measured(2.0, 0.5, 0.8, sharpness)
    for _ in range(24):
        noise = rng.normal(size=(2, beats.size)) * [[0.03 * tissue.max()], [0.01 * arterial.max()]]
        flows.append(fit_fermi(beats, tissue + noise[0], arterial + noise[1]).mbf / 2.0)
    assert np.std(flows) < spread
    assert np.mean(flows) == pytest.approx(1, abs=3 * spread / np.sqrt(24))


def test_flow_scales_with_the_tissue_and_not_with_the_unit_of_both() -> None:
    beats, tissue, arterial = measured(1.0, 0.7, 0.8)
    fit = fit_fermi(beats, tissue, arterial)
    assert fit_fermi(beats, 2 * tissue, arterial).mbf == pytest.approx(2 * fit.mbf, rel=1e-4)
    assert fit_fermi(beats, 10 * tissue, 10 * arterial).mbf == pytest.approx(fit.mbf, rel=1e-4)
    assert fit_fermi(beats + 100, tissue, arterial).mbf == pytest.approx(fit.mbf, rel=1e-4)


def test_a_curve_that_is_no_tissue_still_has_an_end() -> None:
    """Blood in the region: no Fermi response, but an answer at the bounds and a residual that tells."""
    beats, tissue, arterial = measured(1.0, 0.5, 0.8)
    assert fit_fermi(beats, arterial, arterial).mbf > 6
    backwards = fit_fermi(beats, tissue[::-1], arterial)
    assert backwards.residual > 0.2
    assert backwards.mbf >= 0


def test_what_cannot_be_fitted() -> None:
    beats, tissue, arterial = measured(1.0, 0.5, 0.8)
    with pytest.raises(UsageError, match="one number per beat"):
        fit_fermi(beats, tissue[:-1], arterial)
    with pytest.raises(UsageError, match="at least 8"):
        fit_fermi(beats[:7], tissue[:7], arterial[:7])
    with pytest.raises(UsageError, match="increasing"):
        fit_fermi(beats[::-1], tissue, arterial)
    with pytest.raises(UsageError, match="not finite"):
        fit_fermi(beats, np.where(beats > 20, np.nan, tissue), arterial)
    with pytest.raises(UsageError, match="no enhancement"):
        fit_fermi(beats, 0 * tissue, arterial)


# --- concentration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip_deg", [5.0, 12.0, 90.0])
@pytest.mark.parametrize("n", [1, 30, 60])
@pytest.mark.parametrize("delay_ms", [20.0, 120.0])
def test_concentration_inverts_the_signal(flip_deg: float, n: int, delay_ms: float) -> None:
    sequence = {"delay_ms": delay_ms, "tr_ms": 2.2, "flip_deg": flip_deg, "n_before_centre": n}
    agent = np.linspace(-0.05, 15, 40)[:, None, None] * np.ones((1, 3, 2))
    t1 = np.array([[900.0, 1100.0], [1500.0, 1900.0], [300.0, 600.0]])
    rho = np.array([[40.0, 3.0], [0.5, 1.0], [7.0, 9.0]])
    signal = saturation_recovery(rho, relaxation_rate(t1, agent), **sequence)  # type: ignore[arg-type]
    baseline = saturation_recovery(rho, relaxation_rate(t1, 0.0), **sequence)  # type: ignore[arg-type]
    found = concentration_from_signal(signal, baseline, t1, **sequence)  # type: ignore[arg-type]
    assert_allclose(found, agent, atol=1e-4)


def test_concentration_for_another_relaxivity() -> None:
    t1, agent = np.float64(1000.0), np.linspace(0, 5, 20)
    signal, baseline = (
        saturation_recovery(2.0, relaxation_rate(t1, c, relaxivity=4.5), **SEQUENCE)  # type: ignore[arg-type]
        for c in (agent, np.zeros(1))
    )
    found = concentration_from_signal(signal, baseline, t1, relaxivity=4.5, **SEQUENCE)  # type: ignore[arg-type]
    assert_allclose(found, agent, atol=1e-5)


def test_no_concentration_where_none_explains_the_signal() -> None:
    full = saturation_recovery(1.0, np.array([1e6]), **SEQUENCE)[0]  # type: ignore[arg-type]
    t1 = np.array([1000.0] * 6 + [np.nan, 0.0])
    baseline = np.r_[[saturation_recovery(1.0, np.array([1.0]), **SEQUENCE)[0]] * 8]  # type: ignore[arg-type]
    beyond = saturation_recovery(1.0, relaxation_rate(1000.0, MAX_MMOL_L + 0.1), **SEQUENCE)  # type: ignore[arg-type]
    signal = np.array([baseline[0], 1.01 * full, -0.1, np.nan, beyond, 0.1, 0.1, 0.1])
    baseline[5] = 0
    found = concentration_from_signal(signal, baseline, t1, **SEQUENCE)  # type: ignore[arg-type]
    assert np.isnan(found).tolist() == [False] + 7 * [True]
    assert found[0] == pytest.approx(0, abs=1e-5)
    with pytest.raises(UsageError, match="flip angle"):
        concentration_from_signal(signal, baseline, t1, **(SEQUENCE | {"flip_deg": 120.0}))  # type: ignore[arg-type]


@pytest.mark.parametrize("mbf", [0.5, 1.0, 2.0, 3.5])
def test_flow_returns_through_the_signal(mbf: float) -> None:
    """From flow to what the scanner shows, and back; blood and muscle differ in T1 and in the coil's gain."""
    beats, tissue, arterial = measured(mbf, 0.5, 0.8)
    back = []
    for curve, t1, rho in ((tissue, 950.0, 30.0), (arterial, 1550.0, 55.0)):
        signal = saturation_recovery(rho, relaxation_rate(t1, curve), **SEQUENCE)  # type: ignore[arg-type]
        back.append(concentration_from_signal(signal, signal[:3].mean(), t1, **SEQUENCE))  # type: ignore[arg-type]
    assert_allclose(back[1], arterial, atol=1e-3)
    assert fit_fermi(beats, *back).mbf == pytest.approx(mbf, rel=0.005)
