from dataclasses import replace

import numpy as np
import pytest

from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.ventricle import APEX_SHARE, LeftVentricle, quadrature, shape_to
from cmrsr.physics.volumes import DENSITY_G_ML

QUADRATURE = 1e-3  # what ``N_THETA`` and ``N_Z`` promise
PLAIN = LeftVentricle(
    radius=26.0, length=62.0, power=2.0, wall=9.0, base=0.4, tilt=0.0, tilt_angle=0.0,
    ripple=np.zeros((0, 3)), thickening=np.zeros((0, 5)),
)  # fmt: skip
ORGANIC = replace(
    PLAIN, power=2.6, tilt=0.33, tilt_angle=1.2,
    ripple=np.array([[2, 0.06, 0.3], [3, -0.03, 1.0], [5, 0.02, 2.0]]),
    thickening=np.array([[0.6, 0.2, 0.9, 0.0, 0.8], [-0.15, 4.0, 0.9, 0.2, 1.0]]),
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> list[LeftVentricle]:
    return [draw_patient(2, subject).heart.lv for subject in range(1, 21)]


def _ellipsoids_ml(lv: LeftVentricle) -> tuple[float, float]:
    """Cavity, and cavity with wall, of an untilted ventricle: pi R^2 times the integral of 1 - |u|^p and 1 - u^2."""

    def solid(radius: float, below: float, above: float) -> float:
        top = lv.base * lv.length / above
        return np.pi * radius**2 * (below * lv.power / (lv.power + 1) + above * (top - top**3 / 3)) / 1000

    inner = solid(lv.radius, lv.length, lv.length)
    return inner, solid(lv.radius + lv.wall, lv.length + lv.apex_wall, lv.length + lv.wall)


@pytest.mark.parametrize("power", [2.0, 2.4, 3.0])
def test_volumes_of_an_untilted_ellipsoid(power: float) -> None:
    lv = replace(PLAIN, power=power)
    q, (cavity, whole) = quadrature(lv), _ellipsoids_ml(lv)
    assert q.cavity_ml == pytest.approx(cavity, rel=QUADRATURE)
    assert q.wall_ml == pytest.approx(whole - cavity, rel=QUADRATURE)


def test_a_tilt_of_the_valve_plane_takes_and_gives_alike_in_a_cylinder() -> None:
    # where the wall is straight the tilted cut removes on one side what it adds on the other
    lv = replace(PLAIN, length=500.0, base=0.02)
    upright, tilted = quadrature(lv), quadrature(replace(lv, tilt=0.3))
    assert tilted.cavity_ml == pytest.approx(upright.cavity_ml, rel=1e-3)
    assert tilted.wall_ml == pytest.approx(upright.wall_ml, rel=1e-3)
    # the first moment about the axis: the integral of tilt r cos(theta) cos(theta) r dr dtheta
    leaning = (tilted.cavity * np.cos(tilted.theta)).sum()
    assert leaning == pytest.approx(0.3 * np.pi * lv.radius**3 / 3, rel=0.02)


@pytest.mark.parametrize("index", range(3))
def test_volumes_agree_with_monte_carlo(index: int) -> None:
    lv = (ORGANIC, replace(ORGANIC, tilt_angle=4.0, power=3.0, base=0.3), draw_patient(2, 3).heart.lv)[index]
    n = 130  # jittered: one point at random in every cell of a grid
    jitter = np.random.default_rng(index).random((3, n, n, n))
    half = 1.4 * (lv.radius + 2 * lv.wall)
    x, y = ((np.indices((n, n, n))[i] + jitter[i]) / n * 2 * half - half for i in (0, 1))
    z = (np.indices((n, n, n))[2] + jitter[2]) / n * lv.top_z
    r, theta = np.hypot(x, y), np.arctan2(y, x)
    endo, epi = lv.surfaces(theta, z)
    below = lv.below_valve(theta, z, r)
    cell_ml = (2 * half / n) ** 2 * lv.top_z / n / 1000
    q = quadrature(lv)
    assert q.cavity_ml == pytest.approx((below & (r < endo)).sum() * cell_ml, rel=5e-3)
    assert q.wall_ml == pytest.approx((below & (r >= endo) & (r < epi)).sum() * cell_ml, rel=5e-3)


@pytest.mark.parametrize(("edv", "mass"), [(110.0, 80.0), (160.0, 134.0), (320.0, 180.0), (95.0, 290.0)])
def test_shape_to_hits_volume_and_mass(edv: float, mass: float) -> None:
    lv = shape_to(ORGANIC, edv, mass)
    q = quadrature(lv)
    assert q.cavity_ml == pytest.approx(edv, rel=QUADRATURE)
    assert q.wall_ml * DENSITY_G_ML == pytest.approx(mass, rel=1e-4)
    assert lv.radius / lv.length == pytest.approx(ORGANIC.radius / ORGANIC.length)


def test_the_wall_is_everywhere(drawn: list[LeftVentricle]) -> None:
    theta = np.linspace(0, 2 * np.pi, 90)[:, None]
    for lv in (PLAIN, ORGANIC, *drawn):
        z = np.linspace(0.2, lv.top_z, 200)
        endo, epi = lv.surfaces(theta, z)
        below = lv.below_valve(theta, z, endo)
        assert np.all(epi[below] - endo[below] > 0)
        wall = (epi - endo)[below & (z > lv.equator)]
        assert wall.min() > 0.5 * lv.wall
        assert np.all(lv.depth(theta, z, endo)[below] == 0)
        assert np.allclose(lv.depth(theta, z, epi)[below], 1)


def test_surfaces_are_one_with_endo_and_epi_and_close_at_the_apex() -> None:
    theta, z = np.linspace(0, 6, 20)[:, None], np.linspace(-5, 90, 60)
    endo, epi = ORGANIC.surfaces(theta, z)
    assert np.array_equal(endo, ORGANIC.endo(theta, z))
    assert np.array_equal(epi, ORGANIC.epi(theta, z))
    assert ORGANIC.apex_wall == APEX_SHARE * ORGANIC.wall
    assert not endo[:, z < ORGANIC.apex_wall].any()
    assert not epi[:, z < 0].any()
    assert np.all(epi[:, (z > 0.2) & (z < ORGANIC.apex_wall)] > 0)


def test_no_part_of_the_ventricle_is_higher_than_its_top(drawn: list[LeftVentricle]) -> None:
    theta = np.linspace(0, 2 * np.pi, 180)[:, None]
    for lv in (ORGANIC, *drawn):
        z = lv.top_z + np.linspace(0, 25, 60)
        epi = lv.epi(theta, z)
        for share in np.linspace(0, 1, 12):
            assert not lv.below_valve(theta, z, share * epi).any()
