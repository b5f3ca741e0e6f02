"""Motion and strain from images alone: rigid motion against none, closed forms, a virtual patient against its truth."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scan import LABELS, VirtualScan
from cmrsr.phantom.scans import scan_patient
from cmrsr.physics.kinematics import beat_displacement, kinematics

Array = NDArray[np.float64]
N, N_T, PIXEL_MM = 96, 8, 1.5
MIDDLE = (N - 1) / 2
Y, X = np.mgrid[:N, :N] - MIDDLE
WALL = (np.hypot(Y, X) > 12) & (np.hypot(Y, X) < 30)
# DIS works on patches of 8 pixels and 8-bit images: the strain of what does not deform is not exactly none
STRAIN_OF_NOTHING = 0.02


def beat(motion: Array) -> NDArray[np.float32]:
    """Frames (t, y, x) of a texture whose points p move to p + motion[t], motion (t, 2, 2, 3): p + a, affine (y, x, 1).

    The frame shows at q what rests at the p with p + u(p) = q: the affine map is inverted.
    """
    rough = gaussian_filter(np.random.default_rng(1).random((2 * N, 2 * N)), 2.0)
    rough = (rough - rough.min()) / np.ptp(rough)
    frames = []
    for m in motion:
        p = np.einsum("ij,jyx->iyx", np.linalg.inv(m[:, :2]), np.stack([Y, X]) - m[:, 2, None, None])
        frames.append(map_coordinates(rough, p + N, order=3))
    return np.stack(frames).astype(np.float32)


def course(size: float) -> Array:
    """(N_T,): from 0 to size and back, as over a beat."""
    return size * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_T) / N_T))


def affine(linear: Array, offset: Array) -> Array:
    return np.concatenate([linear, offset[..., None]], -1)


def rotations(angle: Array) -> Array:
    """(n, 2, 2) on (y, x), from x towards y."""
    c, s = np.cos(angle), np.sin(angle)
    return np.moveaxis(np.array([[c, s], [-s, c]]), -1, 0)


def displacement_of(motion: Array) -> NDArray[np.float32]:
    """The exact displacement (t, y, x, 2), x before y, in pixels."""
    p = np.stack([Y, X])
    moved = np.einsum("tij,jyx->tiyx", motion[:, :, :2], p) + motion[:, :, 2, None, None] - p
    return np.moveaxis(moved, 1, -1)[..., ::-1].astype(np.float32)


SHIFTED = affine(np.broadcast_to(np.eye(2), (N_T, 2, 2)), np.stack([course(3.0), course(-2.0)], -1))
TURNED = affine(rotations(course(0.12)), np.zeros((N_T, 2)))


@pytest.mark.parametrize("motion", [SHIFTED, TURNED], ids=["shift", "rotation"])
def test_rigid_motion_has_displacement_but_no_strain(motion: Array) -> None:
    """The components of eq. 2 are those of the displacement; the tensor's vanish: they are not to be confused."""
    u = beat_displacement(beat(motion))
    assert u.shape == (N_T, N, N, 2)
    error = np.hypot(*np.moveaxis(u - displacement_of(motion), -1, 0))[:, WALL]
    assert error.mean() < 0.1
    assert error.max() < 0.5
    k = kinematics(u, (MIDDLE, MIDDLE), PIXEL_MM)
    exact = kinematics(displacement_of(motion), (MIDDLE, MIDDLE), PIXEL_MM)
    for e in (k.e_rr, k.e_cc):
        assert np.abs(e[:, WALL]).mean() < STRAIN_OF_NOTHING / 4
        assert np.abs(e[:, WALL]).max() < 3 * STRAIN_OF_NOTHING
    assert max(np.abs(e[:, WALL]).max() for e in (exact.e_rr, exact.e_cc)) < 1e-5
    middle_of_beat = N_T // 2
    assert np.abs(k.u_c[middle_of_beat, WALL]).max() > 2  # mm
    for found, wanted in ((k.u_r, exact.u_r), (k.u_c, exact.u_c)):
        assert np.abs(found - wanted)[:, WALL].mean() < 0.15 * PIXEL_MM


def test_a_turn_from_x_towards_y_is_positive() -> None:
    k = kinematics(beat_displacement(beat(TURNED)), (MIDDLE, MIDDLE), PIXEL_MM)
    radius = np.hypot(Y, X)[WALL] * PIXEL_MM
    assert_allclose(k.u_c[N_T // 2, WALL], radius * np.sin(0.12), atol=0.4)
    assert np.abs(k.u_r[N_T // 2, WALL]).mean() < 0.4


def test_radial_contraction_is_the_closed_form() -> None:
    """u = -k r: F = (1 - k) I, so that e_rr = e_cc = ((1 - k)^2 - 1) / 2, and u_r = -k r."""
    k = course(0.15)
    motion = affine((1 - k)[:, None, None] * np.eye(2), np.zeros((N_T, 2)))
    wanted = ((1 - k) ** 2 - 1) / 2
    exact = kinematics(displacement_of(motion), (MIDDLE, MIDDLE), PIXEL_MM)
    inside = np.hypot(Y, X) < 30  # of the border, where smoothing repeats what lies at it
    off_centre = inside & (np.hypot(Y, X) > 1)
    for e in (exact.e_rr, exact.e_cc):
        assert_allclose(e[:, off_centre], np.broadcast_to(wanted[:, None], e[:, off_centre].shape), atol=1e-5)
    assert_allclose(exact.u_r[:, inside], -k[:, None] * np.hypot(Y, X)[inside] * PIXEL_MM, atol=1e-4)
    assert_allclose(exact.u_c[:, inside], 0, atol=1e-4)
    found = kinematics(beat_displacement(beat(motion)), (MIDDLE, MIDDLE), PIXEL_MM)
    for e in (found.e_rr, found.e_cc):
        assert_allclose(e[:, WALL].mean(1), wanted, atol=0.01)


def test_components_do_not_depend_on_the_size_of_a_pixel() -> None:
    """A displacement in pixels of another size is another one in mm, and the same strain."""
    u = displacement_of(affine(0.9 * np.eye(2)[None], np.zeros((1, 2))))
    one, two = (kinematics(u, (MIDDLE, MIDDLE), mm) for mm in (1.0, 2.0))
    assert_allclose(one.e_cc[:, WALL], two.e_cc[:, WALL], atol=1e-5)
    assert_allclose(2 * one.u_r[:, WALL], two.u_r[:, WALL], rtol=1e-4)


def test_every_point_comes_home() -> None:
    """The flow back from the last frame closes the beat, wherever in it the frames begin."""
    rng = np.random.default_rng(3)
    frames = beat(TURNED) + rng.normal(0, 0.02, (N_T, N, N)).astype(np.float32)
    u = beat_displacement(frames)
    assert not u[0].any()
    # the same beat begun later: displacement since frame 0 is that since the other start, less its own
    later = beat_displacement(np.roll(frames, -N_T // 2, 0))
    turned = np.abs(kinematics(later, (MIDDLE, MIDDLE), PIXEL_MM).u_c[N_T // 2, WALL])
    assert_allclose(turned, np.hypot(Y, X)[WALL] * PIXEL_MM * np.sin(0.12), atol=0.5)


def test_no_component_is_missing_at_the_centre() -> None:
    k = kinematics(displacement_of(TURNED), (40, 50), PIXEL_MM)
    for part in (k.u_r, k.u_c, k.e_rr, k.e_cc):
        assert np.isfinite(part).all()
        assert not part[:, 40, 50].any()


def test_still_images_do_not_move() -> None:
    frame = beat(SHIFTED[:1])[0]
    assert np.abs(beat_displacement(np.stack([frame] * 3))).max() < 0.05
    assert not beat_displacement(np.zeros((3, 32, 32), np.float32)).any()


@pytest.fixture(scope="module")
def patient() -> VirtualScan:
    protocol = Protocol(kinds=("cine",), n_slices=4, n_frames=12, matrix=224)
    (scan,) = scan_patient(draw_patient(901, 10, "normal"), protocol)
    return scan


def test_circumferential_strain_of_a_virtual_patient(patient: VirtualScan) -> None:
    """At end systole, over the wall of the mid slices: within 3 points of the truth."""
    pixel = float(np.linalg.norm(patient.affine[:3, 0]))
    found, true = [], []
    for z in (1, 2):
        labels = patient.labels[:, z]
        axis = (np.arange(128) - 63.5) * PIXEL_MM / pixel
        around = np.argwhere(labels[0] == LABELS["lv"]).mean(0)
        at = np.stack(np.meshgrid(axis + around[0], axis + around[1], indexing="ij"))
        window = np.stack([map_coordinates(frame, at, order=3, mode="nearest") for frame in patient.frames[:, z]])
        start = map_coordinates(labels[0], at, order=0)
        k = kinematics(beat_displacement(window), np.argwhere(start == LABELS["lv"]).mean(0), PIXEL_MM)
        es = int((labels == LABELS["lv"]).sum((1, 2)).argmin())
        wall_es, wall = (np.isin(x, (LABELS["myocardium"], LABELS["scar"])) for x in (labels[es], start))
        true.append(patient.volumes["strain"][es, z, ..., 1][wall_es].mean())
        found.append(k.e_cc[es][wall].mean())
        assert k.e_rr[es][wall].mean() > 0.05  # it thickens
    assert np.mean(true) < -0.15  # it does contract
    assert np.mean(found) == pytest.approx(np.mean(true), abs=0.03)


def test_a_finer_search_finds_the_same_shift() -> None:
    rng = np.random.default_rng(4)
    image = gaussian_filter(rng.random((96, 96)), 2.0)
    frames = np.stack([image, np.roll(image, (1, -2), (0, 1))])
    found = beat_displacement(frames, finer=2)[1, 20:-20, 20:-20]
    assert np.abs(found - [-2, 1]).max() < 0.4
    assert found.shape == beat_displacement(frames)[1, 20:-20, 20:-20].shape
