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
from cmrsr.io.dicom_copy import put
from cmrsr.io.dicom_geometry import LPS_TO_RAS
from cmrsr.io.dicom_read import Component, DicomInstance, number, text, words
from cmrsr.io.series import Kind, Series, Shape

IMAGE_TYPE: dict[Component, tuple[str, str]] = {
    "magnitude": ("OTHER", "M"),
    "phase": ("PHASE MAP", "P"),
    "real": ("OTHER", "R"),
    "imaginary": ("OTHER", "I"),
    "map": ("OTHER", "MAP"),
}
METHOD: dict[str, Code] = {"sr": codes.DCM.SpatialResampling}
MAX_DESCRIPTION = 64
MAX_SERIES_NUMBER = 2**31 - 1
SAME_TIME_MS = 0.5
# Far below any meaning; hides the last bits of the arithmetic.
MM_DECIMALS, COSINE_DECIMALS = 8, 12


def put_derivation(ds: Dataset, derivation: Derivation, component: Component, source_header: Dataset) -> None:
    """Image type, description of the processing, and the software as contributing equipment."""
    first, second = IMAGE_TYPE[component]
    kept = [
        word
        for word in words(source_header, "ImageType")[2:]
        if re.fullmatch(r"[A-Z0-9 _]{1,16}", word) and word not in (first, second, "OTHER")
    ]
    put(ds, "ImageType", ["DERIVED", "SECONDARY", first, second, *kept])
    put(ds, "DerivationDescription", derivation.describe().encode("ascii", "replace").decode()[:1024])
    if derivation.task in METHOD:
        put(ds, "DerivationCodeSequence", [code_item(METHOD[derivation.task])])
    put(ds, "ContentQualification", "RESEARCH")
    put(ds, "BurnedInAnnotation", "NO")
    put(ds, "BodyPartExamined", "HEART")
    put(ds, "ImageComments", "Research use only, not a medical device")
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
    """Items of a Source Image Sequence: every image that contributed, as source of an image processing operation."""
    items = []
    for source in sources:
        item = Dataset()
        put(item, "ReferencedSOPClassUID", source.sop_class_uid)
        put(item, "ReferencedSOPInstanceUID", source.sop_instance_uid)
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


def put_times(ds: Dataset, kind: Kind, t: int, z: int, n: int, times_ms: NDArray[np.float64] | None) -> None:
    """Temporal position of frame ``t`` of ``n``; where times are given, its time in the tag that suits the kind."""
    if n > 1:
        put(ds, "TemporalPositionIdentifier", t + 1)
        put(ds, "NumberOfTemporalPositions", n)
    if kind == "cine":
        put(ds, "CardiacNumberOfImages", n)
    if times_ms is not None:
        time = float(times_ms[t] if times_ms.ndim == 1 else times_ms[t, z])
        put(ds, "InversionTime" if kind == "t1" else "TriggerTime", time)


def neighbours(like: Series, t: int, times_ms: NDArray[np.float64] | None, n: int) -> list[int]:
    """The time points of ``like`` that frame ``t`` of ``n`` comes from: the same one, or both neighbours in time.

    Past the last one a cine goes on with the first. Without times, all of them.
    """
    if n == like.n_frames:
        return [t]
    if times_ms is None or like.times_ms is None:
        return list(range(like.n_frames))
    source = like.times_ms.reshape(like.n_frames, -1).mean(axis=1)
    time = float(np.mean(times_ms[t]))
    nearest = int(np.argmin(np.abs(source - time)))
    if abs(source[nearest] - time) <= SAME_TIME_MS:
        return [nearest]
    after = int(np.searchsorted(source, time))
    if after == 0 or (after == like.n_frames and like.kind != "cine"):
        return [nearest]
    return [after - 1, after % like.n_frames]
