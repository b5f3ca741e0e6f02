"""The tags of a DICOM study for a series that did not come from DICOM."""

from pydicom.dataset import Dataset

from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.uid import uid_of
from cmrsr.io.dicom.write.source_tags import put
from cmrsr.io.series import Series

# A study needs a date to be listed by an archive; this one cannot be taken for the date of a scan.
NO_DATE = "19000101"


def names_of(like: Series) -> tuple[str, str]:
    """Patient and series name: a source named "virtual-1/perfusion" is series "perfusion" of patient "virtual-1"."""
    patient, _, series = like.source.name.rpartition("/")
    return (patient, series) if patient else (series, series if like.kind == "unknown" else like.kind)


def invented_header(like: Series, derivation: Derivation, root: str) -> Dataset:
    """Patient, study, frame of reference and equipment.

    The series of a virtual patient share a study if made with the same seed. Other files of equal names may well be
    of different patients, so each gets a study named by ``root``, which its results share.
    """
    patient, series = names_of(like)
    identity = (patient, str(derivation.parameters.get("seed")) if derivation.task == "phantom" else root)
    ds = Dataset()
    put(ds, "PatientName", "Anonymous^Anonymous")
    put(ds, "PatientID", _plain(patient))
    put(ds, "StudyInstanceUID", uid_of("study", *identity))
    put(ds, "FrameOfReferenceUID", uid_of("frame of reference", *identity))
    put(ds, "StudyDate", NO_DATE)
    put(ds, "StudyTime", "000000")
    put(ds, "StudyID", "1")
    put(ds, "SeriesDescription", _plain(series))
    put(ds, "Manufacturer", "cmrsr")
    put(ds, "SoftwareVersions", derivation.software_version)
    put(ds, "PatientPosition", "HFS")
    put(ds, "SliceThickness", like.spacing_mm[0])
    if like.phase_axis is not None:
        put(ds, "InPlanePhaseEncodingDirection", {"x": "ROW", "y": "COL"}[like.phase_axis])
    return ds


def _plain(name: str) -> str:
    return name.encode("ascii", "replace").decode().replace("\\", "/").replace("?", "_")[-64:]
