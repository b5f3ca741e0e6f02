"""Voxels of a file that hold no number in any frame (NaN where nothing was measured): read as 0, written as NaN."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import FrameReader, Series, Shape

Mask = NDArray[np.bool_]

_MOST = 0.95  # of the voxels: a heart needs more than the rest


def find_background(name: str, read: FrameReader, n_frames: int) -> Mask | None:
    """Voxels (z, y, x) that are NaN or infinite in the first frame, as they have to be in all; None where none are.

    UnusableError where hardly any are left.
    """
    mask = ~np.isfinite(read(0))
    if not mask.any():
        return None
    if mask.mean() > _MOST:
        every = n_frames == 1 or bool((~np.isfinite(read(1))).mean() > _MOST)
        where, do = ("every frame", "expected an image") if every else ("frame 1", "leave out that frame")
        raise UnusableError(f"{name}: {int(mask.sum())} of {mask.size} voxels are NaN or infinite in {where}; {do}")
    return mask


def without_background(name: str, read: FrameReader, mask: Mask, n_frames: int) -> FrameReader:
    """``read`` with 0 for the masked voxels. UnusableError on a frame whose NaN are not the same."""

    def frame(t: int) -> NDArray[np.float32]:
        values = read(t)
        found = ~np.isfinite(values)
        if differing := int((found ^ mask).sum()):
            raise UnusableError(
                f"{name}: {differing} of {mask.size} voxels are NaN or infinite in only one of frames 1 and {t + 1} of "
                f"{n_frames}, expected the same in every frame; give these a number, or leave out that frame"
            )
        values = np.where(mask, np.float32(0), values)
        values.flags.writeable = False
        return values

    return frame


def common_background(parts: Sequence[Series]) -> Mask | None:
    """The one of series that are joined; UnusableError where they differ."""
    first, *others = parts
    mask = first.source.background
    for other in others:
        if not np.array_equal(_filled(mask), _filled(other.source.background)):
            raise UnusableError(
                f"{other.source.name}: the voxels that are NaN or infinite are not those of {first.source.name}; "
                f"give them a number in both files"
            )
    return mask


def _filled(mask: Mask | None) -> Mask:
    return np.zeros(0, bool) if mask is None else mask


def background_of(like: Series, shape: Shape, affine: NDArray[np.float64]) -> Mask | None:
    """The background (z, y, x) of ``like`` on the grid of a result: that of the nearest voxel."""
    mask = like.source.background
    if mask is None or (mask.shape == shape[1:] and np.allclose(affine, like.affine)):
        return mask
    to_source = np.linalg.inv(like.affine) @ affine
    grid = np.indices(shape[1:])[::-1].reshape(3, -1)
    x, y, z = np.rint(to_source[:3, :3] @ grid + to_source[:3, 3:]).astype(int)
    limits = [n - 1 for n in mask.shape]
    nearest: Mask = mask[z.clip(0, limits[0]), y.clip(0, limits[1]), x.clip(0, limits[2])].reshape(shape[1:])
    return nearest


def put_back(frame: NDArray[Any], background: Mask | None, value: float) -> NDArray[Any]:
    """``frame`` (z, y, x) with ``value`` where the source holds no number."""
    return frame if background is None else np.where(background, np.asarray(value, frame.dtype), frame)
