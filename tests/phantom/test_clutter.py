import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cmrsr.phantom.clutter import Leaves, draw_leaves, paint, smooth_field


def test_radii_follow_the_power_law() -> None:
    leaves = draw_leaves(np.random.default_rng(0), 20000, 320, (1.5, 60.0), 0.0, elongation=0.0)
    r = leaves.axes[:, 0]
    assert_array_equal(leaves.axes[:, 1], r)
    assert 1.5 <= r.min() < 1.51
    assert r.max() <= 60
    # p(r) ~ r^-3 between the bounds: the distribution function is linear in r^-2
    expected = (1.5**-2 - np.sort(r) ** -2) / (1.5**-2 - 60.0**-2)
    distance = np.abs(expected - (np.arange(r.size) + 0.5) / r.size).max()
    assert distance < 1.63 / np.sqrt(r.size)  # Kolmogorov and Smirnov, 1 %
    area = [np.pi * (r[(r > low) & (r < 2 * low)] ** 2).sum() for low in (2, 4, 8)]
    assert max(area) < 1.35 * min(area)  # equal area per octave


def test_elongation_keeps_the_area() -> None:
    leaves = draw_leaves(np.random.default_rng(1), 5000, 320, (2.0, 30.0), 0.0, elongation=1.0)
    ratio = np.log(leaves.axes[:, 0] / leaves.axes[:, 1])
    assert ratio.std() == pytest.approx(0.9, rel=0.05)
    assert np.sqrt(leaves.axes.prod(1)).min() >= 1.0


def _leaf(power: float, angle: float = 0.0, tilt: float = 0.0) -> Leaves:
    return Leaves(
        centre=np.array([[20.0, 24.0]]), axes=np.array([[6.0, 12.0]]), angle=np.array([angle]),
        tilt=np.array([[tilt, 0.0]]), power=np.array([power]),
    )  # fmt: skip


def _painted(leaf: Leaves, where: np.ndarray | None = None, depth: float = 0.0) -> np.ndarray:
    labels = np.zeros((40, 50), np.int32)
    paint(labels, leaf, 7, np.ones((40, 50), bool) if where is None else where, np.zeros((2, 40, 50)), depth)
    return labels


def test_paint_fills_the_ellipse() -> None:
    y, x = np.indices((40, 50))
    assert_array_equal(_painted(_leaf(2.0)) == 7, ((y - 20) / 6) ** 2 + ((x - 24) / 12) ** 2 < 1)
    assert_array_equal(_painted(_leaf(6.0)) == 7, ((y - 20) / 6) ** 6 + ((x - 24) / 12) ** 6 < 1)
    turned = _painted(_leaf(2.0, np.pi / 2)) == 7
    assert_array_equal(turned, ((y - 20) / 12) ** 2 + ((x - 24) / 6) ** 2 < 1)
    assert_array_equal(_painted(_leaf(2.0, tilt=3.0), depth=1.0)[3:], _painted(_leaf(2.0))[:-3])


def test_paint_stays_inside_and_later_leaves_occlude() -> None:
    where = np.zeros((40, 50), bool)
    where[:20] = True
    assert not _painted(_leaf(2.0), where)[20:].any()
    rng = np.random.default_rng(0)
    leaves = draw_leaves(rng, 60, 40, (2.0, 20.0), 0.0)
    labels = np.full((40, 40), -1, np.int32)
    paint(labels, leaves, 0, np.ones((40, 40), bool), np.zeros((2, 40, 40)), 0.0)
    for i in (0, 30, 59):
        alone = np.full((40, 40), -1, np.int32)
        one = Leaves(*(getattr(leaves, name)[i : i + 1] for name in ("centre", "axes", "angle", "tilt", "power")))
        paint(alone, one, i, np.ones((40, 40), bool), np.zeros((2, 40, 40)), 0.0)
        assert np.all(labels[alone == i] >= i)


@pytest.mark.parametrize("exponent", [0.6, 1.3, 1.8])
def test_smooth_field_has_its_spectrum(exponent: float) -> None:
    rng = np.random.default_rng(0)
    power = np.mean([np.abs(np.fft.fft2(smooth_field(rng, 64, exponent))) ** 2 for _ in range(40)], 0)
    f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    inside = (f > 0.05) & (f < 0.45)
    slope = np.polyfit(np.log(f[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-2 * exponent, abs=0.1)


def test_smooth_field_is_cut_off_and_normalised() -> None:
    field = smooth_field(np.random.default_rng(0), 64, 1.0, cutoff=0.5)
    f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    assert np.abs(np.fft.fft2(field))[f > 0.25 + 1e-9].max() < 1e-9
    assert field.std() == pytest.approx(1)
    assert field.mean() == pytest.approx(0, abs=1e-12)
