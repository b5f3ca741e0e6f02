"""The window around the heart that is read, on pixels of one size whatever those of the series."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
READING_MM = 1.5  # of the virtual patients that the engine was trained on
WINDOW = 128  # pixels: 192 mm hold a dilated heart with its right ventricle
ENCODED = 96  # pixels in the middle of the window that the encoder sees, as in training
ORIENTATIONS = 4  # in which a window can be read, see ``in_turn``
SMOOTHING = 0.45  # sd, in coarse pixels, of what is smoothed away before sampling more coarsely


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingWindow:
    """centre: (y, x) in pixels of the output; pixel_mm: (y, x) of the output."""

    centre: tuple[float, float]
    pixel_mm: tuple[float, float]

    def cut(self, images: Array) -> Array:
        """The window of images (n, y, x) on pixels of ``READING_MM``: (n, WINDOW, WINDOW)."""
        fineness = [READING_MM / p for p in self.pixel_mm]
        out = np.empty((len(images), WINDOW, WINDOW), np.float32)
        for image, into in zip(images, out, strict=True):
            source: NDArray[Any] = np.ascontiguousarray(image, np.float32)
            if max(fineness) > 1.2:
                sd = [SMOOTHING * max(f * f - 1, 1e-6) ** 0.5 for f in fineness]
                source = cv2.GaussianBlur(source, (0, 0), sigmaX=sd[1], sigmaY=sd[0], borderType=cv2.BORDER_REPLICATE)
            into[:] = cv2.warpAffine(
                source, self._to_output(0, 0), (WINDOW, WINDOW), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT_101,
            )  # fmt: skip
        return np.maximum(out, 0)

    def labels(self, probabilities: Array, matrix: tuple[int, int]) -> NDArray[np.uint8]:
        """The most probable classes of (n, classes, WINDOW, WINDOW) on the output's matrix, (n, y, x)."""
        out = np.zeros((len(probabilities), *matrix), np.uint8)
        low, high = (
            [self.centre[i] + side * READING_MM / self.pixel_mm[i] * (WINDOW - 1) / 2 for i in (0, 1)]
            for side in (-1, 1)
        )
        top, left = (max(0, int(np.ceil(v))) for v in low)
        bottom, right = (min(size, int(np.floor(v)) + 1) for v, size in zip(high, matrix, strict=True))
        if bottom <= top or right <= left:
            return out
        for one, into in zip(probabilities, out, strict=True):
            classes = np.ascontiguousarray(one.transpose(1, 2, 0), np.float32)
            finer = cv2.warpAffine(
                classes, cv2.invertAffineTransform(self._to_output(top, left)), (right - left, bottom - top),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            into[top:bottom, left:right] = finer.argmax(-1)
        return out

    def moved_to(self, y: float, x: float) -> "ReadingWindow":
        """The window about a place (y, x) in pixels of this one."""
        middle = (WINDOW - 1) / 2
        cy, cx = (
            c + (at - middle) * READING_MM / p for c, at, p in zip(self.centre, (y, x), self.pixel_mm, strict=True)
        )
        return ReadingWindow(centre=(cy, cx), pixel_mm=self.pixel_mm)

    def _to_output(self, top: int, left: int) -> NDArray[np.float64]:
        """(2, 3): pixels (x, y) of the window to pixels of the output, counted from (top, left)."""
        fy, fx = (READING_MM / p for p in self.pixel_mm)
        middle = (WINDOW - 1) / 2
        cy, cx = self.centre
        return np.array([[fx, 0, cx - fx * middle - left], [0, fy, cy - fy * middle - top]])


def encoded(windows: Array) -> Array:
    """The middle of windows (n, WINDOW, WINDOW) that the encoder sees."""
    edge = (WINDOW - ENCODED) // 2
    return windows[..., edge : edge + ENCODED, edge : edge + ENCODED]


def with_neighbours(images: Array, n: int) -> Array:
    """Slices (z, y, x) each with the n before and after it, (z, 1 + 2 n, y, x): itself first, then before, after, the
    nearest first; at the ends of the stack the last slice stands in for the missing one.
    """
    at = np.arange(len(images))
    steps = [0, *(side * k for k in range(1, n + 1) for side in (-1, 1))]
    return np.stack([images[np.clip(at + step, 0, len(images) - 1)] for step in steps], 1)


def in_turn(images: Array, k: int, *, back: bool = False) -> Array:
    """Windows (..., y, x) in the k-th of ``ORIENTATIONS`` orientations, or back from it: k quarter turns, mirrored
    where k is odd. The network was trained in all of them and has no reason to read one differently from another.
    """
    mirrored = k % 2 == 1
    if not back:
        turned = np.rot90(images, k, (-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)
    return np.ascontiguousarray(np.rot90(images[..., ::-1] if mirrored else images, -k, (-2, -1)))
