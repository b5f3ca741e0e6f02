"""What the objects made with highdicom have in common: identity, place in space and time, and the true sources.

highdicom takes the patient, the study and the frame of reference from an image and names it as the source. It is given
a stand-in that has them all, whatever the source is, and the true sources are named afterwards.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from cmrsr.io.dicom.read.group import DicomStack
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.uid import uid_of
from cmrsr.io.dicom.write.derived_tags import code_item, plane_of, source_items
from cmrsr.io.dicom.write.image import Result, affine_at, contributing, image_header
from cmrsr.io.dicom.write.invented_tags import NO_DATE
from cmrsr.io.dicom.write.source_tags import put, put_reference

PROVENANCE = (
    "SeriesDescription", "DerivationDescription", "ImageComments", "ContributingEquipmentSequence", "BodyPartExamined",
)  # fmt: skip


def stand_in(result: Result) -> Dataset:
    """An image that stands for the source: the patient, study, frame of reference and matrix of the result."""
    ds, _ = image_header(result, 0, 0)
    put(ds, "Rows", result.shape[2])
    put(ds, "Columns", result.shape[3])
    return ds


def identity(result: Result, part: str) -> dict[str, Any]:
    """Arguments that every object of highdicom takes: its identifiers and the software; ``part`` names the object."""
    shared = result.shared
    software = shared.ContributingEquipmentSequence[-1]
    return {
        "series_instance_uid": shared.SeriesInstanceUID,
        "series_number": shared.SeriesNumber,
        "sop_instance_uid": uid_of(shared.SeriesInstanceUID, part),
        "instance_number": 1,
        "manufacturer": "cmrsr",
        "manufacturer_model_name": software.ManufacturerModelName,
        "software_versions": software.SoftwareVersions,
        "device_serial_number": "none",
    }


def geometry(result: Result) -> dict[str, Any]:
    """Arguments that say where the slices of a multi-frame image lie."""
    import highdicom as hd

    patient, plane = hd.CoordinateSystemNames.PATIENT, plane_of(result.affine, 0)
    return {
        "pixel_measures": hd.PixelMeasuresSequence(plane.spacing, plane.step_mm, plane.step_mm),
        "plane_orientation": hd.PlaneOrientationSequence(patient, plane.orientation),
        "plane_positions": [hd.PlanePositionSequence(patient, position) for position in places_of(result)],
    }


def copy_provenance(target: Dataset, result: Result, source: Dataset, keywords: Sequence[str] = PROVENANCE) -> None:
    """Say how it was derived, and date it like ``source`` rather than today, so that a re-run writes the same file."""
    for keyword in (*keywords, *(("SyntheticData",) if result.synthetic else ())):
        put(target, keyword, result.shared[keyword].value)
    put(target, "ContentDate", source.ContentDate or source.StudyDate or NO_DATE)
    put(target, "ContentTime", source.ContentTime or source.StudyTime or "000000")
    del target.InstanceCreationDate, target.InstanceCreationTime


def number_in_time(image: Dataset, times: Sequence[int]) -> None:
    """Add the temporal position to the dimensions, which highdicom has none for; ``times`` counts from 0, per frame."""
    organization = uid_of(image.SOPInstanceUID, "dimensions")
    put(image.DimensionOrganizationSequence[0], "DimensionOrganizationUID", organization)
    dimension = Dataset()
    put(dimension, "DimensionIndexPointer", tag_for_keyword("TemporalPositionIndex"))
    put(dimension, "FunctionalGroupPointer", tag_for_keyword("FrameContentSequence"))
    put(dimension, "DimensionDescriptionLabel", "Temporal Position Index")
    image.DimensionIndexSequence.append(dimension)
    for item in image.DimensionIndexSequence:
        put(item, "DimensionOrganizationUID", organization)
    for groups, t in zip(image.PerFrameFunctionalGroupsSequence, times, strict=True):
        content = groups.FrameContentSequence[0]
        put(content, "TemporalPositionIndex", t + 1)
        put(content, "DimensionIndexValues", [*(int(v) for v in np.ravel(content.DimensionIndexValues)), t + 1])


def refer_to_sources(image: Dataset, result: Result, derivation: Code) -> None:
    """Name the true source images of every frame instead of the stand-in; none where the source is not DICOM.

    To be called once the frames are numbered in time.
    """
    stack = result.like.source.header
    places = places_of(result)
    del image.ReferencedSeriesSequence, image.SourceImageSequence
    preserved = "YES" if _same_pixels(result) else "NO"
    for groups in image.PerFrameFunctionalGroupsSequence:
        groups.pop("DerivationImageSequence", None)
        if isinstance(stack, DicomStack):
            t, z = groups.FrameContentSequence[0].TemporalPositionIndex - 1, slice_index(groups, places)
            items = source_items(contributing(result, stack, t, z))
            for item in items:
                put(item, "SpatialLocationsPreserved", preserved)
            derived = Dataset()
            put(derived, "SourceImageSequence", items)
            put(derived, "DerivationCodeSequence", [code_item(derivation)])
            put(groups, "DerivationImageSequence", [derived])
    if isinstance(stack, DicomStack):
        further = (one for slices in result.also for one in slices)
        put(image, "ReferencedSeriesSequence", _series_items([*source_images(stack), *further]))


def slice_index(groups: Dataset, places: NDArray[np.float64]) -> int:
    """Index of a frame among the slices, by its place: highdicom numbers the slices in an order of its own."""
    place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
    return int(np.argmin(np.linalg.norm(places - place, axis=1)))


def source_images(stack: DicomStack) -> list[DicomInstance]:
    """One record for each file of a series that can be referred to, in the order of time and slices."""
    files: dict[str, DicomInstance] = {}
    for image in (image for row in stack.table for image in row):
        if image.sop_class_uid and image.sop_instance_uid:
            files.setdefault(image.sop_instance_uid, image)
    return list(files.values())


def places_of(result: Result) -> NDArray[np.float64]:
    """(z, 3): position of every slice, LPS mm."""
    return np.array([plane_of(affine_at(result, z), z).position for z in range(result.shape[1])])


def _same_pixels(result: Result) -> bool:
    """Whether pixel (x, y, z) of the result is pixel (x, y, z) of the source."""
    return result.shape[1:] == result.like.shape[1:] and bool(np.allclose(result.affine, result.like.affine))


def _series_items(sources: Iterable[DicomInstance]) -> list[Dataset]:
    images_of: dict[str, list[Dataset]] = {}
    for source in {one.sop_instance_uid: one for one in sources}.values():
        reference = Dataset()
        put_reference(reference, "ReferencedSOPClassUID", source.sop_class_uid)
        put_reference(reference, "ReferencedSOPInstanceUID", source.sop_instance_uid)
        images_of.setdefault(source.series_uid, []).append(reference)
    series = []
    for series_uid, references in images_of.items():
        item = Dataset()
        put_reference(item, "SeriesInstanceUID", series_uid)
        put(item, "ReferencedInstanceSequence", references)
        series.append(item)
    return series
