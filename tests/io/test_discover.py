"""What is found in files, folders and lists: everything usable, once, in a stable order, and nothing in silence."""

import logging
import os
import random
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError
from cmrsr.io.discover import Candidate, discover
from cmrsr.io.inputs import natural_key

ROOT_UID = "1.2.826.0.1.3680043.10.99999"


def names(found: list[Candidate]) -> list[str]:
    return [one.name for one in found]


def save_volume(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).integers(0, 99, (8, 9, 1, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def save_dicom(path: Path, number: int = 1, *, series: int = 1, modality: str = "MR", samples: int = 1) -> Path:
    """One 12x10 image of a one-slice series; ``number`` sets its time."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{ROOT_UID}.{series}.{number}"
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT_UID}.7", f"{ROOT_UID}.7.{series}"
    ds.FrameOfReferenceUID = f"{ROOT_UID}.8"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, series, number
    ds.SeriesDescription = "perfusion rest"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.TriggerTime = 800.0 * number
    ds.PixelSpacing, ds.SliceThickness = [1.5, 1.5], 8
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 12, 10, samples
    ds.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    pixels = np.random.default_rng(number).integers(0, 4000, 12 * 10 * samples).astype("<u2")
    ds.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


# --- NIfTI folders ----------------------------------------------------------------------------------------------------


def test_a_folder_of_nifti(nifti_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    found, refused, root = discover([nifti_folder])
    assert names(found) == ["p2_stress", "p10_stress", "sub/p01_rest"]
    assert (refused, root) == ([], nifti_folder)
    assert [one.open().shape for one in found] == [(12, 2, 48, 40)] * 3
    assert "left out: 1 x label map, such as" in caplog.text
    assert "left out: 1 x folder of earlier results of cmrsr, such as" in caplog.text


def test_order_does_not_depend_on_the_file_system(nifti_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_volume(nifti_folder / "p10" / "a.nii")
    save_volume(nifti_folder / "P1_stress.nii")
    expected = names(discover([nifti_folder])[0])
    assert expected == ["P1_stress", "p2_stress", "p10/a", "p10_stress", "sub/p01_rest"]
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)
            random.Random(3).shuffle(self.entries)

        def __enter__(self) -> "Shuffled":
            return self

        def __exit__(self, *error: object) -> None: ...

        def __iter__(self) -> "Shuffled":
            return self

        def __next__(self) -> "os.DirEntry[str]":
            if not self.entries:
                raise StopIteration
            return self.entries.pop()

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert names(discover([nifti_folder])[0]) == expected


def test_the_truth_of_a_virtual_patient_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It looks like a scan: only what is written next to the folder tells."""
    clean = save_volume(tmp_path / "subject001" / "truth" / "cine_sax_clean.nii.gz")
    (tmp_path / "subject001" / "truth.json").write_text('{"software": "cmrsr 0.1.0"}')
    save_volume(tmp_path / "subject001" / "cine_sax.nii.gz")
    save_volume(tmp_path / "truthful" / "t1.nii.gz")
    save_volume(tmp_path / "trial" / "truth" / "t1.nii.gz")  # somebody else's word
    assert names(discover([tmp_path])[0]) == ["subject001/cine_sax", "trial/truth/t1", "truthful/t1"]
    assert "left out: 1 x folder of a virtual patient's truth" in caplog.text
    assert names(discover([clean.parent])[0]) == names(discover([clean])[0]) == ["cine_sax_clean"]


def test_names_are_unique_even_without_case_and_suffix(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz", "A_2.nii", "b/a.nii"):
        save_volume(tmp_path / name)
    found = names(discover([tmp_path])[0])
    assert len({name.casefold() for name in found}) == 4
    assert {"a", "b/a"} <= set(found)


def test_links_are_followed_once(tmp_path: Path) -> None:
    save_volume(tmp_path / "store" / "scan.nii.gz")
    study = tmp_path / "study"
    study.mkdir()
    (study / "loop").symlink_to(study)
    (study / "scan.nii.gz").symlink_to(tmp_path / "store" / "scan.nii.gz")
    (study / "far").symlink_to(tmp_path / "store")
    (study / "dangling.nii.gz").symlink_to(tmp_path / "gone")
    found = discover([study])[0]
    assert len(found) == 1
    assert found[0].open().shape == (3, 1, 9, 8)


# --- several inputs ---------------------------------------------------------------------------------------------------


def test_several_inputs_share_a_root_and_repeats_count_once(nifti_folder: Path, tmp_path: Path) -> None:
    other = save_volume(tmp_path / "other" / "p2_stress.nii.gz")
    found, _, root = discover([other, nifti_folder, nifti_folder / "sub", other.parent / ".." / "other"])
    assert root == tmp_path
    assert names(found) == ["other/p2_stress", "study/p2_stress", "study/p10_stress", "study/sub/p01_rest"]


def test_relative_inputs(nifti_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nifti_folder / "sub")
    assert names(discover([Path("..")])[0]) == ["p2_stress", "p10_stress", "sub/p01_rest"]
    assert names(discover([Path("p01_rest.nii.gz")])[0]) == ["p01_rest"]
    assert names(discover([Path("../p2_stress.nii.gz"), Path()])[0]) == ["p2_stress", "sub/p01_rest"]


def test_a_list_names_files_and_folders(nifti_folder: Path, tmp_path: Path) -> None:
    cases = tmp_path / "lists" / "cases.txt"
    cases.parent.mkdir()
    cases.write_text(f"\ufeff# monday\n../study/sub\n\n{nifti_folder / 'p2_stress.nii.gz'}\n../study/gone.nii.gz\n")
    found, refused, root = discover([cases])
    assert names(found) == ["p2_stress", "sub/p01_rest"]
    assert root == nifti_folder
    assert [(one.name, type(one.error)) for one in refused] == [("gone.nii.gz", UnreadableError)]


def test_the_time_axis_is_passed_on(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 9, 8), np.int16), np.eye(4)), tmp_path / "x.nii")
    with pytest.raises(UnusableError, match="--time-axis"):
        discover([tmp_path])[0][0].open()
    assert discover([tmp_path], time_axis=0)[0][0].open().shape == (5, 1, 9, 8)


# --- nothing to work on -----------------------------------------------------------------------------------------------


def check_one_line(error: CmrsrError, *parts: str) -> None:
    assert "\n" not in str(error)
    for part in parts:
        assert part in str(error)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as caught:
        discover([tmp_path])
    check_one_line(caught.value, str(tmp_path), "empty")


def test_a_folder_without_images_says_what_was_there(tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "report.html", ".hidden.nii", "LICENSE"):
        (tmp_path / name).write_text("some text " * 50)
    with pytest.raises(UnreadableError) as caught:
        discover([tmp_path])
    check_one_line(caught.value, "2 x .json file", "1 x hidden file", "1 x .html file", "not a DICOM file")


def test_a_missing_path(tmp_path: Path) -> None:
    save_volume(tmp_path / "x.nii")
    with pytest.raises(UnreadableError, match="gone: no such file or folder"):
        discover([tmp_path / "x.nii", tmp_path / "gone"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "names no file"), (b"# only this\n\n", "names no file"), (b"\xff\xfe\x00", "expected a text file of paths")],
)
def test_a_list_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "cases.txt").write_bytes(content)
    with pytest.raises(UnreadableError, match=message):
        discover([tmp_path / "cases.txt"])


def test_a_list_of_missing_files_only(tmp_path: Path) -> None:
    (tmp_path / "cases.txt").write_text("a.nii\nb.nii\n")
    with pytest.raises(UnreadableError) as caught:
        discover([tmp_path / "cases.txt"])
    check_one_line(caught.value, "a.nii: no such file", "1 more")


def test_a_text_file_named_nifti_fails_when_opened(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_text("patient,ef\n")
    found, refused, _ = discover([tmp_path / "x.nii.gz"])
    assert refused == []
    with pytest.raises(UnreadableError, match=r"x\.nii\.gz"):
        found[0].open()


@pytest.mark.parametrize("name", ["picture.png", "text", "x.dcm", "README.md"])
def test_a_named_file_that_is_no_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("some text " * 50)
    with pytest.raises(UnreadableError) as caught:
        discover([tmp_path / name])
    check_one_line(caught.value, name, "not a DICOM file")


# --- DICOM ------------------------------------------------------------------------------------------------------------


def test_a_mixed_folder(nifti_folder: Path) -> None:
    for t in range(4):
        save_dicom(nifti_folder / "pat 1" / f"I{t:02d}", t)
        save_dicom(nifti_folder / "pat 1" / f"1.2.3.{t}", t, series=2)
    done: list[int] = []
    found, refused, _ = discover([nifti_folder], progress=done.append)
    assert refused == []
    assert [(one.format, len(one.paths)) for one in found] == [
        ("nifti", 1),
        ("nifti", 1),
        ("dicom", 4),
        ("dicom", 4),
        ("nifti", 1),
    ]
    assert all(one.name.startswith("pat 1/") for one in found[2:4])
    assert [one.open().shape for one in found[2:4]] == [(4, 1, 12, 10)] * 2
    assert done[-1] == 8


def test_dicom_by_content_whatever_its_suffix(tmp_path: Path) -> None:
    for t, name in enumerate(("a.img", "b.IMA", "c", "d.dcm", "e.MR")):
        save_dicom(tmp_path / name, t)
    found = discover([tmp_path])[0]
    assert [len(one.paths) for one in found] == [5]


def test_one_named_dicom_file_stands_for_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [save_dicom(tmp_path / f"I{t}", t) for t in range(3)]
    found = discover([paths[1]])[0]
    assert [one.paths for one in found] == [(paths[1],)]
    assert "only this DICOM file is read" in caplog.text
    caplog.clear()
    assert [one.paths for one in discover(paths)[0]] == [tuple(paths)]  # a shell's dir/*
    assert caplog.text == ""


def spoil_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def cut_pixels_away(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-260])


@pytest.mark.parametrize("spoil", [spoil_header, cut_pixels_away])
def test_a_truncated_dicom_file_is_reported(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(save_dicom(tmp_path / "bad" / "I1"))
    with pytest.raises(UnreadableError) as caught:
        discover([tmp_path])
    check_one_line(caught.value, "I1")
    for t in range(3):
        save_dicom(tmp_path / "good" / f"I{t}", t, series=5)
    found, refused, _ = discover([tmp_path])
    assert [one.open().shape for one in found] == [(3, 1, 12, 10)]
    assert [(one.name, type(one.error)) for one in refused] == [("I1", UnreadableError)]


def test_cut_pixel_data_fails_the_series(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "I1")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableError, match="I1"):
        discover([tmp_path])[0][0].open()


@pytest.mark.parametrize(("kind", "word"), [({"modality": "CT"}, "CT"), ({"samples": 3}, "colour")])
def test_only_images_of_no_use(tmp_path: Path, kind: dict[str, int], word: str) -> None:
    for t in range(3):
        save_dicom(tmp_path / f"I{t}", t, **kind)  # type: ignore[arg-type]
    for source in (tmp_path, tmp_path / "I1"):
        with pytest.raises(UnusableError) as caught:
            discover([source])
        check_one_line(caught.value, word, str(tmp_path))


def test_images_of_no_use_beside_good_ones_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_volume(tmp_path / "scan.nii.gz")
    save_dicom(tmp_path / "ct" / "I1", modality="CT")
    (tmp_path / "ct" / "LICENSE").write_text("free " * 50)
    with caplog.at_level(logging.WARNING):
        found, refused, _ = discover([tmp_path])
    assert (names(found), refused) == (["scan"], [])
    assert "CT" in caplog.text
    assert "LICENSE" not in caplog.text


def test_real_folder(real_data: Path) -> None:
    found, refused, root = discover([real_data / "perfusion-dicom", real_data / "perfusion-nifti"])
    assert (refused, root) == ([], real_data.resolve() if ".." in real_data.parts else real_data)
    assert [(one.format, len(one.paths)) for one in found] == [("dicom", 79)] + [("nifti", 1)] * 6
    assert found[0].name.startswith("perfusion-dicom/")
    assert names(found)[1:] == [f"perfusion-nifti/p0{p}_{s}" for p in (1, 5, 7) for s in ("rest", "stress")]


# --- order ------------------------------------------------------------------------------------------------------------


def test_natural_order() -> None:
    ordered = ["a/p2", "a/p02b", "a/p10", "A2/x", "a10/x", "b", "b1", "b-1"]
    paths = [Path(name) for name in ordered]
    shuffled = random.Random(1).sample(paths, len(paths))
    assert sorted(shuffled, key=natural_key) == sorted(paths, key=natural_key)
    assert [str(p) for p in sorted(shuffled, key=natural_key)] == ordered
