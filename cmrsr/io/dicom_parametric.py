"""The standard deviation of a result as one DICOM Parametric Map, in floating point."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from cmrsr.errors import OutputError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom_copy import put
from cmrsr.io.dicom_derive import code_item, plane_of, source_items
from cmrsr.io.dicom_group import DicomStack
from cmrsr.io.dicom_image import Between, Result, contributing, image_header, plan_result
from cmrsr.io.dicom_invent import NO_DATE
from cmrsr.io.dicom_uid import root_of, uid_of
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.io.series import Series, Shape

if TYPE_CHECKING:
    from highdicom.pm import ParametricMap

# The map is numbered apart from the images of the same result, which count from 1 (see put_series).
SERIES_OFFSET = 50
MIN_WINDOW = 1e-6
COPIED = (
    "SeriesDescription", "DerivationDescription", "ImageComments", "ContributingEquipmentSequence", "BodyPartExamined",
)  # fmt: skip


def write_parametric_map(
    path: Path,
    like: Series,
    derivation: Derivation,
    frames: Iterable[NDArray[np.float32]],
    *,
    affine: NDArray[np.float64],
    shape: Shape,
    label: str,
    between: Between | None = None,
) -> None:
    """Write ``frames`` (z, y, x), one per time point of ``shape`` = (t, z, y, x), as one file with float pixels.

    All frames are held in memory: a Parametric Map is one file, and its writer (highdicom) takes it as a whole.
    ``label`` names the quantity, such as "Standard deviation"; ``between`` as for ``dicom_writer``.
    Raises OutputError for NaN or infinite values.
    """
    data = np.stack([np.asarray(frame, dtype=np.float32) for frame in frames])
    if data.shape != shape:
        raise ValueError(f"expected frames of shape {shape}, got {data.shape}")
    if not np.isfinite(data).all():
        raise OutputError(f"the {label.lower()} holds NaN or infinite values; {path} not written")
    times = like.times_ms if shape[0] == like.n_frames else None
    result = plan_result(
        like,
        derivation,
        shape=shape,
        affine=affine,
        times_ms=times,
        between=between,
        root=root_of(like, derivation),
        offset=SERIES_OFFSET,
        suffix=label,
    )
    image = _parametric_map(data, result, label)
    with replacing(path) as partial, output_errors(path):
        image.save_as(partial, enforce_file_format=True)


def _parametric_map(data: NDArray[np.float32], result: Result, label: str) -> "ParametricMap":
    import highdicom as hd  # takes half a second

    n, depth = result.shape[:2]
    shared, plane = result.shared, plane_of(result.affine, 0)
    low, high = float(data.min()), float(data.max())
    template = _template(result)
    software = shared.ContributingEquipmentSequence[-1]
    patient = hd.CoordinateSystemNames.PATIENT
    planes = [hd.PlanePositionSequence(patient, plane_of(result.affine, z).position) for z in range(depth)]
    image = hd.pm.ParametricMap(
        source_images=[template],
        pixel_array=np.moveaxis(data, 0, -1),
        series_instance_uid=shared.SeriesInstanceUID,
        series_number=shared.SeriesNumber,
        sop_instance_uid=uid_of(shared.SeriesInstanceUID, "map"),
        instance_number=1,
        manufacturer="cmrsr",
        manufacturer_model_name=software.ManufacturerModelName,
        software_versions=software.SoftwareVersions,
        device_serial_number="none",
        contains_recognizable_visual_features=False,
        # highdicom knows channels but no time: each time point is a channel with a mapping of its own.
        real_world_value_mappings=[
            [
                hd.pm.RealWorldValueMapping(
                    lut_label=f"T{t + 1}",
                    lut_explanation=label[:64],
                    unit=codes.UCUM.NoUnits,
                    value_range=(low, high),
                    slope=1.0,
                    intercept=0.0,
                    quantity_definition=codes.SCT.StandardDeviation,
                )
            ]
            for t in range(n)
        ],
        voi_lut_transformations=[
            # The default function does not allow a window narrower than 1.
            hd.VOILUTTransformation(
                window_center=(low + high) / 2,
                window_width=max(high - low, MIN_WINDOW),
                voi_lut_function="LINEAR_EXACT",
            )
        ],
        pixel_measures=hd.PixelMeasuresSequence(plane.spacing, plane.step_mm, plane.step_mm),
        plane_orientation=hd.PlaneOrientationSequence(patient, plane.orientation),
        plane_positions=planes,
        content_label="STDDEV",
        derived_pixel_contrast="STD_DEVIATION",
        content_description=label[:64],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    for keyword in COPIED:
        put(image, keyword, shared[keyword].value)
    # The date of the source rather than today's, so that a re-run writes the same file.
    put(image, "ContentDate", template.ContentDate or template.StudyDate or NO_DATE)
    put(image, "ContentTime", template.ContentTime or template.StudyTime or "000000")
    del image.InstanceCreationDate, image.InstanceCreationTime
    _number_in_time(image)
    _refer_to_sources(image, result)
    return image


def _template(result: Result) -> Dataset:
    """An image that stands for the source: highdicom takes patient, study and frame of reference from it."""
    ds, _ = image_header(result, 0, 0)
    put(ds, "Rows", result.shape[2])
    put(ds, "Columns", result.shape[3])
    return ds


def _number_in_time(image: Dataset) -> None:
    """Add the temporal position to the dimensions, which highdicom counts by place alone."""
    organization = uid_of(image.SOPInstanceUID, "dimensions")
    put(image.DimensionOrganizationSequence[0], "DimensionOrganizationUID", organization)
    dimension = Dataset()
    put(dimension, "DimensionIndexPointer", tag_for_keyword("TemporalPositionIndex"))
    put(dimension, "FunctionalGroupPointer", tag_for_keyword("FrameContentSequence"))
    put(dimension, "DimensionDescriptionLabel", "Temporal Position Index")
    image.DimensionIndexSequence.append(dimension)
    for item in image.DimensionIndexSequence:
        put(item, "DimensionOrganizationUID", organization)
    for groups in image.PerFrameFunctionalGroupsSequence:
        content, t = groups.FrameContentSequence[0], _time_point(groups)
        put(content, "TemporalPositionIndex", t + 1)
        put(content, "DimensionIndexValues", [int(np.ravel(content.DimensionIndexValues)[0]), t + 1])


def _time_point(groups: Dataset) -> int:
    """Index of a frame in time, from the label of its channel; a single one is shared by all frames and left out."""
    mappings = groups.get("RealWorldValueMappingSequence")
    return int(mappings[0].LUTLabel[1:]) - 1 if mappings else 0


def _slice_index(groups: Dataset, places: NDArray[np.float64]) -> int:
    """Index of a frame among the slices, by its place: highdicom numbers the slices in an order of its own."""
    place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
    return int(np.argmin(np.linalg.norm(places - place, axis=1)))


def _refer_to_sources(image: Dataset, result: Result) -> None:
    """Name the true source images instead of the stand-in; none where the source is not DICOM."""
    stack = result.like.source.header
    places = np.array([plane_of(result.affine, z).position for z in range(result.shape[1])])
    del image.ReferencedSeriesSequence, image.SourceImageSequence
    for groups in image.PerFrameFunctionalGroupsSequence:
        if isinstance(stack, DicomStack):
            t, z = _time_point(groups), _slice_index(groups, places)
            derived = Dataset()
            put(derived, "SourceImageSequence", source_items(contributing(result, stack, t, z)))
            put(derived, "DerivationCodeSequence", [code_item(codes.DCM.UnspecifiedMethodOfCalculation)])
            put(groups, "DerivationImageSequence", [derived])
        else:
            del groups.DerivationImageSequence
    if not isinstance(stack, DicomStack):
        return
    images_of: dict[str, dict[str, str]] = {}
    for source in (source for row in stack.table for source in row):
        images_of.setdefault(source.series_uid, {})[source.sop_instance_uid] = source.sop_class_uid
    series = []
    for series_uid, images in images_of.items():
        references = []
        for instance_uid, class_uid in images.items():
            reference = Dataset()
            put(reference, "ReferencedSOPClassUID", class_uid)
            put(reference, "ReferencedSOPInstanceUID", instance_uid)
            references.append(reference)
        item = Dataset()
        put(item, "SeriesInstanceUID", series_uid)
        put(item, "ReferencedInstanceSequence", references)
        series.append(item)
    put(image, "ReferencedSeriesSequence", series)
