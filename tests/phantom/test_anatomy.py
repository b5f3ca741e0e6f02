import numpy as np
import pytest
import scipy.ndimage

from cmrsr.phantom.anatomy import DEPTHS, FINE, LABELS, N_SEGMENTS, Chest, at_level, draw_chest, draw_heart
from cmrsr.phantom.tissue import TISSUES, Supply

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module", params=SEEDS)
def chest(request: pytest.FixtureRequest) -> Chest:
    return draw_chest(np.random.default_rng(request.param), 340.0)


def test_same_seed_same_bytes() -> None:
    a, b, other = (draw_chest(np.random.default_rng(seed), 340.0, n_leaves=200) for seed in (5, 5, 6))
    for name in ("labels", "textures", "truth", "segment", "near_heart"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
        assert getattr(a, name).tobytes() != getattr(other, name).tobytes()
    assert a.regions.rho.tobytes() == b.regions.rho.tobytes()


def test_shapes_and_units(chest: Chest) -> None:
    assert chest.labels.shape == (len(DEPTHS), FINE, FINE)
    assert chest.spacing_mm == pytest.approx(340 / FINE)
    assert chest.labels.min() >= 0
    assert chest.labels.max() < len(chest.kinds) == chest.regions.rho.size
    assert np.allclose(chest.textures.std((1, 2)), 1, rtol=1e-3)
    assert set(np.unique(chest.truth)) == {0, *LABELS.values()}


def test_left_ventricle_is_a_ring_of_muscle_around_blood(chest: Chest) -> None:
    blood, muscle = chest.truth == LABELS["lv_blood"], chest.truth == LABELS["myocardium"]
    pieces, n = scipy.ndimage.label(blood | muscle)
    assert n == 1  # nothing far away: neither the aorta nor the wall of the RV
    assert np.all(scipy.ndimage.binary_fill_holes(muscle) >= blood)
    outside = scipy.ndimage.binary_dilation(blood, iterations=1) & ~blood
    assert np.all(muscle[outside])
    area_mm2 = blood.sum() * chest.spacing_mm**2
    assert np.pi * 8**2 < area_mm2 < np.pi * 35**2
    centre = (np.array(scipy.ndimage.center_of_mass(pieces)) - FINE / 2) * chest.spacing_mm
    assert np.hypot(*(centre - chest.heart.centre_mm)) < 15  # the warp that bends all outlines moves it a little


def test_right_ventricle_lies_beside_it_towards_the_septum(chest: Chest) -> None:
    rv, lv = (np.array(scipy.ndimage.center_of_mass(chest.truth == LABELS[k])) for k in ("rv_blood", "lv_blood"))
    direction = np.arctan2(*(rv - lv))  # y, x
    away = (direction - chest.heart.angle + np.pi) % (2 * np.pi) - np.pi
    assert abs(away) < 0.5


def test_segments_go_around_the_muscle(chest: Chest) -> None:
    assert np.array_equal(chest.segment >= 0, chest.truth == LABELS["myocardium"])
    assert set(np.unique(chest.segment)) == {-1, *range(N_SEGMENTS)}
    centre = scipy.ndimage.center_of_mass(chest.truth == LABELS["lv_blood"])
    y, x = np.indices(chest.segment.shape)
    theta = np.arctan2(y - centre[0], x - centre[1]) - chest.heart.angle
    for s in range(N_SEGMENTS):
        here = theta[chest.segment == s]
        middle = -np.pi + (s + 0.5) * 2 * np.pi / N_SEGMENTS
        assert np.abs(np.angle(np.exp(1j * (here - middle)).mean())) < np.pi / N_SEGMENTS  # half of its width


def test_every_region_is_what_its_tissue_allows(chest: Chest) -> None:
    for kind, rho, t1, texture, supply in zip(
        chest.kinds, chest.regions.rho, chest.regions.t1_ms, chest.regions.texture, chest.regions.supply, strict=True
    ):
        tissue = TISSUES[kind]
        for value, (low, high) in ((rho, tissue.rho), (t1, tissue.t1_ms), (texture, tissue.texture)):
            assert low <= value <= high
        assert supply == tissue.supply
    muscle = chest.regions.supply == Supply.MYOCARDIUM
    assert np.ptp(chest.regions.t1_ms[muscle]) == 0  # one patient's myocardium is one tissue
    assert np.all(chest.regions.segment[muscle] >= 0)


def test_depths_differ_but_show_one_chest(chest: Chest) -> None:
    top, middle, bottom = chest.labels
    assert 0.01 < (top != bottom).mean() < 0.6
    assert (top != middle).mean() < (top != bottom).mean()


def test_heart_narrows_towards_the_apex() -> None:
    heart = draw_heart(np.random.default_rng(0))
    radii = [at_level(heart, level).lv_radius for level in (-1, -0.5, 0, 0.5, 1)]
    assert radii == sorted(radii, reverse=True)
    assert at_level(heart, 0.0).lv_radius == heart.lv_radius
    assert at_level(heart, 1.0).wall < heart.wall
