import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cmrsr.phantom.chest import Chest, draw_chest
from cmrsr.phantom.contrast import (
    TIME_STEP_S,
    TISSUE_DELAY_S,
    Passage,
    SaturationRecovery,
    agent,
    curves,
    draw_passage,
    draw_sequence,
    first_pass_signals,
)
from cmrsr.phantom.heart import LV_CAVITY, N_HEART, RV_CAVITY, WALL, wall_label, wall_parts
from cmrsr.phantom.infarct import N_SEGMENTS, SCAR_FLOW
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.tissue import Supply
from tests.phantom.perfusion_fit import concentration_from_signal, fit_fermi

Array = NDArray[np.float64]
FLOW = 0.02  # of a Fermi fit without noise: the arterial input is interpolated between beats


@pytest.fixture(scope="module")
def patient() -> VirtualPatient:
    """Behind a stenosis, so that flow differs between segments and layers."""
    several = (draw_patient(14, subject, "infarct") for subject in range(1, 30))
    return next(patient for patient in several if patient.heart.disease.ischaemic)


@pytest.fixture(scope="module")
def chest(patient: VirtualPatient) -> Chest:
    return draw_chest(patient, 100)


def _passage(mbf: Array | None = None) -> Passage:
    return Passage(
        times_s=np.arange(50) * 0.9, onset_s=3.0, peak=6.0, transit_s=4.0, sharpness=0.4,
        mbf=np.ones((N_SEGMENTS, 2)) if mbf is None else mbf,
    )  # fmt: skip


def _label(segment: int, layer: int, scar: bool = False) -> int:
    return int(wall_label(np.array(segment), np.array(layer), np.array(scar)))


def test_signal_of_a_label_is_the_closed_form(chest: Chest) -> None:
    passage, sequence = _passage(np.linspace(0.5, 3, 2 * N_SEGMENTS).reshape(-1, 2)), draw_sequence(
        np.random.default_rng(0)
    )  # fmt: skip
    m = chest.materials
    signals = first_pass_signals(m, passage, sequence)
    assert signals.shape == (50, len(m.rho))
    assert signals.dtype == np.float32
    angle = np.deg2rad(sequence.flip_deg)
    r1 = 1000 / m.t1_ms + 5.6 * agent(m, passage)
    decay = np.exp(-sequence.tr_ms * r1 / 1000)
    mz = 1 - np.exp(-sequence.delay_ms * r1 / 1000)
    for _ in range(sequence.n_before_centre - 1):  # pulse after pulse
        mz = 1 - (1 - mz * np.cos(angle)) * decay
    assert_allclose(signals, m.rho * np.sin(angle) * mz, rtol=1e-5, atol=1e-7)


def test_every_label_takes_up_what_its_supply_brings(chest: Chest) -> None:
    mbf = np.linspace(0.5, 3, 2 * N_SEGMENTS).reshape(-1, 2)
    passage, m = _passage(mbf), chest.materials
    t, supplied = curves(passage)
    assert_allclose(np.diff(t), TIME_STEP_S)
    at_beats = {supply: np.interp(passage.times_s, t, curve) for supply, curve in supplied.items()}
    c = agent(m, passage)
    segment, layer, scar = wall_parts()
    for i in range(WALL, N_HEART):
        w = i - WALL
        flow = mbf[segment[w] - 1, layer[w]] * (SCAR_FLOW if scar[w] else 1)
        assert_allclose(c[:, i], flow * at_beats[Supply.MYOCARDIUM], rtol=1e-9)
    assert_allclose(c[:, LV_CAVITY], at_beats[Supply.LV_BLOOD])
    assert_allclose(c[:, RV_CAVITY], at_beats[Supply.RV_BLOOD])
    slow = np.flatnonzero(m.supply == Supply.SLOW)[:20]
    assert_allclose(c[:, slow], at_beats[Supply.SLOW][:, None] * m.uptake[slow])
    assert not c[:, m.supply == Supply.NONE].any()
    other = np.flatnonzero((m.supply == Supply.MYOCARDIUM) & (m.segment == 0))  # papillary muscles, the RV's wall
    assert_allclose(c[:, other], np.median(mbf) * at_beats[Supply.MYOCARDIUM][:, None] * np.ones(other.size))


def test_contrast_passes_from_right_to_left_to_the_muscle() -> None:
    t, c = curves(_passage())
    right, left, muscle = c[Supply.RV_BLOOD], c[Supply.LV_BLOOD], c[Supply.MYOCARDIUM]
    assert right.argmax() < c[Supply.LUNG].argmax() < left.argmax() < muscle.argmax()
    assert right.max() == pytest.approx(1.2 * 6, rel=0.05)  # with what recirculates
    assert left.max() == pytest.approx(6, rel=0.05)
    assert muscle.max() < 0.5 * left.max()
    arrival = [t[np.flatnonzero(curve > 1e-3)[0]] for curve in (right, left, muscle)]
    assert 3.0 < arrival[0] < 4.5  # the onset, and the slow foot of the bolus
    assert arrival[1] - arrival[0] == pytest.approx(4.0, abs=0.3)  # the transit through the lungs
    assert arrival[2] >= arrival[1] + TISSUE_DELAY_S
    assert left[0] == right[0] == muscle[0] == 0


def test_a_sharper_bolus_is_shorter() -> None:
    widths = []
    for sharpness in (0.3, 0.7):
        passage = Passage(
            times_s=np.arange(60) * 0.9, onset_s=3.0, peak=6.0, transit_s=4.0, sharpness=sharpness,
            mbf=np.ones((N_SEGMENTS, 2)),
        )  # fmt: skip
        t, c = curves(passage)
        first = c[Supply.RV_BLOOD]
        widths.append(t[first > 0.5 * first.max()].size * TIME_STEP_S)
    assert widths[0] < 0.6 * widths[1]


def _fitted(chest: Chest, passage: Passage, sequence: SaturationRecovery, labels: list[int]) -> list[float]:
    """Blood flow (mL/g/min) from the signals of labels and of the LV's blood, as from a clinical scan."""
    m = chest.materials
    signals = first_pass_signals(m, passage, sequence).astype(np.float64)

    def concentration(label: int) -> Array:
        return np.asarray(concentration_from_signal(
            signals[:, label], signals[0, label], float(m.t1_ms[label]), delay_ms=sequence.delay_ms,
            tr_ms=sequence.tr_ms, flip_deg=sequence.flip_deg, n_before_centre=sequence.n_before_centre,
        ))  # fmt: skip

    arterial = concentration(LV_CAVITY)
    assert_allclose(arterial, agent(m, passage)[:, LV_CAVITY], atol=2e-3)
    return [fit_fermi(passage.times_s, concentration(label), arterial).mbf for label in labels]


@pytest.mark.parametrize("stress", [False, True])
def test_a_fermi_fit_finds_the_flow_of_every_segment_and_layer(
    patient: VirtualPatient, chest: Chest, stress: bool
) -> None:
    rng = np.random.default_rng(int(stress))
    passage, sequence = draw_passage(rng, patient, 60, stress), draw_sequence(rng)
    labels = [_label(s, layer) for s in range(1, N_SEGMENTS + 1) for layer in (0, 1)]
    found = np.array(_fitted(chest, passage, sequence, labels)).reshape(N_SEGMENTS, 2)
    assert_allclose(found, patient.perfusion.stress if stress else patient.perfusion.rest, rtol=FLOW)
    assert (np.ptp(found) > 0.5) == stress


def test_a_fermi_fit_finds_what_scar_has_left(patient: VirtualPatient, chest: Chest) -> None:
    rng = np.random.default_rng(2)
    passage, sequence = draw_passage(rng, patient, 60, False), draw_sequence(rng)
    healthy, scar = _fitted(chest, passage, sequence, [_label(8, 1), _label(8, 1, scar=True)])
    assert scar / healthy == pytest.approx(SCAR_FLOW, rel=FLOW)


def test_beats_vary_as_the_patients_do_and_are_faster_under_stress(patient: VirtualPatient) -> None:
    intervals = {}
    for stress in (False, True):
        drawn = [draw_passage(np.random.default_rng(seed), patient, 50, stress) for seed in range(30)]
        for passage in drawn:
            assert passage.times_s.shape == (50,)
            assert passage.times_s[0] == 0
            assert np.all(np.diff(passage.times_s) > 0.2)
            assert passage.onset_s > 0
            assert 4 <= passage.peak <= 13
            assert passage.onset_s + passage.transit_s < passage.times_s[-1] / 2  # it comes while images are taken
            steps = np.diff(passage.times_s)
            assert steps.std() / steps.mean() == pytest.approx(patient.beat_sd, rel=0.5)
        intervals[stress] = np.mean([np.diff(p.times_s).mean() for p in drawn])
    assert intervals[False] == pytest.approx(patient.cycle.beat_ms / 1000, rel=0.05)
    assert 0.6 < intervals[True] / intervals[False] < 0.9


def test_stress_and_rest_are_those_of_the_patient(patient: VirtualPatient) -> None:
    for stress, flow in ((False, patient.perfusion.rest), (True, patient.perfusion.stress)):
        assert np.array_equal(draw_passage(np.random.default_rng(0), patient, 20, stress).mbf, flow)


def test_drawn_sequences_are_clinical() -> None:
    for seed in range(40):
        sequence = draw_sequence(np.random.default_rng(seed))
        assert 90 <= sequence.delay_ms <= 160
        assert 1.8 <= sequence.tr_ms <= 2.7
        assert 8 <= sequence.flip_deg <= 20
        assert 15 <= sequence.n_before_centre <= 70
        # contrast agent makes tissue brighter all the way to the peak of a bolus
        signal = sequence.signal(np.array(1.0), 1.0 + 5.6 * np.linspace(0, 8, 50))
        assert np.all(np.diff(signal) > 0)
