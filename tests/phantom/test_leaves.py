import numpy as np
import pytest

from cmrsr.phantom.leaves import draw_radii, draw_scene, outlines
from cmrsr.tasks.sr.training.virtual import LeavesSet, sampled
from cmrsr.training.cache import load


def test_every_octave_of_sizes_covers_the_same_area() -> None:
    radii = draw_radii(np.random.default_rng(0), 400_000, 2.0, 64.0)
    assert radii.min() >= 2
    assert radii.max() <= 64
    octave = np.floor(np.log2(radii / 2)).astype(int)
    area = np.bincount(octave, weights=radii**2)
    assert area[:4] / area[:4].mean() == pytest.approx(np.ones(4), rel=0.1)  # the last octave holds few


def test_outlines_are_of_all_kinds() -> None:
    """Concave ones and polygons are among them: the area they enclose falls short of their convex hulls'."""
    import cv2

    points = outlines(np.random.default_rng(1), 300, np.full(300, 30.0))
    ratio, corners = [], []
    for outline in points.astype(np.float32):
        hull = cv2.convexHull(outline)
        ratio.append(cv2.contourArea(outline) / cv2.contourArea(hull))
        corners.append(len(np.unique(outline.round(3), axis=0)))
    assert np.mean(np.array(ratio) < 0.9) > 0.2
    assert np.mean(np.array(ratio) > 0.97) > 0.1
    assert 0.25 < np.mean(np.array(corners) <= 10) < 0.55
    size = np.sqrt([cv2.contourArea(o) / np.pi for o in points.astype(np.float32)])
    assert 0.6 < np.median(size) / 30 < 1.3


def test_scenes_differ_and_repeat() -> None:
    first, again, other = (draw_scene(np.random.default_rng(seed), 96) for seed in (0, 0, 1))
    assert first.shape == (96, 96)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert first.min() >= 0
    assert first.max() < 3


def test_scenes_have_edges_at_every_scale() -> None:
    """Power falls by about f^-3 a frequency, as in natural and MR images: leaves of all sizes, and texture in them."""
    power = np.zeros((128, 128))
    for seed in range(12):
        scene = draw_scene(np.random.default_rng(seed), 128)
        power += np.abs(np.fft.fft2((scene - scene.mean()) * np.outer(*[np.hanning(128)] * 2))) ** 2
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128) * 128] * 2))
    radii = np.array([3, 6, 12, 24, 48])
    level = [np.log2(power[(f > 0.8 * r) & (f < 1.2 * r)].mean()) for r in radii]
    slope = -np.diff(level)
    assert np.all(slope > 0.8)
    assert np.all(slope < 3.6)


def test_sampling_keeps_brightness_and_drops_what_is_beyond_the_matrix() -> None:
    y = np.arange(64)[:, None] + np.zeros((1, 64))
    slow, fast = (np.cos(2 * np.pi * k / 64 * y).astype(np.float32) for k in (3, 25))
    kept = sampled(1 + slow + fast, 32).astype(np.float32)
    assert kept == pytest.approx((1 + slow)[::2, ::2], abs=2e-3)


def test_leaves_are_cached(tmp_path: object) -> None:
    from pathlib import Path

    few = LeavesSet(n_scenes=2, matrix=32)
    scenes = load(few, Path(str(tmp_path)))
    assert scenes.shape == (2, 32, 32)
    assert scenes.dtype == np.float16
    assert np.array_equal(scenes[1], few.render(1)[0])
