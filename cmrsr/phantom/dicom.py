"""Virtual scans as a scanner sends them to an archive: original magnitude images, in the series a scanner makes."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from cmrsr.errors import OutputError
from cmrsr.io.dicom.uid import uid_of
from cmrsr.io.dicom.write.derived_tags import IMAGE_TYPE, put_plane
from cmrsr.io.dicom.write.invented_tags import NO_DATE
from cmrsr.io.dicom.write.scale import UINT16, Scale
from cmrsr.io.dicom.write.series import WINDOW_PERCENTILES, put_pixels, save_dicom, take_place
from cmrsr.io.dicom.write.source_tags import PROTON_MHZ_PER_TESLA, fill_required, put
from cmrsr.io.outputs import output_errors
from cmrsr.phantom.scan import Identity, Sequence, VirtualScan
from cmrsr.version import __version__

NOT_A_PERSON = "virtual patient, not a person"
WHOLE_NUMBERS = Scale(slope=1.0, intercept=0.0, signed=False)
MS_DECIMALS = 3  # of trigger and inversion times: microseconds, as fine as the clock times
ONE_SERIES_A_SLICE = ("bssfp", "molli")  # one breath-hold each
_OURS = re.compile(r"(slice\d+/)?IM_\d+\.dcm")


@dataclass(frozen=True, slots=True)
class Terms:
    """What DICOM calls a pulse sequence; it has no term for saturation recovery, so the names have to say it."""

    scanning: tuple[str, ...]
    variant: tuple[str, ...]  # SS steady state, SP spoiled, MP magnetisation prepared
    name: str  # at most 16 characters


TERMS: dict[Sequence, Terms] = {
    "bssfp": Terms(("GR",), ("SS",), "bSSFP"),
    "saturation-recovery": Terms(("GR",), ("SP", "MP"), "SR-GRE"),
    "molli": Terms(("GR", "IR"), ("SS", "MP"), "MOLLI"),
    "inversion-recovery": Terms(("GR", "IR"), ("SP", "MP"), "IR-GRE"),
}


def write_scan_dicom(folder: Path, scan: VirtualScan, identity: Identity) -> None:
    """Write a scan as MR images, ``IM_0001.dcm`` and so on in the order of acquisition.

    Cine and T1 are one series a slice, numbered on from the header's series number; where there are several, each has
    a folder ``slice01`` and so on. Pixels are the frames rounded to whole numbers. Study and frame of reference follow
    from seed and subject, all other identifiers also from the pixels: equal calls give equal bytes, and other images
    other identifiers. The folder appears whole or not at all; one with an earlier scan is replaced.
    Raises OutputError when it cannot be written or holds anything else.
    """
    assert scan.frames.max() <= UINT16.max, (scan.name, scan.frames.max())
    with output_errors(folder):
        files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
        free = not folder.exists() or (folder.is_dir() and all(map(_OURS.fullmatch, files)))
    if not free:
        raise OutputError(f"{folder} holds other files than an earlier scan; name another folder")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        with output_errors(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _write_files(partial, scan, identity)
            take_place(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_files(folder: Path, scan: VirtualScan, identity: Identity) -> None:
    shared = _patient(identity)
    shared.update(_sequence(scan))
    low, high = (float(v) for v in np.percentile(scan.frames, WINDOW_PERCENTILES))
    content = hashlib.sha256(np.ascontiguousarray(scan.frames, "<f4").tobytes()).hexdigest()
    several = scan.header.sequence in ONE_SERIES_A_SLICE and scan.frames.shape[1] > 1
    for k, images in enumerate(_series_of(scan)):
        where = folder / f"slice{k + 1:02d}" if several else folder
        where.mkdir(exist_ok=True)
        put(shared, "SeriesInstanceUID", uid_of(shared.StudyInstanceUID, scan.name, content, str(k)))
        put(shared, "SeriesNumber", scan.header.series_number + k)
        put(shared, "SeriesTime", clock(scan.header.acquired_s[images[0]].item()))
        for number, (t, z) in enumerate(images, start=1):
            ds = _image(shared, scan, t, z)
            put(ds, "InstanceNumber", number)
            put_pixels(ds, scan.frames[t, z], WHOLE_NUMBERS, [low, high])
            save_dicom(ds, where / f"IM_{number:04d}.dcm")


def _series_of(scan: VirtualScan) -> Iterator[list[tuple[int, int]]]:
    """The images (t, z) of each series, in the order of acquisition."""
    n_t, n_z = scan.frames.shape[:2]
    alone = scan.header.sequence in ONE_SERIES_A_SLICE
    for slices in [[z] for z in range(n_z)] if alone else [list(range(n_z))]:
        images = [(t, z) for t in range(n_t) for z in slices]
        yield sorted(images, key=lambda image: (scan.header.acquired_s[image].item(), image))


def clock(seconds: float) -> str:
    """A DICOM time (TM) that long after midnight, to the microsecond."""
    whole, micro = divmod(round(seconds * 1e6), 1_000_000)
    assert 0 <= whole < 24 * 3600, seconds
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{micro:06d}"


def _patient(identity: Identity) -> Dataset:
    """Patient, study and equipment, equal in all scans of a virtual patient."""
    who = (str(identity.seed), str(identity.subject))
    ds = Dataset()
    put(ds, "PatientName", f"Virtual^Subject {identity.subject:03d}")
    put(ds, "PatientID", f"virtual-{identity.seed}-{identity.subject:03d}")
    put(ds, "PatientSex", identity.sex)
    put(ds, "PatientAge", f"{identity.age_years:03d}Y")
    put(ds, "PatientSize", round(identity.height_cm / 100, 4))
    put(ds, "PatientWeight", round(identity.weight_kg, 2))
    put(ds, "StudyInstanceUID", uid_of("virtual study", *who))
    put(ds, "FrameOfReferenceUID", uid_of("virtual frame of reference", *who))
    put(ds, "StudyID", "1")
    put(ds, "StudyDescription", NOT_A_PERSON)
    put(ds, "StudyTime", clock(0))
    for event in ("Study", "Series", "Acquisition", "Content"):
        put(ds, f"{event}Date", NO_DATE)
    put(ds, "Manufacturer", "cmrsr")
    put(ds, "ManufacturerModelName", "virtual scanner")
    put(ds, "SoftwareVersions", __version__)
    put(ds, "PatientPosition", "HFS")
    put(ds, "BodyPartExamined", "HEART")
    # Synthetic Data (0008,001C) would say the same, but it is so new that dciodvfy calls it an error.
    put(ds, "ImageComments", NOT_A_PERSON)
    put(ds, "QualityControlImage", "NO")
    put(ds, "BurnedInAnnotation", "NO")
    return ds


def _sequence(scan: VirtualScan) -> Dataset:
    """What the images of a scan have in common beside patient and equipment."""
    header, terms, ds = scan.header, TERMS[scan.header.sequence], Dataset()
    put(ds, "SOPClassUID", MRImageStorage)
    put(ds, "Modality", "MR")
    put(ds, "ImageType", ["ORIGINAL", "PRIMARY", *IMAGE_TYPE["magnitude"]])
    put(ds, "PhotometricInterpretation", "MONOCHROME2")
    put(ds, "SeriesDescription", header.description[:64])
    put(ds, "ProtocolName", f"{scan.name} {header.sequence}")
    put(ds, "SequenceName", terms.name)
    put(ds, "ScanningSequence", list(terms.scanning))
    put(ds, "SequenceVariant", list(terms.variant))
    put(ds, "ScanOptions", "CG")
    put(ds, "MRAcquisitionType", "2D")
    put(ds, "RepetitionTime", header.tr_ms)
    put(ds, "EchoTime", header.te_ms)
    put(ds, "EchoTrainLength", 1)
    put(ds, "FlipAngle", header.flip_deg)
    put(ds, "MagneticFieldStrength", header.field_t)
    put(ds, "ImagedNucleus", "1H")
    put(ds, "ImagingFrequency", round(PROTON_MHZ_PER_TESLA * header.field_t, 6))
    put(ds, "SliceThickness", header.thickness_mm)
    put(ds, "InPlanePhaseEncodingDirection", {"x": "ROW", "y": "COL"}[header.phase_axis])
    lines, across = header.phase_lines, scan.frames.shape[3 if header.phase_axis == "y" else 2]
    put(ds, "AcquisitionMatrix", [0, across, lines, 0] if header.phase_axis == "y" else [across, 0, 0, lines])
    put(ds, "NominalInterval", round(header.beat_ms))
    put(ds, "HeartRate", round(60_000 / header.beat_ms))
    if header.contrast:
        put(ds, "ContrastBolusAgent", "gadolinium")
        put(ds, "ContrastBolusIngredient", "GADOLINIUM")
    return ds


def _n_before(scan: VirtualScan, t: int, z: int) -> int:
    """How many frames of a slice were acquired before frame ``t``: frames are in order but for inversion times."""
    header = scan.header
    return t if header.inversion_ms is None else int((header.acquired_s[:, z] < header.acquired_s[t, z]).sum())


def _image(shared: Dataset, scan: VirtualScan, t: int, z: int) -> Dataset:
    """All tags of image (t, z) but its number and its pixels."""
    header, (n_t, n_z, n_y, n_x) = scan.header, scan.frames.shape
    ds = Dataset()
    ds.update(shared)
    put(ds, "SOPInstanceUID", uid_of(shared.SeriesInstanceUID, str(t), str(z)))
    for event in ("Acquisition", "Content"):
        put(ds, f"{event}Time", clock(header.acquired_s[t, z]))
    put(ds, "TriggerTime", round(float(header.trigger_ms[t, z]), MS_DECIMALS))
    if header.inversion_ms is not None:
        put(ds, "InversionTime", round(float(header.inversion_ms[t, z]), MS_DECIMALS))
    if n_t > 1:
        put(ds, "TemporalPositionIdentifier", 1 + _n_before(scan, t, z))
        put(ds, "NumberOfTemporalPositions", n_t)
    if header.sequence == "bssfp":
        put(ds, "CardiacNumberOfImages", n_t)
    put_plane(ds, scan.affine, z, (n_t, n_z, n_y, n_x))
    fill_required(ds)
    return ds
