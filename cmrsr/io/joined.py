"""Single volumes of one place, stored apart, as one series of several time points."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.background import common_background
from cmrsr.io.series import Kind, Series

T = TypeVar("T")


def joined(
    parts: Sequence[Series], name: str, note: str, *, kind: Kind, times_ms: NDArray[np.float64] | None
) -> Series:
    """Series of one time point each, (1, z, y, x) on one grid, in their order. note: says what was joined.

    UnusableError where voxels without a number are not the same in all.
    """
    first, *others = parts
    return replace(
        first,
        shape=(len(parts), *first.shape[1:]),
        reader=lambda t: parts[t].frame(0),
        times_ms=times_ms,
        kind=kind,
        phase_axis=_common([one.phase_axis for one in parts]),
        acquired_fraction=_common([one.acquired_fraction for one in parts]),
        source=replace(
            first.source,
            name=name,
            paths=tuple(path for one in parts for path in one.source.paths),
            header=_joined_header(first, others),
            background=common_background(parts),
            notes=tuple(dict.fromkeys((note, *(text for one in parts for text in one.source.notes)))),
        ),
    )


def _common(values: Sequence[T | None]) -> T | None:
    return values[0] if all(value == values[0] for value in values) else None


def _joined_header(first: Series, others: Sequence[Series]) -> Any:
    """The first header with all time points: a writer's template. Float where the stored numbers do not agree."""
    one = first.source.header
    if first.source.format == "dicom":
        return replace(one, table=(*one.table, *(row for other in others for row in other.source.header.table)))
    header = one.copy()
    zooms = [*map(float, one.get_zooms()[:3]), 1.0]
    header.set_data_shape((*first.shape[:0:-1], 1 + len(others)))
    header.set_zooms([*zooms[:3], 1.0])
    header.set_xyzt_units(one.get_xyzt_units()[0], "unknown")
    if any(_stored(one) != _stored(other.source.header) for other in others):
        header.set_data_dtype(np.float32)
        header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    return header


def _stored(header: Any) -> tuple[object, ...]:
    return (header.get_data_dtype().newbyteorder("="), *header.get_slope_inter())


def same_place(a: Series, b: Series, tolerance_mm: float) -> bool:
    """Equal shapes (z, y, x), and no voxel of one further than this from its counterpart."""
    if a.shape[1:] != b.shape[1:]:
        return False
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in a.shape[:0:-1]), [1], indexing="ij")).reshape(4, -1)
    return bool(np.linalg.norm((a.affine - b.affine)[:3] @ corners, axis=0).max() <= tolerance_mm)
