"""The tags that say what an output image is: derived, from which images, by what, where it lies and when it was."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.read.component import Component
from cmrsr.io.dicom.read.geometry import LPS_TO_RAS
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.tags import number, text, words
from cmrsr.io.dicom.write.source_tags import put, put_reference
from cmrsr.io.series import Kind, Shape

IMAGE_TYPE: dict[Component, tuple[str, str]] = {
    "magnitude": ("OTHER", "M"),
    "phase": ("PHASE MAP", "P"),
    "real": ("OTHER", "R"),
    "imaginary": ("OTHER", "I"),
    "map": ("OTHER", "MAP"),
}
# A further value of ImageType, which DICOM leaves to the implementation; its term RESAMPLED means in space.
INTERPOLATED = "INTERPOLATED"
NOTICE = "Research use only, not a medical device"
MAX_DESCRIPTION = 64
MAX_SERIES_NUMBER = 2**31 - 1
# Far below any meaning; hides the last bits of the arithmetic.
MM_DECIMALS, COSINE_DECIMALS = 8, 12


def put_derivation(ds: Dataset, derivation: Derivation, component: Component, source_header: Dataset) -> None:
    """Image type, description of the processing, and the software as contributing equipment."""
    first, second = IMAGE_TYPE[component]
    kept = [
        word
        for word in words(source_header, "ImageType")[2:]
        if re.fullmatch(r"[A-Z0-9 _]{1,16}", word) and word not in (first, second, "OTHER", INTERPOLATED)
    ]
    put(ds, "ImageType", ["DERIVED", "SECONDARY", first, second, *kept])
    put(ds, "DerivationDescription", derivation.describe().encode("ascii", "replace").decode()[:1024])
    if derivation.resampled:  # there is no code for interpolation in time (CID 7203)
        put(ds, "DerivationCodeSequence", [code_item(codes.DCM.SpatialResampling)])
    put(ds, "ContentQualification", "RESEARCH")
    put(ds, "BurnedInAnnotation", "NO")
    put(ds, "BodyPartExamined", "HEART")
    put(ds, "ImageComments", NOTICE)
    equipment = Dataset()
    put(equipment, "Manufacturer", "cmrsr")
    put(equipment, "ManufacturerModelName", f"cmrsr {derivation.task}"[:64])
    put(equipment, "SoftwareVersions", derivation.software_version[:64])
    put(equipment, "ContributionDescription", f"{derivation.task} with engine {derivation.engine}"[:1024])
    put(equipment, "PurposeOfReferenceCodeSequence", [code_item(codes.DCM.ProcessingEquipment)])
    put(ds, "ContributingEquipmentSequence", [*ds.get("ContributingEquipmentSequence", []), equipment])


def put_series(ds: Dataset, source_header: Dataset, *, series_uid: str, offset: int, suffix: str) -> None:
    """A new series of the study: description + suffix; number 100 * source + 1 + offset (1 + offset without one)."""
    put(ds, "Modality", "MR")
    put(ds, "SeriesInstanceUID", series_uid)
    description = text(source_header, "SeriesDescription")
    put(ds, "SeriesDescription", f"{description[: MAX_DESCRIPTION - len(suffix) - 1]} {suffix}".strip())
    wanted = 100 * int(number(source_header, "SeriesNumber") or 0) + 1 + offset
    put(ds, "SeriesNumber", wanted if 0 < wanted <= MAX_SERIES_NUMBER else 1 + offset)


def source_items(sources: Sequence[DicomInstance]) -> list[Dataset]:
    """Items of a Source Image Sequence: every image that contributed and has identifiers to refer to it by."""
    items = []
    for source in sources:
        if not (source.sop_class_uid and source.sop_instance_uid):
            continue  # nothing to refer to it by
        item = Dataset()
        put_reference(item, "ReferencedSOPClassUID", source.sop_class_uid)
        put_reference(item, "ReferencedSOPInstanceUID", source.sop_instance_uid)
        if source.n_frames > 1:
            put(item, "ReferencedFrameNumber", source.frame + 1)
        put(item, "PurposeOfReferenceCodeSequence", [code_item(codes.DCM.SourceImageForImageProcessingOperation)])
        items.append(item)
    return items


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence."""
    item = Dataset()
    put(item, "CodeValue", code.value)
    put(item, "CodingSchemeDesignator", code.scheme_designator)
    put(item, "CodeMeaning", code.meaning)
    return item


@dataclass(frozen=True, slots=True)
class Plane:
    """Place of slice z of an affine in DICOM's terms (LPS, mm)."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    normal: tuple[float, ...]
    step_mm: float


def plane_of(affine: NDArray[np.float64], z: int) -> Plane:
    """Position (centre of the first pixel), orientation, (row, column) spacing, normal, and distance between slices."""
    x, y, step = (LPS_TO_RAS @ affine[:3, :3]).T
    dx, dy = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    normal = np.cross(x / dx, y / dy)
    position = LPS_TO_RAS @ (affine @ [0, 0, z, 1])[:3]
    return Plane(
        position=tuple(np.round(position, MM_DECIMALS).tolist()),
        orientation=tuple(np.round([*(x / dx), *(y / dy)], COSINE_DECIMALS).tolist()),
        spacing=(round(dy, MM_DECIMALS), round(dx, MM_DECIMALS)),
        normal=tuple(normal.tolist()),
        step_mm=round(abs(float(step @ normal)), MM_DECIMALS),
    )


def put_plane(ds: Dataset, affine: NDArray[np.float64], z: int, shape: Shape) -> None:
    """Image plane of slice ``z``; the distance between slices is set for a stack and kept for a single slice."""
    plane = plane_of(affine, z)
    put(ds, "ImagePositionPatient", plane.position)
    put(ds, "ImageOrientationPatient", plane.orientation)
    put(ds, "PixelSpacing", plane.spacing)
    put(ds, "SliceLocation", float(np.dot(plane.position, plane.normal)))
    if shape[1] > 1:
        put(ds, "SpacingBetweenSlices", plane.step_mm)


def put_between(ds: Dataset, sources: Sequence[int], z: int, source_times_ms: NDArray[np.float64] | None) -> None:
    """Say of an image of slice ``z`` whether it is the acquired one of its source or lies between those of two.

    sources: time points of the source. The time of an interpolated image is not that of the source it was copied from.
    """
    if len(sources) == 1:
        said = "acquired image, passed through to a series that has interpolated images as well"
    elif source_times_ms is None:
        ds.pop("TriggerTime", None)
        said = f"interpolated between images {' and '.join(str(s + 1) for s in sources)} of the source"
    else:
        times = [_time(source_times_ms, s, z) for s in sources]
        said = f"interpolated between images at {' and '.join(f'{round(time, 1):g}' for time in times)} ms"
    put(ds, "ImageComments", f"{said}. {NOTICE}")
    if len(sources) > 1:
        put(ds, "ImageType", [*words(ds, "ImageType"), INTERPOLATED])


def _time(times_ms: NDArray[np.float64], t: int, z: int) -> float:
    """Time of an image, from times (t,) or (t, z)."""
    return float(times_ms[t] if times_ms.ndim == 1 else times_ms[t, z])


def put_times(ds: Dataset, kind: Kind, t: int, z: int, n: int, times_ms: NDArray[np.float64] | None) -> None:
    """Temporal position of frame ``t`` of ``n``; where times are given, its time in the tag that suits the kind."""
    if n > 1:
        put(ds, "TemporalPositionIdentifier", t + 1)
        put(ds, "NumberOfTemporalPositions", n)
    if kind == "cine":
        put(ds, "CardiacNumberOfImages", n)
    if times_ms is not None:
        put(ds, "InversionTime" if kind == "t1" else "TriggerTime", _time(times_ms, t, z))
