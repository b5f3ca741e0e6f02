"""Where the images of a group lie: slices along the normal, the affine of the stack, the acquired band."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.series import Axis

POSITION_TOLERANCE_MM = 0.1
# Of the mean step: slices planned by hand, or positions that a reformatting rounded. Volumes change by less than that.
STEP_TOLERANCE = 0.05
SPACING_TOLERANCE = 1e-3  # relative; the last digits differ within real series
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def normal_of(instance: DicomInstance) -> NDArray[np.float64]:
    """Unit normal of the image plane (LPS): along a row x down a column."""
    row, column = np.reshape(instance.orientation, (2, 3))
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def coordinate_mm(instance: DicomInstance, normal: NDArray[np.float64]) -> float:
    """Position of an image along the normal."""
    return float(np.dot(instance.position_mm, normal))


def slices_of(instances: Sequence[DicomInstance]) -> tuple[list[list[DicomInstance]], list[float]]:
    """Images of the same place together, sorted along the normal of the first; and these places in mm."""
    normal = normal_of(instances[0])
    slices: list[list[DicomInstance]] = []
    places: list[float] = []
    for instance in sorted(instances, key=lambda i: coordinate_mm(i, normal)):
        place = coordinate_mm(instance, normal)
        if places and place - places[-1] <= POSITION_TOLERANCE_MM:
            slices[-1].append(instance)
        else:
            slices.append([instance])
            places.append(place)
    return slices, places


def same_spacing(a: DicomInstance, b: DicomInstance) -> bool:
    """Equal pixel spacing within the tolerance, and equal matrix."""
    return a.matrix == b.matrix and bool(np.allclose(a.spacing_mm, b.spacing_mm, rtol=SPACING_TOLERANCE, atol=0))


def check_one_grid(instances: Sequence[DicomInstance]) -> None:
    """Raises UnusableError, naming both, when images of two matrices or pixel spacings are mixed."""
    first = instances[0]
    others = [i for i in instances if not same_spacing(first, i)]
    if not others:
        return
    grids = [
        f"{i.matrix[0]}x{i.matrix[1]} pixels of {i.spacing_mm[0]:.4g}x{i.spacing_mm[1]:.4g} mm ({i.path.name})"
        for i in (first, others[0])
    ]
    raise UnusableError(
        f"expected one matrix and pixel spacing, found {grids[0]} and {grids[1]} in one series "
        f"({len(instances) - len(others)} and {len(others)} images in {first.path.parent}); separate them"
    )


@dataclass(frozen=True, slots=True)
class StackGeometry:
    """Where the slices of a stack are.

    affine: voxel (x, y, z) to RAS+ mm. origins_mm: (z, 3), the first voxel of every slice in RAS+ mm, where the slices
    are off the affine's grid, None where they are on it. note: how far they are off, "" where they are not.
    """

    affine: NDArray[np.float64]
    origins_mm: NDArray[np.float64] | None
    note: str


def geometry_of(slices: Sequence[Sequence[DicomInstance]]) -> StackGeometry:
    """Where the slices lie, which are sorted along the normal.

    The z column is the mean step between slices, so a stack with a constant shift in the plane is sheared. Steps that
    differ by rounding or planning (``STEP_TOLERANCE``) make an even stack all the same, with a note.
    Raises UnusableError when images of one slice lie at different places.
    """
    first = slices[0][0]
    row, column = (cosines / np.linalg.norm(cosines) for cosines in np.reshape(first.orientation, (2, 3)))
    for one in slices:
        found = np.array([i.position_mm for i in one])
        away = np.linalg.norm(found - np.median(found, axis=0), axis=1)
        if np.linalg.norm(np.ptp(found, axis=0)) > POSITION_TOLERANCE_MM:
            other, usual = one[int(away.argmax())], one[int(away.argmin())]
            apart = np.linalg.norm(np.subtract(other.position_mm, usual.position_mm))
            raise UnusableError(
                f"expected one place for all images of a slice, {other.path} is {apart:.2f} mm away from "
                f"{usual.path.name}; separate them"
            )
    places = np.array([one[0].position_mm for one in slices])
    if len(slices) == 1:
        step, origins, note = normal_of(first) * (first.thickness_mm or 1.0), None, ""
    else:
        step = (places[-1] - places[0]) / (len(places) - 1)
        error = float(np.linalg.norm(places - places[0] - np.arange(len(places))[:, None] * step, axis=1).max())
        gaps = ", ".join(f"{g:.4g}" for g in np.linalg.norm(np.diff(places, axis=0), axis=1))
        even = error <= max(POSITION_TOLERANCE_MM, STEP_TOLERANCE * float(np.linalg.norm(step)))
        origins = None if even else places @ LPS_TO_RAS
        note = ""
        if error > POSITION_TOLERANCE_MM:
            taken = "taken as evenly spaced" if even else "each slice kept at its own place"
            note = f"gaps between slices of {gaps} mm, {taken} (mean step {np.linalg.norm(step):.4g} mm)"
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ np.column_stack([row * first.spacing_mm[1], column * first.spacing_mm[0], step])
    affine[:3, 3] = LPS_TO_RAS @ places[0]
    return StackGeometry(affine, origins, note)


def stackable(firsts: Sequence[DicomInstance]) -> bool:
    """Whether images at different places could be slices of one stack, perhaps with some slices missing.

    True when all places are on one line of even steps, within ``STEP_TOLERANCE`` of a step; slices at unrelated places
    are left apart.
    """
    normal = normal_of(firsts[0])
    places = np.array(sorted((i.position_mm for i in firsts), key=lambda p: float(np.dot(p, normal))))
    along = np.diff(places, axis=0) @ normal
    if along.min() <= POSITION_TOLERANCE_MM:
        return False
    count = np.cumsum([0, *np.maximum(np.round(along / np.median(along)), 1)])
    step = (places[-1] - places[0]) / count[-1]
    error = np.linalg.norm(places - places[0] - count[:, None] * step, axis=1).max()
    return bool(error <= max(2 * POSITION_TOLERANCE_MM, STEP_TOLERANCE * float(np.linalg.norm(step))))


def phase_axis_of(instance: DicomInstance) -> Axis | None:
    """ROW: phase is encoded along a row, that is along x."""
    axes: dict[str, Axis] = {"ROW": "x", "COL": "y", "COLUMN": "y"}
    return axes.get(instance.phase_direction)


def acquired_fraction_of(instance: DicomInstance) -> float | None:
    """Acquired phase lines / lines the image would hold without interpolation, None where the header is not sane.

    The lines cover PercentPhaseFieldOfView of the read-out field of view; the image may cover more or less of it.
    """
    axis, lines = phase_axis_of(instance), instance.acquired_lines
    if axis is None or lines is None:
        return None
    rows, columns = instance.matrix
    dy, dx = instance.spacing_mm
    n_phase, phase_mm, read_mm = (columns, columns * dx, rows * dy) if axis == "x" else (rows, rows * dy, columns * dx)
    percent = instance.phase_fov_percent
    acquired_mm = read_mm * percent / 100 if percent is not None and 20 <= percent <= 100 else phase_mm
    fraction = lines / n_phase * phase_mm / acquired_mm
    return min(fraction, 1.0) if 0.2 <= fraction <= 1.02 else None
