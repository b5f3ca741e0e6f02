from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.heart import Heart
from cmrsr.phantom.infarct import (
    MBF_REST,
    MBF_STRESS,
    N_SEGMENTS,
    SEGMENT_NAMES,
    TERRITORIES,
    TERRITORY_ANGLE,
    Disease,
    Patch,
    Scar,
    Weakness,
    aha_segment,
    draw_hibernation,
    draw_perfusion,
    draw_scar,
)
from cmrsr.phantom.patient import draw_patient

Array = NDArray[np.float64]
# Cerqueira 2002, figure 4, seen from the apex: the segment's name by the angle of its middle, 0 septal, 90 anterior.
SIX = {90: "anterior", 30: "anteroseptal", 330: "inferoseptal", 270: "inferior", 210: "inferolateral",
       150: "anterolateral"}  # fmt: skip
FOUR = {90: "anterior", 0: "septal", 270: "inferior", 180: "lateral"}
ROUND = Scar(
    territory="LAD", patch=Patch(angle=1.0, width=0.8, z=40.0, height=20.0), transmurality=0.6, ragged=np.zeros((0, 4))
)


@pytest.fixture(scope="module")
def heart() -> Heart:
    return draw_patient(4, 1, "normal").heart


@pytest.fixture(scope="module")
def grid(heart: Heart) -> tuple[Array, Array]:
    """Material angles (n, 1) and heights (m,) over the whole wall."""
    return np.linspace(0, 2 * np.pi, 180, endpoint=False)[:, None], np.linspace(0.5, heart.lv.base_z, 150)


@pytest.mark.parametrize(("level", "ring"), [(0.85, "basal"), (0.5, "mid"), (0.15, "apical")])
def test_segments_are_named_by_where_they_lie(heart: Heart, level: float, ring: str) -> None:
    lv = heart.lv
    z = np.array(lv.apex_wall + level * (lv.base_z - lv.apex_wall))
    around, width = (FOUR, 90) if ring == "apical" else (SIX, 60)
    for middle, name in around.items():
        for angle in (middle - 0.49 * width, middle, middle + 0.49 * width, middle - 720):
            found = int(aha_segment(lv, np.deg2rad(np.array(float(angle))), z))
            assert SEGMENT_NAMES[found - 1] == f"{ring} {name}"


def test_numbers_of_the_first_sixteen_run_from_anterior_by_the_septum_and_the_cap_is_17(heart: Heart) -> None:
    assert SEGMENT_NAMES[:6] == tuple(f"basal {name}" for name in SIX.values())
    assert SEGMENT_NAMES[6:12] == tuple(f"mid {name}" for name in SIX.values())
    assert SEGMENT_NAMES[12:] == (*(f"apical {name}" for name in FOUR.values()), "apex")
    theta = np.linspace(0, 6, 20)
    assert_array_equal(aha_segment(heart.lv, theta, np.full(20, 0.9 * heart.lv.apex_wall)), 17)


def test_all_segments_are_there_in_thirds(heart: Heart, grid: tuple[Array, Array]) -> None:
    segment = aha_segment(heart.lv, *grid)
    assert_array_equal(np.unique(segment), np.arange(1, N_SEGMENTS + 1))
    lv, (_, z) = heart.lv, grid
    for rows, low in ((range(13, 17), 0.0), (range(7, 13), 1 / 3), (range(1, 7), 2 / 3)):
        inside = z[np.isin(segment[0], rows)]
        span = lv.base_z - lv.apex_wall
        assert_allclose((inside.min(), inside.max()), lv.apex_wall + span * np.array([low, low + 1 / 3]), atol=1.0)


def test_territories_share_out_the_segments_and_point_at_them(heart: Heart, grid: tuple[Array, Array]) -> None:
    assert sorted(s for segments in TERRITORIES.values() for s in segments) == list(range(1, N_SEGMENTS + 1))
    theta, _ = np.broadcast_arrays(*grid)
    segment = aha_segment(heart.lv, *grid)
    for name, segments in TERRITORIES.items():
        here = np.isin(segment, segments) & (segment != 17)
        middle = np.angle(np.exp(1j * theta[here]).mean())
        assert np.cos(middle - TERRITORY_ANGLE[name]) > np.cos(np.deg2rad(20))


def test_distance_from_a_patch() -> None:
    patch = ROUND.patch
    at_edge = patch.distance(np.array([1.8, 0.2, 1.0, 1.0, 1.0 + 2 * np.pi]), np.array([40.0, 40.0, 60.0, 20.0, 60.0]))
    assert_allclose(at_edge, 1)
    assert patch.distance(np.array(1.0), np.array(40.0)) == 0
    wider = patch.scaled(1.5).distance(np.array([1.0 + 1.2, 1.0]), np.array([40.0, 70.0]))
    assert_allclose(wider, 1)


def test_a_scar_is_full_in_the_middle_and_ends_at_its_edge() -> None:
    assert ROUND.extent(np.array(1.0), np.array(40.0)) == 0.6
    assert ROUND.extent(np.array(1.0), np.array(60.0)) == 0
    along = ROUND.extent(np.full(50, 1.0), np.linspace(40, 65, 50))
    assert np.all(np.diff(along) <= 0)
    half = 1.0 - 0.35 / 2  # of the way to the edge it is half as thick
    assert ROUND.extent(np.array(1.0), np.array(40 + 20 * half)) == pytest.approx(0.3)


def test_scars_add_up_to_the_thicker_and_losses_multiply() -> None:
    other = replace(ROUND, transmurality=0.9, patch=replace(ROUND.patch, angle=1.5))
    weak = [Weakness(patch=scar.patch, loss=loss) for scar, loss in ((ROUND, 0.5), (other, 0.8))]
    disease = Disease(scars=(ROUND, other), weak=tuple(weak))
    theta, z = np.linspace(0, 6, 40)[:, None], np.linspace(10, 80, 30)
    assert_array_equal(disease.scar_extent(theta, z), np.maximum(ROUND.extent(theta, z), other.extent(theta, z)))
    kept = (1 - weak[0].at(theta, z)) * (1 - weak[1].at(theta, z))
    assert_allclose(1 - disease.loss(theta, z), kept)
    for field in (Disease().scar_extent(theta, z), Disease().loss(theta, z)):
        assert field.shape == (40, 30)
        assert not field.any()


def test_weakness_is_all_there_in_the_middle_and_half_at_its_edge() -> None:
    weakness = Weakness(patch=ROUND.patch, loss=0.8)
    assert weakness.at(np.array(1.0), np.array(40.0)) == 0.8
    assert weakness.at(np.array(1.0), np.array(60.0)) == pytest.approx(0.4)
    assert weakness.at(np.array(1.0 + np.pi), np.array(90.0)) < 0.01
    far = weakness.at(np.array(4.0), np.array(1e6))
    assert np.isfinite(far)
    assert far < 1e-6


@pytest.mark.parametrize("territory", list(TERRITORIES))
def test_a_drawn_scar_lies_in_its_territory_and_costs_function_there(
    heart: Heart, grid: tuple[Array, Array], territory: str
) -> None:
    segment = aha_segment(heart.lv, *grid)
    area = heart.lv.endo(*grid)  # of the endocardium that a cell of the grid stands for, up to a constant
    inside, whole = 0.0, 0.0
    for seed in range(40):
        scar, weakness = draw_scar(np.random.default_rng(seed), heart.lv, territory)
        assert scar.territory == territory
        extent = scar.extent(*grid)
        assert 0 <= extent.min() <= extent.max() <= scar.transmurality <= 1
        assert extent.max() > 0.1
        inside += float((area * extent * np.isin(segment, TERRITORIES[territory])).sum())
        whole += float((area * extent).sum())
        loss = weakness.at(*grid)
        assert 0 <= loss.min() <= loss.max() <= 1
        # what is scarred squeezes less than the rest
        weight = area * extent
        assert (weight * loss).sum() / weight.sum() > loss[extent == 0].mean() + 0.1 * weakness.loss
    assert inside > 0.9 * whole


def test_a_thicker_scar_costs_more_function(heart: Heart) -> None:
    drawn = [draw_scar(np.random.default_rng(seed), heart.lv, "RCA") for seed in range(60)]
    thickness, loss = np.array([(scar.transmurality, weakness.loss) for scar, weakness in drawn]).T
    assert np.all(np.diff(loss[np.argsort(thickness)]) > 0)
    assert loss[thickness.argmax()] > 0.9
    assert 0.2 < loss.min() < 0.6


def test_hibernating_wall_keeps_most_of_its_function(heart: Heart) -> None:
    for seed in range(30):
        weakness = draw_hibernation(np.random.default_rng(seed), heart.lv, "LCX")
        assert 0 <= weakness.loss <= 0.5
        assert np.cos(weakness.patch.angle - TERRITORY_ANGLE["LCX"]) > 0.9


def test_flow_of_a_healthy_heart() -> None:
    drawn = [draw_perfusion(np.random.default_rng(seed), None) for seed in range(60)]
    for flow in drawn:
        assert flow.rest.shape == flow.stress.shape == (N_SEGMENTS, 2)
        assert np.ptp(flow.rest) == 0
        assert_array_equal(flow.stress[:, 0], flow.stress[:, 1])
        assert flow.stress.std() < 0.15 * flow.stress.mean()
        assert np.all(flow.stress / flow.rest > 2)  # coronary flow reserve
    assert np.mean([flow.rest.mean() for flow in drawn]) == pytest.approx(MBF_REST, rel=0.06)
    assert np.mean([flow.stress.mean() for flow in drawn]) == pytest.approx(MBF_STRESS, rel=0.08)


@pytest.mark.parametrize("territory", list(TERRITORIES))
def test_ischaemia_lowers_the_flow_of_its_territory_under_stress_most_at_the_endocardium(territory: str) -> None:
    hit_everywhere: set[int] = set()
    for seed in range(40):
        flow = draw_perfusion(np.random.default_rng(seed), territory)
        rows = np.array(TERRITORIES[territory]) - 1
        healthy = np.delete(flow.stress, rows, 0)
        hit = np.flatnonzero(flow.stress[:, 1] < 0.9 * flow.stress[:, 0])
        assert hit.size >= 1
        assert set(hit) <= set(rows)
        assert np.all(flow.stress[hit, 0] < healthy.min())
        assert np.all(flow.rest[hit] >= 0.8 * flow.rest.max())  # at rest there is little to see
        spared = np.delete(flow.stress, hit, 0)
        np.testing.assert_array_equal(spared[:, 0], spared[:, 1])
        hit_everywhere |= set(hit)
    assert hit_everywhere == set(rows)
