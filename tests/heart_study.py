"""A cine of a beating heart with T1 images of some of its slices, whose tissues have T1 values of our choice."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cmrsr.io.series import Series
from cmrsr.physics.signal import inversion_recovery
from tests.beating_heart import UNIT, Heart, dicom_heart
from tests.heart_engine import TISSUE
from tests.io.dicom_files import ROOT, lps_position, write_series

Array = NDArray[np.float64]
INVERSION_MS = (100.0, 180.0, 1000.0, 1080.0, 1900.0, 1980.0, 2800.0, 3700.0)
NATIVE_MS = (700.0, 1600.0, 1000.0, 1600.0)  # of what surrounds the heart, RV, wall, LV
ENHANCED_MS = (350.0, 300.0, 450.0, 300.0)  # after contrast agent


@dataclass(frozen=True, kw_only=True)
class Study:
    """A cine, and T1 images of ``n`` of its slices from slice ``first`` on, at end diastole."""

    heart: Heart = field(
        default_factory=lambda: Heart(n_t=10, n_z=5, matrix=(104, 112), pixel_mm=(1.5, 1.5), centre_mm=(6.0, -4.5))
    )
    first: int = 2
    n: int = 2
    t1_ms: tuple[float, ...] = NATIVE_MS
    inversion_ms: tuple[float, ...] = INVERSION_MS

    @property
    def affine(self) -> Array:
        """Of the T1 images."""
        affine = self.heart.affine.copy()
        affine[:3, 3] += self.first * affine[:3, 2]
        return affine

    def labels(self) -> NDArray[np.intp]:
        """(z, y, x) of the T1 images: 0 background, 1 RV, 2 wall, 3 LV."""
        grey = self.heart.frames()[0, self.first : self.first + self.n] / UNIT
        return np.abs(grey[..., None] - np.array(TISSUE)).argmin(-1)

    def t1_frames(self) -> NDArray[np.float32]:
        """(n, z, y, x), magnitudes in whole numbers."""
        times = np.array(self.inversion_ms)[:, None, None, None]
        signal = np.abs(inversion_recovery(1.0, np.array(self.t1_ms)[self.labels()], times))
        noise = np.random.default_rng(5).normal(size=signal.shape)
        return np.rint(np.abs(1000 * signal + 3 * noise)).astype(np.float32)

    def cine(self) -> Series:
        return self.heart.series()

    def t1(self) -> Series:
        return Series.from_array(self.t1_frames(), affine=self.affine, times_ms=np.array(self.inversion_ms), kind="t1")

    def save_nifti(self, folder: Path, patient: str = "p1", *, times: bool = True) -> tuple[Path, Path]:
        """``<patient>_cine.nii.gz`` and ``<patient>_t1.nii.gz``, with a sidecar of inversion times where wanted."""
        cine = self.heart.save_nifti(folder / f"{patient}_cine.nii.gz")
        t1 = folder / f"{patient}_t1.nii.gz"
        nib.save(nib.Nifti1Image(self.t1_frames().astype(np.int16).transpose(3, 2, 1, 0), self.affine), t1)
        if times:
            seconds = [t / 1000 for t in self.inversion_ms]
            t1.with_name(f"{patient}_t1.json").write_text(json.dumps({"InversionTime": seconds}))
        return cine, t1

    def save_dicom(self, folder: Path) -> tuple[Path, Path]:
        """Folders ``cine`` and ``t1``; the T1 images have tags that a synthetic image must not inherit."""
        self.heart.save_dicom(folder / "cine")

        def inverted(ds: Dataset, t: int, z: int) -> None:
            ds.InversionTime = f"{self.inversion_ms[t]:g}"
            ds.TriggerTime = "620"
            ds.ScanningSequence, ds.SequenceVariant = ["GR", "IR"], ["SS", "MP"]
            ds.ImagePositionPatient = [f"{v:.10g}" for v in lps_position(z + self.first)]
            ds.ContrastBolusAgent, ds.ContrastBolusVolume = "Gadobutrol", "10"
            ds.ProtocolName, ds.StationName, ds.SoftwareVersions = "MOLLI", "MR1", "E11"

        frames = self.t1_frames().astype(np.uint16)
        write_series(
            folder / "t1", frames, edit=inverted, SeriesDescription="T1 MOLLI native", SeriesNumber=30,
            SeriesInstanceUID=f"{ROOT}.3.30",
        )  # fmt: skip
        return folder / "cine", folder / "t1"


def dicom_study() -> Study:
    """One that ``save_dicom`` takes."""
    return Study(heart=dicom_heart(10, 5))
