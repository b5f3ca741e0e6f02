from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.heart import (
    AORTA,
    ATRIAL_WALL,
    FAT,
    LEFT_ATRIUM,
    LV_CAVITY,
    N_HEART,
    N_WALL,
    OUTSIDE,
    PAPILLARY,
    PULMONARY,
    RIGHT_ATRIUM,
    RV_CAVITY,
    RV_TRABECULA,
    RV_WALL,
    STRUCTURES,
    WALL,
    Heart,
    RightVentricle,
    rv_volume_ml,
    shape_rv,
    truth_of_labels,
    wall_label,
    wall_parts,
)
from cmrsr.phantom.infarct import aha_segment
from cmrsr.phantom.patient import GROUPS, draw_patient
from cmrsr.phantom.scan import LABELS

Array = NDArray[np.float64]
ACTIVATIONS = (0.0, 0.55, 1.0)


@pytest.fixture(scope="module")
def hearts() -> list[Heart]:
    """One of each group."""
    return [draw_patient(6, 1 + i, group).heart for i, group in enumerate(GROUPS)]


def _cartesian(r: Array, theta: Array, z: Array) -> Array:
    return np.stack([r * np.cos(theta), r * np.sin(theta), z], -1)


def _grid(heart: Heart, step: float) -> Array:
    """Points (x, y, z, 3) over both ventricles."""
    lv = heart.lv
    half = 1.35 * (lv.radius + 2 * lv.wall)
    right = half + 70
    axes = (np.arange(-half, right, step), np.arange(-1.6 * half, 1.6 * half, step), np.arange(0, lv.top_z + 20, step))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1) + 0.01


def test_wall_labels_are_decoded_as_they_are_made() -> None:
    segment, layer, scar = wall_parts()
    assert_array_equal(wall_label(segment, layer, scar), WALL + np.arange(N_WALL))
    assert len(set(zip(segment.tolist(), layer.tolist(), scar.tolist(), strict=True))) == N_WALL == N_HEART - WALL
    assert sorted(set(segment.tolist())) == list(range(1, 18))


def test_a_reader_draws_papillary_muscles_into_the_cavity_and_nothing_outside_the_ventricles() -> None:
    table = truth_of_labels(N_HEART + 5)
    named = {name: int(table[i]) for i, (name, _) in enumerate(STRUCTURES)}
    drawn = {"lv_cavity": LABELS["lv"], "papillary": LABELS["lv"], "rv_cavity": LABELS["rv"]}
    drawn["rv_trabecula"] = LABELS["rv"]
    assert named == {name: drawn.get(name, 0) for name, _ in STRUCTURES}
    _, _, scar = wall_parts()
    assert_array_equal(table[WALL:N_HEART], np.where(scar, LABELS["scar"], LABELS["myocardium"]))
    assert not table[N_HEART:].any()


@pytest.mark.parametrize("a", ACTIVATIONS)
def test_moved_material_points_carry_their_own_label(hearts: list[Heart], a: float) -> None:
    rng = np.random.default_rng(0)
    for heart in hearts:
        lv = heart.lv
        theta, z = rng.uniform(-np.pi, np.pi, 4000), rng.uniform(0.3, lv.top_z, 4000)
        endo, epi = lv.surfaces(theta, z)
        share = rng.uniform(0.001, 0.999, 4000)
        for inner, outer, in_cavity in ((0 * endo, endo, True), (endo, epi, False)):
            r = inner + share * (outer - inner)
            there = lv.below_valve(theta, z, r) & (outer - inner > 0.1)
            labels = heart.locate(_cartesian(*heart.motion.forward(r, theta, z, a)), a).labels[there]
            if in_cavity:
                assert np.isin(labels, (LV_CAVITY, PAPILLARY)).all()
                continue
            t, h = theta[there], z[there]
            scar = share[there] < heart.disease.scar_extent(t, h)
            expected = wall_label(aha_segment(lv, t, h), (share[there] < 0.5).astype(int), scar)
            at_an_edge = np.abs(share[there] - 0.5) < 1e-6
            assert_array_equal(labels[~at_an_edge], expected[~at_an_edge])


def test_scar_of_an_infarct_is_labelled_and_nowhere_else(hearts: list[Heart]) -> None:
    for heart, group in zip(hearts, GROUPS, strict=True):
        found = np.unique(heart.locate(_grid(heart, 4.0).reshape(-1, 3), 0.0).labels)
        wall = found[(found >= WALL) & (found < N_HEART)] - WALL
        _, _, scar = wall_parts()
        assert scar[wall].any() == (group == "infarct")


@pytest.mark.parametrize("a", ACTIVATIONS)
def test_from_the_axis_to_the_right_come_cavity_septum_right_ventricle_and_its_wall(
    hearts: list[Heart], a: float
) -> None:
    for heart in hearts:
        z = 0.7 * heart.lv.base_z * heart.motion.stretch(a)
        angle = heart.rv.angle + float(heart.motion.twist(np.array(0.7 * heart.lv.base_z), a))
        r = np.arange(0.05, 150, 0.1)
        labels = heart.locate(_cartesian(r, np.full_like(r, angle), np.full_like(r, z)), a).labels
        parts = np.full(labels.shape, "beyond", dtype="U8")
        parts[np.isin(labels, (LV_CAVITY, PAPILLARY))] = "lv"
        parts[labels >= WALL] = "septum"
        blood = np.flatnonzero(labels == RV_CAVITY)
        parts[np.isin(labels, (RV_CAVITY, RV_TRABECULA, RV_WALL))] = "rv"
        met = [part for i, part in enumerate(parts) if i == 0 or part != parts[i - 1]]
        assert met == ["lv", "septum", "rv", "beyond"]
        assert (parts == "rv").sum() * 0.1 > 10
        free_wall = (np.flatnonzero(labels == RV_WALL)[-1] - blood[-1]) * 0.1
        assert 2.5 < free_wall < 6  # 3 mm, and a trabecula at most


def test_papillary_muscles_touch_nothing_outside_the_cavity_and_fill_little_of_it(hearts: list[Heart]) -> None:
    for heart in hearts:
        labels = heart.locate(_grid(heart, 2.5).reshape(-1, 3), 0.0).labels
        share = (labels == PAPILLARY).sum() / np.isin(labels, (LV_CAVITY, PAPILLARY)).sum()
        assert 0.005 < share < 0.3


def test_labels_of_the_right_ventricle_fill_its_volume(hearts: list[Heart]) -> None:
    for heart in hearts[1:4]:
        counted = []
        for a in (0.0, 1.0):
            labels = heart.locate(_grid(heart, 2.0).reshape(-1, 3), a).labels
            counted.append(np.isin(labels, (RV_CAVITY, RV_TRABECULA)).sum() * 2.0**3 / 1000)
            volume = rv_volume_ml(heart.rv, heart.motion, heart.quadrature, a)
            assert counted[-1] == pytest.approx(volume, rel=0.012)
        ef = 100 * (1 - rv_volume_ml(heart.rv, heart.motion, heart.quadrature, 1.0)
                    / rv_volume_ml(heart.rv, heart.motion, heart.quadrature, 0.0))  # fmt: skip
        assert 100 * (1 - counted[1] / counted[0]) == pytest.approx(ef, abs=0.7)


@pytest.mark.parametrize(("edv", "ef"), [(90.0, 0.3), (160.0, 0.6), (240.0, 0.45)])
def test_the_right_ventricle_is_shaped_to_volume_and_ejection_fraction(
    hearts: list[Heart], edv: float, ef: float
) -> None:
    for heart in hearts[:2]:
        rv = shape_rv(heart.rv, heart.motion, heart.quadrature, edv, ef)
        volumes = [rv_volume_ml(rv, heart.motion, heart.quadrature, a) for a in (0.0, 0.5, 1.0)]
        assert volumes[0] == pytest.approx(edv, rel=1e-4)
        assert volumes[2] == pytest.approx((1 - ef) * edv, rel=1e-3)
        assert volumes[0] > volumes[1] > volumes[2]
        assert replace(rv, reach=heart.rv.reach, shortening=heart.rv.shortening) == heart.rv  # the outline stays


def test_the_crescent_is_deepest_in_its_middle_and_ends_at_its_insertions() -> None:
    rv = RightVentricle(
        reach=30.0, angle=0.2, half_angle=1.1, apex_z=10.0, base_z=80.0, outflow=5.0, shortening=0.4
    )  # fmt: skip
    theta, z = np.linspace(-np.pi, np.pi, 721)[:, None], np.linspace(0, 100, 101)
    depth = rv.depth(theta, z, 0.0)
    assert depth.max() == pytest.approx(30, rel=1e-3)
    assert abs(theta[depth.max(1).argmax(), 0] - 0.2) < 0.02
    off = np.abs(np.mod(theta[:, 0] - 0.2 + np.pi, 2 * np.pi) - np.pi)
    assert depth[off > 1.1].max() < 1e-9
    assert np.all(depth[off < 1.0][:, (z > 12) & (z < 75)] > 0)
    assert not depth[:, z < 10].any()
    assert not depth[:, z > 85].any()
    anterior, posterior = (depth[np.abs(theta[:, 0] - t).argmin()] for t in (1.2, -0.8))
    assert z[anterior > 0].max() > z[posterior > 0].max()  # towards the pulmonary artery
    assert np.allclose(rv.depth(theta, z, 1.0), 0.6 * depth)


@pytest.mark.parametrize("a", ACTIVATIONS)
def test_atria_and_vessels_lie_above_the_valves(hearts: list[Heart], a: float) -> None:
    upper = (LEFT_ATRIUM, RIGHT_ATRIUM, AORTA, PULMONARY, ATRIAL_WALL)
    for heart in hearts:
        lv = heart.lv
        x, y, z = np.meshgrid(np.arange(-60, 90, 3.0), np.arange(-60, 60, 3.0), np.arange(0, lv.top_z + 90, 3.0))
        points = np.stack([x.ravel(), y.ravel(), z.ravel()], 1)
        found = heart.locate(points, a)
        here = np.isin(found.labels, upper)
        m = found.material
        assert np.all(m.z[here] > lv.base_z - 25)
        assert not (lv.below_valve(m.theta, m.z, m.r) & (m.now_r < m.epi))[here].any()
        for label in upper:
            assert (found.labels == label).sum() * 27 > 2000  # mm3
        # the mitral valve: behind the aorta's root the atrium opens into the cavity
        inflow = np.stack(
            [np.zeros(40), np.full(40, -12.0), heart.motion.height(lv.base_z + np.arange(-20.0, 20), a)], 1
        )
        met = heart.locate(inflow, a).labels
        assert set(met) <= {LV_CAVITY, PAPILLARY, LEFT_ATRIUM}
        assert met[0] != met[-1] == LEFT_ATRIUM


def test_distance_outside_the_sac(hearts: list[Heart]) -> None:
    for heart in hearts:
        lv = heart.lv
        r = np.arange(1.0, 110.0, 0.5)
        z = np.full_like(r, 0.6 * lv.base_z)
        lateral = heart.locate(_cartesian(r, np.full_like(r, np.pi), z), 0.0)
        epi = lv.epi(np.array(np.pi), np.array(0.6 * lv.base_z))
        assert np.allclose(lateral.outside, r - epi)  # no right ventricle on this side
        septal = heart.locate(_cartesian(r, np.full_like(r, heart.rv.angle), z), 0.0)
        inside = np.isin(septal.labels, (LV_CAVITY, PAPILLARY, RV_CAVITY, RV_TRABECULA, RV_WALL)) | (
            septal.labels >= WALL
        )
        assert_array_equal(inside, septal.outside < 0)
        beyond = lateral.labels[(lateral.outside > 0) & (lateral.outside < 0.3 * heart.surroundings.fat)]
        assert np.all(beyond == FAT)
        assert np.all(lateral.labels[lateral.outside > heart.surroundings.fat + 3] == OUTSIDE)
