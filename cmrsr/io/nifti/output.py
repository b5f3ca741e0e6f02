"""The NIfTI header of a result, made from what is known of its source."""

from typing import Any, Literal

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from cmrsr.io.nifti.header import Affine
from cmrsr.io.nifti.times import UNITS_MS
from cmrsr.io.series import Series, Shape

StoredType = Literal["same", "float32", "int16", "uint8"]

_MOST_IN_NIFTI1 = 2**15 - 1  # voxels along an axis, or frames


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
    if max(shape) > _MOST_IN_NIFTI1:
        header = _as_nifti2(header)
    header.set_data_shape(shape[::-1][:n_dims])
    if dtype != "same" or not from_nifti or header.get_data_dtype().kind == "f":
        header.set_data_dtype(np.dtype("float32" if dtype == "same" else dtype))
        header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    if dtype != "same":
        # The display window and what the numbers estimate belong to the input's intensities.
        header["cal_min"] = header["cal_max"] = header["intent_code"] = 0
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


def _as_nifti2(header: Any) -> Any:
    new = Nifti2Header(endianness=header.endianness)
    for name in {*header.keys()} & {*new.keys()} - {"sizeof_hdr", "magic"}:
        new[name] = header[name]
    new.extensions.extend(header.extensions)
    return new


def _move_matrices(header: Any, old: Affine, new: Affine) -> None:
    """Give both matrices and the voxel sizes the change from ``old`` to ``new``: the same in every form and unit."""
    change = np.linalg.inv(old) @ new  # new voxel -> old voxel
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    zooms = [float(z) for z in header.get_zooms()]
    sizes = np.linalg.norm(np.diag([*zooms, 1.0][:3]) @ change[:3, :3], axis=0)
    header.set_zooms([*(float(s) for s in sizes), *zooms[3:]][: len(zooms)])
    if qform is not None:
        header.set_qform(qform @ change, int(qform_code))
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
        unit = unit if unit in UNITS_MS else "sec"
        if step_ms == UNITS_MS[unit]:
            unit = "msec" if unit == "sec" else "sec"  # a step of 1.0 would read as "unknown"
        step = step_ms / UNITS_MS[unit]
    header.set_xyzt_units(space, unit)
    header.set_zooms([*header.get_zooms()[:3], step])
