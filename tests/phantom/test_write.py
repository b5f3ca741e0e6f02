import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import OutputError, UsageError
from cmrsr.io.discover import discover
from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.write import WORKER_BYTES, Study, default_workers, write_study

SMALL = Protocol(n_frames=8, n_slices=3, matrix=64)


def _study(out: Path, **changes: object) -> Study:
    study = Study(out=out, n_subjects=1, seed=4, protocol=SMALL, file_format="nifti", group="infarct", ef_percent=35.0)
    return replace(study, **changes)  # type: ignore[arg-type]


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    assert list(write_study(_study(out))) == [out / "subject001"]
    return out


def test_a_study_holds_four_scans_and_their_truth(written: Path) -> None:
    folder = written / "subject001"
    names = {"cine_sax", "perfusion_stress", "perfusion_rest", "t1", "lge"}
    assert {p.name for p in folder.glob("*.nii.gz")} == {f"{n}{s}.nii.gz" for n in names for s in ("", "_label")}
    truth = {p.name.removesuffix(".nii.gz") for p in (folder / "truth").iterdir()}
    assert truth == {f"{n}_{v}" for n in names for v in ("clean", "aha")} | {"cine_sax_strain", "cine_sax_displacement"}
    candidates, refused, _ = discover([written])
    assert not refused
    kinds = {c.name.rpartition("/")[2]: c.open().kind for c in candidates}
    assert kinds == {
        "cine_sax": "cine", "perfusion_stress": "perfusion", "perfusion_rest": "perfusion", "t1": "t1", "lge": "lge",
    }  # fmt: skip


def test_truth_says_what_was_asked_for(written: Path) -> None:
    truth = json.loads((written / "subject001" / "truth.json").read_text())
    assert truth["lv"]["ef_percent"] == pytest.approx(35.0, abs=0.01)
    assert truth["group"] == "infarct"
    assert truth["scar"]["mass_g"] > 1
    assert len(truth["segments"]) == 17
    assert set(truth["scans"]) == {"cine_sax", "perfusion_stress", "perfusion_rest", "t1", "lge"}
    assert truth["labels"] == LABELS
    tissues = {"rv", "myocardium", "lv", "scar"}
    t1, late = truth["scans"]["t1"]["t1_ms"], truth["scans"]["lge"]["late_t1_ms"]
    assert set(t1) == set(late) == tissues
    assert all(late[tissue] < 0.8 * t1[tissue] for tissue in tissues)
    assert t1["myocardium"] + 100 < t1["scar"]
    first_pass = truth["scans"]["perfusion_stress"]
    assert first_pass["t1_native_ms"] == t1
    early = {side: first_pass["agent_mmol_l"][side] for side in ("rv", "lv")}  # eight beats: it has just arrived
    assert sum(early["rv"]) > sum(early["lv"]) >= 0
    labels = nib.load(written / "subject001" / "lge_label.nii.gz")
    assert labels.get_data_dtype() == np.uint8
    assert LABELS["scar"] in np.unique(labels.dataobj)


def test_the_clean_image_is_the_scan_without_noise(written: Path) -> None:
    folder = written / "subject001"
    scan, clean = (nib.load(folder / n).get_fdata() for n in ("cine_sax.nii.gz", "truth/cine_sax_clean.nii.gz"))
    assert 0.0 < np.abs(scan - clean).mean() < 0.05 * clean.max()


def test_one_core_or_two_and_one_subject_or_two_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    alone = _digests(written)
    list(write_study(_study(tmp_path / "two", n_subjects=2), n_workers=2))
    together = _digests(tmp_path / "two")
    assert {name: d for name, d in together.items() if name.startswith("subject001")} == alone
    second = {name.replace("subject002", "subject001"): d for name, d in together.items() if "subject002" in name}
    assert second.keys() == alone.keys()
    assert all(second[name] != alone[name] for name in alone if name.endswith(("sax.nii.gz", "truth.json")))


def test_dicom_and_nifti_are_the_same_scan(written: Path, tmp_path: Path) -> None:
    list(write_study(_study(tmp_path / "d", file_format="dicom", protocol=replace(SMALL, kinds=("cine", "t1")))))
    candidates, _, _ = discover([tmp_path / "d"])
    series = {s.kind: s for s in (c.open() for c in candidates)}
    assert set(series) == {"cine", "t1"}
    nifti = nib.load(written / "subject001" / "cine_sax.nii.gz")
    points = np.array([[0, 0, 0, 1], [63, 0, 0, 1], [0, 63, 0, 1]]).T
    flipped = np.linalg.inv(series["cine"].affine) @ nifti.affine @ points
    assert_allclose(flipped, np.rint(flipped), atol=1e-3)
    # both hold the same numbers at the same place
    x, y, z = (round(v) for v in (np.linalg.inv(series["cine"].affine) @ nifti.affine @ [20, 30, 1, 1])[:3])
    assert series["cine"].frame(3)[z, y, x] == nifti.dataobj[20, 30, 1, 3]
    assert series["t1"].shape == (8, 3, 64, 64)
    assert (np.diff(series["t1"].times_ms, axis=0) > 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_subjects": 0}, "--subjects 0"),
        ({"seed": -1}, "--seed -1"),
        ({"ef_percent": 120.0}, "--ef 120"),
        ({"ef_percent": 1.0}, "--ef 1: expected 5 to 85"),
    ],
)
def test_what_cannot_be(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        _study(tmp_path, **changes)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        list(write_study(_study(tmp_path / "file" / "out")))


def test_workers_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 5 * WORKER_BYTES // 4096}
    monkeypatch.setattr("os.sysconf", lambda name: pages[name])
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert default_workers() == 5
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert default_workers() == 2
    pages["SC_PHYS_PAGES"] = 1000
    assert default_workers() == 1
