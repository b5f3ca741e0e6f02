"""The tags of a DICOM study for a series that did not come from DICOM."""

from pydicom.dataset import Dataset

from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom_copy import MAY_BE_EMPTY, put
from cmrsr.io.dicom_uid import uid_of
from cmrsr.io.series import Series

# A study needs a date to be listed by an archive; this one cannot be taken for the date of a scan.
NO_DATE = "19000101"


def names_of(like: Series) -> tuple[str, str]:
    """Patient and series name: a source named "virtual-1/perfusion" is series "perfusion" of patient "virtual-1"."""
    patient, _, series = like.source.name.rpartition("/")
    return (patient, series) if patient else (series, series if like.kind == "unknown" else like.kind)


def invented_header(like: Series, derivation: Derivation) -> Dataset:
    """Patient, study, frame of reference and equipment; equal for all series of a patient from the same derivation."""
    patient, series = names_of(like)
    seed = str(derivation.parameters.get("seed"))
    ds = Dataset()
    for keyword in MAY_BE_EMPTY:
        put(ds, keyword, None)
    ascii_name = patient.encode("ascii", "replace").decode().replace("\\", "/").replace("?", "_")
    put(ds, "PatientName", "Anonymous^Anonymous")
    put(ds, "PatientID", ascii_name[-64:])
    put(ds, "StudyInstanceUID", uid_of("study", patient, derivation.task, seed))
    put(ds, "FrameOfReferenceUID", uid_of("frame of reference", patient, derivation.task, seed))
    put(ds, "StudyDate", NO_DATE)
    put(ds, "StudyTime", "000000")
    put(ds, "StudyID", "1")
    put(ds, "SeriesDescription", series.encode("ascii", "replace").decode()[:64].replace("\\", "/"))
    put(ds, "Manufacturer", "cmrsr")
    put(ds, "SoftwareVersions", derivation.software_version)
    put(ds, "PatientPosition", "HFS")
    put(ds, "ScanningSequence", "RM")
    put(ds, "SequenceVariant", "NONE")
    put(ds, "MRAcquisitionType", "2D")
    put(ds, "SliceThickness", like.spacing_mm[0])
    if like.phase_axis is not None:
        put(ds, "InPlanePhaseEncodingDirection", {"x": "ROW", "y": "COL"}[like.phase_axis])
    return ds
