"""Voxels that are NaN in every frame: 0 for all that works on a series, NaN in its result."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.batch.sinks import Layout, dicom_sink, nifti_sink
from cmrsr.errors import UnusableError
from cmrsr.io.background import background_of
from cmrsr.io.derivation import Derivation
from cmrsr.io.joined import joined
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from tests.io.nifti.nifti_files import copy, numbers, save

SHAPE = (12, 10, 2, 6)
DERIVATION = Derivation(
    task="sr", engine="e", engine_version="1", engine_digest="0" * 64, software_version="1", parameters={"seed": 1}
)


def values(bad: float = np.nan) -> NDArray[np.float32]:
    """(x, y, z, t) with three columns that are not numbers in any frame."""
    data = numbers(SHAPE, np.float32) + 1
    data[:3] = bad
    return data


def read(path: Path, data: NDArray[Any], **how: Any) -> Series:
    return read_nifti(save(path, data), **how)


class Frame:
    def __init__(self, output: NDArray[np.float32]) -> None:
        self.output, self.std = output, output / 10


def write(series: Series, folder: Path, sink: Any) -> None:
    layout = Layout(shape=series.shape, affine=series.affine, times_ms=series.times_ms)
    with sink(folder / "x_sr", series, layout, DERIVATION, True) as out:
        for frame in series:
            out.write(Frame(frame + 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nan_in_every_frame_reads_as_zero_and_is_written_as_nan(tmp_path: Path, bad: float, suffix: str) -> None:
    series = read(tmp_path / f"x{suffix}", values(bad))
    zeros = np.nan_to_num(values(), nan=0).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(series.array(), zeros)
    (note,) = series.source.notes
    assert "25.0% of the voxels are NaN or infinite in every frame" in note
    found = survey(series)
    assert (found.minimum, np.isfinite(found.power_x).all()) == (0, True)
    np.testing.assert_array_equal(np.asarray(nib.load(copy(series, tmp_path / "y.nii")).dataobj), values())


def test_results_and_their_uncertainty_are_nan_there(tmp_path: Path) -> None:
    write(read(tmp_path / "x.nii", values()), tmp_path, nifti_sink)
    for name in ("x_sr", "x_sr_std"):
        np.testing.assert_array_equal(
            np.isnan(np.asarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj)), np.isnan(values())
        )


def test_dicom_results_are_zero_there(tmp_path: Path) -> None:
    import pydicom

    write(read(tmp_path / "x.nii", values()), tmp_path, dicom_sink)
    files = sorted((tmp_path / "x_sr").glob("*.dcm"))
    assert len(files) == 12
    for path in files:
        pixels = pydicom.dcmread(path).pixel_array
        assert pixels[:, :3].max() == 0
        assert pixels[:, 3:].min() > 0


def test_integers_on_request_are_zero_there(tmp_path: Path) -> None:
    series = read(tmp_path / "x.nii", values())
    ones = replace(series, reader=lambda _: np.ones(series.shape[1:], np.float32))
    stored = np.asarray(nib.load(copy(ones, tmp_path / "y.nii", dtype="uint8")).dataobj)
    np.testing.assert_array_equal(stored, np.where(np.isnan(values()), 0, 1))


def test_a_finer_grid_has_the_background_of_the_nearest_voxel(tmp_path: Path) -> None:
    series = read(tmp_path / "x.nii", values())
    finer = np.diag([0.5, 0.5, 1.0, 1.0])
    finer[:2, 3] = -0.25  # the corner of the field of view stays
    found = background_of(series, (6, 2, 20, 24), series.affine @ finer)
    assert found is not None
    np.testing.assert_array_equal(found, np.isnan(values()[..., 0]).T.repeat(2, 1).repeat(2, 2))
    out = copy(series, tmp_path / "y.nii", shape=(6, 2, 20, 24), affine=series.affine @ finer)
    np.testing.assert_array_equal(np.isnan(np.asarray(nib.load(out).dataobj)[..., 0]).T, found)


def test_another_order_of_axes(tmp_path: Path) -> None:
    data = values()[:, :, 0].transpose(2, 1, 0)  # (t, y, x)
    series = read(tmp_path / "x.nii", data, time_axis=0)
    np.testing.assert_array_equal(series.array()[:, 0], np.nan_to_num(data, nan=0))
    assert np.isnan(np.asarray(nib.load(copy(series, tmp_path / "y.nii")).dataobj)).mean() == 0.25


@pytest.mark.parametrize("t", [0, 1, 5])
@pytest.mark.parametrize("background", [True, False])
def test_nan_in_one_frame_is_refused_and_the_advice_helps(tmp_path: Path, t: int, background: bool) -> None:
    data = values() if background else np.nan_to_num(values(), nan=7)
    data[8, 4, 1, t] = np.nan
    with pytest.raises(UnusableError, match=r"give these.* a number, or leave out that frame") as caught:
        survey(read(tmp_path / "x.nii.gz", data))
    assert f"frame {t + 1}" in str(caught.value) or f"and {t + 1} of 6" in str(caught.value) or t == 0
    survey(read(tmp_path / "left_out.nii.gz", np.delete(data, t, axis=3)))
    data[8, 4, 1, t] = 3
    survey(read(tmp_path / "replaced.nii.gz", data))


def test_a_number_in_one_frame_of_the_background_is_refused(tmp_path: Path) -> None:
    data = values()
    data[1, 4, 1, 3] = 9
    with pytest.raises(UnusableError, match=r"1 of 240 voxels.*frames 1 and 4 of 6"):
        survey(read(tmp_path / "x.nii", data))


@pytest.mark.parametrize("share", [0.96, 1.0])
def test_hardly_any_number_is_no_image(tmp_path: Path, share: float) -> None:
    data = numbers((50, 10, 1, 4), np.float32) + 1
    data[: round(50 * share)] = np.nan
    with pytest.raises(UnusableError, match=r"are NaN or infinite in every frame; expected an image"):
        read(tmp_path / "x.nii", data)


def test_a_first_frame_without_numbers_is_left_out_as_advised(tmp_path: Path) -> None:
    data = values()
    data[..., 0] = np.nan
    with pytest.raises(UnusableError, match=r"in frame 1; leave out that frame"):
        read(tmp_path / "x.nii", data)
    survey(read(tmp_path / "y.nii", data[..., 1:]))


def test_the_digest_tells_nan_from_zero(tmp_path: Path) -> None:
    digests = {
        survey(read(tmp_path / f"{name}.nii", data)).digest
        for name, data in (("a", values()), ("b", values(np.inf)), ("c", np.nan_to_num(values(), nan=0)))
    }
    assert len(digests) == 2


def test_joined_files_share_their_background(tmp_path: Path) -> None:
    parts = [read(tmp_path / f"{t}.nii", values()[..., t], time_axis="none") for t in range(3)]
    one = joined(parts, "x", "joined", kind="cine", times_ms=None)
    out = np.asarray(nib.load(copy(one, tmp_path / "out.nii")).dataobj)
    np.testing.assert_array_equal(out, values()[..., :3])
    parts[1] = read(tmp_path / "other.nii", np.nan_to_num(values()[..., 1], nan=5), time_axis="none")
    with pytest.raises(UnusableError, match=r"other: the voxels that are NaN or infinite are not those of 0"):
        joined(parts, "x", "joined", kind="cine", times_ms=None)


def peak_bytes(path: Path, out: Path) -> int:
    """Of a survey and a copy."""
    tracemalloc.start()
    series = read_nifti(path)
    survey(series)
    copy(series, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_background_takes_no_memory_for_each_frame(tmp_path: Path) -> None:
    peaks = []
    for fill in (1, 1, np.nan):  # the first time there is more to allocate
        data = np.resize(numbers(SHAPE, np.float32) + 1, (64, 64, 2, 200))
        data[:3] = fill
        peaks.append(peak_bytes(save(tmp_path / "x.nii.gz", data), tmp_path / "out.nii.gz"))
    assert peaks[2] - peaks[1] < 4 * data[..., 0].nbytes
