from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.chest import (
    AIR,
    AORTA,
    BODY,
    FAT_LAYER,
    INNER_FAT,
    LIVER,
    LUNG,
    MUSCLE_LAYER,
    RIBS,
    SKIN,
    SPINE,
    TEXTURE_MM,
    TEXTURE_SIZE,
    TEXTURES,
    Chest,
    draw_background,
    draw_chest,
    texture_at,
)
from cmrsr.phantom.heart import N_HEART, STRUCTURES, WALL, wall_parts
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.plane import DEPTHS, FINE, Plane
from cmrsr.phantom.tissue import BLOOD_LATE_T1, KINDS, SCAR_LATE_T1, SCAR_T1_RISE_MS, TISSUES, Supply, draw_materials

N_LEAVES = 200
RIGHT, FRONT, UP = np.eye(3)
MIDDLE = FINE // 2


@pytest.fixture(scope="module")
def patients() -> list[VirtualPatient]:
    return [draw_patient(12, subject) for subject in range(1, 7)]


@pytest.fixture(scope="module")
def chests(patients: list[VirtualPatient]) -> list[Chest]:
    return [draw_chest(patient, N_LEAVES) for patient in patients]


def _axial(height: float, fov: float = 480.0) -> Plane:
    """A transverse plane, the patient's right at the left of the image and the front above."""
    return Plane(centre=height * UP, along_y=-FRONT, along_x=-RIGHT, fov=fov, thickness=6.0)


def _points(plane: Plane) -> NDArray[np.float64]:
    rows, columns = (g.ravel() for g in np.indices((FINE, FINE)))
    return plane.points(rows, columns, DEPTHS[1]).reshape(FINE, FINE, 3)


def _still(chest: Chest) -> Chest:
    """Without the warp, which moves every border by some millimetres."""
    return replace(chest, warp=replace(chest.warp, amplitude=0 * chest.warp.amplitude))


def test_the_same_patient_has_the_same_chest_and_another_patient_another(patients: list[VirtualPatient]) -> None:
    a, b, other = (draw_chest(patient, N_LEAVES) for patient in (patients[0], patients[0], patients[1]))
    plane = _axial(0.0)
    (labels, texture), (again, texture_again) = draw_background(a, plane), draw_background(b, plane)
    assert labels.tobytes() == again.tobytes()
    assert texture.tobytes() == texture_again.tobytes()
    assert draw_background(other, plane)[0].tobytes() != labels.tobytes()
    assert a.materials.t1_ms.tobytes() == b.materials.t1_ms.tobytes()


def test_background_holds_the_chest_and_never_the_heart(chests: list[Chest]) -> None:
    for chest in chests:
        labels, texture = draw_background(chest, _axial(10.0))
        assert labels.shape == texture.shape == (len(DEPTHS), FINE, FINE)
        assert labels.min() >= N_HEART
        assert labels.max() < len(chest.materials.rho)
        assert chest.first_branch + len(chest.branches.reach) == len(chest.materials.rho)
        assert (labels[0] != labels[2]).mean() < 0.6  # a few millimetres apart it is one chest


def test_from_the_air_inwards_come_skin_fat_muscle_and_the_cage(chests: list[Chest]) -> None:
    order = [AIR, SKIN, FAT_LAYER, MUSCLE_LAYER, RIBS, INNER_FAT]
    for chest in chests:
        plane = _axial(0.0, 560.0)
        labels = draw_background(_still(chest), plane)[0][1] - N_HEART
        row = int(np.rint(MIDDLE - chest.middle[1] / plane.pixel))  # through the torso's axis
        met = labels[row, : int(MIDDLE - chest.middle[0] / plane.pixel)]
        rank = [{MUSCLE_LAYER: 3, RIBS: 3}.get(int(one), order.index(one)) for one in met if one in order]
        assert rank == sorted(rank)
        assert met[0] == AIR
        assert {SKIN, FAT_LAYER, INNER_FAT} < set(met)
        width = (np.isin(labels[row], [AIR], invert=True)).sum() * plane.pixel
        assert width == pytest.approx(2 * chest.half_axes[0], abs=2 * plane.pixel)


def test_organs_lie_where_they_belong(chests: list[Chest]) -> None:
    for chest in chests:
        plane = _axial(0.0)
        points, labels = _points(plane), draw_background(_still(chest), plane)[0][1] - N_HEART
        middle = points[labels != AIR].mean(0)
        spine, aorta = points[labels == SPINE].mean(0), points[labels == AORTA].mean(0)
        assert spine[1] < middle[1] - 20  # behind
        assert abs(spine[0] - middle[0]) < 15
        assert aorta[0] < spine[0]  # the descending aorta runs on the left of the spine
        assert (labels == AORTA).sum() * plane.pixel**2 == pytest.approx(np.pi * chest.aorta[2] ** 2, rel=0.1)
        low = _axial(chest.diaphragm[0] - 20)
        below, at = draw_background(_still(chest), low)[0][1] - N_HEART, _points(low)
        assert at[below == LIVER][:, 0].mean() > at[below != AIR][:, 0].mean()  # on the right
        assert not (labels == LIVER).any() or chest.diaphragm[0] + chest.diaphragm[1] > 0
        high = draw_background(_still(chest), _axial(55.0))[0][1] - N_HEART
        assert not (high == LIVER).any()


def test_lungs_are_filled_as_drawn(chests: list[Chest]) -> None:
    shares = []
    for filled in (0.0, 0.5, 1.0):
        labels = draw_background(replace(chests[0], filled=filled), _axial(30.0))[0] - N_HEART
        shares.append((labels == LUNG).mean())
    assert shares[0] > shares[1] > shares[2] == 0
    assert shares[0] > 0.15


def test_leaves_fill_the_clutter(chests: list[Chest]) -> None:
    chest = replace(chests[0], filled=1.0)
    labels = draw_background(chest, _axial(0.0))[0]
    leaves = labels[(labels >= chest.first_leaf) & (labels < chest.first_branch)]
    assert len(np.unique(leaves)) > 40
    assert labels.max() >= chest.first_leaf


@pytest.mark.parametrize("height", [-60.0, 0.0])
def test_any_plane_cuts_the_same_chest(chests: list[Chest], height: float) -> None:
    """Two planes through one line: everything but the corners of boxes, which belong to the cut, must agree."""
    for chest in chests:
        round_ = replace(
            _still(chest), leaves=replace(chest.leaves, box=np.zeros_like(chest.leaves.box)),
            branches=replace(chest.branches, box=np.zeros_like(chest.branches.box)),
        )  # fmt: skip
        axial = _axial(height)
        tilted = replace(axial, along_y=-(0.6 * FRONT + 0.8 * UP))
        for one, least in ((round_, 0.99), (chest, 0.75)):
            a, b = (draw_background(one, plane)[0][1, MIDDLE] for plane in (axial, tilted))
            assert (a == b).mean() >= least


def test_textures_have_unit_size_differ_by_tissue_and_repeat(chests: list[Chest]) -> None:
    chest, rng = chests[0], np.random.default_rng(0)
    points = rng.uniform(-200, 200, (20000, 3))
    values = [texture_at(chest, points, np.full(20000, label)) for label in range(len(TEXTURES))]
    assert_allclose(np.std(values, axis=1), 1, atol=0.05)
    assert np.abs(np.corrcoef(values) - np.eye(len(TEXTURES))).max() < 0.1
    period = TEXTURE_SIZE * TEXTURE_MM
    assert_array_equal(texture_at(chest, points + np.array([period, 0, -period]), np.zeros(20000, int)), values[0])
    step = texture_at(chest, points + np.array([TEXTURE_MM, 0, 0]), np.zeros(20000, int))
    assert np.corrcoef(step, values[0])[0, 1] > 0.5  # it has a grain


def test_a_patient_is_made_of_what_its_tissues_allow(patients: list[VirtualPatient], chests: list[Chest]) -> None:
    for patient, chest in zip(patients, chests, strict=True):
        m, strong = chest.materials, int(patient.field_t > 2)
        names = [kind for _, kind in STRUCTURES]
        names += ["scar" if one else "myocardium" for one in wall_parts()[2]]
        names += list(BODY)
        for i, kind in enumerate(names):
            tissue = TISSUES[kind]
            assert tissue.rho[0] <= m.rho[i] <= tissue.rho[1]
            assert tissue.t2_ms[strong][0] <= m.t2_ms[i] <= tissue.t2_ms[strong][1]
            assert tissue.texture[0] <= m.texture[i] <= tissue.texture[1]
            assert m.supply[i] == tissue.supply
            if kind != "scar":
                assert tissue.t1_ms[strong][0] <= m.t1_ms[i] <= tissue.t1_ms[strong][1]
            assert 0 < m.late_t1_ms[i] <= m.t1_ms[i]
        assert set(m.supply[chest.first_branch :]) == {Supply.LUNG}


def test_one_patients_blood_and_myocardium_are_one_material_each(chests: list[Chest]) -> None:
    for chest in chests:
        m = chest.materials
        segment, layer, scar = wall_parts()
        wall = m.of(np.arange(WALL, N_HEART))
        assert_array_equal(wall.segment, segment)
        assert_array_equal(wall.layer, layer)
        assert_array_equal(wall.scar, scar)
        for field in (wall.rho, wall.t1_ms, wall.t2_ms, wall.late_t1_ms):
            assert np.ptp(field[scar]) == np.ptp(field[~scar]) == 0
        assert SCAR_T1_RISE_MS[0] <= wall.t1_ms[scar][0] - wall.t1_ms[~scar][0] <= SCAR_T1_RISE_MS[1]
        healthy = wall.late_t1_ms[~scar][0]
        assert SCAR_LATE_T1[0] <= wall.late_t1_ms[scar][0] / healthy <= SCAR_LATE_T1[1]
        blood = np.isin(np.array(m.supply), (Supply.RV_BLOOD, Supply.LV_BLOOD))
        assert np.all((m.late_t1_ms[blood] >= BLOOD_LATE_T1[0] * healthy - 1e-9))
        assert np.all(m.late_t1_ms[blood] <= BLOOD_LATE_T1[1] * healthy + 1e-9)
        assert len(np.unique(m.t1_ms[chest.first_leaf :])) > 100  # everything else varies from place to place


def test_materials_of_any_kinds_at_both_fields() -> None:
    kinds = np.repeat(np.arange(len(KINDS)), 5)
    none = np.zeros(kinds.size, np.int64)
    weak, strong = (
        draw_materials(np.random.default_rng(0), kinds, field, segment=none, layer=none) for field in (1.5, 3.0)
    )
    muscle = kinds == KINDS.index("myocardium")
    assert 950 <= weak.t1_ms[muscle].min() <= weak.t1_ms[muscle].max() <= 1000
    assert 1050 <= strong.t1_ms[muscle].min() <= strong.t1_ms[muscle].max() <= 1185
    assert_array_equal(weak.rho, strong.rho)
    no_muscle = draw_materials(np.random.default_rng(0), np.zeros(3, np.int64), 1.5, segment=none[:3], layer=none[:3])
    assert not no_muscle.rho.any()  # air alone
