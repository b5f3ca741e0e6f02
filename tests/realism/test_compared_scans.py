"""Real series by kind and patient, and virtual ones to put beside them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.discover import Candidate, discover
from cmrsr.io.patient import patient_of
from cmrsr.io.series import Kind, Series
from cmrsr.phantom.examination import KINDS
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scans import scan_patient
from cmrsr.realism import compared_scans
from cmrsr.realism.compared_scans import PROTOCOLS, collect_virtual, real_series
from cmrsr.realism.image_statistics import WINDOW, collect
from tests.conftest import perfusion_frames, save_nifti

ROOT = Path("/data/study")


def candidate(name: str, kind: Kind = "unknown", open_: Callable[[], Series] | None = None) -> Candidate:
    """A series at /data/study/NAME."""
    plain = Series.from_array(np.zeros((1, 1, 8, 8)), kind=kind)
    path = ROOT / f"{name}.nii.gz"
    return Candidate(name=name, format="nifti", paths=(path,), open=open_ or (lambda: plain))


def found(*candidates: Candidate, root: Path = ROOT) -> list[tuple[str, str]]:
    series, failures = real_series(candidates, root)
    assert not failures
    return [(one.name, one.kind) for one in series]


def test_what_the_file_says_counts_before_its_folders() -> None:
    assert found(candidate("cine/p1", "perfusion")) == [("cine/p1", "perfusion")]


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("cine-ed-es", "cine"), ("my_CINE", "cine"), ("perf", "perfusion"), ("LGE 2019", "lge"), ("native_T1", "t1")],
)
def test_folders_name_the_kind_of_files_that_do_not(folder: str, kind: str) -> None:
    assert [k for _, k in found(candidate(f"{folder}/p1"))] == [kind]
    assert [k for _, k in found(candidate(f"{folder}/p1"), root=ROOT / folder)] == [kind]  # the named folder itself


def test_the_nearest_folder_counts() -> None:
    assert [k for _, k in found(candidate("cine/lge/p1"))] == ["lge"]
    assert [k for _, k in found(candidate("cine/p1/sax"))] == ["cine"]


@pytest.mark.parametrize("folder", ["vaccine", "set1", "t12"])
def test_a_series_without_a_kind_is_left_out_with_a_reason(folder: str) -> None:
    series, (failure,) = real_series([candidate(f"{folder}/p1")], ROOT)
    assert not series
    assert isinstance(failure, UnusableError)
    assert "perfusion, t1, lge" in str(failure)


def test_a_broken_series_does_not_stop_the_others() -> None:
    def broken() -> Series:
        raise UnreadableError("p2: truncated")

    series, failures = real_series([candidate("p1", "lge"), candidate("p2", open_=broken), candidate("p3", "t1")], ROOT)
    assert [one.name for one in series] == ["p1", "p3"]
    assert [str(failure) for failure in failures] == ["p2: truncated"]


def test_folders_with_kinds_of_their_own_are_data_sets() -> None:
    names = [
        name
        for name, _ in found(
            candidate("a/p1_rest", "perfusion"), candidate("a/p1_stress", "perfusion"), candidate("b/p2", "cine")
        )
    ]
    assert names == ["p1_rest", "p1_stress", "p2"]
    assert [patient_of(name) for name in names] == ["p1", "p1", "p2"]


def test_folders_with_the_same_kind_are_patients() -> None:
    candidates = [candidate(f"{p}/{kind}", kind) for p in ("p1", "p2") for kind in ("perfusion", "cine")]
    assert [patient_of(name) for name, _ in found(*candidates)] == ["p1", "p1", "p2", "p2"]


def test_one_folder_of_patients_stays_as_it_is() -> None:
    """Two kinds, one folder above both: a patient."""
    assert [name for name, _ in found(candidate("p1/a", "cine"), candidate("p1/b", "t1"))] == ["p1/a", "p1/b"]


def test_series_are_opened_when_asked_for(tmp_path: Path) -> None:
    save_nifti(tmp_path / "perf" / "p1_rest.nii.gz", perfusion_frames(4, 1, 100, 110))
    candidates, _, root = discover([tmp_path])
    (one,) = real_series(candidates, root)[0]
    assert (one.kind, one.open().shape) == ("perfusion", (4, 1, 100, 110))


def test_real_data_sets_keep_their_patients(real_data: Path) -> None:
    candidates, _, root = discover([real_data / "perfusion-nifti", real_data / "cine-ed-es-sunnybrook"])
    series, failures = real_series(candidates, root)
    assert not failures
    patients = {(one.kind, patient_of(one.name)) for one in series}
    assert {patient for kind, patient in patients if kind == "perfusion"} == {"p01", "p05", "p07"}
    assert len([patient for kind, patient in patients if kind == "cine"]) == 30


def test_phase_images_are_left_out(real_data: Path) -> None:
    candidates, _, root = discover([real_data / "t1-dicom-phantom"])
    series, failures = real_series(candidates, root)
    assert len([one for one in series if one.kind == "t1"]) == 1
    assert any("phase images" in str(failure) for failure in failures)


def test_every_virtual_scan_has_a_protocol() -> None:
    assert set(PROTOCOLS) == set(KINDS)


def test_virtual_scans_are_centred_by_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    (t1,) = scan_patient(draw_patient(1, 2), PROTOCOLS["t1"])
    monkeypatch.setattr(compared_scans, "scan_patient", lambda *_: iter([t1]))
    (one,) = collect_virtual(1, 2, "t1")
    assert (one.name, one.patient, one.kind, one.n_images) == ("subject002_t1", "subject002", "t1", 8)
    _, _, y, x = np.nonzero(t1.labels)
    expected = collect(t1.series(), centre=(y.mean(), x.mean()), name="subject002_t1")
    assert (one.grey == expected.grey).all()
    aside = collect(t1.series(), centre=(y.mean() + WINDOW / 4, x.mean()))
    assert not (one.grey == aside.grey).all()
