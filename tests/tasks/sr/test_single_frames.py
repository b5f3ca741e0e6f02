"""One file as one frame: whole or not yet, and which series it belongs to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.discover import discover
from cmrsr.tasks.sr.stream.single_frames import LeftOutError, SingleFrame, read_single_frame
from tests.conftest import save_nifti
from tests.io.dicom.dicom_files import dataset, images, save, write_enhanced, write_series

N_CUTS = 60


def read(path: Path, *, explicit: bool = False) -> SingleFrame:
    return read_single_frame(path, Path(path.name), explicit=explicit)


def one_dicom(path: Path, **tags: Any) -> Path:
    return save(dataset(images(1, 1)[0, 0], 0, 0, **tags), path)


def one_file(folder: Path, kind: str) -> Path:
    if kind == "dicom":
        return one_dicom(folder / "whole" / "I1.dcm")
    path = folder / "whole" / f"perf.{kind}"
    save_nifti(path, images(1, 3))
    return path


@pytest.mark.parametrize("kind", ["dicom", "nii", "nii.gz"])
def test_no_part_of_a_file_is_taken_for_a_frame_or_refused(tmp_path: Path, kind: str) -> None:
    whole = one_file(tmp_path, kind)
    data = whole.read_bytes()
    read(whole)
    part = tmp_path / whole.name
    for n in {*np.linspace(0, len(data) - 1, N_CUTS).astype(int).tolist(), *range(len(data) - 8, len(data))}:
        part.write_bytes(data[:n])
        with pytest.raises((UnreadableError, LeftOutError)) as error:
            read(part)
        assert not isinstance(error.value, LeftOutError) or isinstance(error.value.__cause__, UnreadableError)


@pytest.mark.parametrize("kind", ["dicom", "nii", "nii.gz"])
def test_a_frame_is_what_a_batch_would_read(tmp_path: Path, kind: str) -> None:
    path = one_file(tmp_path, kind)
    (candidate,), _, _ = discover([path], time_axis="none" if kind != "dicom" else None)
    wanted, found = candidate.open(), read(path).series
    assert (found.shape, found.phase_axis, found.kind) == (wanted.shape, wanted.phase_axis, wanted.kind)
    np.testing.assert_array_equal(found.array(), wanted.array())
    np.testing.assert_array_equal(found.affine, wanted.affine)


def test_a_file_that_is_written_meanwhile_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = one_dicom(tmp_path / "I1.dcm")

    def digest(path: Path) -> str:
        with path.open("ab") as stream:
            stream.write(b"\0\0")
        return "of half of it"

    monkeypatch.setattr("cmrsr.tasks.sr.stream.single_frames.sha256_file", digest)
    with pytest.raises(UnreadableError, match="being written"):
        read(path)


def test_whole_series_in_one_file_are_refused(tmp_path: Path) -> None:
    save_nifti(tmp_path / "series.nii.gz", images(4, 2))
    write_enhanced(tmp_path / "enhanced.dcm", images(4, 2))
    for name in ("series.nii.gz", "enhanced.dcm"):
        with pytest.raises(UnusableError, match="leave out --stream"):
            read(tmp_path / name)


def test_what_a_batch_leaves_out_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    path = one_dicom(tmp_path / "ct.dcm", Modality="CT")
    with pytest.raises(LeftOutError) as error:
        read(path)
    assert error.value.__cause__ is None
    with pytest.raises(UnusableError, match="wrong modality"):
        read(path, explicit=True)


def test_a_listed_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="a folder"):
        read(tmp_path, explicit=True)


def test_slices_and_times_of_a_series_belong_together(tmp_path: Path) -> None:
    def jitter(ds: Dataset, t: int, z: int) -> None:
        ds.PixelSpacing = [f"{float(v) * (1 + 1e-6 * t):.9f}" for v in ds.PixelSpacing]

    first, *others = [read(path) for path in write_series(tmp_path, images(3, 2), edit=jitter)]
    assert all(first.belongs_with(one) for one in others)
    assert len({one.uid for one in (first, *others)}) == 6
    assert {one.grid() for one in others} == {first.grid()}


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesInstanceUID": "1.2.3"}, {"PixelSpacing": ["2", "2"]}, {"ImageType": ["DERIVED", "SECONDARY", "M"]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
    ],
)  # fmt: skip
def test_other_series_planes_grids_and_components_do_not(tmp_path: Path, tags: dict[str, Any]) -> None:
    one, other = read(one_dicom(tmp_path / "a")), read(one_dicom(tmp_path / "b", **tags))
    assert not one.belongs_with(other)


def test_a_label_map_is_left_out_once_it_is_whole(tmp_path: Path) -> None:
    save_nifti(tmp_path / "p1_label.nii", images(1, 3) > 500)
    save_nifti(tmp_path / "p2_label.nii", images(1, 3))
    with pytest.raises(LeftOutError, match="label map"):
        read(tmp_path / "p1_label.nii")
    assert read(tmp_path / "p1_label.nii", explicit=True).series.shape[0] == 1
    assert read(tmp_path / "p2_label.nii").series.shape[0] == 1  # an image, whatever it is called


def test_a_library_error_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise NotImplementedError("Unknown Value Representation")

    path = one_dicom(tmp_path / "I1.dcm")
    monkeypatch.setattr("cmrsr.io.dicom.read.instance.read_headers", broken)
    with pytest.raises(UnreadableError, match=r"I1\.dcm: cannot be read"):
        read(path)
