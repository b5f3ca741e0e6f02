"""Scan planes: where in the patient the pixels of a slice lie, on a grid finer than any scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.patient import VirtualPatient

FINE = 320  # pixels of the rendering grid along each side
DEPTHS = (-0.7, 0.0, 0.7)  # of the sub-slices that a thick slice averages, in half thicknesses


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A square slice: unit vectors of rising y and x index, the normal, in RAS; lengths in mm."""

    centre: NDArray[np.float64]  # (3,)
    along_y: NDArray[np.float64]
    along_x: NDArray[np.float64]
    fov: float
    thickness: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Right-handed with the x and y index: the direction of rising slice index."""
        return np.cross(self.along_x, self.along_y)

    @property
    def pixel(self) -> float:
        """Pixel size of the rendering grid, mm."""
        return self.fov / FINE

    @property
    def corner(self) -> NDArray[np.float64]:
        """First pixel of the rendering grid. Index FINE // 2 is the centre, as the Fourier transform has it."""
        return self.centre - (self.along_y + self.along_x) * (self.pixel * (FINE // 2))

    def points(self, rows: NDArray[np.int64], columns: NDArray[np.int64], depth: float) -> NDArray[np.float64]:
        """RAS of pixels of the rendering grid (n, 3); depth in half thicknesses."""
        at = self.corner + self.normal * (depth * self.thickness / 2)
        return np.asarray(
            at + self.pixel * (rows[:, None] * self.along_y + columns[:, None] * self.along_x)
        )  # fmt: skip

    def affine(self, matrix: int, gap_mm: float) -> NDArray[np.float64]:
        """Voxel (x, y, z) to RAS of a scan of ``matrix`` pixels whose first slice this is, ``gap_mm`` apart."""
        pixel = self.fov / matrix
        affine = np.eye(4)
        affine[:3, :3] = np.stack([self.along_x * pixel, self.along_y * pixel, self.normal * gap_mm], 1)
        affine[:3, 3] = self.centre - (self.along_x + self.along_y) * (pixel * (matrix // 2))
        return affine


def short_axis(
    patient: VirtualPatient,
    n_slices: int,
    *,
    fov: float,
    thickness: float,
    gap: float | None,
    spin: float,
    offset: float,
    spare: float = 0.5,
) -> tuple[list[Plane], float]:
    """A short-axis stack over the whole ventricle from apex to base, seen from the apex, and the gap between slices.

    gap: from centre to centre, mm; None: so that ``n_slices`` cover the ventricle. With a gap the number of slices
    follows from it. spin: rotation in plane, rad. offset: 0..1, where the first slice lies in its gap.
    spare: slices, of the ``n_slices``, that the ventricle does not need; below 0.5 the offset may leave it uncovered.
    """
    lv, axis = patient.heart.lv, patient.turn[:, 2]
    # half a step to spare for the offset, but for a slice or two, which are to lie well inside
    step = gap or lv.top_z / (n_slices - spare if n_slices > 2 else n_slices)
    n = int(np.ceil(lv.top_z / gap + 0.5)) if gap else n_slices
    # the septum on the left, the anterior wall above: x and y rise away from them, the normal points to the base
    septum, anterior = patient.turn[:, 0], patient.turn[:, 1]
    along_x = -(np.cos(spin) * septum + np.sin(spin) * anterior)
    along_y = -(np.cos(spin) * anterior - np.sin(spin) * septum)
    heights = lv.top_z / 2 + (np.arange(n) - (n - 1) / 2 + 0.5 * (offset - 0.5)) * step
    planes = [
        Plane(
            centre=patient.apex_mm + axis * height, along_y=along_y, along_x=along_x, fov=fov, thickness=thickness
        )
        for height in heights
    ]  # fmt: skip
    return planes, step


# Angle of the view's left side about the long axis, from the septum's middle: inferior, inferolateral, septal.
LONG_AXIS = {"2ch": 1.75 - np.pi, "3ch": 1.05 - np.pi, "4ch": -0.15}


def long_axis(patient: VirtualPatient, view: str, *, fov: float, thickness: float) -> Plane:
    """A long-axis view through the apex and the middle of the base: "2ch", "3ch" or "4ch"."""
    lv, axis = patient.heart.lv, patient.turn[:, 2]
    angle = LONG_AXIS[view]
    across = np.cos(angle) * patient.turn[:, 0] + np.sin(angle) * patient.turn[:, 1]
    centre = patient.apex_mm + axis * (0.62 * lv.base_z)
    return Plane(centre=centre, along_y=axis, along_x=-across, fov=fov, thickness=thickness)
