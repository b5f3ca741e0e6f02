"""What a NIfTI header says: which axis is which, and the geometry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Axis

Affine = NDArray[np.float64]
TimeAxis = int | Literal["none"] | None

_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAxes:
    """Which axis of the file is which; None where the file has none (size 1)."""

    x: int
    y: int
    z: int | None
    t: int | None

    @property
    def standard(self) -> bool:
        """The order of the NIfTI standard: x, y[, z[, t]]."""
        return (self.x, self.y) == (0, 1) and self.z in (2, None) and self.t in (3, None)


def check_dtype(path: Path, header: Any) -> np.dtype[Any]:
    """The stored type; UnusableError unless it is a real number of at most 64 bits."""
    dtype: np.dtype[Any] = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        what = "complex" if dtype.kind == "c" else "colour" if dtype.names else str(dtype)
        raise UnusableError(f"{path}: {what} voxels, expected real numbers of at most 64 bits (magnitude images)")
    return dtype


def file_shape(header: Any) -> tuple[int, ...]:
    """Two to four axes, the fourth time."""
    return tuple(int(n) for n in header["dim"][1 : int(header["dim"][0]) + 1])


def choose_axes(path: Path, header: Any, shape: tuple[int, ...], time_axis: TimeAxis) -> FileAxes:
    """Which axis is which, as the standard or ``time_axis`` says; UnusableError where neither does.

    With time first the others are z, y, x (an array (t, [z,] y, x) saved as it was), otherwise x, y, z.
    """
    n_dims = len(shape)
    if isinstance(time_axis, int):
        while n_dims > max(3, time_axis + 1) and shape[n_dims - 1] == 1:
            n_dims -= 1
        if n_dims < 3 or not 0 <= time_axis < n_dims:
            raise UnusableError(f"{path}: --time-axis {time_axis}, but the shape is {shape}; the first axis is 0")
        space = [a for a in range(n_dims) if a != time_axis]
        x, y, *z = space[::-1] if time_axis == 0 else space
        return FileAxes(x=x, y=y, z=z[0] if z else None, t=time_axis)
    if time_axis == "none" and n_dims == 4 and shape[3] > 1:
        raise UnusableError(f"{path}: --time-axis none, but the shape {shape} has a time axis; leave the option out")
    if time_axis is None and n_dims == 3 and shape[2] > 1 and header.get_dim_info()[2] != 2:
        raise UnusableError(
            f"{path}: shape {shape} may be a volume or images over time, and the header does not say; "
            f"add --time-axis 0, 1 or 2 (0 = first axis), or --time-axis none for one volume"
        )
    return FileAxes(x=0, y=1, z=2 if n_dims > 2 else None, t=3 if n_dims > 3 else None)


def standard_header(header: Any, shape: tuple[int, ...], axes: FileAxes) -> Any:
    """The header of the same data in the order (x, y, z, t), from a file in another order.

    Matrix columns go with their axes. The column of the time axis is free: it serves the space axis that has none (the
    slices of a 3-D file, the fourth axis of a 4-D one). In a diagonal matrix directions say nothing about the axes
    (writers put one when they know none): only the voxel sizes move. The time step becomes 1.0, which is "unknown".
    """
    assert axes.t is not None
    zooms = [*map(float, header.get_zooms()), 1.0]
    order = [axes.t if a is None else a for a in (axes.x, axes.y, axes.z)]
    lengths = [zooms[a] or 1.0 for a in order]  # a time step may be 0

    def reorder(matrix: Affine) -> Affine:
        block, result = matrix[:3, :3], np.eye(4)
        result[:3, 3] = matrix[:3, 3]
        if np.array_equal(block, np.diag(np.diag(block))):
            result[:3, :3] = np.diag(np.sign(np.diag(block)) * lengths)
            return result
        for column, axis in enumerate(order):
            source = block[:, axes.t if axis == 3 else axis]
            result[:3, column] = source * (lengths[column] / np.linalg.norm(source) if axis == 3 else 1.0)
        return result

    new = header.copy()
    new.set_data_shape([1 if a is None else shape[a] for a in (axes.x, axes.y, axes.z, axes.t)])
    new.set_zooms([*lengths, 1.0])
    qform, qform_code = header.get_qform(coded=True)
    sform, sform_code = header.get_sform(coded=True)
    if qform is not None:
        new.set_qform(reorder(qform), int(qform_code))
    if sform is not None:
        new.set_sform(reorder(sform), int(sform_code))
    new.set_dim_info(*(None if a in (None, axes.t) else order.index(a) for a in header.get_dim_info()))
    return new


def read_affine(header: Any, notes: list[str]) -> Affine:
    """Voxel (x, y, z) to RAS+ mm: the sform, else the qform, else the voxel sizes alone with a note."""
    to_mm = np.diag([_MM[header.get_xyzt_units()[0]]] * 3 + [1.0])
    for matrix in (header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]):
        if matrix is not None:
            return np.asarray(to_mm @ matrix, dtype=np.float64)
    sizes = [*map(float, header.get_zooms()[:3]), 1.0][:3]
    notes.append("the header gives no orientation: axes and origin follow from the voxel sizes alone")
    return np.asarray(to_mm @ np.diag([*sizes, 1.0]), dtype=np.float64)


def read_phase_axis(header: Any) -> Axis | None:
    """The in-plane axis of phase encoding from ``dim_info``."""
    phase = header.get_dim_info()[1]
    return "x" if phase == 0 else "y" if phase == 1 else None
