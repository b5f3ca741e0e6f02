"""A few hundred damaged DICOM files in the suite."""

from tests.fuzz import dicom
from tests.fuzz.harness import BAD, run


def test_damaged_dicom_files_are_read_or_refused() -> None:
    outcomes = run(dicom.make, dicom.read, number=300, seed=7)
    assert outcomes.total(*BAD) == 0, outcomes.table()
    assert outcomes.total("read") > 30
    assert outcomes.total("refused") > 30
