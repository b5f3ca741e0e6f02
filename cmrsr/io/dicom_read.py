"""DICOM files to plain records, headers only."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom import config
from pydicom.dataset import Dataset

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom_enhanced import classic_view
from cmrsr.io.dicom_header import damage_of, read_header

Component = Literal["magnitude", "phase", "real", "imaginary", "map"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomInstance:
    """One image: a single-frame file, or one frame (0-based) of a multi-frame file.

    Lengths in mm, times in ms; spacing is (between rows = y, between columns = x), position and orientation are LPS.
    ``acquired_at_ms`` counts from an arbitrary midnight. Whatever the file does not hold, or holds garbled, is None.
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
    series_number: int | None
    description: str
    text: str
    comment: str
    component: Component
    derived: bool
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
        with config.disable_value_validation():  # values are judged one by one below
            found = _read_file(path)
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            instances.extend(found)
    return instances, skipped


def _read_file(path: Path) -> list[DicomInstance] | Skipped:
    def skip(reason: str, *, unreadable: bool = False) -> Skipped:
        return Skipped(path=path, reason=reason, unreadable=unreadable)

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

    n_frames = int(number(ds, "NumberOfFrames") or 1)
    enhanced = "PerFrameFunctionalGroupsSequence" in ds
    if enhanced and len(ds.PerFrameFunctionalGroupsSequence) != n_frames:
        return skip("its number of frames differs from its functional groups", unreadable=True)
    if n_frames > 1 and not enhanced:
        return skip("a multi-frame image without a position for each frame")
    damage = damage_of(header, path)
    views = [classic_view(ds, frame) for frame in range(n_frames)] if enhanced else [ds]
    if "LOCALIZER" in words(views[0], "ImageType") or re.search(r"locali[sz]er|scout|survey", _text_of(ds)):
        return skip("a localiser")
    try:
        return [_instance(path, frame, n_frames, view, damage) for frame, view in enumerate(views)]
    except MissingTagError as error:
        return skip(f"no usable {error}")


class MissingTagError(Exception):
    """A tag without which an image has no place in a series."""


def _instance(path: Path, frame: int, n_frames: int, ds: Dataset, damage: str | None) -> DicomInstance:
    spacing = required(ds, "PixelSpacing", 2)
    rows, columns = required(ds, "Rows", 1)[0], required(ds, "Columns", 1)[0]
    orientation = required(ds, "ImageOrientationPatient", 6)
    if min(spacing) <= 0 or min(rows, columns) < 1:
        raise MissingTagError("PixelSpacing, Rows or Columns (zero)")
    if not np.allclose(np.reshape(orientation, (2, 3)) @ np.reshape(orientation, (2, 3)).T, np.eye(2), atol=1e-2):
        raise MissingTagError("ImageOrientationPatient (not two perpendicular unit vectors)")
    lines = [int(n) for n in (numbers(ds, "AcquisitionMatrix") or ())][2:]
    return DicomInstance(
        path=path,
        frame=frame,
        n_frames=n_frames,
        sop_class_uid=text(ds, "SOPClassUID"),
        sop_instance_uid=text(ds, "SOPInstanceUID"),
        study_uid=text(ds, "StudyInstanceUID"),
        series_uid=text(ds, "SeriesInstanceUID"),
        frame_of_reference_uid=text(ds, "FrameOfReferenceUID"),
        series_number=None if (series := number(ds, "SeriesNumber")) is None else int(series),
        description=text(ds, "SeriesDescription"),
        text=_text_of(ds),
        comment=text(ds, "ImageComments"),
        component=component_of(ds),
        derived=words(ds, "ImageType")[:1] == ("DERIVED",),
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
        slope=number(ds, "RescaleSlope") or 1.0,
        intercept=number(ds, "RescaleIntercept") or 0.0,
        damage=damage,
    )


def component_of(ds: Dataset) -> Component:
    """Which part of the complex signal, or a parameter map: vendors say it in ImageType, each in their own words."""
    types = set(words(ds, "ImageType")[2:]) | set(words(ds, "ComplexImageComponent"))
    phases = {"P", "PHASE", "PHASE MAP", "VELOCITY", "VELOCITY MAP", "PHASE CONTRAST P"}
    description = text(ds, "SeriesDescription").lower().replace("_", " ")
    named_map = re.search(r"\bmaps?\b|t[12]\*?maps?\b|fit ?param", description)
    # A description such as "T1Map_MOCO" is also given to the inversion images themselves: those have an inversion time.
    # Siemens writes maps with any component in ImageType, so the description goes first.
    if (named_map and number(ds, "InversionTime") is None) or any(name.endswith("MAP") for name in types - phases):
        return "map"
    if types & phases:
        return "phase"
    if types & {"R", "REAL"}:
        return "real"
    if types & {"I", "IMAGINARY"}:
        return "imaginary"
    return "magnitude"


def _text_of(ds: Dataset) -> str:
    tags = ("SeriesDescription", "ProtocolName", "SequenceName", "ImageComments")
    return re.sub(r"[\s_^]+", " ", " ".join([text(ds, tag) for tag in tags] + list(words(ds, "ImageType")))).lower()


def text(ds: Dataset, keyword: str) -> str:
    """The value as text, "" where absent."""
    value = ds.get(keyword)
    return "" if value is None else str(value).strip()


def words(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a multi-valued text tag in capitals, () where absent."""
    value = ds.get(keyword) or ()
    return tuple(str(v).strip().upper() for v in ([value] if isinstance(value, str) else value))


def numbers(ds: Dataset, keyword: str) -> tuple[float, ...] | None:
    """All values of a numeric tag, None where absent, empty or not finite numbers."""
    try:
        value: Any = ds.get(keyword)
        values = np.atleast_1d(np.asarray(value, dtype=np.float64)) if value not in (None, "") else np.empty(0)
    except (ValueError, TypeError, OverflowError):
        return None
    return tuple(float(v) for v in values) if values.size and np.isfinite(values).all() else None


def number(ds: Dataset, keyword: str) -> float | None:
    """The first value of a numeric tag."""
    values = numbers(ds, keyword)
    return None if values is None else values[0]


def required(ds: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Exactly ``count`` numbers. Raises MissingTagError."""
    values = numbers(ds, keyword)
    if values is None or len(values) != count:
        raise MissingTagError(keyword)
    return values


def clock_ms(ds: Dataset, event: Literal["Acquisition", "Content"]) -> float | None:
    """Date and time of an event in ms since an arbitrary midnight; the time alone where no date is given."""
    stamp = text(ds, f"{event}DateTime")
    date, time = (stamp[:8], re.split(r"[+-]", stamp[8:])[0]) if len(stamp) > 8 else ("", "")
    date, time = date or text(ds, f"{event}Date"), (time or text(ds, f"{event}Time")).replace(":", "")
    if not (parts := re.fullmatch(r"(\d\d)(\d\d)(\d\d(?:\.\d*)?)", time)):
        return None
    hours, minutes, seconds = (float(part) for part in parts.groups())
    try:
        day = datetime.strptime(date, "%Y%m%d").toordinal() if date else 0
    except ValueError:
        day = 0
    return (((day * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000.0
