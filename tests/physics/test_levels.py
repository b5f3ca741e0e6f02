import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.phantom.patient import Group
from cmrsr.physics.levels import slice_levels
from cmrsr.physics.volumes import disc_areas
from tests.label_stacks import PIXEL_MM, label_stack

GAP_MM = 8.0
HEARTS: list[tuple[int, Group]] = [(1, "normal"), (2, "dilated"), (3, "hypertrophic")]
ED = np.array([0, 200, 700, 1100, 1300, 1400, 1200, 300, 0], float)  # from the apex on
ES = np.array([0, 0, 200, 400, 600, 700, 500, 0, 0], float)
MM = np.arange(len(ED)) * 10.0


def areas(subject: int, group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights and LV areas at ED and ES of a virtual stack, the apex first."""
    ed, es = (disc_areas(frame, PIXEL_MM**2)[:, 2] for frame in label_stack(subject, group))
    return np.arange(len(ed)) * GAP_MM, ed, es


def test_ends_lie_where_the_cavity_ends() -> None:
    found = slice_levels([5.0, 50.0, -20.0, 200.0], MM, ED, ES)
    assert found is not None
    assert found.base_up
    # half a gap before the first slice with cavity, and where from 1200 to 300 it falls through 700
    assert_allclose(found.level, [0, (50 - 5) / (60 + 10 * 5 / 9 - 5), 0, 1], atol=1e-9)


@pytest.mark.parametrize(("subject", "group"), HEARTS)
def test_levels_do_not_depend_on_how_the_stack_is_stored(subject: int, group: Group) -> None:
    mm, ed, es = areas(subject, group)
    at = np.array([20.0, 50.0, 75.0])
    upright = slice_levels(at, mm, ed, es)
    assert upright is not None
    assert upright.base_up
    assert (np.diff(upright.level) > 0).all()
    other = slice_levels(-at, -mm, ed, es)  # the same heart seen from the base
    assert other is not None
    assert not other.base_up
    assert_allclose(other.level, upright.level)
    order = np.random.default_rng(0).permutation(len(mm))
    mixed = slice_levels(at, mm[order], ed[order], es[order])
    assert mixed is not None
    assert_array_equal(mixed.level, upright.level)


def test_a_stack_that_ends_in_the_ventricle_reaches_half_a_gap_beyond() -> None:
    found = slice_levels([0.0, 30.0, 60.0], [0.0, 30.0, 60.0], [500.0, 1000.0, 1200.0], [100.0, 500.0, 600.0])
    assert found is not None
    assert_allclose(found.level, [1 / 6, 1 / 2, 5 / 6])


def test_two_slices_of_the_stack_say_nothing_but_three_of_the_series_do() -> None:
    few = np.array([0.0, 20.0]), np.array([900.0, 1000.0]), np.array([400.0, 500.0])
    at = np.array([0.0, 25.0, 50.0])
    assert slice_levels(at, *few) is None
    assert slice_levels(at[:2], *few, lv_mm2=np.array([600.0, 900.0])) is None
    found = slice_levels(at, *few, lv_mm2=np.array([1300.0, 1000.0, 400.0]))
    assert found is not None
    assert not found.base_up
    assert (np.diff(found.level) < 0).all()


def test_part_of_a_ventricle_is_not_taken_for_a_whole() -> None:
    assert slice_levels([8.0], [0.0, 8.0, 16.0], [900.0, 1000.0, 1100.0], [400.0, 450.0, 500.0]) is None
    assert slice_levels([8.0], MM, np.zeros_like(ED), np.zeros_like(ED)) is None
