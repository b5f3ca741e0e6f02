"""The ACDC layout: the beat alone is taken, its phases and patient are known; other folders stay as they are."""

from pathlib import Path

import pytest

from cmrsr.io import acdc
from cmrsr.io.discover import Candidate
from cmrsr.io.series import Series


def unopened() -> Series:
    raise AssertionError("names alone decide")


def candidate(path: Path) -> Candidate:
    return Candidate(name=path.name.split(".")[0], format="nifti", paths=(path,), open=unopened)


@pytest.fixture
def patient(tmp_path: Path) -> list[Candidate]:
    folder = tmp_path / "testing" / "patient101"
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text("ED: 1\nES: 14\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\n")
    return [candidate(folder / f"patient101_{part}.nii.gz") for part in ("4d", "frame01", "frame14")]


def test_single_phases_are_left_out(patient: list[Candidate], tmp_path: Path) -> None:
    other = candidate(tmp_path / "other" / "p1_frame01.nii.gz")
    assert acdc.beats_alone([*patient, other]) == [patient[0], other]
    assert acdc.beats_alone(patient[1:]) == patient[1:]  # without the beat they are all there is


def test_a_name_alone_is_no_layout(tmp_path: Path) -> None:
    some = [candidate(tmp_path / f"p1_{part}.nii.gz") for part in ("4d", "frame01")]
    assert acdc.beats_alone(some) == some
    assert acdc.phases(some[0].paths[0]) is None
    assert acdc.patient(some[0]) == "p1"


def test_phases_and_patient(patient: list[Candidate]) -> None:
    path = patient[0].paths[0]
    assert acdc.phases(path) == (0, 13)
    assert acdc.patient(patient[0]) == "patient101"
    (path.parent / "Info.cfg").write_text("ED: 1\nGroup: DCM\n")
    assert acdc.phases(path) is None
