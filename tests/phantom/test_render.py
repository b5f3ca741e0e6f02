from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import binary_dilation

from cmrsr.phantom.breath import Breath, draw_breath
from cmrsr.phantom.chest import Chest, draw_background, draw_chest, texture_at
from cmrsr.phantom.heart import N_HEART, OUTSIDE, WALL
from cmrsr.phantom.motion import Motion
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.plane import DEPTHS, FINE, Plane, long_axis, short_axis
from cmrsr.phantom.render import STILL_MM, Moment, Pose, Section

MIDDLE = FINE // 2
STILL = np.zeros(3)


@pytest.fixture(scope="module")
def patient() -> VirtualPatient:
    return draw_patient(13, 2, "infarct")


@pytest.fixture(scope="module")
def chest(patient: VirtualPatient) -> Chest:
    return draw_chest(patient, 200)


@pytest.fixture(scope="module")
def plane(patient: VirtualPatient) -> Plane:
    """Short axis through the middle of the ventricle."""
    (first, *_), _ = short_axis(patient, 0, fov=340.0, thickness=8.0, gap=8.0, spin=0.3, offset=0.5)
    return replace(first, centre=patient.apex_mm + patient.turn[:, 2] * (0.55 * patient.heart.lv.base_z))


@pytest.fixture(scope="module")
def section(patient: VirtualPatient, chest: Chest, plane: Plane) -> Section:
    return Section(patient, chest, plane)


def _heart(moment: Moment) -> np.ndarray:
    return moment.labels < N_HEART


@pytest.mark.parametrize("activation", [0.0, 0.7])
def test_the_heart_lies_in_the_plane_as_its_anatomy_says_and_the_chest_around_it(
    section: Section, patient: VirtualPatient, chest: Chest, plane: Plane, activation: float
) -> None:
    breath = np.array([1.0, 2.0, -6.0])
    moment = section.at(Pose(activation=activation, breath_mm=breath))
    assert moment.labels.shape == moment.texture.shape == (len(DEPTHS), FINE, FINE)
    assert moment.labels.max() < len(chest.materials.rho)
    rows, columns = (g.ravel() for g in np.mgrid[90:230:3, 90:230:3])
    for d, depth in enumerate(DEPTHS):
        points = plane.points(rows, columns, depth)
        expected = patient.heart.locate(patient.to_heart(points - breath), activation).labels
        found = moment.labels[d, rows, columns]
        assert (expected != OUTSIDE).sum() > 300
        assert_array_equal(found[expected != OUTSIDE], expected[expected != OUTSIDE])
        assert np.all(found[expected == OUTSIDE] >= N_HEART)
    assert len(np.unique(moment.labels[moment.labels >= WALL])) > 10


def test_at_rest_the_chest_is_as_it_was_drawn(section: Section, chest: Chest, plane: Plane) -> None:
    labels, texture = draw_background(chest, plane)
    moment = section.at(Pose(breath_mm=STILL))
    around = ~_heart(moment)
    assert_array_equal(moment.labels[around], labels[around])
    assert_array_equal(moment.texture[around], texture[around])


def test_one_pose_is_one_picture(section: Section) -> None:
    pose = Pose(activation=0.4, breath_mm=np.array([0.0, 1.0, -3.0]))
    first, second = section.at(pose), section.at(pose)
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.texture.tobytes() == second.texture.tobytes()
    other = section.at(Pose(activation=0.5, breath_mm=pose.breath_mm))
    assert other.labels.tobytes() != first.labels.tobytes()


def test_far_from_the_heart_nothing_moves(section: Section, patient: VirtualPatient, plane: Plane) -> None:
    still, moved = (section.at(pose) for pose in (
        Pose(breath_mm=STILL), Pose(activation=1.0, breath_mm=np.array([0.0, 3.0, -9.0]))
    ))  # fmt: skip
    rows, columns = (g.ravel() for g in np.indices((FINE, FINE)))
    points = plane.points(rows, columns, DEPTHS[1])
    outside = patient.heart.locate(patient.to_heart(points), 0.0).outside.reshape(FINE, FINE)
    far = outside > STILL_MM + 1
    assert far.mean() > 0.3
    assert_array_equal(moved.labels[1][far], still.labels[1][far])
    assert_array_equal(moved.texture[1][far], still.texture[1][far])
    near = (outside > 2) & (outside < 12) & ~_heart(still)[1] & ~_heart(moved)[1]
    assert (moved.texture[1] != still.texture[1])[near].mean() > 0.5  # what touches the heart goes with it


@pytest.mark.parametrize("activation", [0.0, 0.6])
def test_breathing_within_the_plane_shifts_the_heart(section: Section, plane: Plane, activation: float) -> None:
    dy, dx = 7, -4  # pixels
    breath = plane.pixel * (dy * plane.along_y + dx * plane.along_x)
    still, moved = (section.at(Pose(activation=activation, breath_mm=b)) for b in (STILL, breath))
    expected = np.roll(still.labels, (dy, dx), (1, 2))
    heart = _heart(still)
    shifted = np.roll(heart, (dy, dx), (1, 2))
    assert (_heart(moved) != shifted).mean() < 1e-4  # rounding at outlines
    assert (moved.labels == expected)[shifted].mean() > 0.999
    texture = np.roll(still.texture, (dy, dx), (1, 2))
    assert (moved.texture == texture)[shifted].mean() > 0.99


def test_what_touches_the_heart_goes_with_it(section: Section, plane: Plane) -> None:
    still = section.at(Pose(breath_mm=STILL))
    moved = section.at(Pose(breath_mm=6 * plane.pixel * plane.along_y))
    heart = _heart(moved)[1]
    rim = binary_dilation(heart, iterations=3) & ~heart
    follows = (moved.texture[1] == np.roll(still.texture[1], 6, 0))[rim].mean()
    stays = (moved.texture[1] == still.texture[1])[rim].mean()
    assert follows > 0.9
    assert stays < 0.5


def test_breathing_through_the_plane_shows_the_neighbouring_slice(
    patient: VirtualPatient, chest: Chest, section: Section, plane: Plane
) -> None:
    shift = 6.0 * plane.normal
    moved = section.at(Pose(breath_mm=shift))
    neighbour = Section(patient, chest, replace(plane, centre=plane.centre - shift)).at(Pose(breath_mm=STILL))
    assert (_heart(moved) != _heart(neighbour)).mean() < 1e-4
    both = _heart(moved) & _heart(neighbour)
    assert (moved.labels == neighbour.labels)[both].mean() > 0.999


@pytest.mark.parametrize("activation", [0.0, 1.0])
def test_two_planes_agree_where_they_cross(patient: VirtualPatient, chest: Chest, activation: float) -> None:
    long = long_axis(patient, "4ch", fov=340.0, thickness=8.0)
    short = replace(long, along_y=-np.cross(-patient.turn[:, 2], long.along_x))
    assert abs(short.normal @ patient.turn[:, 2]) == pytest.approx(1)
    pose = Pose(activation=activation, breath_mm=np.array([0.0, 1.0, -2.0]))
    a, b = (Section(patient, chest, one).at(pose) for one in (long, short))
    of_long, of_short = a.labels[1, MIDDLE], b.labels[1, MIDDLE]  # the same points
    heart = of_long < N_HEART
    assert heart.sum() > 60
    assert (of_long == of_short)[heart].mean() >= 0.98
    assert (a.texture == b.texture)[1, MIDDLE][heart].mean() >= 0.98
    # leaves are bent within the cut alone, and the chest follows the heart within the plane alone
    assert (of_long == of_short)[~heart].mean() > 0.8


def test_texture_moves_with_the_tissue(patient: VirtualPatient, chest: Chest, plane: Plane) -> None:
    squeeze_only = replace(patient.heart.motion.contraction, shortening=0.0)  # nothing leaves the plane
    heart = replace(patient.heart, motion=Motion(lv=patient.heart.lv, contraction=squeeze_only))
    section = Section(replace(patient, heart=heart), chest, plane)
    rest, contracted = (section.at(Pose(activation=a, breath_mm=STILL)) for a in (0.0, 1.0))
    rows, columns = np.nonzero(rest.labels[1] >= WALL)
    wall = rest.labels[1, rows, columns] < N_HEART
    rows, columns = rows[wall], columns[wall]
    local = patient.to_heart(plane.points(rows, columns, DEPTHS[1]))
    r, theta, z = heart.motion.forward(
        np.hypot(local[:, 0], local[:, 1]), np.arctan2(local[:, 1], local[:, 0]), local[:, 2], 1.0
    )
    moved = np.stack([r * np.cos(theta), r * np.sin(theta), z], 1) @ patient.turn.T + patient.apex_mm
    assert np.linalg.norm(moved - plane.points(rows, columns, DEPTHS[1]), axis=1).mean() > 1.0
    y, x = (np.rint((moved - plane.corner) @ axis / plane.pixel).astype(int) for axis in (plane.along_y, plane.along_x))
    before, after = rest.texture[1, rows, columns], contracted.texture[1, y, x]
    followed = np.corrcoef(before, after)[0, 1]
    fixed = np.corrcoef(before, contracted.texture[1, rows, columns])[0, 1]
    assert followed > 0.8
    assert followed > fixed + 0.2
    same = rest.labels[1, rows, columns] == contracted.labels[1, y, x]
    assert same.mean() > 0.85  # but for half a pixel at the borders of layers and segments


def test_texture_of_the_heart_is_that_of_its_material_at_end_diastole(
    section: Section, chest: Chest, patient: VirtualPatient, plane: Plane
) -> None:
    moment = section.at(Pose(breath_mm=STILL))
    rows, columns = np.nonzero(_heart(moment)[1])
    local = patient.to_heart(plane.points(rows, columns, DEPTHS[1]))
    expected = texture_at(chest, local, moment.labels[1, rows, columns])
    agreement = moment.texture[1, rows, columns] == expected
    assert agreement[local[:, 2] > 0].mean() > 0.99


def test_signal_averages_the_depths_and_texture_modulates_it() -> None:
    rng = np.random.default_rng(0)
    moment = Moment(
        rng.integers(0, 5, (3, FINE, FINE)).astype(np.int32), rng.normal(size=(3, FINE, FINE)).astype(np.float32)
    )
    signals = np.array([0.0, 1.0, 2.0, 5.0, 0.5])
    plain = moment.signal(signals, np.zeros(5))
    assert plain.dtype == np.float32
    assert_allclose(plain, signals[moment.labels].mean(0), rtol=1e-5)
    rough = moment.signal(signals, np.array([0.0, 0.1, 0.0, 0.2, 0.0]))
    amplitude = np.array([0.0, 0.1, 0.0, 0.2, 0.0])[moment.labels]
    expected = (signals[moment.labels] * (1 + amplitude * moment.texture)).mean(0)
    assert_allclose(rough, expected, rtol=1e-5, atol=1e-5)
    assert moment.signal(signals, np.full(5, 3.0)).min() >= 0  # no negative tissue


def test_signal_of_a_section_needs_only_the_labels_it_shows(section: Section, chest: Chest) -> None:
    m, pose = chest.materials, Pose(activation=0.8, breath_mm=np.array([0.0, 3.0, -9.0]))
    assert np.isin(section.at(pose).labels, section.used).all()
    signals = np.random.default_rng(0).random(m.rho.size)
    whole = section.at(pose).signal(signals, m.texture)
    assert_array_equal(section.signal(pose, signals[section.used], m), whole)
    assert len(section.used) < 0.5 * m.rho.size


def test_a_held_breath_drifts_and_then_breathing_goes_to_its_depth_and_back() -> None:
    direction = np.array([0.0, 0.6, -0.8])
    breath = Breath(depth=8.0, hold_s=10.0, period_s=4.0, direction=direction, drift_mm_s=0.05)
    assert not breath.at(0.0).any()
    assert_allclose(breath.at(6.0), 0.3 * direction)
    assert_allclose(breath.at(12.0), (8.0 + 0.6) * direction)  # half a period after the hold
    assert_allclose(breath.at(14.0), 0.7 * direction, atol=1e-12)
    steps = [np.linalg.norm(breath.at(t + 0.01) - breath.at(t)) for t in np.arange(0, 20, 0.01)]
    assert max(steps) < 0.08


def test_drawn_breathing_goes_down_and_keeps_to_its_depth() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        breath = draw_breath(rng, 40.0, (2.0, 6.0))
        assert np.linalg.norm(breath.direction) == pytest.approx(1)
        assert breath.direction[2] < -0.6
        assert 1.0 <= breath.depth <= 9.0
        assert 0 <= breath.hold_s <= 40
        assert 3 <= breath.period_s <= 5.5
    held = draw_breath(rng, 40.0, (0.0,))
    assert max(np.linalg.norm(held.at(t)) for t in np.arange(0, 40)) < 8  # the drift alone
