"""Synthetic DICOM files for tests: classic series of any shape, and one enhanced multi-frame file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from cmrsr.io.dicom.read.group import DicomGroup, assemble, group
from cmrsr.io.dicom.read.instance import read_headers
from cmrsr.io.series import Series

ROOT = "1.2.826.0.1.3680043.8.498.7"
# A short-axis-like plane: oblique to all three axes, exactly orthonormal.
ROW = np.array([2.0, 1.0, -2.0]) / 3
COLUMN = np.array([1.0, 2.0, 2.0]) / 3
NORMAL = np.cross(ROW, COLUMN)
ORIGIN = np.array([-70.0, -40.0, 25.0])
SPACING = (8.0, 1.5, 1.25)  # z, y, x
BEAT_MS = 800.0
Edit = Callable[[Dataset, int, int], None]


def images(t: int = 5, z: int = 3, y: int = 12, x: int = 10) -> NDArray[np.uint16]:
    """Distinct pixels everywhere, so that no frame can be taken for another."""
    return np.random.default_rng(t * 100 + z).integers(0, 900, (t, z, y, x)).astype(np.uint16)


def lps_position(z: float) -> NDArray[np.float64]:
    """Centre of the first pixel of slice z."""
    return ORIGIN + z * SPACING[0] * NORMAL


def dataset(pixels: NDArray[Any], t: int, z: int, **tags: Any) -> Dataset:
    """A valid MR image of time point t, slice z; ``tags`` replaces or, with None, removes tags."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = MRImageStorage
    ds.Modality = "MR"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom^One", "P1", "19700101", "O"
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = f"{ROOT}.1", f"{ROOT}.2"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20240102", "101500", "1", ""
    ds.ReferringPhysicianName, ds.Manufacturer, ds.PositionReferenceIndicator = "", "Tests", ""
    ds.SeriesNumber, ds.SeriesInstanceUID, ds.SeriesDescription = 5, f"{ROOT}.3.5", "perfusion rest"
    ds.PatientPosition, ds.BodyPartExamined = "HFS", "HEART"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "GR", "SP", "CG", "2D"
    ds.SliceThickness, ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = "8", "2.5", "1.1", "1"
    ds.MagneticFieldStrength, ds.FlipAngle = "1.5", "12"
    ds.ImagePositionPatient = [f"{v:.10g}" for v in lps_position(z)]
    ds.ImageOrientationPatient = [f"{v:.10f}" for v in (*ROW, *COLUMN)]
    ds.PixelSpacing = [str(SPACING[1]), str(SPACING[2])]
    ds.InPlanePhaseEncodingDirection = "ROW"
    ds.TriggerTime = str(100 + t * BEAT_MS)
    ds.AcquisitionDate = ds.ContentDate = "20240102"
    ds.AcquisitionTime = ds.ContentTime = clock(t * BEAT_MS + z * 200)
    put_pixels(ds, pixels)
    for keyword, value in tags.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)
    return ds


def put_pixels(ds: Dataset, pixels: NDArray[Any]) -> None:
    """Uncompressed pixels of an integer array (y, x) or (frames, y, x)."""
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.add_new("PixelData", "OB" if pixels.itemsize == 1 else "OW", pixels.tobytes())


def put_unchecked(ds: Dataset, keyword: str, *values: str | bytes) -> None:
    """Values as a careless program writes them, valid or not."""
    tag = Tag(keyword)
    raw = b"\\".join(v if isinstance(v, bytes) else v.encode() for v in values)
    raw += b" " * (len(raw) % 2)
    ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True, True)


def clock(ms: float) -> str:
    """A TM value ``ms`` after 10:20."""
    seconds = (10 * 60 + 20) * 60 + ms / 1000
    return f"{int(seconds // 3600):02d}{int(seconds // 60 % 60):02d}{seconds % 60:09.6f}"


def save(ds: Dataset, path: Path) -> Path:
    """Write a file whose SOP Instance UID follows from series and instance number, unless it has one."""
    if "SOPInstanceUID" not in ds:
        ds.SOPInstanceUID = f"{ds.SeriesInstanceUID}.{ds.get('InstanceNumber', 0)}.{len(str(path))}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with config.disable_value_validation():
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID or ROOT
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, frames: NDArray[Any], *, series_per_slice: bool = False, edit: Edit | None = None, **tags: Any
) -> list[Path]:
    """One file an image, named I000 and so on, time by time; ``frames`` is (t, z, y, x) and sets the pixel type.

    ``tags`` goes into all files, ``edit(ds, t, z)`` changes single ones. Returns the paths in the order (t, z).
    """
    paths = []
    n, depth = frames.shape[:2]
    for t in range(n):
        for z in range(depth):
            ds = dataset(frames[t, z], t, z)
            ds.InstanceNumber = t + 1 if series_per_slice else t * depth + z + 1
            for keyword, value in tags.items():
                if value is not None:
                    setattr(ds, keyword, value)
                elif keyword in ds:
                    delattr(ds, keyword)
            if series_per_slice:
                ds.SeriesNumber = int(ds.SeriesNumber) + z
                ds.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.{z}"
            ds.SOPInstanceUID = f"{ds.get('SeriesInstanceUID', ROOT)}.{ds.SeriesNumber}.{t + 1}.{z + 1}"
            if edit is not None:
                edit(ds, t, z)
            paths.append(save(ds, folder / f"I{t * depth + z:03d}"))
    return paths


def write_enhanced(path: Path, frames: NDArray[Any]) -> Path:
    """An enhanced MR cine (t, z, y, x) in one file, slices by slices, 40 ms a phase."""
    n, depth = frames.shape[:2]
    ds = dataset(np.swapaxes(frames, 0, 1).reshape(-1, *frames.shape[2:]), 0, 0)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "TriggerTime", "EchoTime"):
        delattr(ds, keyword)
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.SeriesDescription = "cine enhanced"
    ds.NumberOfFrames = n * depth
    ds.InstanceNumber = 1
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[f"{v:.10f}" for v in (*ROW, *COLUMN)])],
            PixelMeasuresSequence=[item(PixelSpacing=[SPACING[1], SPACING[2]], SliceThickness=8)],
            MREchoSequence=[item(EffectiveEchoTime=1.1)],
            MRFOVGeometrySequence=[
                item(
                    InPlanePhaseEncodingDirection="COLUMN",
                    MRAcquisitionFrequencyEncodingSteps=10,
                    MRAcquisitionPhaseEncodingStepsInPlane=6,
                )
            ],
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[f"{v:.10g}" for v in lps_position(z)])],
            FrameContentSequence=[item(TemporalPositionIndex=t + 1)],
            CardiacSynchronizationSequence=[item(NominalCardiacTriggerDelayTime=40.0 * t)],
            PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-10, RescaleType="US")],
        )
        for z in range(depth)
        for t in range(n)
    ]
    return save(ds, path)


def item(**tags: Any) -> Dataset:
    """A sequence item."""
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def two_in_one_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Files as ``write`` makes them, twice in one folder, the second time with SOP Instance UIDs of their own."""
    write(folder)
    write(folder / "again")
    for k, path in enumerate(sorted((folder / "again").iterdir())):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.9.{k + 1}"
        ds.save_as(folder / f"again_{path.name}")
        path.unlink()
    (folder / "again").rmdir()


def groups_in(folder: Path) -> list[DicomGroup]:
    """All series in a folder."""
    instances, _ = read_headers(p for p in sorted(folder.rglob("*")) if p.is_file())
    return group(instances)


def series_in(folder: Path, **options: Any) -> Series:
    """The one series in a folder."""
    groups = groups_in(folder)
    assert len(groups) == 1, [g.name for g in groups]
    return assemble(groups[0], **options)


def cine(folder: Path, frames: NDArray[Any], **options: Any) -> list[Path]:
    """40 ms a phase, all slices alike."""
    edit = options.pop("edit", None)

    def phases(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(40 * t)
        ds.AcquisitionTime = ds.ContentTime = clock(10_000 * z)
        if edit is not None:
            edit(ds, t, z)

    return write_series(folder, frames, **{"SeriesDescription": "cine sax", "edit": phases, **options})
