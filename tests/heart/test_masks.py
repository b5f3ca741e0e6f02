import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cmrsr.heart.masks import clean_labels
from cmrsr.phantom.patient import Group
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from tests.label_stacks import PIXEL_MM, label_stack

PIXEL_MM2 = 2.0


def heart(n: int = 6) -> np.ndarray:
    """Slices of a tube with an RV on its left, clear of the borders."""
    y, x = np.indices((60, 80))
    r = np.hypot(y - 30, x - 45)
    labels = np.where(np.hypot(y - 30, x - 27) < 14, RV, 0)
    labels = np.where(r < 14, MYOCARDIUM, labels)
    return np.repeat(np.where(r < 9, LV, labels)[None], n, 0).astype(np.uint8)


def cleaned(labels: np.ndarray) -> np.ndarray:
    before = labels.copy()
    out = clean_labels(labels, PIXEL_MM2)
    assert out.dtype == np.uint8
    assert_array_equal(labels, before)  # the input is left alone
    assert_array_equal(clean_labels(out, PIXEL_MM2), out)  # clean is clean
    return out


@pytest.mark.parametrize(("subject", "group"), [(1, "normal"), (2, "dilated"), (3, "hypertrophic"), (4, "infarct")])
@pytest.mark.parametrize("phase", [0, 1])
def test_what_a_reader_drew_stays(subject: int, group: Group, phase: int) -> None:
    labels = label_stack(subject, group)[phase]
    out = clean_labels(labels, PIXEL_MM**2)
    assert (out != labels).sum() * PIXEL_MM**2 * 8 / 1000 < 0.6  # mL: slices with next to no cavity


def test_what_lies_elsewhere_goes() -> None:
    labels = heart()
    dirty = labels.copy()
    dirty[2, 2:8, 60:75], dirty[3, 50:57, 2:12], dirty[1, 4:7, 3:9] = MYOCARDIUM, LV, RV
    dirty[:2, 1:9, 62:70] = LV  # connected through slices
    assert_array_equal(cleaned(dirty), labels)


def test_speckle_goes_and_holes_close() -> None:
    labels = heart()
    rng = np.random.default_rng(0)
    noise = rng.random(labels.shape) < 0.02
    dirty = np.where(noise, rng.integers(0, 4, labels.shape), labels).astype(np.uint8)
    out = cleaned(dirty)
    for structure in (RV, MYOCARDIUM, LV):
        a, b = out == structure, labels == structure
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.985
        assert 2 * (a & b).sum() > ((dirty == structure) & b).sum() * 2


def test_papillary_muscles_are_cavity() -> None:
    labels = heart()
    dirty = labels.copy()
    dirty[:, 28:32, 44:47], dirty[3, 33:35, 47:49] = MYOCARDIUM, 0
    assert_array_equal(cleaned(dirty), labels)


def test_holes_in_the_wall_are_wall() -> None:
    labels = heart()
    dirty = labels.copy()
    dirty[2, 29:31, 56] = 0
    assert_array_equal(cleaned(dirty), labels)


@pytest.mark.parametrize(("share", "stays"), [(1 / 4, False), (1 / 2, True), (1.0, True)])
def test_the_base_ends_where_the_wall_does(share: float, stays: bool) -> None:
    labels = heart()
    y, x = np.indices(labels.shape[1:])
    beyond = np.abs(np.arctan2(y - 30, x - 45)) > np.pi * share
    labels[-1][(labels[-1] == MYOCARDIUM) & beyond] = 0
    assert (cleaned(labels)[-1] == LV).any() == stays


def test_a_slice_with_hardly_any_cavity_has_none() -> None:
    labels = heart()
    few = np.argwhere(labels[0] == LV)
    labels[0][labels[0] == LV] = MYOCARDIUM
    for n in (9, 10):  # 18 and 20 mm2
        dirty = labels.copy()
        middle = few[np.argsort(((few - few.mean(0)) ** 2).sum(1), kind="stable")[:n]]
        dirty[0][tuple(middle.T)] = LV
        assert (cleaned(dirty)[0] == LV).any() == (n == 10)
        assert (cleaned(dirty)[0] == MYOCARDIUM).any()


def test_the_cavity_is_one_run_of_slices_with_wall_beyond() -> None:
    labels = heart(9)
    labels[0][labels[0] == LV] = MYOCARDIUM  # the apical cap
    expected = labels.copy()
    expected[7:] = 0
    labels[7] = 0  # a gap: what lies beyond is not the heart's larger part
    assert_array_equal(cleaned(labels), expected)
    labels = heart(9)
    labels[6][labels[6] == LV] = MYOCARDIUM  # a gap of the cavity alone
    expected = labels.copy()
    expected[7:][expected[7:] != RV] = 0
    assert_array_equal(cleaned(labels), expected)


def test_the_rv_touches_the_lv_or_continues_itself() -> None:
    labels = heart()
    labels[:, 28:32, :][labels[:, 28:32, :] == RV] = 0  # two pieces in every slice
    labels[:, 29, 31] = RV
    out = cleaned(labels)
    above, below = (out[:, :29] == RV).sum(), (out[:, 32:] == RV).sum()
    assert (above == 0) != (below == 0)
    labels = heart()
    expected = labels.copy()
    labels[:, 2:58, 60:78] = RV  # larger, but elsewhere
    labels[:, 2:58, 60:62] = 0
    assert_array_equal(cleaned(labels), expected)
    labels = heart()
    labels[-1][labels[-1] != RV] = 0  # in the most basal slice only the RV is left
    assert_array_equal(cleaned(labels), labels)
    labels[-1] = np.roll(labels[-1], -25, axis=1)
    assert not (cleaned(labels)[-1] == RV).any()


def test_it_does_not_matter_how_a_stack_is_stored() -> None:
    rng = np.random.default_rng(1)
    labels = np.where(rng.random((6, 60, 80)) < 0.05, rng.integers(0, 4, (6, 60, 80)), heart()).astype(np.uint8)
    out = cleaned(labels)
    for axis in range(3):
        assert_array_equal(np.flip(cleaned(np.ascontiguousarray(np.flip(labels, axis))), axis), out)


def test_nothing_comes_of_nothing() -> None:
    assert not cleaned(np.zeros((3, 20, 20), np.uint8)).any()
    wall = heart()
    wall[wall == LV] = MYOCARDIUM
    assert not cleaned(wall).any()
    assert not cleaned(np.where(heart() == RV, RV, 0).astype(np.uint8)).any()


def test_a_larger_rv_that_was_called_lv_is_the_rv() -> None:
    """The piece that the wall encloses, above its neighbour, is the LV, however large the one beside it is."""
    y, x = np.indices((64, 64)) - 32
    labels = np.zeros((5, 64, 64), np.uint8)
    labels[:, np.hypot(y, x - 22) < 15] = LV  # the RV, mistaken
    labels[0, np.hypot(y, x - 22) < 15] = RV
    labels[:, np.hypot(y, x) < 12] = MYOCARDIUM
    labels[:, np.hypot(y, x) < 7] = LV
    cleaned = clean_labels(labels, 2.25)
    wanted = np.where((labels[1:2] == LV) & (np.hypot(y, x) >= 12), RV, labels[1:2])
    assert_array_equal(cleaned, np.broadcast_to(wanted, labels.shape))
