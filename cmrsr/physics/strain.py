"""Strain of a displacement field: deformation gradient, Green-Lagrange tensor, components about a long axis or centre.

Vectors and tensors hold their components in the order of the array's axes, (z, y, x) or (y, x), in millimetres.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ROUNDING_MM = 1e-9  # what the projection leaves of a radius on the axis


class StrainComponents(NamedTuple):
    """Normal components e^T E e of a strain tensor, without unit: 0 is undeformed, negative is shortening.

    longitudinal is None in two dimensions.
    """

    e_rr: Array
    e_cc: Array
    e_ll: Array | None


class DisplacementComponents(NamedTuple):
    """A displacement (mm) along the outward radius and across it, from x towards y. Not a strain: a shift has both."""

    u_r: Array
    u_c: Array


def deformation_gradient(displacement: NDArray[Any], spacing_mm: Sequence[float]) -> Array:
    """F = I + du/dX by central differences (one-sided at the border), F[..., i, j] = dx_i / dX_j.

    displacement: (z, y, x, 3) or (y, x, 2) in mm, of the material point that rests at that voxel (Lagrangian).
    spacing_mm: of the same axes. Second order in the spacing inside, exact for a linear displacement.
    ValueError: shapes that do not fit, or an axis of one voxel, along which nothing can be derived.
    """
    n = displacement.shape[-1] if displacement.ndim else 0
    if n not in (2, 3) or displacement.ndim != n + 1 or len(spacing_mm) != n:
        raise ValueError(
            f"found a displacement {displacement.shape} with {len(spacing_mm)} spacings: "
            "expected (z, y, x, 3) with 3 or (y, x, 2) with 2"
        )
    if min(displacement.shape[:n]) < 2:
        raise ValueError(
            f"found a displacement {displacement.shape}: expected 2 voxels or more along each axis; "
            "give a single slice as (y, x, 2)"
        )
    u = np.asarray(displacement, np.float64)
    gradient = np.stack([np.gradient(u, spacing_mm[j], axis=j) for j in range(n)], -1)
    return np.asarray(gradient + np.eye(n))


def green_lagrange(deformation: NDArray[Any]) -> Array:
    """The Green-Lagrange strain E = (F^T F - I) / 2 of deformation gradients (..., 3, 3) or (..., 2, 2).

    Zero for any rigid motion, however large. CPKDM (2024), equation 1, leaves the 1/2 out: its tensor is 2 E.
    """
    f = np.asarray(deformation, np.float64)
    if f.ndim < 2 or f.shape[-2:] not in ((2, 2), (3, 3)):
        raise ValueError(f"found deformation gradients {f.shape}: expected (..., 2, 2) or (..., 3, 3)")
    return np.asarray((np.swapaxes(f, -1, -2) @ f - np.eye(f.shape[-1])) / 2)


def cylindrical_components(
    e: NDArray[Any], axis_point: ArrayLike, axis_direction: ArrayLike, points: NDArray[Any]
) -> StrainComponents:
    """Radial, circumferential and longitudinal strain about a long axis of tensors (..., 3, 3) at points (..., 3).

    All in mm and in the order (z, y, x); the points are where the material rests, as the Green-Lagrange tensor is.
    The direction need not be of unit length, and its sign does not matter. On the axis, where no radius is defined,
    radial and circumferential are NaN. ValueError: a direction of no length.
    """
    along = np.asarray(axis_direction, np.float64)
    length = float(np.linalg.norm(along))
    if length == 0:
        raise ValueError("found a long axis of no length: expected a direction (z, y, x)")
    along = along / length
    offset = np.asarray(points, np.float64) - np.asarray(axis_point, np.float64)
    radial = _unit(offset - (offset @ along)[..., None] * along)
    return StrainComponents(
        _normal(e, radial), _normal(e, np.cross(along, radial)), _normal(e, np.broadcast_to(along, offset.shape))
    )


def polar_components(e: NDArray[Any], centre: ArrayLike, points: NDArray[Any]) -> StrainComponents:
    """Radial and circumferential strain about a centre of tensors (..., 2, 2) at points (..., 2), all (y, x) in mm.

    NaN at the centre.
    """
    radial = _unit(np.asarray(points, np.float64) - np.asarray(centre, np.float64))
    return StrainComponents(_normal(e, radial), _normal(e, _across(radial)), None)


def displacement_components(
    displacement: NDArray[Any], centre: ArrayLike, points: NDArray[Any]
) -> DisplacementComponents:
    """Radial and circumferential parts of the displacement (..., 2) itself, (y, x) in mm: what CPKDM takes for strain.

    u_r = u . e_r, u_c = u . (-e_ry, e_rx) in (x, y): from x towards y, clockwise on a screen. A rigid shift or turn has
    them although it deforms nothing; for the strain take ``polar_components``. NaN at the centre.
    Source: CPKDM (2024), equation 2.
    """
    u = np.asarray(displacement, np.float64)
    radial = _unit(np.asarray(points, np.float64) - np.asarray(centre, np.float64))
    return DisplacementComponents(np.sum(u * radial, -1), np.sum(u * _across(radial), -1))


def _unit(offset: Array) -> Array:
    length = np.linalg.norm(offset, axis=-1, keepdims=True)
    return offset / np.where(length > ROUNDING_MM, length, np.nan)


def _across(radial: Array) -> Array:
    """(y, x) turned by a quarter from x towards y."""
    return np.stack([radial[..., 1], -radial[..., 0]], -1)


def _normal(e: NDArray[Any], direction: Array) -> Array:
    return np.asarray(np.einsum("...i,...ij,...j->...", direction, e, direction))
