"""DICOM files to plain records, headers only."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import config
from pydicom.dataset import Dataset

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.codec import one_line
from cmrsr.io.dicom.read.component import Component, called_a_map, component_of, private_value
from cmrsr.io.dicom.read.enhanced import Dimensions, classic_view, dimensions_of
from cmrsr.io.dicom.read.header import damage_of, read_header
from cmrsr.io.dicom.read.wanted import (
    GE_B_VALUE,
    GE_VENC,
    PHILIPS_B_VALUE,
    SEPARATING,
    SIEMENS_B_VALUE,
    SIEMENS_FLOW,
    SIEMENS_MOSAIC,
)
from cmrsr.io.dicom.tags import MissingTagError, clock_ms, comma_notes, number, numbers, required, scale, text, words

_SCOUT = re.compile(r"locali[sz]er|scout|survey")
_VENDOR_SEPARATING = {
    "b-value": (SIEMENS_B_VALUE, GE_B_VALUE, PHILIPS_B_VALUE),
    "velocity encoding": (SIEMENS_FLOW, GE_VENC),
}
_DECIMALS = ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
             "SliceThickness", "TriggerTime", "EchoTime", "InversionTime")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an image is taken to belong to: its UIDs, or less where these cannot be believed (see dicom_identity)."""

    study: str
    series: str
    frame_of_reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomInstance:
    """One image: a single-frame file, or one frame (0-based) of a multi-frame file.

    Lengths in mm, times in ms; spacing is (between rows = y, between columns = x), position and orientation are LPS.
    ``acquired_at_ms`` counts from an arbitrary midnight. Whatever the file does not hold, or holds garbled, is None.
    The UIDs are those of the file, for references to it; ``identity`` is what it is grouped by.
    ``signal`` is the component by its tags alone, without the words of the description. ``scout``: called a localiser
    by its header. ``separating``: tags and values in which images of one place and time may differ. ``dimensions``: of
    a frame of an enhanced file. ``notes``: what was assumed in reading the header.
    ``damage`` says in words what is wrong with the pixel data, None when nothing is.
    """

    path: Path
    frame: int
    n_frames: int
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    identity: Identity
    patient_id: str
    study_date: str
    series_number: int | None
    description: str
    text: str
    comment: str
    component: Component
    signal: Component
    derived: bool
    scout: bool
    matrix: tuple[int, int]
    spacing_mm: tuple[float, float]
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    thickness_mm: float | None
    echo_time_ms: float | None
    inversion_time_ms: float | None
    temporal_position: float | None
    trigger_time_ms: float | None
    acquired_at_ms: float | None
    content_at_ms: float | None
    instance_number: float | None
    nominal_interval_ms: float | None
    heart_rate_bpm: float | None
    phase_direction: str
    acquired_lines: int | None
    phase_fov_percent: float | None
    slope: float
    intercept: float
    separating: tuple[tuple[str, str], ...]
    dimensions: Dimensions
    notes: tuple[str, ...]
    damage: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file left out. ``unreadable``: not an image, or broken (exit 3); otherwise an image of no use here (exit 4)."""

    path: Path
    reason: str
    unreadable: bool


def read_headers(paths: Iterable[Path]) -> tuple[list[DicomInstance], list[Skipped]]:
    """Records of all MR images among ``paths``, one per frame, and what was skipped and why; pixels are not read."""
    instances: list[DicomInstance] = []
    skipped: list[Skipped] = []
    for path in paths:
        try:
            with config.disable_value_validation():  # values are judged one by one below
                found = _read_file(path)
        except Exception as error:  # a damaged header makes pydicom raise anything when a value is looked at
            found = Skipped(path=path, reason=f"damaged DICOM header ({one_line(error)})", unreadable=True)
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            instances.extend(found)
    return instances, skipped


def _read_file(path: Path) -> list[DicomInstance] | Skipped:
    def skip(reason: str, *, unreadable: bool = False) -> Skipped:
        return Skipped(path=path, reason=one_line(reason), unreadable=unreadable)  # values of tags hold anything

    try:
        header = read_header(path)
    except UnreadableError as error:
        return skip(str(error), unreadable=True)
    ds = header.dataset
    if ds.file_meta.get("MediaStorageSOPClassUID") == pydicom.uid.MediaStorageDirectoryStorage:
        return skip("a DICOMDIR, not an image", unreadable=True)
    modality = text(ds, "Modality")
    if header.pixels_at is None:
        is_image = modality == "MR" and number(ds, "Rows") is not None
        return skip("truncated: no pixel data" if is_image else f"no image in it ({modality or '?'})", unreadable=True)
    if modality != "MR":
        return skip(f"wrong modality: {modality or 'none given'}, expected MR")
    if number(ds, "SamplesPerPixel") not in (None, 1.0) or not text(ds, "PhotometricInterpretation").startswith("MONO"):
        return skip("a colour image, expected greyscale MR")
    if "MOSAIC" in words(ds, "ImageType") or private_value(ds, SIEMENS_MOSAIC):
        return skip("a mosaic of several slices in one image; export the series from the scanner without mosaic")

    n_frames = max(int(number(ds, "NumberOfFrames") or 1), 1)
    enhanced = "PerFrameFunctionalGroupsSequence" in ds
    if n_frames > 1 and not enhanced:
        return skip("a multi-frame image without a position for each frame")
    notes: tuple[str, ...] = ()
    if enhanced and (n_groups := len(ds.PerFrameFunctionalGroupsSequence)) != n_frames:
        if not n_groups:
            return skip("a multi-frame image without a position for each frame")
        notes = (
            f"{path.name}: {n_frames} frames but headers of {n_groups}; the first {min(n_groups, n_frames)} were read",
        )
        n_frames = min(n_groups, n_frames)
    damage = damage_of(header, path)
    views = [classic_view(ds, frame) for frame in range(n_frames)] if enhanced else [ds]
    try:
        return [
            _instance(path, frame, n_frames, view, dimensions_of(ds, view) if enhanced else Dimensions(), notes, damage)
            for frame, view in enumerate(views)
        ]
    except MissingTagError as error:
        return skip(f"no usable {error}")


def _instance(
    path: Path, frame: int, n_frames: int, ds: Dataset, dimensions: Dimensions, notes: tuple[str, ...],
    damage: str | None,
) -> DicomInstance:  # fmt: skip
    spacing = required(ds, "PixelSpacing", 2)
    rows, columns = required(ds, "Rows", 1)[0], required(ds, "Columns", 1)[0]
    orientation = required(ds, "ImageOrientationPatient", 6)
    if min(spacing) <= 0 or min(rows, columns) < 1:
        raise MissingTagError("PixelSpacing, Rows or Columns (zero)")
    if not np.allclose(np.reshape(orientation, (2, 3)) @ np.reshape(orientation, (2, 3)).T, np.eye(2), atol=1e-2):
        raise MissingTagError("ImageOrientationPatient (not two perpendicular unit vectors)")
    lines = [int(n) for n in (numbers(ds, "AcquisitionMatrix") or ())][2:]
    study, series, place = (text(ds, key) for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"))
    searched, signal, named_map = _text_of(ds), component_of(ds), called_a_map(ds)
    return DicomInstance(
        path=path,
        frame=frame,
        n_frames=n_frames,
        sop_class_uid=text(ds, "SOPClassUID"),
        sop_instance_uid=text(ds, "SOPInstanceUID"),
        study_uid=study,
        series_uid=series,
        frame_of_reference_uid=place,
        identity=Identity(study=study, series=series, frame_of_reference=place),
        patient_id=text(ds, "PatientID"),
        study_date=text(ds, "StudyDate"),
        series_number=None if (value := number(ds, "SeriesNumber")) is None else int(value),
        description=text(ds, "SeriesDescription"),
        text=searched,
        comment=text(ds, "ImageComments"),
        component="map" if named_map else signal,
        signal=signal,
        derived=words(ds, "ImageType")[:1] == ("DERIVED",),
        scout="LOCALIZER" in words(ds, "ImageType") or _SCOUT.search(searched) is not None,
        matrix=(int(rows), int(columns)),
        spacing_mm=(spacing[0], spacing[1]),
        position_mm=required(ds, "ImagePositionPatient", 3),
        orientation=orientation,
        thickness_mm=number(ds, "SliceThickness") or None,
        echo_time_ms=number(ds, "EchoTime"),
        inversion_time_ms=number(ds, "InversionTime"),
        temporal_position=number(ds, "TemporalPositionIdentifier"),
        trigger_time_ms=number(ds, "TriggerTime"),
        acquired_at_ms=clock_ms(ds, "Acquisition"),
        content_at_ms=clock_ms(ds, "Content"),
        instance_number=number(ds, "InstanceNumber"),
        nominal_interval_ms=number(ds, "NominalInterval"),
        heart_rate_bpm=number(ds, "HeartRate"),
        phase_direction=text(ds, "InPlanePhaseEncodingDirection").upper(),
        acquired_lines=max(lines, default=0) or None,
        phase_fov_percent=number(ds, "PercentPhaseFieldOfView"),
        slope=scale(ds, "RescaleSlope", 1.0) or 1.0,
        intercept=scale(ds, "RescaleIntercept", 0.0),
        separating=_separating(ds) + dimensions.others,
        dimensions=dimensions,
        notes=notes + comma_notes(ds, _DECIMALS),
        damage=damage,
    )


def _separating(ds: Dataset) -> tuple[tuple[str, str], ...]:
    found = [(key, "\\".join(words(ds, key))) for key in SEPARATING]
    for name, tags in _VENDOR_SEPARATING.items():
        found += [(name, value) for tag in tags if (value := private_value(ds, tag))]
    return tuple((key, value) for key, value in found if value)


def _text_of(ds: Dataset) -> str:
    tags = ("SeriesDescription", "ProtocolName", "SequenceName", "ImageComments")
    return re.sub(r"[\s_^]+", " ", " ".join([text(ds, tag) for tag in tags] + list(words(ds, "ImageType")))).lower()
