"""Enhanced multi-frame files: every frame has tags of its own, and what orders and separates frames is used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import groups_in, images, item, put_unchecked, save, series_in, write_enhanced
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from cmrsr.errors import UnusableError
from cmrsr.io.dicom.read.enhanced import classic_view
from cmrsr.io.dicom.read.group import assemble

EditFrame = Callable[[Dataset, int], None]


def edited(path: Path, frames: NDArray[Any], edit: EditFrame, **tags: Any) -> Dataset:
    """An enhanced cine (t, z) whose frames, slice by slice, are changed by ``edit(groups, frame)``; saved again."""
    write_enhanced(path, frames)
    ds = pydicom.dcmread(path)
    for k, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
        edit(groups, k)
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    save(ds, path)
    return ds


def nothing(groups: Dataset, k: int) -> None:
    pass


def test_a_view_changes_neither_the_file_nor_another_view(tmp_path: Path) -> None:
    ds = edited(
        tmp_path / "a", images(3, 1), nothing, TriggerTime="7", InstanceNumber=9, AcquisitionDateTime="20240101"
    )
    views = [classic_view(ds, k) for k in range(3)]
    assert [v.TriggerTime for v in views] == [0, 40, 80]
    assert [v.InstanceNumber for v in views] == [1, 2, 3]
    assert (ds.TriggerTime, ds.InstanceNumber) == (7, 9)


@pytest.mark.parametrize("index", [True, False])
def test_frame_times_although_the_file_has_a_time_of_its_own(tmp_path: Path, index: bool) -> None:
    """One DateTime at the top level is the start of the scan; the frames have theirs, slice 2 some time later."""
    seconds = np.array([0.0, 0.85, 1.72, 3.42, 4.26])

    def clocked(groups: Dataset, k: int) -> None:
        z, t = divmod(k, 5)
        content = groups.FrameContentSequence[0]
        content.FrameAcquisitionDateTime = f"202401021020{seconds[t] + 0.2 * z:09.6f}"
        del groups.CardiacSynchronizationSequence
        if not index:
            del content.TemporalPositionIndex

    edited(
        tmp_path / "a", images(5, 2), clocked, AcquisitionDateTime="20240102102000", SeriesDescription="perfusion",
        InstanceNumber=2, AcquisitionDate=None, AcquisitionTime=None, ContentTime=None,
    )  # fmt: skip
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(5, 2) * np.float32(2) - 10)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, 1000 * (seconds[:, None] + [0, 0.2]), atol=1e-3)


@pytest.mark.parametrize("interleaved", [True, False])
def test_magnitude_and_phase_in_one_file_are_two_series(tmp_path: Path, interleaved: bool) -> None:
    """The top level says MIXED; the temporal index may count through both."""
    order = [2 * t + (k % 2) for t in range(4) for k in range(2)] if interleaved else [*range(0, 8, 2), *range(1, 8, 2)]

    def component(groups: Dataset, k: int) -> None:
        t, phase = divmod(order[k], 2)
        groups.MRImageFrameTypeSequence = [item(ComplexImageComponent="PHASE" if phase else "MAGNITUDE")]
        groups.FrameContentSequence[0].TemporalPositionIndex = k + 1 if interleaved else t + 1
        groups.CardiacSynchronizationSequence[0].NominalCardiacTriggerDelayTime = 40.0 * t

    frames = images(8, 1)
    edited(
        tmp_path / "a", frames, component, ComplexImageComponent="MIXED",
        ImageType=["ORIGINAL", "PRIMARY", "VELOCITY", "MIXED"], AcquisitionDate=None, AcquisitionTime=None,
        ContentTime=None,
    )  # fmt: skip
    found = {s.source.name: s for s in map(assemble, groups_in(tmp_path))}
    assert sorted(found) == ["5_cine_enhanced", "5_cine_enhanced_phase"]
    for name, parity in (("5_cine_enhanced", 0), ("5_cine_enhanced_phase", 1)):
        mine = [k for k in range(8) if order[k] % 2 == parity]
        np.testing.assert_array_equal(found[name].array(), frames[mine] * np.float32(2) - 10)
        np.testing.assert_array_equal(found[name].times_ms, [0, 40, 80, 120])


def test_a_decimal_comma_in_the_functional_groups(tmp_path: Path) -> None:
    def commas(groups: Dataset, k: int) -> None:
        put_unchecked(groups.PixelValueTransformationSequence[0], "RescaleSlope", "1,5")

    edited(tmp_path / "a", images(3, 2), commas)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(3, 2) * np.float32(1.5) - 10)
    assert "decimal comma in RescaleSlope, read as a decimal point" in series.source.notes


def test_a_velocity_flavour_of_magnitude_images_is_magnitude(tmp_path: Path) -> None:
    edited(
        tmp_path / "a", images(3, 2), nothing, ComplexImageComponent="MAGNITUDE",
        ImageType=["ORIGINAL", "PRIMARY", "VELOCITY", "NONE"],
    )  # fmt: skip
    assert [g.name for g in groups_in(tmp_path)] == ["5_cine_enhanced"]


def test_dimension_indices_give_the_order(tmp_path: Path) -> None:
    """No temporal index and no times: the second dimension counts the phases, here backwards in the file."""

    def indexed(groups: Dataset, k: int) -> None:
        z, t = divmod(k, 4)
        del groups.CardiacSynchronizationSequence
        del groups.FrameContentSequence[0].TemporalPositionIndex
        groups.FrameContentSequence[0].DimensionIndexValues = [z + 1, 4 - t]

    edited(
        tmp_path / "a", images(4, 2), indexed, AcquisitionDate=None, AcquisitionTime=None, ContentTime=None,
        DimensionIndexSequence=[
            item(DimensionIndexPointer=Tag("InStackPositionNumber")),
            item(DimensionIndexPointer=Tag("NominalCardiacTriggerDelayTime")),
        ],
    )  # fmt: skip
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(4, 2)[::-1] * np.float32(2) - 10)
    assert series.source.notes[0].startswith("time order from DimensionIndexValues")


def test_a_dimension_that_is_neither_time_nor_place_separates(tmp_path: Path) -> None:
    """Two b-values of the same places and times, told apart by a dimension alone."""

    def indexed(groups: Dataset, k: int) -> None:
        groups.CardiacSynchronizationSequence[0].NominalCardiacTriggerDelayTime = 40.0 * (k // 2)
        groups.FrameContentSequence[0].TemporalPositionIndex = k // 2 + 1
        groups.FrameContentSequence[0].DimensionIndexValues = [k // 2 + 1, k % 2 + 1]

    edited(
        tmp_path / "a", images(6, 1), indexed, AcquisitionDate=None, AcquisitionTime=None, ContentTime=None,
        DimensionIndexSequence=[
            item(DimensionIndexPointer=Tag("TemporalPositionIndex")),
            item(DimensionIndexPointer=Tag("DiffusionBValue")),
        ],
    )  # fmt: skip
    found = [assemble(g).array() for g in groups_in(tmp_path)]
    np.testing.assert_array_equal(found, [images(6, 1)[k::2] * np.float32(2) - 10 for k in range(2)])


def test_nothing_but_the_order_in_the_file(tmp_path: Path) -> None:
    def bare(groups: Dataset, k: int) -> None:
        del groups.CardiacSynchronizationSequence
        del groups.FrameContentSequence

    edited(tmp_path / "a", images(4, 2), bare, AcquisitionDate=None, AcquisitionTime=None, ContentTime=None)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(4, 2) * np.float32(2) - 10)
    assert series.source.notes[0].startswith("time order from the order of the frames in the file")


def test_a_last_volume_cut_short_is_left_out(tmp_path: Path) -> None:
    """A scan that was stopped: volume by volume, the last with two of three slices."""
    volumes = images(4, 3)
    in_time = volumes.reshape(1, 12, *volumes.shape[2:])  # slices of the file are the frames, in the order of time

    def by_volume(groups: Dataset, k: int) -> None:
        t, z = divmod(k, 3)
        other = source.PerFrameFunctionalGroupsSequence[4 * z + t]
        groups.PlanePositionSequence = other.PlanePositionSequence
        groups.FrameContentSequence = other.FrameContentSequence
        groups.CardiacSynchronizationSequence = other.CardiacSynchronizationSequence

    source = pydicom.dcmread(write_enhanced(tmp_path / "whole", volumes))
    (tmp_path / "whole").unlink()
    ds = edited(tmp_path / "a", in_time, by_volume)
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:11]
    ds.NumberOfFrames = 11
    ds.PixelData = ds.PixelData[: 11 * 2 * volumes[0, 0].size]
    save(ds, tmp_path / "a")
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), volumes[:3] * np.float32(2) - 10)
    assert "the last volume holds 2 of 3 slices and was left out: the scan was stopped" in series.source.notes


def test_a_hole_in_the_middle_is_no_stopped_scan(tmp_path: Path) -> None:
    ds = edited(tmp_path / "a", images(4, 3), nothing)
    del ds.PerFrameFunctionalGroupsSequence[5]
    ds.NumberOfFrames = 11
    save(ds, tmp_path / "a")
    with pytest.raises(UnusableError, match=r"slice 2 at .* has 3, frame 2 missing"):
        series_in(tmp_path)
