"""Dense motion between two frames, and what lies between them: the classical estimates of an intermediate frame."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Times = Sequence[float] | NDArray[np.floating[Any]]
SMALLEST = 16  # pixels a side: two scales of patches of 8; with fewer OpenCV reads beyond its images


def dense_flow(first: NDArray[Any], second: NDArray[Any], scale: float) -> Array:
    """Displacement (y, x, 2) in pixels, x before y, with first(p) = second(p + flow(p)): DIS flow (Kroeger 2016).

    first, second: (y, x). scale: signal that is shown white; the search works on 8 bits.
    """
    cv2.setNumThreads(1)  # its stripes, and so its result, depend on the number of threads
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    y, x = first.shape
    margin = ((0, max(0, SMALLEST - y)), (0, max(0, SMALLEST - x)))
    eight_bit = [
        np.pad(np.clip(image * (255 / scale), 0, 255).astype(np.uint8), margin, mode="edge")
        for image in (first, second)
    ]
    flow = finder.calc(*eight_bit, None)  # type: ignore[call-overload]  # None: no first guess
    return np.asarray(flow[:y, :x], dtype=np.float32)


def warp(image: NDArray[Any], flow: NDArray[Any]) -> Array:
    """image(p + flow(p)) by cubic interpolation, (y, x); what lies outside repeats the border."""
    image, flow = np.asarray(image, np.float32), np.asarray(flow, np.float32)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    moved = cv2.remap(
        image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )  # fmt: skip
    return np.asarray(moved, dtype=np.float32)


def motion_warp(first: NDArray[Any], second: NDArray[Any], tau: Times, scale: float) -> Array:
    """Frames (n, y, x) at times tau (0 first, 1 second): both ends warped to the time and blended.

    Flow from the time to either end by eq. 4 of Jiang et al. 2018 (Super SloMo), for motion at constant speed.
    """
    forward, backward = dense_flow(first, second, scale), dense_flow(second, first, scale)
    frames = [
        (1 - t) * warp(first, t * (t * backward - (1 - t) * forward))
        + t * warp(second, (1 - t) * ((1 - t) * forward - t * backward))
        for t in map(float, tau)
    ]
    return np.stack(frames).astype(np.float32)


def linear_blend(first: NDArray[Any], second: NDArray[Any], tau: Times) -> Array:
    """(1 - tau) first + tau second: (n, y, x)."""
    weight = np.asarray(tau, np.float32).reshape(-1, *[1] * first.ndim)
    return np.asarray((1 - weight) * first + weight * second, dtype=np.float32)


def curvature(
    before: NDArray[Any] | None, first: NDArray[Any], second: NDArray[Any], after: NDArray[Any] | None,
    tau: Times, gaps: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Array:  # fmt: skip
    """What a cubic through four frames adds to the linear blend of the middle two at times tau: (n, y, x).

    Cubic Hermite polynomial whose slopes are those of the parabolas through three neighbours (Catmull-Rom for equal
    gaps). gaps: times from before to first, to second, to after. An absent neighbour adds nothing on its side.
    """
    rise = np.asarray(second - first, np.float32)
    left, h, right = gaps
    bend_first = bend_second = np.float32(0)
    if before is not None:  # h times the slope, less the rise
        bend_first = (h / left * (first - before) - rise) * np.float32(h / (h + left))
    if after is not None:
        bend_second = (h / right * (after - second) - rise) * np.float32(h / (h + right))
    frames = [t * (1 - t) * ((1 - t) * bend_first - t * bend_second) for t in map(float, tau)]
    return np.stack([np.broadcast_to(frame, first.shape) for frame in frames]).astype(np.float32)


def estimate(
    before: NDArray[Any] | None, first: NDArray[Any], second: NDArray[Any], after: NDArray[Any] | None,
    tau: Times, scale: float, gaps: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> tuple[Array, Array]:  # fmt: skip
    """The best classical guess of the frames at times tau, and its ``curvature`` part alone: (n, y, x) each.

    The mean of the linear and the motion-compensated blend, whose errors differ, and half of the curvature: measured on
    real cine, each half does better than none and than the whole.
    """
    bend = curvature(before, first, second, after, tau, gaps)
    straight = (linear_blend(first, second, tau) + motion_warp(first, second, tau, scale)) / 2
    return np.asarray(straight + bend / 2, dtype=np.float32), bend
