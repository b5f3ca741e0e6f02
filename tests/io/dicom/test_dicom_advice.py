"""Advice is followed before it is given: what a message about a DICOM series proposes gets further."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import ROW, cine, groups_in, images, lps_position, series_in, two_in_one_folder, write_series
from pydicom.dataset import Dataset

from cmrsr.errors import CmrsrError
from cmrsr.io.dicom.read.group import assemble

FRAMES = images(8, 3)


@dataclass(frozen=True)
class Advice:
    """make: files that are refused. says: the proposal. follow: does what it says, before reading with ``options``."""

    make: Callable[[Path], Any]
    says: str
    follow: Callable[[Path, str], None] = lambda folder, message: None
    options: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, int] = (8, 3)


def without_a_file(folder: Path) -> None:
    cine(folder, FRAMES)[13].unlink()


def without_a_time_point(folder: Path) -> None:
    paths = cine(folder, FRAMES)
    for path in paths[12:15]:
        path.unlink()


def twice_under_other_identifiers(folder: Path) -> None:
    two_in_one_folder(folder, lambda place: cine(place, FRAMES))


def remove_named_duplicates(folder: Path, message: str) -> None:
    [listed] = re.findall(r"duplicates such as ([^)]*)\)", message)
    second = listed.split(", ")[1].rstrip("0123456789")
    for path in folder.glob(f"{second}*"):
        path.unlink()


def without_order(folder: Path) -> None:
    bare = dict.fromkeys(("InstanceNumber", "TriggerTime", "AcquisitionTime", "ContentTime"))
    write_series(folder, FRAMES, edit=lambda ds, t, z: [ds.pop(key, None) for key in bare])


def export_with_numbers(folder: Path, message: str) -> None:
    for k, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.InstanceNumber = k + 1
        ds.save_as(path)


def two_grids(folder: Path) -> None:
    def other(ds: Dataset, t: int, z: int) -> None:
        if t >= 4:
            ds.PixelSpacing = ["2", "2"]

    cine(folder, FRAMES, edit=other)


def separate_grids(folder: Path, message: str) -> None:
    [other] = re.findall(r"found .* and .* mm \((I\d+)\)", message)
    spacing = pydicom.dcmread(folder / other).PixelSpacing
    for path in sorted(folder.iterdir()):
        if pydicom.dcmread(path).PixelSpacing == spacing:
            path.unlink()


def separate_image(folder: Path, message: str) -> None:
    [other] = re.findall(r", (\S+/I\d+) is", message)
    Path(other).unlink()


def one_image_elsewhere(folder: Path) -> None:
    def shifted(ds: Dataset, t: int, z: int) -> None:
        if (t, z) == (2, 1):
            ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position(z) + 3.0 * ROW]

    cine(folder, images(8, 3), edit=shifted)


def a_cut_file(folder: Path) -> None:
    paths = cine(folder, FRAMES)
    shutil.copy(paths[5], folder.parent / "whole")
    paths[5].write_bytes(paths[5].read_bytes()[:-50])


def copy_again(folder: Path, message: str) -> None:
    [name] = re.findall(r"in \S*/(I\d+); copy the file again", message)
    shutil.copy(folder.parent / "whole", folder / name)


ADVICE = {
    "drop the frame": Advice(
        without_a_file, "--on-missing drop-frame", options={"on_missing": "drop-frame"}, shape=(7, 3)
    ),
    "drop the slice": Advice(without_a_file, "or drop-slice", options={"on_missing": "drop-slice"}, shape=(8, 2)),
    "leave the gap": Advice(
        without_a_time_point,
        "--on-missing drop-frame to leave the gap",
        options={"on_missing": "drop-frame"},
        shape=(7, 3),
    ),
    "remove the duplicates": Advice(twice_under_other_identifiers, "remove the duplicates", remove_named_duplicates),
    "export with numbers": Advice(
        without_order, "export the series again with its InstanceNumber", export_with_numbers
    ),
    "separate two grids": Advice(two_grids, "separate them", separate_grids, shape=(4, 3)),
    "separate an image elsewhere": Advice(
        one_image_elsewhere, "separate them", separate_image, {"on_missing": "drop-frame"}, shape=(7, 3)
    ),
    "copy again": Advice(a_cut_file, "copy the file again", copy_again),
}


@pytest.mark.parametrize("name", ADVICE)
def test_what_a_message_proposes_gets_further(tmp_path: Path, name: str) -> None:
    advice, folder = ADVICE[name], tmp_path / "in"
    advice.make(folder)
    with pytest.raises(CmrsrError) as refused:
        [assemble(g) for g in groups_in(folder)]
    assert advice.says in str(refused.value)
    advice.follow(folder, str(refused.value))
    series = series_in(folder, **advice.options)
    assert series.shape[:2] == advice.shape
    assert np.isfinite(series.array()).all()
