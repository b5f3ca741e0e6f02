import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.phantom.patient import Group, draw_patient
from cmrsr.phantom.truth import heart_truth
from cmrsr.physics.volumes import (
    DENSITY_G_ML,
    LV,
    MYOCARDIUM,
    RV,
    base_is_first,
    disc_areas,
    find_phases,
    ventricle,
    volumes_ml,
)
from tests.label_stacks import PIXEL_MM, held, label_stack


def beat(n: int, shift: int = 0) -> np.ndarray:
    """A smooth beat of n frames, ED at frame ``shift``, ES halfway."""
    return np.roll(100 + 40 * np.cos(2 * np.pi * np.arange(n) / n), shift)


def test_areas_are_counted_by_structure_and_slice() -> None:
    labels = np.zeros((2, 5, 6), np.uint8)
    labels[0, 0, :3], labels[0, 1, :2], labels[1, 2, :4] = RV, MYOCARDIUM, LV
    assert_array_equal(disc_areas(labels, 2.5), [[7.5, 5.0, 0.0], [0.0, 0.0, 10.0]])


def test_a_sphere_has_its_volume() -> None:
    z, y, x = np.meshgrid(np.arange(-36, 37, 4), np.arange(-40, 41), np.arange(-40, 41), indexing="ij")
    labels = np.where(x**2 + y**2 + z**2 < 30**2, LV, 0).astype(np.uint8)
    assert volumes_ml(disc_areas(labels, 1.0), 4.0)[2] == pytest.approx(4 / 3 * np.pi * 27, rel=0.01)


def test_volumes_of_a_beat_come_frame_by_frame() -> None:
    areas = np.random.default_rng(0).uniform(0, 2000, (5, 9, 3))
    volumes = volumes_ml(areas, 10.0)
    assert volumes.shape == (5, 3)
    assert_allclose(volumes[3], volumes_ml(areas[3], 10.0))
    assert_allclose(volumes[3, 1], areas[3, :, 1].sum() / 100)


@pytest.mark.parametrize("n", [8, 11, 16, 25, 30])
@pytest.mark.parametrize("shift", [0, 1, 5, 7])
def test_phases_turn_with_the_beat(n: int, shift: int) -> None:
    ed, es = find_phases(beat(n, shift))
    assert ed == shift
    assert es in ((shift + n // 2) % n, (shift + (n + 1) // 2) % n)


@pytest.mark.parametrize(("frame", "factor"), [(9, 0.0), (15, 0.2), (6, 2.5)])
def test_a_frame_segmented_badly_is_no_phase(frame: int, factor: float) -> None:
    curve = beat(24)
    curve[frame] *= factor
    assert frame in (curve.argmin(), curve.argmax())
    assert find_phases(curve) == (0, 12)


def test_few_phases_are_taken_as_they_are() -> None:
    assert find_phases(np.array([50.0, 120.0])) == (1, 0)
    assert find_phases(np.array([80.0])) == (0, 0)
    assert find_phases(np.array([100.0, 20.0, 99.0, 100.5, 98.0])) == (3, 1)


def test_ventricle_is_what_it_says() -> None:
    one = ventricle(np.array([120.0, 48.0, 90.0]), 0, 1)
    assert (one.edv_ml, one.esv_ml, one.sv_ml) == (120, 48, 72)
    assert one.ef_percent == pytest.approx(60)
    assert np.isnan(ventricle(np.zeros(3), 0, 0).ef_percent)
    filled = ventricle(np.array([90.0, 120.0]), 0, 1)
    assert np.isnan([filled.sv_ml, filled.ef_percent]).all()
    assert (filled.edv_ml, filled.esv_ml) == (90.0, 120.0)
    assert ventricle(np.array([90.0]), 0, 0).ef_percent == 0.0  # a single phase


@pytest.mark.parametrize(
    ("subject", "group", "gap_mm"), [(1, "normal", 8.0), (2, "dilated", 10.0), (3, "hypertrophic", 8.0)]
)
def test_summation_of_discs_meets_the_body(subject: int, group: Group, gap_mm: float) -> None:
    truth = heart_truth(draw_patient(77, subject, group))
    volumes = volumes_ml(np.stack([disc_areas(t, PIXEL_MM**2) for t in label_stack(subject, group, gap_mm)]), gap_mm)
    lv = ventricle(volumes[:, 2], 0, 1)
    assert lv.edv_ml == pytest.approx(truth["lv"]["edv_ml"], abs=2.5)
    assert lv.esv_ml == pytest.approx(truth["lv"]["esv_ml"], abs=2.5)
    assert lv.ef_percent == pytest.approx(truth["lv"]["ef_percent"], abs=1.0)
    assert volumes[0, 1] * DENSITY_G_ML == pytest.approx(truth["lv"]["mass_g"], abs=4.0)


@pytest.mark.parametrize(("subject", "group"), [(1, "normal"), (2, "dilated"), (3, "hypertrophic")])
def test_the_base_is_found_whichever_way_the_stack_lies(subject: int, group: Group) -> None:
    areas = np.stack([disc_areas(t, 1.0)[:, 2] for t in label_stack(subject, group)])
    inside = held(label_stack(subject, group))
    for cut in (slice(None), slice(inside[0], inside[-1] + 1), slice(0, inside[-1] - 1)):  # with and without the base
        assert not base_is_first(*areas[:, cut])
        assert base_is_first(*areas[:, cut][:, ::-1])


def test_no_base_in_a_slice_or_none() -> None:
    assert not base_is_first(np.array([0.0, 900.0, 0.0]), np.zeros(3))
    assert not base_is_first(np.zeros(3), np.zeros(3))
