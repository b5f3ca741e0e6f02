"""Scar of the left ventricle in short-axis slices: its outline, and its share of the wall by AHA segment."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.physics.wall import (
    LEAST_COVERED,
    N_RAYS,
    N_SEGMENTS,
    cast_rays,
    fill_angles,
    segments_at,
    septum_angle,
)

Array = NDArray[np.float64]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
LEAST_SCAR_MM2 = 30.0  # of a piece in a slice: five by six millimetres; less is noise or partial volume
# At most, along a ventricle; where the outflow tract cuts the septum it leaps by 30 to 40 degrees.
SEPTUM_TURNS = np.deg2rad(25)
LEAST_INNER = 8  # pixels of a segment away from the edges of the wall; with fewer, those at the edges count too
_CROSS = ndimage.generate_binary_structure(2, 1)
_SQUARE = ndimage.generate_binary_structure(2, 2)
# Rays of a segment in a slice: sixths of a turn at the base and in the middle, quarters at the apex.
_RAYS = np.array([N_RAYS / 6] * 12 + [N_RAYS / 4] * 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTable:
    """By AHA segment 1..16, each (16,); NaN where the slices do not cover a segment.

    scar_percent: of the segment's area. transmurality_percent: mean over the rays from the centre of the LV that meet
    scar, of the share of the wall along a ray that is scar; 0 where none does. t1_ms: mean of the wall away from its
    edges, scar included. e_cc_percent, e_rr_percent: mean strain of the wall at end systole.
    """

    scar_percent: Array
    transmurality_percent: Array
    t1_ms: Array
    e_cc_percent: Array
    e_rr_percent: Array


def scar_mask(probability: NDArray[np.floating[Any]], labels: Labels, pixel_mm: float, threshold: float) -> Mask:
    """Where a probability of scar (y, x) reaches the threshold, in the wall or a pixel outside it.

    The wall may be drawn a pixel too thin, so that a pixel beyond it counts; but blood is as bright as scar, so that
    what is labelled LV or RV never does: the wall widens at the epicardium away from the RV only. Holes that lie in the
    wall are filled, then pieces (joined at corners too) below ``LEAST_SCAR_MM2`` are dropped.
    """
    wall = labels == MYOCARDIUM
    allowed = wall | (ndimage.binary_dilation(wall, _SQUARE) & (labels == 0))
    scar = (probability >= threshold) & allowed
    scar |= ndimage.binary_fill_holes(scar) & allowed
    pieces, n = ndimage.label(scar, _SQUARE)
    area = np.bincount(pieces.ravel(), minlength=n + 1) * pixel_mm**2
    area[0] = 0
    return np.asarray(area[pieces] >= LEAST_SCAR_MM2)


def segment_map(
    labels: Labels, pixel_mm: float, level: float | None, seen_from_apex: bool, septum: float | None = None
) -> tuple[Labels, float]:
    """The AHA segment 1..16 of every pixel of myocardium in a slice (y, x), 0 elsewhere, and the septum's angle.

    level: 0 at the apex, 1 at the base; None: unknown. seen_from_apex: whether a viewer of the image, x to the right
    and y downwards, looks from the apex towards the base. septum: angle of its middle (rad, counter-clockwise on the
    screen from rising x); None: where the wall borders on the RV. Without level, septum (NaN) or LV cavity there are no
    segments.
    """
    out = np.zeros(labels.shape, np.uint8)
    if not (labels == LV).any():
        return out, float("nan")
    middle = septum_angle(labels, (pixel_mm, pixel_mm)) if septum is None else float(septum)
    if level is None or np.isnan(middle):
        return out, middle
    wall = labels == MYOCARDIUM
    down, right = (np.argwhere(wall) - np.argwhere(labels == LV).mean(0)).T
    out[wall] = segments_at(np.arctan2(-down, right) - middle, level, seen_from_apex)
    return out, middle


def septum_angles(labels: Labels, pixel_mm: float) -> Array:
    """The septum's angle (z,) in every slice (z, y, x) of one stack.

    A slice that meets no RV takes its neighbour's, and so does one that is far off the others: in the outflow tract
    part of the septum is missing.
    """
    own = [septum_angle(s, (pixel_mm, pixel_mm)) if (s == LV).any() else np.nan for s in labels]
    angles = np.array(own, np.float64)
    apart = np.abs(np.angle(np.exp(1j * (angles[:, None] - angles))))
    if np.isfinite(angles).any():
        middle = int(np.nanargmin(np.where(np.isfinite(angles), np.nansum(apart, 1), np.nan)))
        angles = np.where(apart[middle] <= SEPTUM_TURNS, angles, np.nan)
    return fill_angles(angles)


def transmurality(labels: Labels, scar: Mask, pixel_mm: float) -> Array:
    """Along rays (N_RAYS,) from the centre of the LV in a slice: the share (0..1) of the wall that is scar.

    Scar beside the wall counts as wall. NaN where a ray meets no wall, and everywhere in a slice without LV.
    """
    if not (labels == LV).any():
        return np.full(N_RAYS, np.nan)
    at, inside = cast_rays(labels, (pixel_mm, pixel_mm))
    hit = scar.ravel()[at] & inside
    wall = ((labels == MYOCARDIUM).ravel()[at] & inside) | hit
    return np.where(wall.any(1), hit.sum(1) / np.maximum(wall.sum(1), 1), np.nan)


def segment_table(
    labels: Labels,
    segments: Labels,
    scar: Mask,
    *,
    pixel_mm: float,
    t1_ms: NDArray[np.floating[Any]],
    labels_ed: Labels,
    e_cc: NDArray[np.floating[Any]],
    e_rr: NDArray[np.floating[Any]],
) -> SegmentTable:
    """Scar, T1 and strain of each AHA segment, from slices (z, y, x) with segments (``segment_map``) and scar.

    t1_ms: NaN where unknown. labels_ed: at end diastole, where the strains of end systole, e_cc and e_rr (fractions),
    are drawn. A segment counts as covered where its slices have wall along half of its rays or more.
    """
    sums = {name: np.zeros((2, N_SEGMENTS + 1)) for name in ("scar", "depth", "t1", "t1_any", "e_cc", "e_rr")}
    found, whole = np.zeros(N_SEGMENTS + 1), np.zeros(N_SEGMENTS + 1)
    for z in np.flatnonzero(segments.any((1, 2))):
        nearest = _spread(segments[z])
        wall = (labels[z] == MYOCARDIUM) | scar[z]
        _add(sums["scar"], nearest, scar[z], wall)
        _add(sums["t1"], nearest, t1_ms[z], inner_wall(wall))
        _add(sums["t1_any"], nearest, t1_ms[z], wall)
        for name, strain in (("e_cc", e_cc[z]), ("e_rr", e_rr[z])):
            _add(sums[name], nearest, strain, labels_ed[z] == MYOCARDIUM)
        depth = transmurality(labels[z], scar[z], pixel_mm)
        along = _of_rays(labels[z], nearest, wall, pixel_mm)
        _add(sums["depth"], along, depth, depth > 0)
        found += np.bincount(along[np.isfinite(depth)], minlength=N_SEGMENTS + 1)
        whole[1:] += _RAYS * np.isin(np.arange(1, N_SEGMENTS + 1), segments[z])
    covered = (whole > 0) & (found >= LEAST_COVERED * whole)
    mean = {name: np.where(n > 0, total / np.maximum(n, 1), np.nan) for name, (total, n) in sums.items()}
    t1 = np.where(sums["t1"][1] >= LEAST_INNER, mean["t1"], mean["t1_any"])

    def percent(share: Array) -> Array:
        return np.where(covered, 100 * share, np.nan)[1:]

    return SegmentTable(
        scar_percent=percent(mean["scar"]), transmurality_percent=percent(np.nan_to_num(mean["depth"])),
        t1_ms=np.where(covered, t1, np.nan)[1:], e_cc_percent=percent(mean["e_cc"]), e_rr_percent=percent(mean["e_rr"]),
    )  # fmt: skip


def inner_wall(wall: Mask) -> Mask:
    """A wall (y, x) without the pixels at its edges, which share blood or fat."""
    return np.asarray(ndimage.binary_erosion(wall, _CROSS))


def _add(sums: Array, group: NDArray[Any], values: NDArray[Any], where: Mask) -> None:
    """Add sums and numbers of finite values to (2, groups)."""
    kept = where & np.isfinite(values)
    np.add.at(sums[0], group[kept], values[kept])
    np.add.at(sums[1], group[kept], 1)


def _spread(segments: Labels) -> Labels:
    """Every pixel (y, x) gets the segment of the nearest that has one."""
    y, x = ndimage.distance_transform_edt(segments == 0, return_distances=False, return_indices=True)
    return np.asarray(segments[y, x])


def _of_rays(labels: Labels, segments: Labels, wall: Mask, pixel_mm: float) -> Labels:
    """The segment (N_RAYS,) of the wall's middle along every ray; 0 where a ray meets none."""
    at, inside = cast_rays(labels, (pixel_mm, pixel_mm))
    met = wall.ravel()[at] & inside
    middle = (np.cumsum(met, 1) * 2 >= met.sum(1)[:, None]).argmax(1)
    return np.where(met.any(1), segments.ravel()[at[np.arange(len(at)), middle]], 0).astype(np.uint8)
