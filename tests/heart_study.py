"""A cine of a beating heart and T1 images of some of its slices, as files of one examination."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tests.beating_heart import Heart, dicom_heart
from tests.infarct_engine import SCAR_T1_S, T1_S
from tests.io.dicom.dicom_files import ROOT, lps_position, write_series
from tests.recovering_heart import Recovery

ENHANCED_S = dict(zip((*T1_S, SCAR_T1_S), (0.35, 0.25, 0.5, 0.4, 0.3), strict=True))  # by the native T1


class Enhanced(Recovery):
    """T1 images after contrast agent was given."""

    def t1_s(self, z: int) -> NDArray[np.float32]:
        native = super().t1_s(z)
        return np.select([native == np.float32(own) for own in ENHANCED_S], list(ENHANCED_S.values())).astype(
            np.float32
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """T1 images and the cine of their heart."""

    t1: Recovery

    @property
    def heart(self) -> Heart:
        return self.t1.heart

    def save_nifti(self, folder: Path, patient: str = "p1", *, with_times: bool = True) -> tuple[Path, Path]:
        """``<patient>_cine.nii.gz`` and ``<patient>_t1.nii.gz``."""
        cine = self.heart.save_nifti(folder / f"{patient}_cine.nii.gz")
        return cine, self.t1.save_nifti(folder / f"{patient}_t1.nii.gz", with_times=with_times)

    def save_dicom(self, folder: Path) -> tuple[Path, Path]:
        """Folders ``cine`` and ``t1``; the T1 images have tags that a synthetic image must not inherit."""
        self.heart.save_dicom(folder / "cine")

        def inverted(ds: Dataset, t: int, z: int) -> None:
            ds.InversionTime = f"{self.t1.times_ms[t]:g}"
            ds.TriggerTime = "620"
            ds.ScanningSequence, ds.SequenceVariant = ["GR", "IR"], ["SS", "MP"]
            ds.ImagePositionPatient = [f"{v:.10g}" for v in lps_position(self.t1.shown[z])]
            ds.ContrastBolusAgent, ds.ContrastBolusVolume = "Gadobutrol", "10"
            ds.ProtocolName, ds.StationName, ds.SoftwareVersions = "MOLLI", "MR1", "E11"

        write_series(
            folder / "t1", self.t1.frames().astype(np.uint16), edit=inverted, SeriesDescription="T1 MOLLI native",
            SeriesNumber=30, SeriesInstanceUID=f"{ROOT}.3.30",
        )  # fmt: skip
        return folder / "cine", folder / "t1"


STUDY = Study(t1=Recovery(heart=Heart(n_t=10, n_z=5, matrix=(104, 112), centre_mm=(6.0, -4.5)), slices=(2, 3)))


def dicom_study() -> Study:
    """One that ``save_dicom`` takes."""
    return Study(t1=Recovery(heart=dicom_heart(10, 5), slices=(2, 3)))
