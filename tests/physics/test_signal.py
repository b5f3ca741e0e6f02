import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.physics.signal import (
    bssfp,
    inversion_recovery,
    inversion_recovery_gre,
    null_time,
    relaxation_rate,
    saturation_recovery,
)


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


# --- balanced steady state --------------------------------------------------------------------------------------------

T1, T2 = np.array([950.0, 1300.0, 300.0, 700.0]), np.array([46.0, 200.0, 50.0, 50.0])


def _turn(axis: int, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    m = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    m[i, i], m[i, j], m[j, i], m[j, j] = c, -s, s, c
    return m


def _bloch_bssfp(t1: float, t2: float, te: float, flip_deg: float, tr: float, hertz: float) -> float:
    """Pulse by pulse: turn about x by +-a, then precess and relax, until nothing changes; the length of Mxy at TE."""

    def free(m: np.ndarray, ms: float) -> np.ndarray:
        relaxed = _turn(2, 2 * np.pi * hertz * ms / 1000) @ m
        relaxed *= np.exp(-ms / np.array([t2, t2, t1]))
        return relaxed + np.array([0, 0, 1 - np.exp(-ms / t1)])

    m = np.array([0.0, 0.0, 1.0])
    for pulse in range(2 * round(8 * t1 / tr / 2)):
        m = _turn(0, np.deg2rad(flip_deg) * (-1) ** pulse) @ m
        m = free(m, tr)
    return float(np.hypot(*free(_turn(0, np.deg2rad(flip_deg)) @ m, te)[:2]))


@pytest.mark.parametrize("hertz", [0.0, 40.0, -90.0, 150.0, 170.0, 400.0])
def test_bssfp_is_the_steady_state_of_the_bloch_equations(hertz: float) -> None:
    timing = {"te_ms": 1.5, "flip_deg": 60.0, "tr_ms": 3.0}
    wanted = [0.9 * _bloch_bssfp(a, b, 1.5, 60.0, 3.0, hertz) for a, b in zip(T1, T2, strict=True)]
    assert_allclose(bssfp(0.9, T1, T2, off_resonance_hz=hertz, **timing), wanted, rtol=2e-3)


@pytest.mark.parametrize("flip_deg", [10.0, 45.0, 60.0, 90.0])
def test_bssfp_tends_to_its_closed_form(flip_deg: float) -> None:
    c = np.cos(np.deg2rad(flip_deg))
    formula = np.sin(np.deg2rad(flip_deg)) / ((T1 / T2 + 1) - c * (T1 / T2 - 1)) * np.exp(-1.5 / T2)
    short = bssfp(1.0, T1, T2, te_ms=1.5, flip_deg=flip_deg)
    assert_allclose(short, formula, rtol=1e-12)
    assert_allclose(bssfp(1.0, T1, T2, te_ms=1.5, flip_deg=flip_deg, tr_ms=0.1), short, rtol=0.01)
    assert_allclose(bssfp(3.0, T1, T2, te_ms=1.5, flip_deg=flip_deg), 3 * short)


def test_bssfp_has_a_pass_band_and_dark_bands() -> None:
    tr = 3.0
    hertz = np.linspace(-500 / tr, 500 / tr, 101)
    profile = bssfp(1.0, 950.0, 46.0, te_ms=1.5, flip_deg=60.0, tr_ms=tr, off_resonance_hz=hertz)
    assert profile.shape == hertz.shape
    assert_allclose(profile, profile[::-1], rtol=1e-9)
    assert profile[[0, -1]].max() < 0.05 * profile[50]
    assert np.all(profile[40:61] > 0.9 * profile[50])  # a fifth of the way to the band
    further = bssfp(1.0, 950.0, 46.0, te_ms=1.5, flip_deg=60.0, tr_ms=tr, off_resonance_hz=hertz + 1000 / tr)
    assert_allclose(further, profile, rtol=1e-6)


def test_blood_is_brighter_than_muscle_in_bssfp() -> None:
    muscle, blood = bssfp(1.0, np.array([950.0, 1300.0]), np.array([46.0, 200.0]), te_ms=1.5, flip_deg=60.0)
    assert 2 < blood / muscle < 4


def test_off_resonance_needs_a_repetition_time() -> None:
    with pytest.raises(ValueError, match="tr_ms"):
        bssfp(1.0, 950.0, 46.0, te_ms=1.5, flip_deg=60.0, off_resonance_hz=50.0)


# --- inversion recovery -----------------------------------------------------------------------------------------------


def test_inversion_recovery_solves_the_bloch_equation() -> None:
    ti = np.linspace(0, 6000, 20001)
    signal = inversion_recovery(0.8, 1000.0, ti, efficiency=0.9)
    assert signal[0] == pytest.approx(-0.9 * 0.8)
    assert signal[-1] == pytest.approx(0.8, rel=0.01)
    assert_allclose(np.gradient(signal, ti, edge_order=2), (0.8 - signal) / 1000.0, rtol=1e-4, atol=1e-8)
    assert inversion_recovery(1.0, 1000.0, 1000 * np.log(2)) == pytest.approx(0, abs=1e-12)
    saturated = inversion_recovery(1.0, 700.0, 150.0, efficiency=0.0)
    assert_allclose(
        saturated, saturation_recovery(1.0, 1000 / 700, delay_ms=150, tr_ms=2, flip_deg=90, n_before_centre=1)
    )
    assert inversion_recovery(np.ones((4, 5)), np.full((4, 5), 900.0), np.arange(8.0)[:, None, None]).shape == (8, 4, 5)


def _steady_inversion(t1: float, ti: float, repetition: float, flip_deg: float) -> float:
    """Mz at TI when every inversion follows one readout pulse of any angle."""
    mz = 1.0
    read = 0.0
    for _ in range(200):
        read = 1 - (1 + mz) * np.exp(-ti / t1)
        mz = 1 - (1 - read * np.cos(np.deg2rad(flip_deg))) * np.exp(-(repetition - ti) / t1)
    return read


def test_inversion_recovery_gre_is_the_repeated_experiment() -> None:
    t1 = np.array([425.0, 541.0, 1200.0])
    wanted = [0.7 * _steady_inversion(t, 300.0, 1700.0, 90.0) for t in t1]
    assert_allclose(inversion_recovery_gre(0.7, t1, inversion_ms=300.0, beat_ms=850.0), wanted, rtol=1e-9)
    # an inversion so rare that everything has recovered
    rare = inversion_recovery_gre(0.7, t1, inversion_ms=300.0, beat_ms=900.0, n_beats=100)
    assert_allclose(rare, inversion_recovery(0.7, t1, 300.0), rtol=1e-12)


@pytest.mark.parametrize("flip_deg", [20.0, 60.0, 90.0])
def test_null_time_nulls_at_any_flip_angle(flip_deg: float) -> None:
    for t1 in (300.0, 541.0, 1400.0):
        ti = float(null_time(t1, beat_ms=850.0))
        assert _steady_inversion(t1, ti, 1700.0, flip_deg) == pytest.approx(0, abs=1e-9)
    assert_allclose(inversion_recovery_gre(1.0, t1, inversion_ms=ti, beat_ms=850.0), 0, atol=1e-12)


def test_scar_is_bright_when_remote_muscle_is_nulled() -> None:
    ti = float(null_time(541.0, beat_ms=850.0))
    scar, blood, remote = np.abs(
        inversion_recovery_gre(1.0, np.array([425.0, 450.0, 541.0]), inversion_ms=ti, beat_ms=850.0)
    )
    assert scar > blood > 0.05 > remote
    assert null_time(541.0, beat_ms=850.0) < null_time(541.0, beat_ms=850.0, n_beats=5) < 541 * np.log(2) + 1e-9
