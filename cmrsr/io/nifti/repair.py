"""A NIfTI header as it was found, made one that can be read, changed and written again without surprises."""

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError, UnusableError

# No voxel of a scan is smaller or larger, no scanner's origin further away: beyond, a matrix is none.
_VOXEL_LIMITS_MM = (1e-3, 1e3)
_FAR_MM = 1e5
_LEAST_VOLUME = 1e-3  # of the voxel that the columns span, as a part of the product of their lengths
_QUATERNION_ROUNDING = 1e-3  # b2 + c2 + d2 above 1 by this is a half turn whose numbers were rounded
_SPACE_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_TIME_UNITS = (0, 8, 16, 24, 32, 40, 48)
_LAST_XFORM_CODE = 5
_ALIGNED = 2
# Intents under which a further axis may be time, and which are as true of a result: none, estimate, dimensionless,
# time series. All others name components of a vector, matrix or colour, parameters of a statistic, or labels.
_IMAGE_INTENTS = (0, 1001, 1011, 2001)
# Free text and left-overs of older formats, which nobody reads and which may hold names.
_TEXTS = ("aux_file", "db_name", "data_type", "intent_name", "unused_str")


def repair(path: Path, header: Any, *, is_pair: bool, notes: list[str]) -> Any:
    """The header with every field safe to use; what was wrong and matters is added to ``notes``.

    Dimensions are at most x, y, z and time (the fifth axis of a file is time where the fourth is 1), matrices and codes
    are usable or absent, sizes finite, free text is gone, and the form is that of a single file.
    UnreadableError: no shape, no type, no scale, or not the magic word. UnusableError: a further axis.
    """
    magic = header["magic"].item()
    if magic not in (header.single_magic, header.pair_magic):
        if not is_pair or int(header["sizeof_hdr"]) != Nifti1Header.sizeof_hdr:
            raise UnreadableError(f"{path}: damaged NIfTI header (magic word {magic!r})")
        header = _from_analyze(header)
        notes.append("an ANALYZE 7.5 header has no orientation: left and right are not known")
    with np.errstate(all="ignore"):  # any bits may stand for a number
        _repair_shape(path, header)
        _repair_type(path, header)
        _repair_units(header, notes)
        _repair_sform(header, notes)
        _repair_sizes(path, header, notes)
        _repair_qform(header, notes)
    _drop_text(header, notes)
    return header


def _from_analyze(header: Any) -> Any:
    """As a NIfTI-1 header of a pair: shape, type, voxel sizes, offset and SPM's scale are at the same bytes."""
    new = Nifti1Header(endianness=header.endianness)
    for name in ("dim", "datatype", "pixdim", "vox_offset", "scl_slope"):
        new[name] = header[name]
    new["magic"] = new.pair_magic
    return new


def _repair_shape(path: Path, header: Any) -> None:
    """At most four axes."""
    n_dims = int(header["dim"][0])
    shape = [int(n) for n in header["dim"][1 : n_dims + 1]] if 1 <= n_dims <= 7 else []
    if len(shape) < 2 or min(shape) < 1:
        raise UnreadableError(f"{path}: damaged NIfTI header (shape {tuple(shape)}); copy the file anew")
    further = [axis for axis in range(3, n_dims) if shape[axis] > 1]
    intent = int(header["intent_code"])
    if len(further) > 1 or (further and further[0] > 3 and intent not in _IMAGE_INTENTS):
        several = "more than one axis behind x, y, z" if len(further) > 1 else f"components (intent {intent})"
        raise UnusableError(
            f"{path}: shape {tuple(shape)} has {several}, expected at most (x, y, z, t); split it into scans first"
        )
    pixdim = np.ones(8)
    pixdim[: n_dims + 1] = header["pixdim"][: n_dims + 1]
    if further and further[0] > 3:
        step = float(pixdim[further[0] + 1])
        pixdim[4] = step if step not in (0.0, 1.0) else pixdim[4]
        shape[3] = shape[further[0]]
    shape = shape[:4]
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    pixdim[5:] = 1
    header["pixdim"] = pixdim


def _repair_type(path: Path, header: Any) -> None:
    try:
        header["bitpix"] = header.get_data_dtype().itemsize * 8
        header.get_slope_inter()
    except (HeaderDataError, KeyError) as error:
        what = f"data type {int(header['datatype'])}, scale {header['scl_slope']:g}, {header['scl_inter']:g}"
        raise UnreadableError(f"{path}: damaged NIfTI header ({what}); copy the file anew") from error
    header["magic"] = header.single_magic


def _repair_sizes(path: Path, header: Any, notes: list[str]) -> None:
    sizes = np.abs(np.array(header["pixdim"], np.float64))
    sizes[0] = -1 if header["pixdim"][0] == -1 else 1
    axes, to_mm = slice(1, 4), _SPACE_UNITS_MM[int(header["xyzt_units"]) & 7]
    sound = (sizes[axes] * to_mm >= _VOXEL_LIMITS_MM[0]) & (sizes[axes] * to_mm <= _VOXEL_LIMITS_MM[1])
    if not sound.all() and int(header["sform_code"]) > 0:
        sizes[axes][~sound] = np.linalg.norm(header.get_sform()[:3, :3], axis=0)[~sound]
    elif not sound.all():
        zero = sizes[axes] == 0
        if not (sound | zero | (np.array(header["dim"][1:4]) == 1)).all():
            found = [float(size) for size in header["pixdim"][axes]]
            raise UnusableError(f"{path}: voxel sizes {found} in the header, expected millimetres; correct them there")
        sizes[axes][~sound] = 1 / to_mm
        if zero[: int(header["dim"][0])].any():
            notes.append("voxel sizes of 0 in the header were taken as 1 mm")
    step = float(header["pixdim"][4])
    sizes[4] = step if np.isfinite(step) and step >= 0 else 0
    header["pixdim"] = sizes
    for name in ("toffset", "slice_duration", "cal_min", "cal_max"):
        if not np.isfinite(header[name]):
            header[name] = 0


def _repair_units(header: Any, notes: list[str]) -> None:
    code = int(header["xyzt_units"])
    space, time = code & 7, code & 56
    if code != space | time or space not in _SPACE_UNITS_MM or time not in _TIME_UNITS:
        space = space if space in _SPACE_UNITS_MM else 0
        time = time if time in _TIME_UNITS else 0
        notes.append(f"the code {code} of the header's units is none and was not used")
    header["xyzt_units"] = space | time


def _repair_qform(header: Any, notes: list[str]) -> None:
    turn = np.array([header[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    norm = float(np.sqrt((turn**2).sum()))
    stated, code = int(header["qform_code"]), _known_code(header, "qform")
    if norm <= 1 + _QUATERNION_ROUNDING:
        if norm**2 > 1 + header.quaternion_threshold / 2:
            for axis, value in zip("bcd", turn * ((1 - 1e-7) / norm), strict=True):
                header[f"quatern_{axis}"] = value
        if code == 0 or _is_geometry(header, header.get_qform()):
            header["qform_code"] = code
            return
        found = "is no matrix of a scan"
    else:
        found = f"has a quaternion that is none (b2 + c2 + d2 = {norm**2:.3g})"
    if stated > 0:
        notes.append(f"the qform of the header {found} and was not used")
    header["qform_code"] = 0
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[name] = 0


def _repair_sform(header: Any, notes: list[str]) -> None:
    code = _known_code(header, "sform")
    matrix = header.get_sform()
    usable = _is_geometry(header, matrix)
    if code > 0 and not usable:
        notes.append("the sform of the header is singular or no matrix of a scan and was not used")
    header["sform_code"] = code if usable else 0
    if not np.isfinite(matrix).all():
        header["srow_x"] = header["srow_y"] = header["srow_z"] = 0


def _known_code(header: Any, form: str) -> int:
    """0 for none; a code that the format does not know claims as little as "aligned"."""
    code = int(header[f"{form}_code"])
    return code if 0 <= code <= _LAST_XFORM_CODE else _ALIGNED if code > 0 else 0


def _is_geometry(header: Any, matrix: NDArray[np.float64]) -> bool:
    if not (np.isfinite(matrix).all() and np.isfinite(np.square(matrix)).all()):
        return False
    matrix = matrix.astype(np.float64) * _SPACE_UNITS_MM[int(header["xyzt_units"]) & 7]
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (lengths.min() >= _VOXEL_LIMITS_MM[0] and lengths.max() <= _VOXEL_LIMITS_MM[1]):
        return False
    volume = abs(float(np.linalg.det(matrix[:3, :3] / lengths)))
    return volume >= _LEAST_VOLUME and bool(np.abs(matrix[:3, 3]).max() <= _FAR_MM)


def _drop_text(header: Any, notes: list[str]) -> None:
    """Text that would be carried into results. The description is written anew with every result."""
    present = [name for name in _TEXTS if name in header.keys() and header[name].item().strip(b"\0 ")]  # noqa: SIM118
    for name in present:
        header[name] = b""
    if int(header["intent_code"]) not in _IMAGE_INTENTS:
        present.append("intent_code")
    header["intent_code"] = int(header["intent_code"]) if "intent_code" not in present else 0
    for name in ("intent_p1", "intent_p2", "intent_p3"):
        header[name] = 0
    if present:
        notes.append(f"not carried over into results: {', '.join(present)} of the header")
