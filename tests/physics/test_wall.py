import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.phantom.infarct import SEGMENT_NAMES as OF_PHANTOM
from cmrsr.phantom.patient import Group, draw_patient
from cmrsr.phantom.truth import heart_truth
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from cmrsr.physics.wall import N_SEGMENTS, SEGMENT_NAMES, SegmentWall, wall_by_segment
from tests.label_stacks import PIXEL_MM, label_stack

PIXEL = (1.5, 1.2)
LEFT = 180.0  # of the septum on a screen, degrees counter-clockwise from the right


def ring(thick: tuple[float, float] | None = None, *, septum: float = LEFT, wall: float = 8.0) -> np.ndarray:
    """Slices of a tube, cavity 20 mm, apex first, with an RV about ``septum``; 5 mm thicker between two angles."""
    y, x = np.indices((80, 100))
    y, x = (40 - y) * PIXEL[0], (x - 50) * PIXEL[1]
    r, angle = np.hypot(x, y), np.mod(np.rad2deg(np.arctan2(y, x)) - septum, 360)
    outer = 20 + wall + (5 * ((angle >= thick[0]) & (angle < thick[1])) if thick else 0)
    labels = np.where((r < 45) & (np.abs(angle - 180) > 180 - 50), RV, 0)
    labels = np.where(r < outer, MYOCARDIUM, labels)
    return np.repeat(np.where(r < 20, LV, labels)[None], 9, 0).astype(np.uint8)


def measured(labels: np.ndarray, *, base_first: bool = False, mirrored: bool = False) -> SegmentWall:
    return wall_by_segment(labels, labels, PIXEL, base_first=base_first, mirrored=mirrored)


def test_a_tube_is_as_thick_all_round() -> None:
    wall = measured(ring())
    assert_allclose(wall.ed_mm, 8, atol=0.25)
    assert_allclose(wall.thickening_percent, 0, atol=1e-9)


@pytest.mark.parametrize("septum", [LEFT, 100.0, 0.0, 215.0])
@pytest.mark.parametrize(
    ("sector", "segments"),
    # counter-clockwise on the screen from the septum's middle: inferoseptal, inferior, lateral, anterior
    [((0, 60), (3, 9)), ((60, 120), (4, 10)), ((120, 180), (5, 11)), ((180, 240), (6, 12)), ((240, 300), (1, 7)),
     ((300, 360), (2, 8)), ((45, 135), (15,)), ((135, 225), (16,)), ((225, 315), (13,))],
)  # fmt: skip
def test_segments_lie_where_the_heart_has_them(
    septum: float, sector: tuple[float, float], segments: tuple[int, ...]
) -> None:
    found = measured(ring(sector, septum=septum)).ed_mm
    thick = set(np.flatnonzero(found > 12) + 1)
    assert set(segments) <= thick
    if len(segments) == 2:
        assert {s for s in thick if s <= 12} == set(segments)


def test_the_same_heart_in_any_storage_order() -> None:
    labels = ring((250, 310))
    expected = measured(labels).ed_mm
    for axes, base_first, mirrored in (
        ((0, 2), True, False), ((2,), False, True), ((0,), True, True), ((1, 2), False, False),
    ):  # fmt: skip
        turned = measured(np.flip(labels, axes), base_first=base_first, mirrored=mirrored).ed_mm
        assert_allclose(turned, expected, atol=0.25)


def test_an_open_ring_and_a_missing_septum_are_left_out() -> None:
    labels = ring()
    labels[6:, :, 48:][labels[6:, :, 48:] == MYOCARDIUM] = 0  # half of the wall at the base
    wall = measured(labels)
    assert np.isnan(wall.ed_mm[:6]).all()
    assert np.isfinite(wall.ed_mm[6:]).all()
    assert np.isnan(measured(np.where(ring() == RV, 0, ring())).ed_mm).all()
    assert np.isnan(measured(np.zeros_like(labels)).ed_mm).all()


def test_a_slice_without_rv_takes_its_neighbours_septum() -> None:
    labels = ring((225, 315))
    labels[:2][labels[:2] == RV] = 0
    assert_allclose(measured(labels).ed_mm, measured(ring((225, 315))).ed_mm)


@pytest.mark.parametrize(("subject", "group"), [(1, "normal"), (2, "dilated"), (3, "hypertrophic")])
def test_virtual_walls_are_as_thick_as_they_are(subject: int, group: Group) -> None:
    segments = heart_truth(draw_patient(77, subject, group))["segments"][:N_SEGMENTS]
    ed, es = label_stack(subject, group)
    wall = wall_by_segment(ed, es, (PIXEL_MM, PIXEL_MM), base_first=False, mirrored=False)
    for found, name in ((wall.ed_mm, "wall_ed_mm"), (wall.es_mm, "wall_es_mm")):
        true = np.array([s[name] for s in segments])
        assert np.abs(found - true).mean() < 0.15 + 0.02 * true.mean()
        assert np.corrcoef(found, true)[0, 1] > 0.8


def test_names_are_those_of_the_virtual_heart() -> None:
    assert OF_PHANTOM[:N_SEGMENTS] == SEGMENT_NAMES
