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
from cmrsr.phantom.tissue import (
    BLOOD_LATE_T1,
    KINDS,
    SCAR_LATE_T1,
    SCAR_T1_RISE_MS,
    TISSUES,
    Supply,
    draw_materials,
    redraw_materials,
)

N_LEAVES = 200
RIGHT, FRONT, UP = np.eye(3)
MIDDLE = FINE // 2


@pytest.fixture(scope="module")
def patients() -> list[VirtualPatient]:
    return [draw_patient(12, subject) for subject in range(1, 5)]


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


def test_sub_slices_lie_on_both_sides_of_the_plane(chests: list[Chest]) -> None:
    plane = _axial(-50.0)
    labels, texture = draw_background(chests[0], plane)
    for d in (0, 2):
        shift = DEPTHS[d] * plane.thickness / 2 * plane.normal
        beside, rough = draw_background(chests[0], replace(plane, centre=plane.centre + shift))
        assert (beside[1] == labels[d]).mean() > 0.999
        assert (rough[1] == texture[d]).mean() > 0.999
        assert (labels[1] != labels[d]).mean() > 0.01


def test_from_the_air_inwards_come_skin_fat_muscle_and_the_cage(chests: list[Chest]) -> None:
    rank = {AIR: 0, SKIN: 1, FAT_LAYER: 2, MUSCLE_LAYER: 3, RIBS: 3, INNER_FAT: 4}
    for chest in chests:
        plane = _axial(0.0, 560.0)
        labels = draw_background(_still(chest), plane)[0][1] - N_HEART
        row = labels[int(np.rint(MIDDLE - chest.middle[1] / plane.pixel))]  # through the torso's axis
        wall = row[: np.flatnonzero(row == INNER_FAT)[0] + 1]
        met = [rank[int(label)] for label in wall]
        assert met == sorted(met)
        assert set(met) == set(rank.values())
        body = np.flatnonzero(row != AIR)
        assert (body[-1] - body[0]) * plane.pixel == pytest.approx(2 * chest.half_axes[0], abs=2 * plane.pixel)


def test_organs_lie_where_they_belong(chests: list[Chest]) -> None:
    for chest in chests:
        deep = replace(_still(chest), half_axes=np.array([190.0, 150.0]))  # a body that holds its spine
        plane = _axial(0.0)
        points, labels = _points(plane), draw_background(deep, plane)[0][1] - N_HEART
        spine, aorta = points[labels == SPINE].mean(0), points[labels == AORTA].mean(0)
        assert spine[1] < chest.middle[1] - 20  # behind
        assert abs(spine[0] - chest.middle[0]) < 10
        assert aorta[0] < spine[0]  # the descending aorta runs on the left of the spine
        assert (labels == AORTA).sum() * plane.pixel**2 == pytest.approx(np.pi * chest.aorta[2] ** 2, rel=0.1)
        low = _axial(chest.diaphragm[0] - 20)
        below, at = draw_background(deep, low)[0][1] - N_HEART, _points(low)
        assert at[below == LIVER][:, 0].mean() > at[below != AIR][:, 0].mean()  # on the right
        high = draw_background(deep, _axial(55.0))[0][1] - N_HEART
        assert not (high == LIVER).any()


def test_lungs_are_filled_as_drawn(chests: list[Chest]) -> None:
    shares = []
    for filled in (0.0, 0.5, 1.0):
        labels = draw_background(replace(chests[0], filled=filled), _axial(30.0))[0] - N_HEART
        shares.append((labels == LUNG).mean())
    assert shares[0] > shares[1] > shares[2] == 0
    assert shares[0] > 0.05


def test_leaves_fill_the_clutter(chests: list[Chest]) -> None:
    chest = replace(chests[0], filled=1.0)
    labels = draw_background(chest, _axial(0.0))[0]
    leaves = labels[(labels >= chest.first_leaf) & (labels < chest.first_branch)]
    assert len(np.unique(leaves)) > 40
    assert labels.max() >= chest.first_leaf


@pytest.mark.parametrize("height", [-60.0, 0.0])
def test_any_plane_cuts_the_same_chest(chests: list[Chest], height: float) -> None:
    """Two planes through one line. The corners of boxes belong to the cut, and so does the warp of leaves within it."""
    agreement = []
    for chest in chests[:2]:
        bodies = {name: getattr(chest, name) for name in ("organs", "leaves", "branches")}
        solid = replace(
            _still(chest), **{name: replace(b, box=np.zeros_like(b.box)) for name, b in bodies.items()}
        )  # fmt: skip
        axial = _axial(height)
        tilted = replace(axial, along_y=-(0.6 * FRONT + 0.8 * UP))
        pairs = ([draw_background(one, plane)[0][1, MIDDLE] for plane in (axial, tilted)] for one in (solid, chest))
        agreement.append([(a == b).mean() for a, b in pairs])
    assert np.min(agreement, 0)[0] >= 0.99
    assert np.mean(agreement, 0)[1] >= 0.9


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
        wall = slice(WALL, N_HEART)
        assert_array_equal(m.segment[wall], segment)
        assert_array_equal(m.layer[wall], layer)
        assert_array_equal(m.scar[wall], scar)
        for field in (m.rho, m.t1_ms, m.t2_ms, m.late_t1_ms):
            assert np.ptp(field[wall][scar]) == np.ptp(field[wall][~scar]) == 0
        native, late = m.t1_ms[wall], m.late_t1_ms[wall]
        assert SCAR_T1_RISE_MS[0] <= native[scar][0] - native[~scar][0] <= SCAR_T1_RISE_MS[1]
        healthy = late[~scar][0]
        assert SCAR_LATE_T1[0] <= late[scar][0] / healthy <= SCAR_LATE_T1[1]
        blood = np.isin(m.supply, (Supply.RV_BLOOD, Supply.LV_BLOOD))
        assert np.all(m.late_t1_ms[blood] >= BLOOD_LATE_T1[0] * healthy - 1e-9)
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


def test_materials_are_taken_by_label(chests: list[Chest]) -> None:
    m, labels = chests[0].materials, np.array([300, 2, 2, N_HEART])
    some = m.take(labels)
    for name in ("rho", "t1_ms", "t2_ms", "late_t1_ms", "texture", "supply", "kind", "segment", "layer", "uptake"):
        assert_array_equal(getattr(some, name), getattr(m, name)[labels])


def test_a_sample_of_the_materials_stands_for_all(chests: list[Chest]) -> None:
    for chest in chests:
        sample = chest.sample
        assert sample.rho.size < 0.2 * chest.materials.rho.size + chest.first_leaf
        assert_array_equal(sample.t1_ms[:N_HEART], chest.materials.t1_ms[:N_HEART])
        clutter = sample.rho[chest.first_leaf :]
        everything = chest.materials.rho[chest.first_leaf :]
        assert clutter.mean() == pytest.approx(everything.mean(), abs=4 * everything.std() / np.sqrt(clutter.size))


def test_redrawn_materials_are_other_tissue_of_the_same_kinds(
    patients: list[VirtualPatient], chests: list[Chest]
) -> None:
    m = chests[0].materials
    again = redraw_materials(np.random.default_rng(1), m, patients[0].field_t)
    for name in ("kind", "segment", "layer", "scar", "supply"):
        assert_array_equal(getattr(again, name), getattr(m, name))
    assert np.mean(again.rho != m.rho) > 0.5
    for value in (again.t1_ms, again.rho, again.late_t1_ms):
        wall = value[WALL:N_HEART]
        assert len(np.unique(wall)) <= 2  # healthy and scar
