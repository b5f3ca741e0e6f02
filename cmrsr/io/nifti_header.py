"""What a NIfTI header says (axes, geometry, times), and the header of a result made from it."""

import gzip
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.series import Axis, Series, Shape

Affine = NDArray[np.float64]
TimeAxis = int | Literal["none"] | None
StoredType = Literal["same", "float32", "int16", "uint8"]

_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_MS = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
# Cardiac frames lie tens of ms (cine) to a few s (one a heartbeat) apart; far beyond, the stated unit is wrong.
_STEP_LIMITS_MS = (1.0, 60_000.0)


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


def open_nifti(path: Path) -> BinaryIO | gzip.GzipFile:
    """The file's bytes, decompressed if it is gzip, whatever its suffix says."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def read_header(path: Path) -> Any:
    """The nibabel header of a NIfTI-1 or NIfTI-2 file; UnreadableError if it is none."""
    try:
        with open_nifti(path) as stream:
            start = stream.read(4)
            sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
            if not sizes & {348, 540}:
                found = "another kind of file" if start else "an empty file"
                raise UnreadableError(f"{path}: expected a NIfTI file, found {found}")
            stream.seek(0)
            # nibabel prints and warns about what it repairs; what matters of it is checked below.
            with LoggingOutputSuppressor(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return (Nifti2Header if 540 in sizes else Nifti1Header).from_fileobj(stream)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableError(f"{path}: expected a NIfTI file, cannot be read ({reason(error)})") from error
    except (HeaderDataError, WrapStructError) as error:
        raise UnreadableError(f"{path}: damaged NIfTI header ({reason(error)})") from error


def reason(error: Exception) -> str:
    """The first line of an exception's message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def check_dtype(path: Path, header: Any) -> np.dtype[Any]:
    """The stored type; UnusableError unless it is a real number."""
    dtype: np.dtype[Any] = header.get_data_dtype()
    if dtype.kind not in "iuf":
        what = "complex" if dtype.kind == "c" else "colour" if dtype.names else str(dtype)
        raise UnusableError(f"{path}: {what} voxels, expected real numbers (magnitude images)")
    return dtype


def file_shape(path: Path, header: Any) -> tuple[int, ...]:
    """Two to four axes; UnusableError if there are more of a size above 1."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise UnreadableError(f"{path}: damaged NIfTI header (shape {shape})")
    if max(shape[4:], default=1) > 1:
        raise UnusableError(f"{path}: shape {shape}, expected at most (x, y, z, t); split it into scans first")
    return shape[:4]


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
    lengths = [zooms[a] for a in order]

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
    qform, qform_code = _get_qform(header)
    sform, sform_code = header.get_sform(coded=True)
    if qform is not None:
        new.set_qform(reorder(qform), qform_code)
    if sform is not None:
        new.set_sform(reorder(sform), int(sform_code))
    new.set_dim_info(*(None if a in (None, axes.t) else order.index(a) for a in header.get_dim_info()))
    return new


def _get_qform(header: Any) -> tuple[Affine | None, int]:
    """As nibabel's, but a quaternion that is none counts as absent."""
    try:
        matrix, code = header.get_qform(coded=True)
    except HeaderDataError:
        return None, 0
    return matrix, int(code)


def read_affine(path: Path, header: Any, notes: list[str]) -> Affine:
    """Voxel (x, y, z) to RAS+ mm: the sform, else the qform, else the voxel sizes alone with a note."""
    to_mm = np.diag([_MM[header.get_xyzt_units()[0]]] * 3 + [1.0])
    for matrix in (header.get_sform(coded=True)[0], _get_qform(header)[0]):
        if matrix is None:
            continue
        if np.isfinite(matrix).all() and np.linalg.det(matrix) != 0:
            return np.asarray(to_mm @ matrix, dtype=np.float64)
        notes.append("an orientation matrix of the header is singular and was not used")
    zooms = [*map(float, header.get_zooms()[:3]), 1.0][:3]
    if not (np.isfinite(zooms).all() and min(zooms) > 0):
        raise UnusableError(f"{path}: voxel sizes {zooms} in the header, expected positive numbers")
    notes.append("the header gives no orientation: axes and origin follow from the voxel sizes alone")
    return np.asarray(to_mm @ np.diag([*zooms, 1.0]), dtype=np.float64)


def read_times_ms(header: Any, n_frames: int, notes: list[str]) -> NDArray[np.float64] | None:
    """(t,) frame times from the step in the header; None, with a note, where the step cannot be believed."""
    if n_frames == 1:
        return None
    step, unit = float(header.get_zooms()[3]), header.get_xyzt_units()[1]
    if step in (0.0, 1.0) or not np.isfinite(step):
        # ITK writes 1.0 "sec" when it knows nothing, so that even a stated unit proves nothing.
        notes.append(f"frame times unknown: the time step {step:g} ({unit}) is what writers put when they know none")
        return None
    if unit == "unknown":
        unit = "sec" if step < 10 else "msec"  # frames are 10 ms to 10 s apart: the two ranges do not meet
        notes.append(f"the time step {step:g} has no unit and was taken as {unit}")
    step_ms = step * _MS.get(unit, 0.0)
    if not _STEP_LIMITS_MS[0] <= step_ms <= _STEP_LIMITS_MS[1]:
        notes.append(f"frame times unknown: the time step {step:g} {unit} is none of a cardiac scan")
        return None
    return np.arange(n_frames, dtype=np.float64) * np.float64(step_ms)


def read_phase_axis(header: Any) -> Axis | None:
    """The in-plane axis of phase encoding from ``dim_info``."""
    phase = header.get_dim_info()[1]
    return "x" if phase == 0 else "y" if phase == 1 else None


def output_header(
    like: Series,
    shape: Shape,
    affine: Affine,
    times_ms: NDArray[np.float64] | None,
    dtype: StoredType,
    description: str,
) -> Any:
    """The header of a result of ``like``; see ``nifti_writer`` for what is kept."""
    from_nifti = like.source.format == "nifti"
    if from_nifti:
        header = like.source.header.copy()
        n_dims = max(min(len(header.get_data_shape()), 4), 4 if shape[0] > 1 else 3 if shape[1] > 1 else 2)
    else:
        header, n_dims = Nifti1Header(), 4
        header.set_xyzt_units("mm", "sec")
        header.set_dim_info(*{"x": (1, 0, 2), "y": (0, 1, 2), None: (None, None, None)}[like.phase_axis])
    header.set_data_shape(shape[::-1][:n_dims])
    if dtype != "same" or not from_nifti or header.get_data_dtype().kind == "f":
        header.set_data_dtype(np.dtype("float32" if dtype == "same" else dtype))
        header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    if dtype != "same":
        header["cal_min"] = header["cal_max"] = 0  # the display window belongs to the input's intensities
    if not from_nifti:
        header.set_qform(affine, 1)
        header.set_sform(affine, 1)
    elif not np.array_equal(affine, like.affine):
        _move_matrices(header, like.affine, affine)
    _set_step(header, like, shape[0], times_ms)
    header["descrip"] = description.encode("ascii", "replace")[:79]
    # The field above may cut the text before it says what the result must not be used for.
    header.extensions.append(Nifti1Extension("comment", description.encode()))
    header["vox_offset"] = 0  # found anew, from the extensions, when written
    return header


def _move_matrices(header: Any, old: Affine, new: Affine) -> None:
    """Give both matrices and the voxel sizes the change from ``old`` to ``new``: the same in every form and unit."""
    change = np.linalg.inv(old) @ new  # new voxel -> old voxel
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = _get_qform(header)
    zooms = [float(z) for z in header.get_zooms()]
    sizes = np.linalg.norm(np.diag([*zooms, 1.0][:3]) @ change[:3, :3], axis=0)
    header.set_zooms([*(float(s) for s in sizes), *zooms[3:]][: len(zooms)])
    if qform is not None:
        header.set_qform(qform @ change, qform_code)
    if sform is not None:
        header.set_sform(sform @ change, int(sform_code))


def _set_step(header: Any, like: Series, n_frames: int, times_ms: NDArray[np.float64] | None) -> None:
    if len(header.get_data_shape()) < 4:
        return
    if times_ms is None or like.times_ms is None:
        same = times_ms is like.times_ms
    else:
        same = np.array_equal(times_ms, like.times_ms)
    if like.source.format == "nifti" and same and n_frames == like.n_frames:
        return
    space, unit = header.get_xyzt_units()
    if times_ms is None or n_frames == 1:
        step, unit = 1.0, "unknown"
    else:
        per_frame = times_ms.reshape(n_frames, -1).mean(axis=1)
        step_ms = float(per_frame[-1] - per_frame[0]) / (n_frames - 1)
        unit = unit if unit in _MS else "sec"
        if step_ms == _MS[unit]:
            unit = "msec" if unit == "sec" else "sec"  # a step of 1.0 would read as "unknown"
        step = step_ms / _MS[unit]
    header.set_xyzt_units(space, unit)
    header.set_zooms([*header.get_zooms()[:3], step])
