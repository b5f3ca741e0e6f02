"""The one data structure: a time series of image stacks with its geometry, its times and where it came from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["perfusion", "cine", "t1", "lge", "unknown"]
Axis = Literal["x", "y"]
Shape = tuple[int, int, int, int]
FrameReader = Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a series came from, and what its writer needs to keep.

    ``header`` is the reader's own record: a ``nibabel`` header for NIfTI, a ``DicomStack`` for DICOM, None in memory.
    ``notes`` says in words what the reader decided (which tag gave the time, which frames were dropped).
    ``background`` (z, y, x) are the voxels that are NaN in the file and 0 in the frames; None where there are none.
    """

    name: str
    format: Literal["nifti", "dicom", "memory"] = "memory"
    paths: tuple[Path, ...] = ()
    header: Any = None
    notes: tuple[str, ...] = ()
    background: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Frames ``(t, z, y, x)`` in float32, read one time point at a call, so that a long series need not fit in memory.

    affine: (4, 4) float64, voxel indices (x, y, z) to RAS+ millimetres. It belongs to the series, never to an array.
    origins_mm: (z, 3) float64, the first voxel of every slice in RAS+ mm, where the slices are not evenly spaced and
    the affine holds their mean step; None where the affine says it all.
    times_ms: (t,) or (t, z) float64, strictly increasing along t; None where the file does not say. Of kind "t1" they
    are inversion times, in the order of the images.
    phase_axis: the in-plane axis of phase encoding, None where unknown.
    acquired_fraction: acquired phase lines / matrix size along ``phase_axis`` by the header, None where it is silent.
    """

    shape: Shape
    affine: NDArray[np.float64]
    reader: FrameReader = field(repr=False)
    times_ms: NDArray[np.float64] | None = None
    kind: Kind = "unknown"
    phase_axis: Axis | None = None
    acquired_fraction: float | None = None
    origins_mm: NDArray[np.float64] | None = None
    source: Source = field(default_factory=lambda: Source(name="series"))

    def __post_init__(self) -> None:
        assert len(self.shape) == 4, self.shape
        assert min(self.shape) >= 1, self.shape
        assert self.affine.shape == (4, 4), self.affine.shape
        assert self.origins_mm is None or self.origins_mm.shape == (self.shape[1], 3)
        assert self.times_ms is None or self.times_ms.shape[0] == self.shape[0], (self.times_ms, self.shape)

    @classmethod
    def from_array(
        cls,
        frames: NDArray[Any],
        *,
        affine: NDArray[np.float64] | None = None,
        times_ms: NDArray[np.float64] | None = None,
        kind: Kind = "unknown",
        phase_axis: Axis | None = None,
        source: Source | None = None,
    ) -> "Series":
        """A series of an array in memory, ``(t, z, y, x)``; the default affine is 1 mm isotropic."""
        data = np.ascontiguousarray(frames, dtype=np.float32)
        if data.ndim != 4:
            raise ValueError(f"expected an array (t, z, y, x), got shape {data.shape}")
        return cls(
            shape=data.shape,
            affine=np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64),
            reader=lambda t: data[t],
            times_ms=times_ms,
            kind=kind,
            phase_axis=phase_axis,
            source=source or Source(name="series"),
        )

    @property
    def n_frames(self) -> int:
        return self.shape[0]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in millimetres: the lengths of the affine's columns."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    def frame(self, t: int) -> NDArray[np.float32]:
        """One time point, ``(z, y, x)``."""
        return self.reader(t)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self.reader(t) for t in range(self.n_frames))

    def array(self) -> NDArray[np.float32]:
        """All frames in memory, ``(t, z, y, x)``."""
        return np.stack(list(self))

    def with_frames(self, frames: NDArray[Any], **changes: Any) -> "Series":
        """The same series with other frames held in memory; ``changes`` replaces further fields."""
        data = np.ascontiguousarray(frames, dtype=np.float32)
        return replace(self, shape=data.shape, reader=lambda t: data[t], **changes)
