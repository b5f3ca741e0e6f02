import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.errors import UsageError
from cmrsr.phantom.heart import rv_volume_ml
from cmrsr.phantom.patient import EF_LIMITS, GROUPS, SHARES, Group, VirtualPatient, draw_patient
from cmrsr.physics.volumes import DENSITY_G_ML

N = 8  # of each group
THICKNESS_MM = 15.0  # of a segment of a hypertrophic heart, by definition


@pytest.fixture(scope="module")
def groups() -> dict[Group, list[VirtualPatient]]:
    return {group: [draw_patient(8, subject, group) for subject in range(1, N + 1)] for group in GROUPS}


@pytest.fixture(scope="module")
def patients(groups: dict[Group, list[VirtualPatient]]) -> list[VirtualPatient]:
    return [patient for several in groups.values() for patient in several]


def _volumes(patient: VirtualPatient) -> tuple[float, float]:
    """End-diastolic volume and ejection fraction of the left ventricle."""
    heart = patient.heart
    edv, esv = (heart.motion.cavity_ml(heart.quadrature, a) for a in (0.0, 1.0))
    return edv, 1 - esv / edv


def _right(patient: VirtualPatient) -> tuple[float, float]:
    heart = patient.heart
    edv, esv = (rv_volume_ml(heart.rv, heart.motion, heart.quadrature, a) for a in (0.0, 1.0))
    return edv, 1 - esv / edv


def _has_large_or_weak_right_ventricle(patient: VirtualPatient) -> bool:
    edv, ef = _right(patient)
    return edv / patient.identity.bsa_m2 > (110 if patient.identity.sex == "M" else 100) or ef < 0.4


def _thickest_mm(patient: VirtualPatient) -> float:
    lv = patient.heart.lv
    theta, z = np.linspace(0, 2 * np.pi, 90)[:, None], np.linspace(lv.equator - 0.5 * lv.length, lv.base_z, 30)
    endo, epi = lv.surfaces(theta, z)
    return float((epi - endo).max())


def _numbers(value: object) -> list[bytes]:
    """Everything that a patient consists of but its functions, in order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = [_numbers(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "loss"]
        return [part for several in found for part in several]
    if isinstance(value, tuple):
        return [part for one in value for part in _numbers(one)]
    return [value.tobytes()] if isinstance(value, np.ndarray) else [repr(value).encode()]


def test_a_patient_does_not_depend_on_the_others() -> None:
    alone = _numbers(draw_patient(5, 7))
    for subject in range(1, 7):
        draw_patient(5, subject)
    assert _numbers(draw_patient(5, 7)) == alone
    assert _numbers(draw_patient(5, 8)) != alone
    assert _numbers(draw_patient(6, 7)) != alone


def test_streams_of_random_numbers_do_not_disturb_each_other() -> None:
    patient = draw_patient(5, 7)
    first = patient.rng(3).random(4)
    patient.rng(4).random(100)
    assert_array_equal(patient.rng(3).random(4), first)
    others = [patient.rng(4), patient.rng(3, 1), draw_patient(5, 8).rng(3), draw_patient(6, 7).rng(3)]
    assert not any(np.allclose(rng.random(4), first) for rng in others)


@pytest.mark.parametrize("ef", [0.06, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("group", GROUPS)
def test_group_and_ejection_fraction_asked_for(group: Group, ef: float) -> None:
    for subject in (1, 2):
        patient = draw_patient(9, subject, group, ef)
        assert patient.group == group
        assert _volumes(patient)[1] == pytest.approx(ef, abs=1e-9)


@pytest.mark.parametrize("ef", [1.2, -0.1, 0.9, 45.0])
def test_an_impossible_ejection_fraction_is_refused(ef: float) -> None:
    with pytest.raises(UsageError, match=rf"ejection fraction {100 * ef:g} %: expected 5 to 85 %"):
        draw_patient(0, 1, ef=ef)


def test_a_known_ejection_fraction_changes_the_motion_but_not_who_the_patient_is() -> None:
    drawn, asked = draw_patient(9, 3, "infarct"), draw_patient(9, 3, "infarct", 0.45)
    assert drawn.identity == asked.identity
    assert _numbers(drawn.heart.lv) == _numbers(asked.heart.lv)
    assert_array_equal(drawn.turn, asked.turn)


def test_groups_are_drawn_in_their_shares() -> None:
    n = 50
    drawn = [draw_patient(1, subject).group for subject in range(1, n + 1)]
    for group, share in zip(GROUPS, SHARES, strict=True):
        assert drawn.count(group) == pytest.approx(n * share, abs=4 * np.sqrt(n * share * (1 - share)))


def test_groups_meet_their_definition(groups: dict[Group, list[VirtualPatient]]) -> None:
    """Bernard et al. 2018, table of the five groups."""
    for patient in groups["normal"]:
        assert _volumes(patient)[1] > 0.5
        assert _thickest_mm(patient) < 12
        assert not patient.heart.disease.scars
        assert not patient.heart.disease.weak
        assert not _has_large_or_weak_right_ventricle(patient)
    for patient in groups["infarct"]:
        assert _volumes(patient)[1] < 0.4
        assert 1 <= len(patient.heart.disease.scars) <= 2
    for patient in groups["dilated"]:
        edv, ef = _volumes(patient)
        assert ef < 0.4
        assert edv / patient.identity.bsa_m2 > 100
        assert _thickest_mm(patient) < 12
    for patient in groups["hypertrophic"]:
        assert _volumes(patient)[1] > 0.55
        assert _thickest_mm(patient) > THICKNESS_MM
        assert patient.heart.quadrature.wall_ml * DENSITY_G_ML / patient.identity.bsa_m2 > 110
    for patient in groups["rv"]:
        assert _has_large_or_weak_right_ventricle(patient)


def test_healthy_hearts_have_normal_volumes() -> None:
    drawn = [draw_patient(10, subject, "normal") for subject in range(1, 41)]
    for sex, edv, mass in (("M", 160.0, 134.0), ("F", 132.0, 98.0)):
        hearts = [patient for patient in drawn if patient.identity.sex == sex]
        assert len(hearts) > 10
        error = 1 / np.sqrt(len(hearts))
        assert np.mean([_volumes(p)[0] for p in hearts]) == pytest.approx(edv, abs=3 * 27 * error)
        grams = [p.heart.quadrature.wall_ml * DENSITY_G_ML for p in hearts]
        assert np.mean(grams) == pytest.approx(mass, abs=3 * 21 * error)
        assert np.mean([_volumes(p)[1] for p in hearts]) == pytest.approx(0.67, abs=3 * 0.05 * error)


def test_right_ventricle_pumps_what_the_left_does_in_health(groups: dict[Group, list[VirtualPatient]]) -> None:
    for patient in groups["normal"]:
        (left, left_ef), (right, right_ef) = _volumes(patient), _right(patient)
        assert right * right_ef == pytest.approx(left * left_ef, rel=0.01)


def test_the_heart_lies_as_hearts_do(patients: list[VirtualPatient]) -> None:
    for patient in patients:
        turn, lv = patient.turn, patient.heart.lv
        assert_allclose(turn.T @ turn, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)
        to_apex = -turn[:, 2]
        assert np.all(to_apex * [-1, 1, -1] > 0.2)  # RAS: left, anterior, inferior
        to_right_ventricle = turn[:, 0]
        assert np.all(to_right_ventricle[:2] > 0.2)  # right and anterior of the left one
        assert turn[1, 1] > 0  # the anterior wall lies in front,
        assert turn[2, 1] > 0.5  # and above the inferior wall
        middle = patient.apex_mm + turn @ [0.0, 0.0, lv.base_z / 2]
        assert_allclose(middle, 0, atol=1e-9)
        assert np.abs(patient.heart.rv.angle) < 0.6


def test_points_of_the_heart_are_found_in_its_frame(patients: list[VirtualPatient]) -> None:
    for patient in patients[::20]:
        local = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 30.0], [0.0, -5.0, 80.0]])
        assert_allclose(patient.to_heart(patient.apex_mm + local @ patient.turn.T), local, atol=1e-12)


def test_beats_and_bodies_are_possible(patients: list[VirtualPatient]) -> None:
    for patient in patients:
        assert 550 <= patient.cycle.beat_ms <= 1350
        assert 0.25 < patient.cycle.systole_ms / patient.cycle.beat_ms < 0.5  # about a third
        assert patient.field_t in (1.5, 3.0)
        assert 145 < patient.identity.height_cm < 205
        assert 35 < patient.identity.weight_kg < 160
        assert 18 <= patient.identity.age_years < 90
        assert EF_LIMITS[0] < _volumes(patient)[1] < EF_LIMITS[1]
    assert {p.field_t for p in patients} == {1.5, 3.0}
    assert {p.identity.sex for p in patients} == {"M", "F"}


def test_ischaemia_lowers_flow_where_it_is(patients: list[VirtualPatient]) -> None:
    ischaemic = [patient for patient in patients if patient.heart.disease.ischaemic]
    assert 2 < len(ischaemic) < 0.6 * len(patients)
    for patient in patients:
        stress = patient.perfusion.stress
        assert (stress.min() < 0.6 * stress.max()) == bool(patient.heart.disease.ischaemic)
