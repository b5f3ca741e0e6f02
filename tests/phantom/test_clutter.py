from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.clutter import Cut, Leaves, cut, draw_leaves, draw_warp, paint, smooth_field

Array = NDArray[np.float64]
Y, X = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
OBLIQUE_Y, OBLIQUE_X = np.array([1.0, 2.0, 2.0]) / 3, np.array([2.0, 1.0, -2.0]) / 3
SIZE, PIXEL = 120, 0.8  # of a small painting, in pixels and mm


def _radii(leaves: Leaves) -> Array:
    """Of the spheres of the same volumes."""
    return np.linalg.det(leaves.matrix) ** (-1 / 6)


def test_radii_follow_the_power_law() -> None:
    leaves = draw_leaves(np.random.default_rng(0), 400, 320, (1.5, 60.0), elongation=0.0)
    r = _radii(leaves)
    np.testing.assert_allclose(leaves.reach, r)
    assert 1.5 <= r.min() < 1.51
    assert r.max() <= 60
    # p(r) ~ r^-4 between the bounds: the distribution function is linear in r^-3
    expected = (1.5**-3 - np.sort(r) ** -3) / (1.5**-3 - 60.0**-3)
    distance = np.abs(expected - (np.arange(r.size) + 0.5) / r.size).max()
    assert distance < 1.63 / np.sqrt(r.size)  # Kolmogorov and Smirnov, 1 %


def test_elongation_keeps_the_volume() -> None:
    plain, long = (draw_leaves(np.random.default_rng(1), 200, 320, (2.0, 30.0), elongation=e) for e in (0.0, 1.0))
    axes = np.linalg.eigvalsh(long.matrix) ** -0.5
    assert _radii(long).min() >= 2.0 - 1e-9
    assert _radii(long).max() <= 30.0 + 1e-9
    np.testing.assert_allclose(long.reach, axes.max(1))
    assert (axes.max(1) / axes.min(1)).mean() > 1.5
    assert _radii(plain).mean() == pytest.approx(_radii(long).mean(), rel=0.03)


def test_a_cut_through_the_middle_has_the_number_of_leaves_asked_for_and_equal_area_per_octave() -> None:
    leaves = draw_leaves(np.random.default_rng(2), 5000, 400, (2.5, 60.0), elongation=0.0)
    for y, x in ((Y, X), (np.array([0.0, 0.0, 1.0]), X)):
        found = cut(leaves, np.zeros(3), y, x, 1.0)
        assert found.index.size == pytest.approx(5000, rel=0.05)
    r = np.sqrt(found.axes.prod(1))
    area = [np.pi * (r[(r > low) & (r < 2 * low)] ** 2).sum() for low in (4, 8, 16)]
    assert max(area) < 1.4 * min(area)


def test_leaves_of_a_slab_stay_in_it() -> None:
    slab = draw_leaves(np.random.default_rng(2), 500, 100, (2.0, 10.0), half_height_mm=15.0)
    assert 14 < np.abs(slab.centre[:, 2]).max() <= 15
    assert 95 < np.abs(slab.centre[:, 0]).max() <= 100
    assert cut(slab, np.zeros(3), Y, X, 1.0).index.size == pytest.approx(500, rel=0.15)


def _ellipsoid(centre: Array, axes: Array, seed: int, box: bool = False) -> Leaves:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return Leaves(
        centre=centre[None], matrix=((turn / axes**2) @ turn.T)[None], reach=np.array([axes.max()]),
        box=np.array([box]),
    )  # fmt: skip


def _painted(shapes: Cut, where: NDArray[np.bool_] | None = None, warp: Array | None = None) -> NDArray[np.int32]:
    labels = np.full((SIZE, SIZE), -1, np.int32)
    everywhere = np.ones((SIZE, SIZE), bool)
    still = np.zeros((2, SIZE, SIZE))
    paint(labels, shapes, 0, everywhere if where is None else where, still if warp is None else warp)
    return labels


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("y", "x"), [(Y, X), (OBLIQUE_Y, OBLIQUE_X)], ids=["axial", "oblique"])
def test_a_painted_cut_holds_the_points_of_the_ellipsoid(y: Array, x: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    origin = np.array([3.0, -7.0, 2.0])
    middle = origin + PIXEL * SIZE / 2 * (y + x)
    leaf = _ellipsoid(middle + rng.uniform(-6, 6, 3), rng.uniform(8, 25, 3), seed)
    rows, columns = np.indices((SIZE, SIZE))
    points = origin + PIXEL * (rows[..., None] * y + columns[..., None] * x) - leaf.centre[0]
    level = np.einsum("...i,ij,...j", points, leaf.matrix[0], points)
    assert 100 < (level < 1).sum() < 0.5 * SIZE**2
    clear = np.abs(level - 1) > 1e-9
    found = _painted(cut(leaf, origin, y, x, PIXEL)) == 0
    assert_array_equal(found[clear], (level < 1)[clear])


def test_a_plane_that_misses_a_leaf_does_not_show_it() -> None:
    leaf = _ellipsoid(np.array([40.0, 40.0, 30.0]), np.array([12.0, 12.0, 12.0]), 0)
    for z, n in ((17.0, 0), (19.0, 1), (41.0, 1), (43.0, 0)):
        assert cut(leaf, np.array([0.0, 0.0, z]), Y, X, 1.0).index.size == n
    slim = cut(leaf, np.array([0.0, 0.0, 30.0]), Y, X, 1.0)
    np.testing.assert_allclose(slim.axes, 12.0)
    np.testing.assert_allclose(slim.centre, 40.0)


def test_a_box_fills_the_corners_of_its_ellipse_and_no_more() -> None:
    round_, box = (_ellipsoid(np.array([48.0, 48.0, 0.0]), np.array([14.0, 25.0, 20.0]), 3, b) for b in (False, True))
    ellipse, filled = (_painted(cut(leaf, np.zeros(3), Y, X, PIXEL)) == 0 for leaf in (round_, box))
    assert filled[ellipse].all()
    # |x|^6 + |y|^6 < 1 has 1.226 times the area of the circle
    assert filled.sum() / ellipse.sum() == pytest.approx(1.226, abs=0.02)


def test_the_warp_bends_outlines() -> None:
    leaf = _ellipsoid(np.array([48.0, 48.0, 0.0]), np.array([14.0, 25.0, 20.0]), 3)
    shapes = cut(leaf, np.zeros(3), Y, X, PIXEL)
    plain = _painted(shapes)
    warp = np.zeros((2, SIZE, SIZE))
    warp[0], warp[1] = 5, -3  # pixel p shows what lies at p + warp(p)
    assert_array_equal(_painted(shapes, warp=warp)[:-5, 3:], plain[5:, :-3])


def _crowd(seed: int, n: int) -> Leaves:
    leaves = draw_leaves(np.random.default_rng(seed), n, 60.0, (2.0, 20.0))
    return replace(leaves, centre=leaves.centre + np.array([48.0, 48.0, 0.0]))


def _some(leaves: Leaves, keep: NDArray[np.bool_]) -> Leaves:
    return Leaves(*(getattr(leaves, name)[keep] for name in leaves.__slots__))


def test_paint_stays_inside_and_later_leaves_occlude() -> None:
    leaves = _crowd(0, 200)
    where = np.zeros((SIZE, SIZE), bool)
    where[:50] = True
    together = _painted(cut(leaves, np.zeros(3), Y, X, PIXEL))
    inside = _painted(cut(leaves, np.zeros(3), Y, X, PIXEL), where)
    assert_array_equal(inside[:50], together[:50])
    assert np.all(inside[50:] == -1)
    n = len(leaves.reach)
    covered = []
    for i in range(0, n, 7):
        alone = _painted(cut(_some(leaves, np.arange(n) == i), np.zeros(3), Y, X, PIXEL)) == 0
        assert np.all(together[alone] >= i)
        covered.append(alone.any() and (together[alone] > i).any())
    assert any(covered)
    assert len(np.unique(together)) > 50


def test_labels_count_from_the_first() -> None:
    leaves = _crowd(1, 60)
    shapes = cut(leaves, np.zeros(3), Y, X, PIXEL)
    labels = np.full((SIZE, SIZE), -1, np.int32)
    paint(labels, shapes, 1000, np.ones((SIZE, SIZE), bool), np.zeros((2, SIZE, SIZE)))
    assert_array_equal(labels, np.where(_painted(shapes) < 0, -1, 1000 + _painted(shapes)))
    paint(labels, cut(leaves, np.array([0.0, 0.0, 1e4]), Y, X, PIXEL), 0, labels > 0, np.zeros((2, SIZE, SIZE)))
    assert labels.max() >= 1000  # a plane far away paints nothing


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("exponent", [0.6, 1.3, 1.8])
def test_smooth_field_has_its_spectrum(exponent: float, n_dims: int) -> None:
    rng = np.random.default_rng(0)
    n, repeats = (64, 40) if n_dims == 2 else (32, 12)
    fields = (smooth_field(rng, n, exponent, n_dims=n_dims) for _ in range(repeats))
    power = np.mean([np.abs(np.fft.fftn(field)) ** 2 for field in fields], 0)
    f = np.sqrt(sum(g**2 for g in np.meshgrid(*[np.fft.fftfreq(n)] * n_dims, indexing="ij")))
    inside = (f > 0.05) & (f < 0.45)
    slope = np.polyfit(np.log(f[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-2 * exponent, abs=0.1)


def test_smooth_field_is_cut_off_and_normalised() -> None:
    field = smooth_field(np.random.default_rng(0), 64, 1.0, cutoff=0.5)
    f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    assert np.abs(np.fft.fft2(field))[f > 0.25 + 1e-9].max() < 1e-9
    assert field.std() == pytest.approx(1)
    assert field.mean() == pytest.approx(0, abs=1e-12)


def test_warp_has_its_size_and_is_smooth() -> None:
    points = np.random.default_rng(0).uniform(-150, 150, (20000, 3))
    sizes = []
    for seed in range(12):
        warp = draw_warp(np.random.default_rng(seed), 4.0)
        bend = warp.at(points)
        assert bend.shape == (20000, 3)
        sizes.append(np.sqrt((bend**2).mean()))
        step = np.linalg.norm(warp.at(points + np.array([1.0, 0.0, 0.0])) - bend, axis=1)
        assert step.max() < 1.0  # an outline that moves by more than a step would fold
    assert np.sqrt(np.mean(np.square(sizes))) == pytest.approx(4.0, rel=0.1)
