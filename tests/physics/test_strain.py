import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cmrsr.physics.strain import (
    cylindrical_components,
    deformation_gradient,
    displacement_components,
    green_lagrange,
    polar_components,
)

Array = NDArray[np.float64]
SPACING_3D, SPACING_2D = (8.0, 1.5, 1.25), (1.5, 1.25)


def voxel_centres(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Array:
    """(*shape, n) in mm, the origin in the middle of the grid."""
    return np.moveaxis(np.indices(shape), 0, -1) * spacing_mm - (np.array(shape) - 1) / 2 * spacing_mm


def rotation(seed: int, n: int) -> Array:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    q[:, 0] *= np.linalg.det(q)
    return q


@pytest.mark.parametrize(("shape", "spacing_mm"), [((4, 9, 11), SPACING_3D), ((9, 11), SPACING_2D)])
def test_linear_displacement_is_exact(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> None:
    n = len(shape)
    points = voxel_centres(shape, spacing_mm)
    f = np.eye(n) + 0.3 * np.random.default_rng(0).normal(size=(n, n))
    found = deformation_gradient(points @ f.T - points + 3.0, spacing_mm)
    assert found.shape == (*shape, n, n)
    assert_allclose(found, np.broadcast_to(f, found.shape), atol=1e-12)


@pytest.mark.parametrize(("shape", "spacing_mm"), [((4, 9, 11), SPACING_3D), ((9, 11), SPACING_2D)])
def test_rigid_motion_strains_nothing_but_displaces(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> None:
    points = voxel_centres(shape, spacing_mm)
    u = points @ rotation(3, len(shape)).T + np.arange(1, len(shape) + 1) - points
    e = green_lagrange(deformation_gradient(u, spacing_mm))
    assert_allclose(e, 0, atol=1e-12)
    if len(shape) == 2:
        moved = displacement_components(u, (0.2, 0.3), points)
        assert np.abs(moved.u_r).max() > 1
        assert np.abs(moved.u_c).max() > 1
        assert_allclose(np.hypot(*moved), np.linalg.norm(u, axis=-1))
    else:
        assert_allclose(cylindrical_components(e, (0, 0.2, 0.3), (1, 0.1, 0), points), 0, atol=1e-12)


def test_uniform_stretch() -> None:
    stretch = np.array([0.8, 1.1, 1.3])
    e = green_lagrange(np.diag(stretch))
    assert_allclose(e, np.diag((stretch**2 - 1) / 2))
    points = voxel_centres((3, 6, 6), SPACING_3D)
    e = np.broadcast_to(green_lagrange(np.diag([0.8, 1.1, 1.1])), (3, 6, 6, 3, 3))
    found = cylindrical_components(e, (0.0, 0.0, 0.0), (-2.0, 0.0, 0.0), points)
    assert_allclose(found.e_rr, (1.1**2 - 1) / 2)
    assert_allclose(found.e_cc, (1.1**2 - 1) / 2)
    assert_allclose(found.e_ll, (0.8**2 - 1) / 2)


def test_simple_shear() -> None:
    points = voxel_centres((8, 10), SPACING_2D)
    u = np.stack([np.zeros((8, 10)), 0.4 * points[..., 0]], -1)  # x moves with y
    f = deformation_gradient(u, SPACING_2D)
    assert_allclose(f, np.broadcast_to([[1, 0], [0.4, 1]], f.shape), atol=1e-12)
    assert_allclose(green_lagrange(f), np.broadcast_to([[0.08, 0.2], [0.2, 0]], f.shape), atol=1e-12)


def test_strain_is_the_change_of_squared_length() -> None:
    """2 dX . E dX = |F dX|^2 - |dX|^2, and a rotation afterwards changes nothing; the 1/2 is there."""
    rng = np.random.default_rng(5)
    f, dx = np.eye(3) + 0.2 * rng.normal(size=(20, 3, 3)), rng.normal(size=(20, 3))
    e = green_lagrange(f)
    change = np.sum(np.einsum("nij,nj->ni", f, dx) ** 2, -1) - np.sum(dx**2, -1)
    assert_allclose(2 * np.einsum("ni,nij,nj->n", dx, e, dx), change)
    assert_allclose(green_lagrange(rotation(1, 3) @ f), e, atol=1e-12)


def cylinder(points: Array, stretch: float, c: float) -> tuple[Array, Array, Array]:
    """Incompressible r^2 = R^2 / stretch + c, z = stretch Z about the first axis: displacement, R and r."""
    big = np.hypot(points[..., 1], points[..., 2])
    small = np.sqrt(big**2 / stretch + c)
    moved = np.concatenate([stretch * points[..., :1], points[..., 1:] * (small / big)[..., None]], -1)
    return moved - points, big, small


def test_incompressible_cylinder_is_the_closed_form() -> None:
    """A left ventricle at end-systole: shortened by 15 %, the cavity squeezed; errors fall with the spacing squared."""
    stretch, c, errors = 0.85, -400.0, []
    for n in (64, 128):
        spacing_mm = (4.0, 64 / n * 1.5, 64 / n * 1.5)
        points = voxel_centres((4, n, n), spacing_mm)
        wall = np.hypot(points[..., 1], points[..., 2])
        u, big, small = cylinder(np.where((wall > 22)[..., None], points, 30.0), stretch, c)
        f = deformation_gradient(u, spacing_mm)
        inside = (wall > 25) & (wall < 40)
        found = cylindrical_components(green_lagrange(f), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), points)
        assert found.e_ll is not None
        wanted = (((big / (stretch * small)) ** 2 - 1) / 2, ((small / big) ** 2 - 1) / 2, (stretch**2 - 1) / 2)
        errors.append(max(np.abs(a - b)[inside].max() for a, b in zip(found, wanted, strict=True)))  # type: ignore[operator]
        assert found.e_cc[inside].max() < 0 < found.e_rr[inside].min()
        assert_allclose(np.linalg.det(f)[inside], 1, atol=0.02)
    assert errors[1] < 0.003
    assert 3 < errors[0] / errors[1] < 5


def test_polar_is_cylindrical_in_a_plane() -> None:
    rng = np.random.default_rng(2)
    e = rng.normal(size=(5, 6, 2, 2))
    e += np.swapaxes(e, -1, -2)
    points = voxel_centres((5, 6), SPACING_2D)
    solid = np.zeros((5, 6, 3, 3))
    solid[..., 1:, 1:] = e
    at = np.concatenate([np.full((5, 6, 1), 7.0), points], -1)
    flat, full = polar_components(e, (0.3, -0.1), points), cylindrical_components(solid, (0, 0.3, -0.1), (1, 0, 0), at)
    assert flat.e_ll is None
    assert_allclose(flat.e_rr, full.e_rr)
    assert_allclose(flat.e_cc, full.e_cc)
    assert_allclose(flat.e_rr + flat.e_cc, np.trace(e, axis1=-2, axis2=-1))


def test_components_turn_with_the_patient() -> None:
    rng = np.random.default_rng(8)
    e, points, turn = rng.normal(size=(30, 3, 3)), rng.normal(size=(30, 3)) * 20, rotation(4, 3)
    e += np.swapaxes(e, -1, -2)
    centre, along = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.4, -0.2])
    turned = cylindrical_components(turn @ e @ turn.T, turn @ centre, turn @ along, points @ turn.T)
    for one, other in zip(turned, cylindrical_components(e, centre, along, points), strict=True):
        assert one is not None
        assert_allclose(one, other, atol=1e-10)


def test_displacement_components_are_those_of_the_paper() -> None:
    points = voxel_centres((7, 8), SPACING_2D)
    y, x = points[..., 0] - 0.4, points[..., 1] - 0.2
    outward = displacement_components(0.1 * np.stack([y, x], -1), (0.4, 0.2), points)
    assert_allclose(outward.u_r, 0.1 * np.hypot(y, x))
    assert_allclose(outward.u_c, 0, atol=1e-12)
    # a small turn from x towards y: (x, y) moves by (-y, x)
    turn = displacement_components(0.1 * np.stack([x, -y], -1), (0.4, 0.2), points)
    assert_allclose(turn.u_r, 0, atol=1e-12)
    assert_allclose(turn.u_c, 0.1 * np.hypot(y, x))


def test_no_radius_on_the_axis() -> None:
    e = np.broadcast_to(np.eye(3), (2, 3, 3))
    points = np.array([[10.0, 4.0, 5.0], [10.0, 4.0, 6.0]])
    found = cylindrical_components(e, (0.0, 4.0, 5.0), (1.0, 0.0, 0.0), points)
    assert found.e_ll is not None
    assert np.isnan(found.e_rr).tolist() == np.isnan(found.e_cc).tolist() == [True, False]
    assert_allclose(found.e_ll, 1)
    assert np.isnan(polar_components(e[:, 1:, 1:], (4.0, 5.0), points[:, 1:]).e_rr).tolist() == [True, False]
    assert np.isnan(displacement_components(points[:, 1:], (4.0, 5.0), points[:, 1:]).u_c).tolist() == [True, False]


def test_what_cannot_be_derived() -> None:
    with pytest.raises(ValueError, match="expected"):
        deformation_gradient(np.zeros((4, 5, 3)), SPACING_2D)
    with pytest.raises(ValueError, match="spacings"):
        deformation_gradient(np.zeros((4, 5, 2)), SPACING_3D)
    with pytest.raises(ValueError, match="single slice"):
        deformation_gradient(np.zeros((1, 5, 5, 3)), SPACING_3D)
    with pytest.raises(ValueError, match="expected"):
        green_lagrange(np.zeros((5, 2, 3)))
    with pytest.raises(ValueError, match="long axis"):
        cylindrical_components(np.eye(3), (0, 0, 0), (0, 0, 0), np.ones(3))
