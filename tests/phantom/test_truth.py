import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.heart import N_HEART, OUTSIDE, PAPILLARY, WALL, Heart, truth_of_labels
from cmrsr.phantom.infarct import N_SEGMENTS, SCAR_FLOW, SEGMENT_NAMES, aha_segment
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.plane import Plane
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.truth import heart_truth, labels_at, maps_at, thickness, wall_samples
from cmrsr.physics.strain import green_lagrange
from cmrsr.physics.volumes import DENSITY_G_ML

Array = NDArray[np.float64]
MATRIX = 96
STILL = np.zeros(3)


@pytest.fixture(scope="module")
def infarct() -> VirtualPatient:
    """Of several, the one with the largest scar."""
    several = [draw_patient(18, subject, "infarct") for subject in range(1, 7)]
    return max(several, key=lambda patient: heart_truth(patient)["scar"]["mass_g"])


@pytest.fixture(scope="module")
def healthy() -> list[VirtualPatient]:
    return [draw_patient(18, subject, "normal") for subject in range(1, 6)]


def _oblique(patient: VirtualPatient, fov: float = 260.0) -> Plane:
    """Neither short nor long axis, through the ventricle's middle."""
    axis = patient.turn @ np.array([0.5, 0.2, 1.0])
    axis /= np.linalg.norm(axis)
    along_y = np.cross(axis, patient.turn[:, 1])
    along_y /= np.linalg.norm(along_y)
    centre = patient.apex_mm + patient.turn[:, 2] * (0.5 * patient.heart.lv.base_z)
    return Plane(centre=centre, along_y=along_y, along_x=np.cross(along_y, axis), fov=fov, thickness=8.0)


def _pixels(plane: Plane) -> Array:
    """RAS of the pixels of a scan of ``MATRIX``, by its affine."""
    y, x = np.indices((MATRIX, MATRIX))
    return np.asarray(np.stack([x, y, 0 * x, 0 * x + 1], -1) @ plane.affine(MATRIX, 8.0).T)[..., :3]


def _grid(heart: Heart, step: float) -> Array:
    lv = heart.lv
    half = 1.35 * (lv.radius + 2 * lv.wall)
    across, along = np.arange(-half, half, step) + 0.01, np.arange(0, lv.top_z, step) + 0.01
    return np.stack(np.meshgrid(across, across, along, indexing="ij"), -1).reshape(-1, 3)


def test_labels_are_those_of_a_reader(infarct: VirtualPatient) -> None:
    heart = infarct.heart
    points = _grid(heart, 3.0)
    found, label = heart.locate(points, 0.6).labels, labels_at(heart, points, 0.6)
    assert label.dtype == np.uint8
    assert_array_equal(label[found == OUTSIDE], 0)
    inside = found != OUTSIDE
    assert_array_equal(label[inside], truth_of_labels(N_HEART)[found[inside]])
    assert np.all(label[found == PAPILLARY] == LABELS["lv"])
    assert set(np.unique(label)) == {0, *LABELS.values()}
    assert_array_equal(labels_at(heart, np.array([[500.0, 0.0, 0.0]]), 0.0), 0)


@pytest.mark.parametrize("a", [0.4, 1.0])
def test_maps_say_where_tissue_came_from_and_how_it_was_strained(infarct: VirtualPatient, a: float) -> None:
    heart, plane, breath = infarct.heart, _oblique(infarct), np.array([0.5, 2.0, -5.0])
    maps = maps_at(infarct, plane, MATRIX, a, breath)
    wall = np.isin(maps["label"], (LABELS["myocardium"], LABELS["scar"]))
    assert wall.sum() > 100
    now = infarct.to_heart(_pixels(plane)[wall] - breath)
    assert_array_equal(maps["label"][wall], labels_at(heart, now, a))
    before = now - maps["displacement"][wall] @ infarct.turn
    r, theta, z = np.hypot(before[:, 0], before[:, 1]), np.arctan2(before[:, 1], before[:, 0]), before[:, 2]
    moved_r, moved_theta, moved_z = heart.motion.forward(r, theta, z, a)
    moved = np.stack([moved_r * np.cos(moved_theta), moved_r * np.sin(moved_theta), moved_z], 1)
    assert_allclose(moved, now, atol=1e-3)  # the displacement is kept in float32
    e = green_lagrange(heart.motion.deformation_gradient(r, theta, z, a))
    assert_allclose(maps["strain"][wall], np.diagonal(e, axis1=-2, axis2=-1), atol=2e-3)
    assert np.mean(maps["aha"][wall] == aha_segment(heart.lv, theta, z)) > 0.99
    for name in ("aha", "displacement", "strain"):
        assert not maps[name][~wall].any()
    assert np.linalg.norm(maps["displacement"][wall], axis=1).max() > 1


def test_a_heart_at_end_diastole_is_neither_moved_nor_strained(infarct: VirtualPatient) -> None:
    maps = maps_at(infarct, _oblique(infarct), MATRIX, 0.0, np.array([0.0, 3.0, -8.0]))
    assert (maps["label"] == LABELS["myocardium"]).any()
    assert_allclose(maps["displacement"], 0, atol=1e-5)
    assert_allclose(maps["strain"], 0, atol=1e-6)


def test_breathing_shifts_the_maps_and_is_no_displacement(infarct: VirtualPatient) -> None:
    plane = _oblique(infarct)
    pixel = plane.fov / MATRIX
    still = maps_at(infarct, plane, MATRIX, 0.7, STILL)
    moved = maps_at(infarct, plane, MATRIX, 0.7, pixel * (3 * plane.along_y - 2 * plane.along_x))
    for name, one in still.items():
        assert_allclose(moved[name], np.roll(one, (3, -2), (0, 1)), atol=1e-4)


def test_a_healthy_heart_thickens_shortens_and_goes_round(healthy: list[VirtualPatient]) -> None:
    for patient in healthy:
        truth = heart_truth(patient)
        strain = truth["lv"]["strain_es"]
        assert strain["radial"] > 0.2
        assert -0.35 < strain["circumferential"] < -0.1
        assert -0.3 < strain["longitudinal"] < -0.05
        for segment in truth["segments"][:16]:
            assert segment["wall_es_mm"] > 1.15 * segment["wall_ed_mm"] > 4
            assert segment["strain_es"]["circumferential"] < 0 < segment["strain_es"]["radial"]
            assert segment["scar_share"] == segment["transmurality"] == 0
        assert truth["scar"] == {"mass_g": 0, "percent_of_lv": 0, "territories": []}


def test_numbers_of_the_ventricles_belong_together(infarct: VirtualPatient, healthy: list[VirtualPatient]) -> None:
    for patient in (infarct, *healthy):
        truth, q = heart_truth(patient), patient.heart.quadrature
        for side in (truth["lv"], truth["rv"]):
            assert side["sv_ml"] == pytest.approx(side["edv_ml"] - side["esv_ml"])
            assert side["ef_percent"] == pytest.approx(100 * side["sv_ml"] / side["edv_ml"])
        assert truth["lv"]["edv_ml"] == pytest.approx(q.cavity_ml)
        assert truth["lv"]["mass_g"] == pytest.approx(1.05 * q.wall_ml)
        assert truth["heart_rate_bpm"] == pytest.approx(60_000 / patient.cycle.beat_ms)
        output = truth["lv"]["sv_ml"] / 1000 * truth["heart_rate_bpm"]
        assert truth["lv"]["cardiac_output_l_min"] == pytest.approx(output)
        assert patient.cycle.activation(truth["es_time_ms"]) == pytest.approx(1)
        walls = [segment["wall_ed_mm"] for segment in truth["segments"]]
        assert truth["lv"]["wall_max_ed_mm"] == max(walls)
        assert truth["ischaemic_territory"] == patient.heart.disease.ischaemic
        assert [s["segment"] for s in truth["segments"]] == list(range(1, N_SEGMENTS + 1))
        assert tuple(s["name"] for s in truth["segments"]) == SEGMENT_NAMES


def test_samples_of_the_wall_fill_it(infarct: VirtualPatient, healthy: list[VirtualPatient]) -> None:
    for patient in (infarct, *healthy):
        heart = patient.heart
        points, volume, segment = wall_samples(heart)
        assert volume.sum() / 1000 == pytest.approx(heart.quadrature.wall_ml, rel=0.005)
        depth = heart.lv.depth(points[:, 1], points[:, 2], points[:, 0])
        assert 0 < depth.min() < depth.max() < 1
        assert_array_equal(np.unique(segment), np.arange(1, N_SEGMENTS + 1))
        found = heart.locate(np.stack([
            points[:, 0] * np.cos(points[:, 1]), points[:, 0] * np.sin(points[:, 1]), points[:, 2]
        ], 1), 0.0)  # fmt: skip
        assert np.mean(found.labels >= WALL) > 0.99


def test_scar_of_the_table_is_that_of_the_labels(infarct: VirtualPatient) -> None:
    truth, step = heart_truth(infarct), 1.5
    label = labels_at(infarct.heart, _grid(infarct.heart, step), 0.0)
    grams = (label == LABELS["scar"]).sum() * step**3 / 1000 * DENSITY_G_ML
    assert grams > 5
    assert truth["scar"]["mass_g"] == pytest.approx(grams, rel=0.1)
    percent = 100 * truth["scar"]["mass_g"] / truth["lv"]["mass_g"]
    assert truth["scar"]["percent_of_lv"] == pytest.approx(percent, rel=0.01)
    assert truth["scar"]["territories"] == [scar.territory for scar in infarct.heart.disease.scars]
    _, volume, segment = wall_samples(infarct.heart)
    mass = np.bincount(segment, volume)[1:] / volume.sum()
    share = np.array([s["scar_share"] for s in truth["segments"]])
    assert 100 * (mass @ share) == pytest.approx(truth["scar"]["percent_of_lv"])
    assert np.all((share >= 0) & (share <= 1))
    through = np.array([s["transmurality"] for s in truth["segments"]])
    assert through.max() <= max(scar.transmurality for scar in infarct.heart.disease.scars)


def test_scar_does_not_contract_and_is_badly_perfused(infarct: VirtualPatient) -> None:
    segments = heart_truth(infarct)["segments"][:16]
    share = np.array([s["scar_share"] for s in segments])
    thickening = np.array([s["wall_es_mm"] / s["wall_ed_mm"] for s in segments])
    shortening = np.array([-s["strain_es"]["circumferential"] for s in segments])
    worst, remote = share.argmax(), share == 0
    assert share[worst] > 0.2
    assert remote.any()
    assert thickening[worst] < thickening[remote].mean()
    assert shortening[worst] < 0.7 * shortening[remote].mean()
    flow = infarct.perfusion.rest.mean(1)[:16]
    found = np.array([s["mbf_rest_ml_g_min"] for s in segments])
    assert_allclose(found, flow * (1 - share * (1 - SCAR_FLOW)))
    assert found[worst] < found[remote].min()


@pytest.mark.parametrize("a", [0.0, 1.0])
def test_thickness_is_the_length_of_wall_along_rays(healthy: list[VirtualPatient], a: float) -> None:
    heart, step = healthy[0].heart, 0.1
    found, lv = thickness(heart, a), heart.lv
    assert len(found) == N_SEGMENTS
    assert found[-1] == 0
    for segment, theta, level in ((10, 270, 0.5), (12, 150, 0.5), (16, 180, 1 / 6), (8, 30, 0.5)):
        half, low = (30, 1 / 3) if level > 0.3 else (45, 0.05)
        lengths = []
        for angle in np.deg2rad(np.linspace(theta - half + 1, theta + half - 1, 9)):
            for share in np.linspace(low + 0.01, 2 * level - low - 0.01, 7):
                z0 = lv.apex_wall + share * (lv.base_z - lv.apex_wall)
                z, now = heart.motion.height(np.array(z0), a), angle + heart.motion.twist(np.array(z0), a)
                r = np.arange(0.05, 70, step)
                ray = np.stack([r * np.cos(now), r * np.sin(now), np.full_like(r, z)], 1)
                lengths.append((labels_at(heart, ray, a) == LABELS["myocardium"]).sum() * step)
        assert found[segment - 1] == pytest.approx(np.mean(lengths), rel=0.04)
