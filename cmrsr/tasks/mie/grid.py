"""The window around the heart in the plane of a T1 slice, and how T1 images, cine and results get in and out of it."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cmrsr.heart.window import READING_MM, SMOOTHING, WINDOW
from cmrsr.io.window import Affine

Array = NDArray[np.float32]
Shift = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceGrid:
    """WINDOW x WINDOW pixels of READING_MM along the rows and columns of T1 slice ``z``.

    centre: (y, x) in pixels of the T1 image. t1, cine: affines of the two series; cine_z: the slice of the cine.
    """

    centre: tuple[float, float]
    t1: Affine
    z: int
    cine: Affine
    cine_z: int

    def from_t1(self, images: NDArray[Any]) -> Array:
        """Windows of T1 images (n, y, x)."""
        return _sampled(images, self._to_t1())

    def from_cine(self, images: NDArray[Any], shift: Shift = (0.0, 0.0)) -> Array:
        """Windows of cine images (n, y, x): each point along the normal of the T1 slice.

        shift: (y, x) in pixels of the window, by how much the heart lies further along in the cine.
        """
        return _sampled(images, self._to_cine() @ _moved(shift))

    def to_t1(self, maps: NDArray[Any], matrix: tuple[int, int], *, nearest: bool = False) -> Array:
        """Maps (n, WINDOW, WINDOW) on the T1 image's matrix (y, x), 0 outside the window."""
        back = np.linalg.inv(_square(self._to_t1()))[:2]
        out = np.empty((len(maps), *matrix), np.float32)
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)
        for one, into in zip(maps, out, strict=True):
            source = np.ascontiguousarray(one, np.float32)
            into[:] = cv2.warpAffine(source, back, matrix[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT)
        return out

    def _to_t1(self) -> NDArray[np.float64]:
        """(2, 3): pixels (x, y) of the window to those of the T1 image."""
        fx, fy = READING_MM / np.linalg.norm(self.t1[:3, :2], axis=0)
        middle, (cy, cx) = (WINDOW - 1) / 2, self.centre
        return np.array([[fx, 0, cx - fx * middle], [0, fy, cy - fy * middle]])

    def _to_cine(self) -> NDArray[np.float64]:
        """(2, 3): pixels (x, y) of the window to those of the cine, whatever lies between their planes left out."""
        place = np.array([[1, 0, 0], [0, 1, 0], [0, 0, self.z], [0, 0, 1]], np.float64)  # (x, y, 1) to a T1 voxel
        return np.asarray((np.linalg.inv(self.cine) @ self.t1 @ place)[:2] @ _square(self._to_t1()))


def _sampled(images: NDArray[Any], matrix: NDArray[np.float64]) -> Array:
    out = np.empty((len(images), WINDOW, WINDOW), np.float32)
    coarse = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))  # pixels of the source a pixel of the window
    for image, into in zip(images, out, strict=True):
        source: NDArray[Any] = np.ascontiguousarray(image, np.float32)
        if coarse > 1.2:
            sd = SMOOTHING * (coarse**2 - 1) ** 0.5
            source = cv2.GaussianBlur(source, (0, 0), sigmaX=sd, borderType=cv2.BORDER_REPLICATE)
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        into[:] = cv2.warpAffine(source, matrix, (WINDOW, WINDOW), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.maximum(out, 0)


def _moved(shift: Shift) -> NDArray[np.float64]:
    return np.array([[1, 0, shift[1]], [0, 1, shift[0]], [0, 0, 1]])


def _square(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vstack([matrix, [0, 0, 1]])
