import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.plane import FINE, LONG_AXIS, Plane, long_axis, short_axis

GAP_MM = 9.0
OBLIQUE = Plane(
    centre=np.array([4.0, -3.0, 12.0]), along_y=np.array([1.0, 2.0, 2.0]) / 3, along_x=np.array([2.0, 1.0, -2.0]) / 3,
    fov=320.0, thickness=8.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def patients() -> list[VirtualPatient]:
    groups = ("normal", "infarct", "dilated", "hypertrophic")
    return [draw_patient(7, subject, group) for subject in (1, 2) for group in groups]


def _stack(
    patient: VirtualPatient, n: int = 0, gap: float | None = GAP_MM, spin: float = 0.0, offset: float = 0.5
) -> tuple[list[Plane], float]:
    return short_axis(patient, n, fov=330.0, thickness=8.0, gap=gap, spin=spin, offset=offset)


def _index(affine: np.ndarray, ras: np.ndarray) -> np.ndarray:
    """Voxel (x, y, z) where a point lies."""
    return np.linalg.solve(affine, np.r_[ras, 1.0])[:3]


@pytest.mark.parametrize("offset", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("n", "gap"), [(0, 8.0), (0, 11.5), (8, None), (14, None)])
def test_short_axis_stack_covers_the_ventricle_in_equal_steps(
    patients: list[VirtualPatient], n: int, gap: float | None, offset: float
) -> None:
    for patient in patients:
        planes, step = _stack(patient, n, gap, offset=offset)
        assert step == (gap or step)
        assert len(planes) == (n or len(planes))
        axis, q = patient.turn[:, 2], patient.heart.quadrature
        heights = np.array([(plane.centre - patient.apex_mm) @ axis for plane in planes])
        assert_allclose(np.diff(heights), step)
        assert_allclose([plane.centre - patient.apex_mm for plane in planes], heights[:, None] * axis, atol=1e-9)
        filled = q.z[((q.cavity + q.wall) > 0).any(0)]
        assert heights[0] - step / 2 <= filled.min()
        assert heights[-1] + step / 2 >= filled.max()
        cavity = q.z[(q.cavity > 0).any(0)]
        assert np.abs(heights[:, None] - cavity).min(0).max() <= step / 2  # none of it falls between the slices
        assert heights[-1] < patient.heart.lv.top_z + step  # and not many lie beyond


def test_offset_moves_the_stack_within_half_a_gap(patients: list[VirtualPatient]) -> None:
    first = [_stack(patients[0], offset=offset)[0][0].centre for offset in (0.0, 1.0)]
    assert_allclose(first[1] - first[0], patients[0].turn[:, 2] * GAP_MM / 2)


def test_short_axis_has_the_septum_on_the_left_and_the_anterior_wall_above(patients: list[VirtualPatient]) -> None:
    for patient in patients:
        plane = _stack(patient)[0][3]
        affine = plane.affine(128, GAP_MM)
        middle = _index(affine, plane.centre)
        assert_allclose(middle, [64, 64, 0], atol=1e-9)
        septum = _index(affine, plane.centre + 30 * patient.turn[:, 0])
        anterior = _index(affine, plane.centre + 30 * patient.turn[:, 1])
        assert septum[0] < middle[0]
        assert anterior[1] < middle[1]  # rows are counted from above
        assert_allclose(septum[1:], middle[1:], atol=1e-9)
        next_slice = _index(affine, plane.centre + GAP_MM * patient.turn[:, 2])
        assert_allclose(next_slice, [64, 64, 1], atol=1e-9)  # from the apex to the base


def test_spin_turns_the_image_about_the_axis(patients: list[VirtualPatient]) -> None:
    patient = patients[0]
    plain, turned = (_stack(patient, spin=spin)[0][2] for spin in (0.0, 0.4))
    assert_allclose(turned.normal, plain.normal, atol=1e-12)
    assert_allclose(turned.centre, plain.centre)
    assert turned.along_x @ plain.along_x == pytest.approx(np.cos(0.4))
    assert turned.along_y @ turned.along_x == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("matrix", [64, 80, 160, FINE])
def test_affine_and_points_agree(matrix: int) -> None:
    affine, gap = OBLIQUE.affine(matrix, 10.0), 10.0
    step = FINE // matrix
    ix = np.arange(matrix)
    fine = FINE // 2 + step * (ix - matrix // 2)  # the same place on the rendering grid
    for i in (0, matrix // 2, matrix - 1):
        columns = OBLIQUE.points(np.full(matrix, fine[i]), fine, 0.0)
        voxels = np.stack([ix, np.full(matrix, i), np.zeros(matrix), np.ones(matrix)])
        assert_allclose(columns, (affine @ voxels)[:3].T, atol=1e-9)
    assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [320 / matrix, 320 / matrix, gap])
    assert np.linalg.det(affine[:3, :3]) > 0


def test_depth_is_counted_in_half_thicknesses_along_the_normal() -> None:
    rows, columns = np.array([0, 7, FINE - 1]), np.array([5, 0, 100])
    flat, deep = (OBLIQUE.points(rows, columns, depth) for depth in (0.0, 1.0))
    assert_allclose(deep - flat, np.broadcast_to(4.0 * OBLIQUE.normal, (3, 3)), atol=1e-12)
    assert_allclose(OBLIQUE.normal, np.cross(OBLIQUE.along_x, OBLIQUE.along_y))
    assert_allclose(OBLIQUE.corner, OBLIQUE.points(np.array([0]), np.array([0]), 0.0)[0])
    assert OBLIQUE.pixel == 1.0


@pytest.mark.parametrize("view", list(LONG_AXIS))
def test_long_axis_views_hold_the_axis_apex_above(patients: list[VirtualPatient], view: str) -> None:
    for patient in patients:
        plane, lv = long_axis(patient, view, fov=330.0, thickness=6.0), patient.heart.lv
        axis = patient.turn[:, 2]
        for height in (0.0, lv.apex_wall, lv.base_z):
            assert abs((patient.apex_mm + height * axis - plane.centre) @ plane.normal) < 1e-9
        affine = plane.affine(128, 6.0)
        apex, base = (_index(affine, patient.apex_mm + height * axis) for height in (0.0, lv.base_z))
        assert apex[1] < base[1]
        assert apex[0] == pytest.approx(base[0])
        for one in (apex, base):
            assert np.all((one[:2] > 15) & (one[:2] < 112))  # the ventricle is in the middle of the image


def test_views_cut_what_they_are_named_after(patients: list[VirtualPatient]) -> None:
    for patient in patients[:2]:
        across = {view: long_axis(patient, view, fov=330.0, thickness=6.0).along_x @ patient.turn for view in LONG_AXIS}
        assert across["4ch"][0] < -0.9  # septum and RV on the left
        assert abs(across["2ch"][1]) > 0.9  # anterior and inferior wall
        assert len({tuple(np.round(a, 3)) for a in across.values()}) == 3
        for direction in across.values():
            assert_array_equal(np.round(direction[2], 9), 0)
