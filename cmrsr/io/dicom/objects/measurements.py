"""The measured volumes as a DICOM structured report: an Imaging Measurement Report (TID 1500) of both ventricles."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.objects.common import copy_provenance, identity, source_images, stand_in
from cmrsr.io.dicom.objects.measure_codes import GROUPS, QUANTITIES, Quantity, Side
from cmrsr.io.dicom.read.group import DicomStack
from cmrsr.io.dicom.read.header import read_header
from cmrsr.io.dicom.uid import root_of, uid_of
from cmrsr.io.dicom.write.derived_tags import NOTICE
from cmrsr.io.dicom.write.image import Result, plan_result
from cmrsr.io.dicom.write.source_tags import put_reference
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.io.series import Series

if TYPE_CHECKING:
    from highdicom.sr import ComprehensiveSR, Measurement, MeasurementReport, MeasurementsAndQualitativeEvaluations

# The report is numbered apart from the other results of the same series (see put_series).
SERIES_OFFSET = 70
PROVENANCE = ("SeriesDescription", "ContributingEquipmentSequence")
DECIMALS = 2
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
Phases = tuple[int, int]  # time points of end-diastole and end-systole, from 0


@config.disable_value_validation()  # of the source's identifiers; what is ours is checked by ``put``
def write_measurements(
    path: Path,
    like: Series,
    derivation: Derivation,
    values: Mapping[str, float | None],
    notes: Sequence[str] = (),
    *,
    phases: Phases | None = None,
    segmentation: Path | None = None,
) -> None:
    """Write ``values`` by the names of ``QUANTITIES`` (None and NaN are left out), and a comment per note.

    ``phases``: volumes and mass then name the source images that they were measured on. ``segmentation``: the file
    of the masks of the same result, named as what was measured. The evidence is that file and all source images; a
    series that is not from DICOM has none, and its report goes to the study that its other results go to.
    Raises OutputError when the file cannot be written, UnreadableError when ``segmentation`` cannot be read.
    """
    if unknown := set(values) - set(QUANTITIES):
        raise ValueError(f"expected values of {', '.join(QUANTITIES)}, got {', '.join(sorted(unknown))}")
    result = plan_result(
        like,
        derivation,
        shape=like.shape,
        affine=like.affine,
        times_ms=None,
        between=None,
        root=root_of(like, derivation),
        offset=SERIES_OFFSET,
        suffix="measurements",
    )
    masks = None if segmentation is None else read_header(segmentation, all_tags=True).dataset
    report = _report(result, derivation, values, notes, phases, masks)
    document = _document(report, result, masks)
    with replacing(path) as partial, output_errors(path):
        document.save_as(partial, enforce_file_format=True)


def _report(
    result: Result,
    derivation: Derivation,
    values: Mapping[str, float | None],
    notes: Sequence[str],
    phases: Phases | None,
    masks: Dataset | None,
) -> "MeasurementReport":
    """The content: who observed, the measurements of each ventricle, and comments."""
    from highdicom import sr  # takes half a second

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of("cmrsr", derivation.task, derivation.engine_digest, derivation.software_version),
        name="cmrsr",
        manufacturer_name="cmrsr",
        model_name=f"cmrsr {derivation.task}",
    )
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.CardiacMRI,
        imaging_measurements=[_group(side, result, derivation, values, phases, masks) for side in _sides(values)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    comments = sr.ContainerContentItem(
        name=QUALITATIVE_EVALUATIONS, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
    comments.ContentSequence = sr.ContentSequence(
        [
            sr.TextContentItem(
                name=codes.DCM.Comment,
                value=note.encode("ascii", "replace").decode(),
                relationship_type=sr.RelationshipTypeValues.CONTAINS,
            )
            for note in [f"{NOTICE}.", *_said_of(phases, result), *notes]
        ]
    )
    report[0].ContentSequence.append(comments)
    return report


def _said_of(phases: Phases | None, result: Result) -> list[str]:
    if phases is None:
        return []
    ed, es = phases
    return [f"End-diastole is time point {ed + 1} and end-systole time point {es + 1} of {result.like.n_frames}."]


def _known(values: Mapping[str, float | None], side: Side) -> dict[str, float]:
    """Those of one group that are numbers, in the order of ``QUANTITIES``."""
    found = {name: values.get(name) for name, quantity in QUANTITIES.items() if quantity.group == side}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _sides(values: Mapping[str, float | None]) -> list[Side]:
    """Groups with values; one without any where nothing could be measured, because a report has to have a group."""
    return [side for side in GROUPS if _known(values, side)] or ["left"]


def _group(
    side: Side,
    result: Result,
    derivation: Derivation,
    values: Mapping[str, float | None],
    phases: Phases | None,
    masks: Dataset | None,
) -> "MeasurementsAndQualitativeEvaluations":
    from highdicom import sr

    group = GROUPS[side]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=uid_of(result.shared.SeriesInstanceUID, side), identifier=group.title
        ),
        finding_type=group.finding,
        finding_sites=[sr.FindingSite(group.site)],
        algorithm_id=sr.AlgorithmIdentification(
            name=f"cmrsr {derivation.task}",
            version=derivation.software_version,
            parameters=[derivation.describe()],
            manufacturer="cmrsr",
        ),
        measurements=[
            _measurement(QUANTITIES[name], value, result, phases) for name, value in _known(values, side).items()
        ],
        source_images=masks and [sr.SourceImageForMeasurementGroup(masks.SOPClassUID, masks.SOPInstanceUID)],
    )


def _measurement(quantity: Quantity, value: float, result: Result, phases: Phases | None) -> "Measurement":
    from highdicom import sr

    return sr.Measurement(
        name=quantity.code,
        value=round(float(value) * quantity.scale, DECIMALS),
        unit=quantity.unit,
        method=quantity.method,
        finding_sites=quantity.site and [sr.FindingSite(quantity.site)],
        referenced_images=_measured_on(quantity, result, phases),
    )


def _measured_on(quantity: Quantity, result: Result, phases: Phases | None) -> list[Any] | None:
    """References to the source images of the phase of a quantity, one a file."""
    from highdicom import sr

    stack = result.like.source.header
    if phases is None or quantity.phase is None or not isinstance(stack, DicomStack):
        return None
    frames: dict[tuple[str, str], list[int]] = {}
    for image in stack.table[phases[quantity.phase == "es"]]:
        frames.setdefault((image.sop_class_uid, image.sop_instance_uid), [])
        if image.n_frames > 1:
            frames[image.sop_class_uid, image.sop_instance_uid].append(image.frame + 1)
    return [sr.SourceImageForMeasurement(*file, numbers or None) for file, numbers in frames.items()]


def _document(report: "MeasurementReport", result: Result, masks: Dataset | None) -> "ComprehensiveSR":
    from highdicom import sr

    template = stand_in(result)
    evidence = _evidence(result, template)
    if masks is not None:
        evidence.append(masks)
    document = sr.ComprehensiveSR(
        evidence=evidence or [template],
        content=report[0],
        **identity(result, "measurements"),
        is_complete=True,
    )
    if not evidence:
        del document.CurrentRequestedProcedureEvidenceSequence
    copy_provenance(document, result, template, PROVENANCE)
    return document


def _evidence(result: Result, template: Dataset) -> list[Dataset]:
    """The source images by their identifiers; the first has the patient and the study of ``template`` as well."""
    stack = result.like.source.header
    if not isinstance(stack, DicomStack):
        return []
    evidence: list[Dataset] = []
    for image in source_images(stack):
        ds = Dataset()
        if not evidence:
            ds.update(template)
        put_reference(ds, "StudyInstanceUID", template.StudyInstanceUID)
        put_reference(ds, "SeriesInstanceUID", image.series_uid)
        put_reference(ds, "SOPClassUID", image.sop_class_uid)
        put_reference(ds, "SOPInstanceUID", image.sop_instance_uid)
        evidence.append(ds)
    return evidence
