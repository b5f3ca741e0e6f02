"""Identifiers that an anonymiser gave every file, or all files alike, or took away."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ROOT, cine, groups_in, images, lps_position, put_unchecked, series_in, write_series
from pydicom.dataset import Dataset

from cmrsr.io.dicom.read.group import assemble

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
FEW = [one for n in (1, 2, 3) for one in combinations(UIDS, n)]


def own(names: tuple[str, ...], person: int = 1) -> Callable[[Dataset, int, int], None]:
    """Gives every file UIDs of its own, some with leading zeros."""

    def edit(ds: Dataset, t: int, z: int) -> None:
        for k, name in enumerate(names):
            put_unchecked(ds, name, f"{ROOT}.{7 + k}.{person}.0{t}{z}")

    return edit


@pytest.mark.parametrize("names", FEW, ids="+".join)
def test_a_uid_for_every_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    cine(tmp_path, images(8, 2), edit=own(names))
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(8, 2))
    np.testing.assert_array_equal(series.times_ms, np.arange(8) * 40.0)
    for name in names:
        assert f"{name} differs within the scan or is missing: not used" in series.source.notes


@pytest.mark.parametrize("names", FEW, ids="+".join)
@pytest.mark.parametrize("value", [None, f"{ROOT}.1"])
def test_no_uid_or_the_same_for_all(tmp_path: Path, names: tuple[str, ...], value: str | None) -> None:
    """A cine and a perfusion are still told apart, by number and description."""
    same = dict.fromkeys(names, value)
    cine(tmp_path / "a", images(8, 2), **same)
    cine(
        tmp_path / "b", images(6, 2), SeriesDescription="cine rest", SeriesNumber=9,
        **{"SeriesInstanceUID": f"{ROOT}.3.9", **same},
    )  # fmt: skip
    found = [assemble(g) for g in groups_in(tmp_path)]
    assert [s.source.name for s in found] == ["5_cine_sax", "9_cine_rest"]
    np.testing.assert_array_equal(found[0].array(), images(8, 2))
    np.testing.assert_array_equal(found[1].array(), images(6, 2))


def test_a_uid_that_some_files_lack(tmp_path: Path) -> None:
    def partly(ds: Dataset, t: int, z: int) -> None:
        if t % 3 == 1:
            del ds.StudyInstanceUID, ds.FrameOfReferenceUID

    cine(tmp_path, images(8, 2), edit=partly)
    np.testing.assert_array_equal(series_in(tmp_path).array(), images(8, 2))


@pytest.mark.parametrize(
    "names", [("StudyInstanceUID",), ("FrameOfReferenceUID",), ("StudyInstanceUID", "FrameOfReferenceUID")]
)
def test_a_uid_for_every_slice_of_a_cine_that_is_stored_slice_by_slice(tmp_path: Path, names: tuple[str, ...]) -> None:
    def by_slice(ds: Dataset, t: int, z: int) -> None:
        for name in names:
            setattr(ds, name, f"{ROOT}.8.{z}")

    cine(tmp_path, images(8, 4), series_per_slice=True, edit=by_slice)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(8, 4))
    for name in names:
        assert f"{name} differs from slice to slice and was not used" in series.source.notes


def test_a_patient_who_was_moved_is_another_stack(tmp_path: Path) -> None:
    """Two frames of reference of several slices each are a real contradiction: places cannot be compared."""
    for k in range(2):

        def moved(ds: Dataset, t: int, z: int, k: int = k) -> None:
            ds.FrameOfReferenceUID = f"{ROOT}.6.{k}"
            ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position(2 * z + k)]

        cine(
            tmp_path / str(k), images(8, 3) + np.uint16(1000 * k), series_per_slice=True, edit=moved,
            SeriesNumber=5 + 10 * k, SeriesInstanceUID=f"{ROOT}.{k}",
        )  # fmt: skip
    found = [assemble(g) for g in groups_in(tmp_path)]
    assert [s.shape[:2] for s in found] == [(8, 3), (8, 3)]
    np.testing.assert_array_equal(found[1].array(), images(8, 3) + 1000)


def test_two_patients_without_identifiers_stay_apart(tmp_path: Path) -> None:
    """Everything equal but the folder: nobody may join the slices of two hearts."""
    for k in range(2):
        cine(
            tmp_path / str(k), images(8, 2) + np.uint16(1000 * k), edit=own(UIDS, k), PatientID="",
            SeriesInstanceUID=f"{ROOT}.{k}",
        )  # fmt: skip
    found = [assemble(g).array() for g in groups_in(tmp_path)]
    assert sorted(a[0, 0, 0, 0] for a in found) == sorted(images(8, 2)[0, 0, 0, 0] + 1000.0 * k for k in range(2))
    assert all(a.shape[:2] == (8, 2) for a in found)


@pytest.mark.parametrize("description", ["cine sax", "perfusion rest"])
def test_two_patients_with_the_same_identifiers_stay_apart(tmp_path: Path, description: str) -> None:
    """Everything equal but the images and the folder: two hearts, never one series of twice as many frames."""
    for k in range(2):
        write_series(
            tmp_path / f"patient{k}", images(8, 2) + np.uint16(1000 * k), SeriesDescription=description, PatientID="",
            edit=lambda ds, t, z: setattr(ds, "SOPInstanceUID", f"{ROOT}.4.{t + 1}.{z + 1}"),
        )  # fmt: skip
    found = sorted((assemble(g).array() for g in groups_in(tmp_path)), key=lambda a: float(a[0, 0, 0, 0]))
    np.testing.assert_array_equal(found, [images(8, 2), images(8, 2) + 1000.0])


def test_slices_in_folders_of_their_own_stay_one_series(tmp_path: Path) -> None:
    for k, path in enumerate(cine(tmp_path, images(8, 3))):
        (tmp_path / f"slice{k % 3}").mkdir(exist_ok=True)
        path.rename(tmp_path / f"slice{k % 3}" / path.name)
    np.testing.assert_array_equal(series_in(tmp_path).array(), images(8, 3))


def test_time_points_in_folders_of_their_own_stay_one_series(tmp_path: Path) -> None:
    """Numbered anew in every folder; the trigger times tell them apart."""

    def numbered(ds: Dataset, t: int, z: int) -> None:
        ds.InstanceNumber = z + 1

    for k, path in enumerate(cine(tmp_path, images(8, 3), edit=numbered)):
        (tmp_path / f"time{k // 3}").mkdir(exist_ok=True)
        path.rename(tmp_path / f"time{k // 3}" / path.name)
    np.testing.assert_array_equal(series_in(tmp_path).array(), images(8, 3))


def test_one_scan_from_two_anonymisers(tmp_path: Path) -> None:
    """One copy keeps its identifiers, the other has a study for every file: two series, each whole."""
    cine(tmp_path / "a", images(8, 2))
    cine(tmp_path / "b", images(8, 2) + np.uint16(1000), edit=own(UIDS[:1]))
    found = sorted((assemble(g).array() for g in groups_in(tmp_path)), key=lambda a: float(a[0, 0, 0, 0]))
    np.testing.assert_array_equal(found, [images(8, 2), images(8, 2) + 1000.0])


def test_a_folder_for_every_file(tmp_path: Path) -> None:
    for k, path in enumerate(cine(tmp_path, images(8, 2), edit=own(UIDS))):
        (tmp_path / f"f{k}").mkdir()
        path.rename(tmp_path / f"f{k}" / "image")
    np.testing.assert_array_equal(series_in(tmp_path).array(), images(8, 2))


def test_single_images_of_one_place_are_not_made_a_series(tmp_path: Path) -> None:
    """Three maps of one slice, each a series of one image: another UID each is right there."""

    def one_each(ds: Dataset, t: int, z: int) -> None:
        ds.SeriesInstanceUID, ds.InstanceNumber = f"{ROOT}.4.{t}", 1
        del ds.TriggerTime

    cine(tmp_path, images(3, 1), edit=one_each)
    assert len(groups_in(tmp_path)) == 3
