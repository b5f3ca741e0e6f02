from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cmrsr.phantom.heart import Heart
from cmrsr.phantom.motion import ISOVOLUMIC_MS, MOST_SQUEEZED, Contraction, Cycle, Motion, contraction_for
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.truth import labels_at
from cmrsr.physics.strain import green_lagrange

Array = NDArray[np.float64]
ACTIVATIONS = (0.0, 0.3, 1.0)


@pytest.fixture(scope="module")
def patients() -> list[VirtualPatient]:
    groups = ("normal", "infarct", "dilated", "hypertrophic", "rv")
    return [draw_patient(3, subject, group) for subject in (1, 2) for group in groups]


@pytest.fixture(scope="module")
def infarct() -> Heart:
    return draw_patient(3, 1, "infarct").heart


def _points(heart: Heart, n: int, inner: float, outer: float, seed: int = 0) -> tuple[Array, Array, Array]:
    """Material points between two shares of the way from the axis (0) by the endocardium (1) to the epicardium (2)."""
    rng, lv = np.random.default_rng(seed), heart.lv
    theta, z = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.02, 1, n) * lv.base_z
    endo, epi = lv.surfaces(theta, z)
    share = rng.uniform(inner, outer, n)
    r = np.where(share < 1, share * endo, endo + (share - 1) * (epi - endo))
    keep = r > 0.3  # on the axis there is no angle to find again
    return r[keep], theta[keep], z[keep]


def _wild_loss(theta: Array, z: Array) -> Array:
    """Any smooth field in 0..1."""
    return np.asarray(0.5 + 0.5 * np.sin(3 * theta + 0.07 * z) * np.cos(0.11 * z + theta))


def _wild(heart: Heart) -> Motion:
    contraction = Contraction(shortening=0.17, squeeze=0.7, apex_twist=-0.3, base_twist=0.1, loss=_wild_loss)
    return Motion(lv=heart.lv, contraction=contraction)


@pytest.mark.parametrize("a", ACTIVATIONS)
@pytest.mark.parametrize(("inner", "outer"), [(0.0, 0.99), (1.01, 2.0), (2.01, 4.0)], ids=["cavity", "wall", "outside"])
def test_backward_inverts_forward(patients: list[VirtualPatient], inner: float, outer: float, a: float) -> None:
    for patient in patients:
        motion = patient.heart.motion
        material = _points(patient.heart, 2000, inner, outer)
        back = motion.backward(*motion.forward(*material, a), a)
        for found, expected in zip((back.r, back.theta, back.z), material, strict=True):
            assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("a", ACTIVATIONS)
def test_heights_are_inverted_from_below_the_apex_to_above_the_atria(infarct: Heart, a: float) -> None:
    motion, top = infarct.motion, infarct.lv.top_z
    z = np.linspace(-20, top + 120, 3001)
    now = motion.height(z, a)
    assert_allclose(motion.material_height(now, a), z, atol=1e-9)
    steps = np.diff(now) / np.diff(z)
    assert steps.min() > 0  # nothing folds
    assert steps.max() < 2  # and nothing tears
    assert_allclose(now[z > top + 60], z[z > top + 60])  # far above, nothing moves
    assert_allclose(now[z < 0], z[z < 0])
    ventricle = (z > 0) & (z < top)
    assert_allclose(now[ventricle], motion.stretch(a) * z[ventricle])


@pytest.mark.parametrize("a", ACTIVATIONS)
def test_points_above_the_valves_are_found_again(patients: list[VirtualPatient], a: float) -> None:
    for patient in patients:
        motion, top = patient.heart.motion, patient.heart.lv.top_z
        rng = np.random.default_rng(0)
        r, theta, z = rng.uniform(1, 80, 2000), rng.uniform(0, 6, 2000), rng.uniform(top - 20, top + 90, 2000)
        back = motion.backward(*motion.forward(r, theta, z, a), a)
        for found, expected in zip((back.r, back.theta, back.z), (r, theta, z), strict=True):
            assert_allclose(found, expected, atol=1e-8)


def _numerical_gradient(motion: Motion, r: Array, theta: Array, z: Array, a: float) -> Array:
    """dx/dX (n, 3, 3) of ``forward`` by central differences of Cartesian coordinates, in the two local frames."""
    step = 1e-4

    def moved(x: Array) -> Array:
        now_r, now_theta, now_z = motion.forward(np.hypot(x[0], x[1]), np.arctan2(x[1], x[0]), x[2], a)
        return np.stack([now_r * np.cos(now_theta), now_r * np.sin(now_theta), now_z])

    def frame(angle: Array) -> Array:
        cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
        return np.stack([[cos, -sin, zero], [sin, cos, zero], [zero, zero, zero + 1]]).transpose(2, 0, 1)

    x = np.stack([r * np.cos(theta), r * np.sin(theta), z])
    columns = [(moved(x + step * e[:, None]) - moved(x - step * e[:, None])) / (2 * step) for e in np.eye(3)]
    gradient = np.stack(columns, -1).transpose(1, 0, 2)
    return np.asarray(frame(motion.forward(r, theta, z, a)[1]).transpose(0, 2, 1) @ gradient @ frame(theta))


@pytest.mark.parametrize("a", ACTIVATIONS)
@pytest.mark.parametrize("wild", [False, True])
def test_deformation_gradient_is_the_derivative_of_the_map_and_keeps_volume(
    infarct: Heart, a: float, wild: bool
) -> None:
    motion = _wild(infarct) if wild else infarct.motion
    material = _points(infarct, 3000, 1.001, 2.0)
    f = motion.deformation_gradient(*material, a)
    numerical = _numerical_gradient(motion, *material, a)
    assert_allclose(f, numerical, atol=1e-6)
    assert_allclose(np.linalg.det(f), 1, atol=1e-9)
    assert_allclose(np.linalg.det(numerical), 1, atol=1e-7)


def _plain(heart: Heart, *, shortening: float = 0.15, squeeze: float = 0.6, twist: float = 0.0) -> Motion:
    """A ventricle round about its axis whose wall squeezes everywhere alike."""
    lv = replace(heart.lv, ripple=np.zeros((0, 3)), thickening=np.zeros((0, 5)))
    contraction = Contraction(
        shortening=shortening, squeeze=squeeze, apex_twist=twist, base_twist=twist,
        loss=lambda theta, z: np.zeros_like(theta * z),
    )  # fmt: skip
    return Motion(lv=lv, contraction=contraction)


def test_strain_of_a_plain_heart_is_that_of_the_incompressible_cylinder(infarct: Heart) -> None:
    motion = _plain(infarct)
    lv, a = motion.lv, 0.8
    theta = np.linspace(0, 6, 40)
    z = np.full(40, lv.equator)  # where the walls run along the axis
    r = np.linspace(lv.radius, lv.radius + lv.wall, 40)
    e = green_lagrange(motion.deformation_gradient(r, theta, z, a))
    zeta, k = 1 - 0.15 * a, 0.6 * a
    now_r = np.sqrt((r**2 - k * lv.radius**2) / zeta)
    assert_allclose(e[:, 0, 0], ((r / (zeta * now_r)) ** 2 - 1) / 2, atol=1e-9)
    assert_allclose(e[:, 1, 1], (now_r**2 / r**2 - 1) / 2, atol=1e-9)
    assert_allclose(e[:, 2, 2], (zeta**2 - 1) / 2, atol=1e-7)
    assert_allclose(e[:, [0, 0, 1], [1, 2, 2]], 0, atol=1e-4)
    assert e[0, 1, 1] < e[-1, 1, 1] < 0 < e[-1, 0, 0] < e[0, 0, 0]  # most at the endocardium


def test_a_heart_that_only_turns_is_not_strained(infarct: Heart) -> None:
    motion = _plain(infarct, shortening=0.0, squeeze=0.0, twist=0.4)
    r, theta, z = _points(replace(infarct, lv=motion.lv), 500, 1.0, 2.0)
    assert_allclose(motion.forward(r, theta, z, 1.0)[1], theta + 0.4)
    assert_allclose(green_lagrange(motion.deformation_gradient(r, theta, z, 1.0)), 0, atol=1e-12)


def _labelled_ml(heart: Heart, a: float, step: float) -> tuple[float, float]:
    """Cavity and wall, counted on a grid of points ``step`` mm apart."""
    lv = heart.lv
    half = 1.35 * (lv.radius + 2 * lv.wall)
    across, along = np.arange(-half, half, step) + 0.01, np.arange(-step, lv.top_z + step, step) + 0.01
    z, y, x = np.meshgrid(along, across, across, indexing="ij")
    label = labels_at(heart, np.stack([x.ravel(), y.ravel(), z.ravel()], 1), a).reshape(z.shape)
    cavity, wall = label == LABELS["lv"], np.isin(label, (LABELS["myocardium"], LABELS["scar"]))
    inner = np.zeros(z.shape, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    assert not (cavity | wall)[~inner].any()  # the grid holds all of it
    return cavity.sum() * step**3 / 1000, wall.sum() * step**3 / 1000


@pytest.mark.parametrize("index", [0, 1, 3])
def test_labels_hold_the_volumes_that_the_quadrature_says(patients: list[VirtualPatient], index: int) -> None:
    heart = patients[index].heart
    activations = (0.0, 0.4, 0.8, 1.0)
    cavity, wall = np.array([_labelled_ml(heart, a, 1.5) for a in activations]).T
    expected = [heart.motion.cavity_ml(heart.quadrature, a) for a in activations]
    assert_allclose(cavity, expected, rtol=0.01)
    assert_allclose(wall, heart.quadrature.wall_ml, rtol=0.01)
    ef = 100 * (1 - expected[-1] / expected[0])
    assert 100 * (1 - cavity[-1] / cavity[0]) == pytest.approx(ef, abs=0.3)


@pytest.mark.parametrize("ef", [0.12, 0.35, 0.62, 0.7])
def test_contraction_has_the_ejection_fraction_asked_for(infarct: Heart, ef: float) -> None:
    q = infarct.quadrature

    def loss(theta: Array, z: Array) -> Array:
        return 0.4 * _wild_loss(theta, z)

    contraction = contraction_for(ef, q, loss, shortening=0.1, apex_twist=-0.1, base_twist=0.05)
    assert contraction is not None
    motion = Motion(lv=infarct.lv, contraction=contraction)
    assert 1 - motion.cavity_ml(q, 1.0) / motion.cavity_ml(q, 0.0) == pytest.approx(ef, abs=1e-9)
    assert motion.cavity_ml(q, 0.0) == pytest.approx(q.cavity_ml)
    volumes = [motion.cavity_ml(q, a) for a in np.linspace(0, 1, 9)]
    assert np.all(np.diff(volumes) < 0)
    assert motion.squeezed(q.theta, q.z, 1.0).max() <= MOST_SQUEEZED


def test_no_contraction_where_healthy_wall_cannot_make_up_for_the_loss(infarct: Heart) -> None:
    q = infarct.quadrature

    def half(theta: Array, z: Array) -> Array:
        return np.asarray(0.5 + 0 * theta * z)

    def contraction(ef: float, shortening: float = 0.2) -> Contraction | None:
        return contraction_for(ef, q, half, shortening=shortening, apex_twist=0.0, base_twist=0.0)

    # ef = (shortening + squeeze) / 2 with half of everything lost
    most = (0.2 + MOST_SQUEEZED) / 2
    assert contraction(most + 1e-3) is None
    found = contraction(most - 1e-3)
    assert found is not None
    assert found.squeeze == pytest.approx(MOST_SQUEEZED - 2e-3)
    assert contraction(0.09) is None  # the wall would have to be blown up against its shortening


def test_wall_without_function_keeps_its_radius(infarct: Heart) -> None:
    contraction = Contraction(shortening=0.18, squeeze=0.7, apex_twist=-0.2, base_twist=0.1, loss=_one_side)
    motion = Motion(lv=infarct.lv, contraction=contraction)
    for theta, kept in ((1.0, True), (4.0, False)):
        z = np.linspace(infarct.lv.equator - 20, infarct.lv.base_z, 20)
        endo = infarct.lv.endo(theta, z)
        now, _, _ = motion.forward(endo, np.full(20, theta), z, 1.0)
        if kept:
            assert_allclose(now, endo, rtol=1e-12)
        else:
            assert np.all(now < 0.65 * endo)


def _one_side(theta: Array, z: Array) -> Array:
    return np.where(np.sin(theta) > 0, 1.0, 0.0) + 0 * z


def test_seen_from_the_apex_the_apex_turns_counter_clockwise_and_the_base_clockwise(
    patients: list[VirtualPatient],
) -> None:
    towards_viewer = np.array([0.0, 0.0, -1.0])  # z runs from the apex to the base
    for patient in patients:
        lv, motion = patient.heart.lv, patient.heart.motion
        for z, counter_clockwise in ((lv.apex_wall + 2, 1), (lv.base_z, -1)):
            _, theta, height = motion.forward(np.array(15.0), np.array(0.4), np.array(z), 1.0)
            assert height < z  # the base comes down to the apex
            before = np.array([np.cos(0.4), np.sin(0.4), 0.0])
            after = np.array([np.cos(theta), np.sin(theta), 0.0])
            turned = np.cross(before, after) @ towards_viewer
            assert np.sign(turned) == counter_clockwise
            assert abs(turned) < np.sin(np.deg2rad(20))


@pytest.fixture(params=[(600.0, 270.0, 0.35), (900.0, 330.0, 0.2), (1350.0, 400.0, 0.12)])
def cycle(request: pytest.FixtureRequest) -> Cycle:
    return Cycle(beat_ms=request.param[0], systole_ms=request.param[1], atrial_share=request.param[2])


def test_activation_rests_at_end_systole_and_comes_back_by_the_next_beat(cycle: Cycle) -> None:
    t = np.arange(0, cycle.beat_ms, 1.0)
    a = cycle.activation(t)
    assert a[0] == 0
    assert a.min() >= 0
    assert a.max() == 1
    still = t[a > 1 - 1e-12]
    assert still[0] == pytest.approx(cycle.systole_ms, abs=1)
    assert still[-1] - still[0] >= ISOVOLUMIC_MS - 2
    assert np.all(np.diff(a[t <= cycle.systole_ms]) >= 0)  # ejection
    assert np.all(np.diff(a[t >= cycle.systole_ms + ISOVOLUMIC_MS]) <= 0)  # filling
    assert np.abs(np.diff(np.r_[a, 0.0])).max() < 0.04  # continuous, at the R wave too
    assert_allclose(cycle.activation(t + 3 * cycle.beat_ms), a, atol=1e-9)
    assert cycle.activation(0.75 * cycle.beat_ms) < 0.6  # diastole


def test_the_atria_make_their_share_of_the_filling(cycle: Cycle) -> None:
    late = cycle.activation(np.linspace(0.6, 1.0, 4001)[:-1] * cycle.beat_ms)
    resting = np.isclose(late, cycle.atrial_share, atol=1e-9)
    assert resting.any()  # diastasis: all but the atria's share has come in


def test_material_points_can_be_picked(infarct: Heart) -> None:
    m = infarct.motion.backward(*_points(infarct, 50, 1.0, 2.0), 0.5)
    index = np.array([3, 1, 7])
    for name in m.__slots__:
        assert np.array_equal(getattr(m.take(index), name), getattr(m, name)[index])
