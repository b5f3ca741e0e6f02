"""Motion between frames against known motion, and the estimates of an intermediate frame against closed forms."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, gaussian_filter, map_coordinates

from cmrsr.physics.optical_flow import curvature, dense_flow, estimate, linear_blend, motion_warp, warp

Array = NDArray[np.float64]
N = 80
INSIDE = (slice(10, -10), slice(10, -10))  # away from what moves in over the border
SUB_PIXEL = 0.065  # OpenCV interpolates at 32nds of a pixel, and its cubic misses a ramp by up to 0.048 of a step


def texture(flow: Array | None = None) -> NDArray[np.float32]:
    """A smooth random image in [0, 1]; with a flow (x, y along the last axis) its value at p + flow(p)."""
    rough = gaussian_filter(np.random.default_rng(0).random((N + 32, N + 32)), 2.5)
    rough = (rough - rough.min()) / np.ptp(rough)
    y, x = np.mgrid[16 : 16 + N, 16 : 16 + N].astype(float)
    dx, dy = (0.0, 0.0) if flow is None else (flow[..., 0], flow[..., 1])
    return map_coordinates(rough, [y + dy, x + dx], order=3).astype(np.float32)


def shift(dx: float, dy: float) -> Array:
    return np.broadcast_to([dx, dy], (N, N, 2)).astype(float)


def waves(size: float) -> Array:
    """A smooth deformation of a few pixels."""
    y, x = np.mgrid[:N, :N] * (2 * np.pi / 96)
    return size * np.stack([np.sin(y) + 0.2 * np.cos(x), 0.7 * np.cos(x)], -1)


def blob(y: float, x: float, n: int = 64) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:n, :n]
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 4.0**2)).astype(np.float32)


def distance(found: NDArray[np.float32], wanted: Array) -> Array:
    """Length of the difference of two flows in pixels, away from the border."""
    return np.hypot(*np.moveaxis(found - wanted, -1, 0))[INSIDE]


# ---- motion ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (3.0, 0.0), (0.0, -2.5), (-4.0, 4.0), (0.4, -0.7)])
def test_a_translation_is_found(dx: float, dy: float) -> None:
    flow = dense_flow(texture(shift(dx, dy)), texture(), 1.0)
    assert flow.shape == (N, N, 2)
    assert flow.dtype == np.float32
    error = distance(flow, shift(dx, dy))
    assert error.mean() < 0.1
    assert error.max() < 0.4


def test_a_smooth_deformation_is_found() -> None:
    error = distance(dense_flow(texture(waves(2.0)), texture(), 1.0), waves(2.0))
    assert error.mean() < 0.25
    assert error.max() < 0.7
    still = distance(np.zeros((N, N, 2), np.float32), waves(2.0))
    assert still.mean() > 1.2


def test_the_scale_is_what_is_shown_white() -> None:
    a, b = texture(shift(2.0, 1.0)), texture()
    np.testing.assert_array_equal(dense_flow(700 * a, 700 * b, 700.0), dense_flow(a, b, 1.0))
    cut = dense_flow(np.where(a > 0.5, 9.0, a), np.where(b > 0.5, 9.0, b), 0.5)  # what is brighter than white is white
    np.testing.assert_array_equal(cut, dense_flow(a, b, 0.5))
    np.testing.assert_array_equal(dense_flow(np.maximum(a - 0.5, 0), b, 1.0), dense_flow(a - 0.5, b, 1.0))


def test_the_threads_of_opencv_do_not_change_the_flow() -> None:
    before = cv2.getNumThreads()
    found = []
    try:
        for n in (1, 2, 7):
            cv2.setNumThreads(n)
            found.append(dense_flow(texture(waves(2.0)), texture(), 1.0))
            assert cv2.getNumThreads() == 1  # versions before 5 search in as many stripes as there are threads
    finally:
        cv2.setNumThreads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("shape", [(8, 8), (8, 64), (128, 8), (15, 100), (9, 256), (16, 16), (12, 40), (31, 33)])
def test_small_and_thin_images_have_a_motion_too(shape: tuple[int, int]) -> None:
    """With patches larger than its coarsest image OpenCV would read outside of it, or end the process."""
    y, x = shape
    first, second = texture(shift(1.0, 1.0))[:y, :x], texture()[:y, :x]
    first, second = (
        np.pad(image, ((0, y - image.shape[0]), (0, x - image.shape[1])), "wrap") for image in (first, second)
    )
    flow = dense_flow(first, second, 1.0)
    assert flow.shape == (*shape, 2)
    assert np.abs(flow).max() < max(shape)  # and no NaN
    assert np.isfinite(estimate(first, first, second, second, [0.5], 1.0)).all()


def test_no_flow_changes_nothing_and_whole_pixels_only_move() -> None:
    image = texture()
    np.testing.assert_array_equal(warp(image, shift(0, 0)), image)
    moved = warp(image, shift(3, -2))
    np.testing.assert_array_equal(moved[INSIDE], np.roll(image, (2, -3), (0, 1))[INSIDE])
    np.testing.assert_array_equal(moved[:, -4:], np.repeat(moved[:, -4:-3], 4, axis=1))  # the border goes on


def test_warping_takes_the_value_where_the_flow_points() -> None:
    ramp = np.add.outer(2.0 * np.arange(N), 3.0 * np.arange(N)).astype(np.float32)
    flow = waves(2.0)
    wanted = ramp + 3.0 * flow[..., 0] + 2.0 * flow[..., 1]
    assert np.abs(warp(ramp, flow) - wanted)[INSIDE].max() < 5 * SUB_PIXEL  # of slopes 3 and 2


# ---- between two frames ----------------------------------------------------------------------------------------------


def test_a_moving_blob_is_half_way_at_half_time() -> None:
    first, second, between = blob(30, 26), blob(34, 32), blob(32, 29)
    (moved,) = motion_warp(first, second, [0.5], 1.0)
    (blended,) = linear_blend(first, second, [0.5])
    assert center_of_mass(moved) == pytest.approx((32, 29), abs=0.15)
    assert moved.max() > 0.97 > 0.8 > blended.max()  # one blob, not the shadow of two
    assert np.square(moved - between).mean() < 0.02 * np.square(blended - between).mean()
    path = [center_of_mass(frame) for frame in motion_warp(first, second, [0.25, 0.75], 1.0)]
    assert np.allclose(path, [(31, 27.5), (33, 30.5)], atol=0.2)


def test_both_estimates_tend_to_the_ends() -> None:
    first, second = texture(waves(2.0)), texture()
    for method in (lambda tau: motion_warp(first, second, tau, 1.0), lambda tau: linear_blend(first, second, tau)):
        ends = method([0.0, 1.0])
        np.testing.assert_array_equal(ends, np.stack([first, second]))
        near = np.abs(method([0.02, 0.98]) - ends).mean()
        assert 0 < near < 0.1 * np.abs(method([0.5, 0.5]) - ends).mean()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_time_may_run_backwards(tau: list[float]) -> None:
    first, second = texture(waves(1.0)), texture()
    back = [1 - t for t in tau]
    np.testing.assert_allclose(
        motion_warp(second, first, back, 1.0), motion_warp(first, second, tau, 1.0), atol=2e-3
    )  # a rounded coordinate may fall on the next 32nd of a pixel
    np.testing.assert_allclose(linear_blend(second, first, back), linear_blend(first, second, tau), atol=1e-6)


def test_a_blend_is_linear_in_time() -> None:
    first, second = texture(), np.ones((N, N), np.float32)
    blend = linear_blend(first, second, np.array([0.25, 0.5]))
    assert blend.dtype == np.float32
    np.testing.assert_allclose(blend[0], 0.75 * first + 0.25, atol=1e-6)
    np.testing.assert_allclose(blend[1], 0.5 * first + 0.5, atol=1e-6)


# ---- beyond two frames -----------------------------------------------------------------------------------------------

TAU = (0.0, 0.2, 0.5, 0.9, 1.0)


def parabola(times: Array, squared: float = 1.0) -> list[NDArray[np.float32]]:
    """Frames whose pixels follow parabolas of their own, at ``times``."""
    c0, c1, c2 = np.random.default_rng(4).normal(size=(3, 5, 6))
    return [(c0 + c1 * t + squared * c2 * t**2).astype(np.float32) for t in times]


@given(st.tuples(*[st.floats(0.3, 3)] * 3))
def test_a_parabola_over_uneven_times_is_met_exactly(gaps: tuple[float, float, float]) -> None:
    """Linear blend and curvature together, from frames at -left, 0, h and h + right."""
    left, h, right = gaps
    before, first, second, after = parabola(np.array([-left, 0, h, h + right]))
    found = linear_blend(first, second, TAU) + curvature(before, first, second, after, TAU, gaps)
    wanted = np.stack(parabola(h * np.array(TAU)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * float(np.abs([before, after, *wanted]).max()))


def test_with_equal_gaps_it_is_the_cubic_of_catmull_and_rom() -> None:
    frames = [np.random.default_rng(i).normal(size=(5, 6)).astype(np.float32) for i in range(4)]
    p = np.stack(frames).astype(float)
    basis = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    powers = np.power.outer(np.array(TAU), np.arange(4))
    wanted = np.einsum("nk,kf,fyx->nyx", powers, basis, p)
    found = linear_blend(frames[1], frames[2], TAU) + curvature(*frames, TAU)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_curvature_is_zero_at_the_ends_and_without_cause() -> None:
    before, first, second, after = parabola(np.array([-1.0, 0, 1, 2]))
    bend = curvature(before, first, second, after, TAU)
    assert bend.dtype == np.float32
    assert not bend[0].any()
    assert not bend[-1].any()
    assert np.abs(bend[2]).mean() > 0.1
    none = curvature(None, first, second, None, TAU)
    assert none.shape == bend.shape
    assert not none.any()
    straight = parabola(np.array([-0.7, 0, 1, 3]), squared=0.0)
    assert np.abs(curvature(*straight, TAU, (0.7, 1.0, 2.0))).max() < 1e-5


def test_each_neighbour_has_its_own_side() -> None:
    before, first, second, after = parabola(np.array([-1.0, 0, 1, 2]))
    left = curvature(before, first, second, None, TAU)
    right = curvature(None, first, second, after, TAU)
    both = curvature(before, first, second, after, TAU)
    np.testing.assert_allclose(left + right, both, atol=1e-6)
    early, late = 1, 3  # of TAU
    assert np.abs(left[early]).mean() > 3 * np.abs(right[early]).mean()
    assert np.abs(right[late]).mean() > 3 * np.abs(left[late]).mean()


def test_curvature_backwards_in_time() -> None:
    before, first, second, after = parabola(np.array([-0.5, 0, 1, 3]))
    back = [1 - t for t in TAU]
    np.testing.assert_allclose(
        curvature(after, second, first, before, back, (2.0, 1.0, 0.5)),
        curvature(before, first, second, after, TAU, (0.5, 1.0, 2.0)),
        atol=1e-5,
    )


@pytest.mark.parametrize(("with_before", "with_after"), list(itertools.product([True, False], repeat=2)))
def test_the_estimate_is_the_mean_of_both_blends_and_half_of_the_bend(with_before: bool, with_after: bool) -> None:
    frames = [texture(waves(s)) for s in (3.0, 2.0, 0.0, -1.0)]
    before, after = frames[0] if with_before else None, frames[3] if with_after else None
    gaps = (1.0, 2.0, 0.5)
    base, bend = estimate(before, frames[1], frames[2], after, TAU, 1.0, gaps)
    assert base.shape == bend.shape == (len(TAU), N, N)
    assert base.dtype == bend.dtype == np.float32
    np.testing.assert_array_equal(bend, curvature(before, frames[1], frames[2], after, TAU, gaps))
    both = linear_blend(*frames[1:3], TAU) + motion_warp(*frames[1:3], TAU, 1.0)
    np.testing.assert_allclose(base, both / 2 + bend / 2, atol=1e-6)


def test_the_estimate_keeps_the_units() -> None:
    frames = [texture(waves(s)) for s in (3.0, 2.0, 0.0, -1.0)]
    bright = estimate(*(700 * frame for frame in frames), TAU, 700.0)
    for found, wanted in zip(bright, estimate(*frames, TAU, 1.0), strict=True):
        np.testing.assert_allclose(found, 700 * wanted, atol=0.01)
