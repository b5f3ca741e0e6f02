"""The tags of a source image that its derived image keeps: an allow-list, with what is not valid DICOM mended."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds

from cmrsr.io.dicom.tags import number, numbers, text, words
from cmrsr.io.series import Kind

PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "StudyInstanceUID",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber", "StudyDescription",
    "PatientAge", "PatientSize", "PatientWeight",
)  # fmt: skip
SERIES_AND_EQUIPMENT = (
    "SeriesDate", "SeriesTime", "ProtocolName", "PatientPosition", "FrameOfReferenceUID", "PositionReferenceIndicator",
    "Manufacturer", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
    "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
)  # fmt: skip
IMAGE = (
    "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime", "ContrastBolusAgent",
    "ContrastBolusRoute", "ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastBolusIngredient",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "AngioFlag", "SliceThickness",
    "RepetitionTime", "EchoTime", "InversionTime", "NumberOfAverages", "ImagingFrequency", "ImagedNucleus",
    "EchoNumbers", "MagneticFieldStrength", "SpacingBetweenSlices", "NumberOfPhaseEncodingSteps", "EchoTrainLength",
    "PercentSampling", "PercentPhaseFieldOfView", "PixelBandwidth", "TriggerTime", "NominalInterval", "LowRRValue",
    "HighRRValue", "IntervalsAcquired", "IntervalsRejected", "HeartRate", "TriggerWindow", "ReconstructionDiameter",
    "ReceiveCoilName", "TransmitCoilName", "AcquisitionMatrix", "InPlanePhaseEncodingDirection", "FlipAngle",
    "VariableFlipAngleFlag", "SAR", "dBdt", "ContributingEquipmentSequence",
)  # fmt: skip
# The study and the space that a result shares with its source.
REFERENCES = ("StudyInstanceUID", "FrameOfReferenceUID")
# Type 2 of the MR Image IOD: has to be there, may be empty (PatientPosition is 2C, required for MR).
MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "Manufacturer", "PatientPosition", "PositionReferenceIndicator", "ScanOptions",
    "SliceThickness", "EchoTime", "RepetitionTime", "EchoTrainLength", "ContentDate", "ContentTime",
)  # fmt: skip
ENUMERATED = {
    "ScanningSequence": {"SE", "IR", "GR", "EP", "RM"},
    "SequenceVariant": {"SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", "NONE"},
    "ScanOptions": {"PER", "RG", "CG", "PPG", "FC", "PFF", "PFP", "SP", "FS"},
    "MRAcquisitionType": {"2D", "3D"},
    "InPlanePhaseEncodingDirection": {"ROW", "COL"},
    "AngioFlag": {"Y", "N"},
    "VariableFlipAngleFlag": {"Y", "N"},
    "PatientSex": {"M", "F", "O"},
    "LossyImageCompression": {"00", "01"},
    "PatientIdentityRemoved": {"YES", "NO"},
}
# Type 1 of the MR Image IOD.
NEEDED = {"ScanningSequence": "RM", "SequenceVariant": "NONE", "MRAcquisitionType": "2D"}
PROTON_MHZ_PER_TESLA = 42.577
GAUSS_PER_TESLA = 10_000.0
MAX_TESLA = 100.0


def put(ds: Dataset, keyword: str, value: Any) -> None:
    """Set a tag with its value checked: ValueError or TypeError when it is not valid for the tag's VR.

    Decimal strings are written with as many digits as fit in their 16 characters.
    """
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    vr = dictionary_VR(tag)
    if vr == "DS" and value not in (None, ""):
        many = isinstance(value, Sequence) and not isinstance(value, str)
        decimals = [decimal_string(v) for v in (value if many else [value])]
        value = decimals if many else decimals[0]
    ds[tag] = DataElement(tag, vr, value, validation_mode=config.RAISE)


def put_reference(ds: Dataset, keyword: str, uid: str) -> None:
    """Set a UID by which the source is found: as the source has it, valid or not, since another would find nothing."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    assert dictionary_VR(tag) == "UI", keyword
    ds[tag] = DataElement(tag, "UI", uid, validation_mode=config.IGNORE)


def valid_uid(uid: str) -> bool:
    """Whether a UID obeys PS3.5 9.1: numbers without leading zeros, at most 64 characters."""
    return UID(uid, validation_mode=config.IGNORE).is_valid


def decimal_string(value: Any) -> str:
    """A DS value: as it was written where that is valid, otherwise with up to 16 characters."""
    exact = float(value)
    for decimal in (str(getattr(value, "original_string", "")).strip(), f"{exact:.10g}"):
        if 0 < len(decimal) <= 16 and float(decimal) == exact:
            return decimal
    return format_number_as_ds(exact)


def copy_tags(source: Dataset, keywords: Sequence[str]) -> tuple[Dataset, list[str]]:
    """Those of the tags that ``source`` has, and notes on what had to be mended or left out."""
    target = Dataset()
    notes: list[str] = []
    for keyword in keywords:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom warns of characters that an encoding does not have
                value = source.get(keyword)
            if value is None or value == "" or (isinstance(value, Sequence) and not value):
                continue
            if keyword in REFERENCES:
                if not valid_uid(str(value)):
                    notes.append(f"{keyword} {str(value)!r} is not valid; kept, because it names the source's own")
                put_reference(target, keyword, str(value))
            elif isinstance(value, DicomSequence):
                _check_items(value)
                put(target, keyword, [_without_private_tags(item) for item in value])
            else:
                put(target, keyword, round(float(value)) if dictionary_VR(keyword) == "IS" else value)
        except Exception:  # a damaged value makes pydicom raise anything from ValueError to struct.error
            notes.append(f"{keyword} left out: its value is not valid")
    _mend_terms(target, notes)
    _mend_field(target, notes)
    return target, notes


def _check_items(items: DicomSequence) -> None:
    for item in items:
        for element in item.iterall():
            if element.VR != "SQ":
                DataElement(element.tag, element.VR, element.value, validation_mode=config.RAISE)


def _without_private_tags(item: Dataset) -> Dataset:
    copied = deepcopy(item)
    copied.remove_private_tags()
    return copied


def _mend_terms(target: Dataset, notes: list[str]) -> None:
    for keyword, allowed in ENUMERATED.items():
        found = words(target, keyword)
        kept = [word for word in found if word in allowed]
        if len(kept) == len(found):
            continue
        notes.append(f"{keyword}: {', '.join(w for w in found if w not in allowed)} left out, not a DICOM term")
        if kept:
            put(target, keyword, kept)
        else:
            del target[keyword]


def _mend_field(target: Dataset, notes: list[str]) -> None:
    tesla = number(target, "MagneticFieldStrength")
    if tesla is not None and tesla > MAX_TESLA:
        notes.append(f"MagneticFieldStrength {tesla:g} taken as gauss: {tesla / GAUSS_PER_TESLA:g} T")
        tesla /= GAUSS_PER_TESLA
        put(target, "MagneticFieldStrength", tesla)
    frequency = number(target, "ImagingFrequency")
    if tesla and frequency and text(target, "ImagedNucleus") in ("1H", "H1", ""):
        for power in range(8):  # Hz or tenths of Hz are written by some scanners
            if abs(frequency / 10**power / (tesla * PROTON_MHZ_PER_TESLA) - 1) < 0.05:
                if power:
                    notes.append(f"ImagingFrequency {frequency:g} taken as {frequency / 10**power:g} MHz")
                    put(target, "ImagingFrequency", frequency / 10**power)
                break
    nucleus = {"H1": "1H"}.get(text(target, "ImagedNucleus"))
    if nucleus:
        put(target, "ImagedNucleus", nucleus)
    if (matrix := numbers(target, "AcquisitionMatrix")) is not None and len(matrix) != 4:
        del target.AcquisitionMatrix
        notes.append("AcquisitionMatrix left out: it does not hold four values")


def fill_required(target: Dataset) -> None:
    """Set what every MR image has to have and ``target`` lacks: empty where that is allowed, else the vaguest term."""
    for keyword, value in [*NEEDED.items(), *((keyword, None) for keyword in MAY_BE_EMPTY)]:
        if keyword not in target:
            put(target, keyword, value)


def mend_times(target: Dataset, kind: Kind) -> list[str]:
    """Make inversion and trigger time legal: DICOM allows them only with inversion recovery and cardiac gating."""
    notes = []
    sequence, options = words(target, "ScanningSequence"), words(target, "ScanOptions")
    if "InversionTime" in target and "IR" not in sequence:
        if kind == "t1":
            put(target, "ScanningSequence", [*(word for word in sequence if word != "RM"), "IR"])
        else:
            del target.InversionTime
            notes.append("InversionTime left out: ScanningSequence names no inversion recovery")
    elif "IR" in sequence and "InversionTime" not in target:
        put(target, "InversionTime", None)
    if "TriggerTime" in target and not {"CG", "PPG"} & set(options):
        put(target, "ScanOptions", [*options, "CG"])
        notes.append("ScanOptions: CG (cardiac gating) added, TriggerTime asks for it")
    return notes
