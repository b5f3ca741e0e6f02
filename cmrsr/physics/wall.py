"""Wall thickness of the left ventricle by AHA segment, at end diastole and end systole."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from cmrsr.physics.volumes import LV, MYOCARDIUM, RV

Array = NDArray[np.float64]
SEGMENT_NAMES = (
    "basal anterior", "basal anteroseptal", "basal inferoseptal", "basal inferior", "basal inferolateral",
    "basal anterolateral", "mid anterior", "mid anteroseptal", "mid inferoseptal", "mid inferior", "mid inferolateral",
    "mid anterolateral", "apical anterior", "apical septal", "apical inferior", "apical lateral",
)  # fmt: skip
N_SEGMENTS = len(SEGMENT_NAMES)  # the 17th, the apex, has no thickness across the long axis
N_RAYS = 120  # around the cavity: twenty in a segment of sixty degrees
STEP_MM = 0.25  # along a ray: a fraction of a pixel
REACH_MM = 90.0  # of a ray: beyond the wall of the largest hearts
SEPTUM_MM = 4.0  # beyond the wall, within which a ray has to meet the RV to pass through the septum
# Of a slice's rays, where the valve plane cuts it. With fewer, the centre of what cavity is left is no centre of the
# wall any more: on virtual stacks basal segments come out 0.05 to 0.15 mm worse.
LEAST_CLOSED = 0.75
EDGE_RAYS = 5  # beside a gap in the wall, which are left out: there the plane runs out through the wall
LEAST_COVERED = 0.5  # of a segment's rays
# Segments by sixths and quarters of a turn from the septum's middle towards the inferior wall (Cerqueira et al. 2002).
_SIX = np.array([3, 4, 5, 6, 1, 2])  # of the base; six more of the middle
_FOUR = np.array([14, 15, 16, 13])  # of the apex, each about its quarter's beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentWall:
    """Mean wall thickness of the AHA segments 1..16, each (16,); NaN where a segment was not covered."""

    ed_mm: Array
    es_mm: Array
    thickening_percent: Array  # from ED to ES, of ED


def wall_by_segment(
    labels_ed: NDArray[np.uint8],
    labels_es: NDArray[np.uint8],
    pixel_mm: tuple[float, float],
    *,
    base_first: bool,
    mirrored: bool,
) -> SegmentWall:
    """Thickness of labels (z, y, x) along rays from the centre of the LV cavity, mean over each AHA segment.

    pixel_mm: (y, x). base_first: whether slice 0 lies at the base. mirrored: whether the determinant of the affine
    (voxel x, y, z to RAS) is negative; the two tell from which side the slices are seen, and so where anterior is.

    Angles count from the middle of the septum, in each slice where its wall borders on the RV; a slice that meets no RV
    takes its neighbour's. Basal, mid and apical are thirds of the slices that hold cavity and wall at that phase: at
    end systole the base has moved towards the apex, and the same tissue lies in fewer slices.
    """
    seen_from_apex = mirrored == base_first
    ed, es = (_phase(labels, pixel_mm, base_first, seen_from_apex) for labels in (labels_ed, labels_es))
    return SegmentWall(ed_mm=ed, es_mm=es, thickening_percent=100 * (es - ed) / ed)


def _phase(labels: NDArray[np.uint8], pixel_mm: tuple[float, float], base_first: bool, seen_from_apex: bool) -> Array:
    """Mean thickness (16,) at one phase."""
    slices = np.flatnonzero((labels == LV).any((1, 2)) & (labels == MYOCARDIUM).any((1, 2)))
    slices = slices[::-1] if base_first else slices  # from the apex on
    rays = [_thickness(labels[z], pixel_mm) for z in slices]
    septum = fill_angles(np.array([septum_angle(labels[z], pixel_mm) for z in slices]))
    sums, covered, all_rays = np.zeros(N_SEGMENTS), np.zeros(N_SEGMENTS), np.zeros(N_SEGMENTS)
    for i, thickness in enumerate(rays):
        open_ = np.isnan(thickness)
        if np.isnan(septum[i]) or open_.mean() > 1 - LEAST_CLOSED:
            continue
        segment = segments_at(ray_angles() - septum[i], (i + 0.5) / len(slices), seen_from_apex) - 1
        found = ~maximum_filter1d(open_, 2 * EDGE_RAYS + 1, mode="wrap")
        np.add.at(sums, segment[found], thickness[found])
        np.add.at(covered, segment[found], 1)
        np.add.at(all_rays, segment, 1)
    enough = (covered > 0) & (covered >= LEAST_COVERED * all_rays)
    return np.where(enough, sums / np.maximum(covered, 1), np.nan)


def ray_angles() -> Array:
    """Angles of the rays, counter-clockwise on a screen (y downwards) from rising x."""
    return np.asarray((np.arange(N_RAYS) + 0.5) * (2 * np.pi / N_RAYS))


def cast_rays(labels: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The flat index (N_RAYS, steps) of the pixel of a slice (y, x) that each step of each ray meets, outwards from the
    centre of the LV cavity in steps of ``STEP_MM``, and whether it lies within the image; 0 where not.
    """
    centre = np.argwhere(labels == LV).mean(0)
    r = _radii()
    angle = ray_angles()[:, None]
    rows = np.rint(centre[0] - np.sin(angle) * r / pixel_mm[0]).astype(int)
    columns = np.rint(centre[1] + np.cos(angle) * r / pixel_mm[1]).astype(int)
    inside = (rows >= 0) & (rows < labels.shape[0]) & (columns >= 0) & (columns < labels.shape[1])
    return np.where(inside, rows * labels.shape[1] + columns, 0), inside


def septum_angle(labels: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> float:
    """The angle of the septum's middle in a slice that holds LV; NaN where no ray meets the RV behind the wall."""
    met = _met(labels, pixel_mm)
    wall = met == MYOCARDIUM
    r = _radii()
    behind = r - r[len(r) - 1 - np.argmax(wall[:, ::-1], axis=1)][:, None]  # the last of the wall
    septum = wall.any(1) & ((met == RV) & (behind > 0) & (behind <= SEPTUM_MM)).any(1)
    if not septum.any():
        return float("nan")
    return float(np.angle(np.exp(1j * ray_angles()[septum]).sum()))


def segments_at(from_septum: Array, level: float, seen_from_apex: bool) -> NDArray[np.int64]:
    """The AHA segment (1..16) at angles (rad, as of ``ray_angles``) from the middle of the septum.

    level: 0 at the apex, 1 at the base.
    """
    turn = np.mod(from_septum * (1 if seen_from_apex else -1), 2 * np.pi) / (2 * np.pi)
    if level < 1 / 3:
        return np.asarray(_FOUR[np.floor(4 * turn + 0.5).astype(int) % 4])
    six = _SIX[np.minimum((6 * turn).astype(int), 5)]
    return np.asarray(six + 6 if level < 2 / 3 else six)


def fill_angles(angles: Array) -> Array:
    """Angles of the septum along a stack, NaN replaced by the nearest that is known."""
    known = np.flatnonzero(np.isfinite(angles))
    if not known.size:
        return angles
    nearest = np.abs(np.arange(len(angles))[:, None] - known).argmin(1)
    return np.asarray(angles[known[nearest]])


def _radii() -> Array:
    """Radii of the steps of a ray, mm."""
    return np.asarray((np.arange(round(REACH_MM / STEP_MM)) + 0.5) * STEP_MM)


def _met(labels: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> NDArray[np.uint8]:
    """What the rays of a slice meet (N_RAYS, steps); 0 outside the image."""
    at, inside = cast_rays(labels, pixel_mm)
    return np.where(inside, labels.ravel()[at], np.uint8(0))


def _thickness(labels: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> Array:
    """Wall thickness in mm along the rays of a slice, NaN where there is none."""
    steps = (_met(labels, pixel_mm) == MYOCARDIUM).sum(1)
    return np.where(steps > 0, steps * STEP_MM, np.nan)
