"""Beating short-axis stacks whose areas are known exactly: discs, rings and crescents in even grey."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from tests.conftest import oblique_affine
from tests.heart_engine import TISSUE
from tests.io.dicom.dicom_files import SPACING, write_series

Array = NDArray[np.float64]
UNIT = 400.0  # grey value of the LV's blood
FINER = 4  # samples along either side of a pixel, for partial volume


@dataclass(frozen=True, kw_only=True)
class Heart:
    """One examination of a made-up heart: base first; from five slices on the first one lies above the base.

    pixel_mm, centre_mm: (y, x); centre_mm of the LV, from the middle of the image. contraction: of the radius at ES.
    """

    n_t: int = 8
    n_z: int = 6
    matrix: tuple[int, int] = (128, 128)
    pixel_mm: tuple[float, float] = (1.5, 1.5)
    gap_mm: float = 10.0
    centre_mm: tuple[float, float] = (0.0, 0.0)
    radius_mm: float = 26.0
    contraction: float = 0.3
    beat_ms: float = 800.0

    @cached_property
    def lv_mm(self) -> Array:
        """(t, z): radius of the cavity, 0 where there is none; ED is frame 0, ES the middle of the beat."""
        above = int(self.n_z >= 5)
        along = np.arange(self.n_z - above) / max(self.n_z - above - 1, 1)
        slices = np.concatenate([np.zeros(above), np.sqrt(1 - 0.8 * along**2)])
        squeeze = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_t) / self.n_t)
        return self.radius_mm * slices * (1 - self.contraction * squeeze[:, None])

    @cached_property
    def outer_mm(self) -> Array:
        """(t, z): radius of the wall, whose area is the same at all times."""
        ed = self.lv_mm[:1]
        wall = np.where(ed > 0, (ed + 9) ** 2 - ed**2, 0)
        return np.sqrt(self.lv_mm**2 + wall)

    @property
    def rv_mm(self) -> tuple[Array, Array]:
        """(t, z): how far the RV's centre lies beside the LV's, towards smaller x, and its radius."""
        return self.outer_mm + 4, 1.25 * self.lv_mm

    @cached_property
    def areas_mm2(self) -> Array:
        """(t, z, 3): RV, myocardium, LV."""
        away, rv = self.rv_mm
        lv, whole = np.pi * self.lv_mm**2, np.pi * self.outer_mm**2
        return np.stack([np.pi * rv**2 - _overlap(rv, self.outer_mm, away), whole - lv, lv], -1)

    @property
    def volumes_ml(self) -> Array:
        """(t, 3): RV, myocardium, LV."""
        return self.areas_mm2.sum(1) * self.gap_mm / 1000

    def ef_percent(self, structure: int = LV) -> float:
        ml = self.volumes_ml[:, structure - 1]
        return float(100 * (1 - ml.min() / ml.max()))

    @property
    def middle(self) -> tuple[float, float]:
        """(y, x) of the LV's centre in pixels."""
        y, x = ((n - 1) / 2 + c / p for n, c, p in zip(self.matrix, self.centre_mm, self.pixel_mm, strict=True))
        return y, x

    def frames(self) -> NDArray[np.float32]:
        """(t, z, y, x)."""
        fine = [
            (np.arange(n * FINER) - (n * FINER - 1) / 2) * p / FINER - c
            for n, p, c in zip(self.matrix, self.pixel_mm, self.centre_mm, strict=True)
        ]
        y, x = np.meshgrid(*(v.astype(np.float32) for v in fine), indexing="ij", sparse=True)
        squares = y**2 + x**2
        away, rv = self.rv_mm
        out = np.empty((self.n_t, self.n_z, *self.matrix), np.float32)
        grey = np.array(TISSUE, np.float32)
        shown: dict[tuple[float, float], NDArray[np.float32]] = {}  # phases before and after ES look the same
        for t, z in np.ndindex(self.n_t, self.n_z):
            key = (round(self.lv_mm[t, z], 9), round(self.outer_mm[t, z], 9))
            if key not in shown:
                one = np.full(squares.shape, grey[0])
                one[squares + 2 * away[t, z] * x + away[t, z] ** 2 < rv[t, z] ** 2] = grey[RV]
                one[squares < self.outer_mm[t, z] ** 2] = grey[MYOCARDIUM]
                one[squares < self.lv_mm[t, z] ** 2] = grey[LV]
                n_y, n_x = self.matrix
                shown[key] = one.reshape(n_y, FINER, n_x, FINER).mean((1, 3))
            out[t, z] = shown[key]
        return np.rint(UNIT * out)

    @property
    def affine(self) -> Array:
        return oblique_affine((self.pixel_mm[1], self.pixel_mm[0], self.gap_mm))

    @property
    def times_ms(self) -> Array:
        return self.beat_ms * np.arange(self.n_t) / self.n_t

    def series(self) -> Series:
        return Series.from_array(self.frames(), affine=self.affine, times_ms=self.times_ms, kind="cine")

    def save_nifti(self, path: Path, affine: Array | None = None, frames: NDArray[np.float32] | None = None) -> Path:
        """As int16 (x, y, z, t)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = self.frames() if frames is None else frames
        image = nib.Nifti1Image(shown.astype(np.int16).transpose(3, 2, 1, 0), self.affine if affine is None else affine)
        image.header.set_xyzt_units("mm", "msec")
        image.header.set_zooms((*image.header.get_zooms()[:3], self.beat_ms / self.n_t))
        nib.save(image, path)
        return path

    def save_dicom(self, folder: Path) -> Path:
        """One series a slice; the spacing has to be that of ``tests.io.dicom.dicom_files``."""
        assert (self.gap_mm, *self.pixel_mm) == SPACING

        def phases(ds: Dataset, t: int, z: int) -> None:
            ds.TriggerTime = f"{self.times_ms[t]:g}"

        frames = self.frames().astype(np.uint16)
        write_series(folder, frames, series_per_slice=True, SeriesDescription="cine sax", edit=phases)
        return folder


def dicom_heart(n_t: int = 4, n_z: int = 5) -> Heart:
    """One that ``save_dicom`` takes."""
    z, y, x = SPACING
    return Heart(n_t=n_t, n_z=n_z, matrix=(96, 120), pixel_mm=(y, x), gap_mm=z)


def orientations() -> list[Array]:
    """The 24 turns (3, 3) that map axes to axes."""
    turns = []
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        for signs in np.ndindex(2, 2, 2):
            turn = np.eye(3)[list(order)] * (1 - 2 * np.array(signs))
            if np.linalg.det(turn) > 0:
                turns.append(turn)
    return turns


def _overlap(a: Array, b: Array, apart: Array) -> Array:
    """Area of two circles of radii a and b in common."""
    found = np.zeros(np.broadcast(a, b, apart).shape)
    meet = (a > 0) & (b > 0) & (apart < a + b)
    r, s, d = a[meet], b[meet], apart[meet]
    alpha, beta = np.arccos((d**2 + r**2 - s**2) / (2 * d * r)), np.arccos((d**2 + s**2 - r**2) / (2 * d * s))
    found[meet] = r**2 * (alpha - np.sin(2 * alpha) / 2) + s**2 * (beta - np.sin(2 * beta) / 2)
    return found
