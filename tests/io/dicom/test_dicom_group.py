"""DICOM images to series: what belongs together, order in time, place in space, and what is refused."""

import random
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import (
    BEAT_MS,
    COLUMN,
    NORMAL,
    ROOT,
    ROW,
    SPACING,
    cine,
    clock,
    groups_in,
    images,
    lps_position,
    series_in,
    two_in_one_folder,
    write_series,
)
from pydicom.dataset import Dataset

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError
from cmrsr.io.dicom.read.group import assemble, group
from cmrsr.io.dicom.read.instance import read_headers
from cmrsr.io.planes import require_even_slices

# --- a whole series --------------------------------------------------------------------------------------------------


def test_perfusion_in_one_series_is_4d(tmp_path: Path) -> None:
    frames = images(9, 3)
    write_series(tmp_path, frames)
    series = series_in(tmp_path)
    assert series.shape == frames.shape
    assert series.kind == "perfusion"
    assert series.phase_axis == "x"
    assert series.source.name == "5_perfusion_rest"
    assert len(series.source.paths) == 27
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, 100 + BEAT_MS * np.arange(9))
    assert any("TriggerTime" in note for note in series.source.notes)
    np.testing.assert_array_equal(series.array(), frames)


def test_order_of_files_and_names_does_not_matter(tmp_path: Path) -> None:
    paths = write_series(tmp_path, images(6, 2))
    random.Random(1).shuffle(paths)
    shuffled = [path.rename(tmp_path / f"x{k}") for k, path in enumerate(paths)]
    for order in (shuffled, shuffled[::-1]):
        [found] = group(read_headers(order)[0])
        np.testing.assert_array_equal(assemble(found).array(), images(6, 2))


@pytest.mark.parametrize("depth", [1, 3])
def test_affine_maps_voxels_as_the_standard_says(tmp_path: Path, depth: int) -> None:
    """PS3.3 C.7.6.2.1.1: P = S + X * dx * column + Y * dy * row, then x and y change sign from LPS to RAS."""
    write_series(tmp_path, images(1, depth))
    series = series_in(tmp_path)
    x, y, z = 7, 4, depth - 1
    lps = lps_position(z) + ROW * SPACING[2] * x + COLUMN * SPACING[1] * y
    np.testing.assert_allclose((series.affine @ [x, y, z, 1])[:3], lps * [-1, -1, 1], atol=1e-6)
    np.testing.assert_allclose(series.spacing_mm, SPACING, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:The DICOM readers are highly experimental")
def test_affine_is_that_of_nibabel(tmp_path: Path) -> None:
    """An oracle with another axis order: nibabel's voxels count (row, column, slice) in LPS."""
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    [path] = write_series(tmp_path, images(1, 1))
    theirs = np.diag([-1, -1, 1, 1]) @ wrapper_from_file(path).affine[:, [1, 0, 2, 3]]
    # Its third column points the other way, because its first two are swapped.
    np.testing.assert_allclose(series_in(tmp_path).affine, theirs * [1, 1, -1, 1], atol=1e-6)


def test_slices_are_sorted_along_the_normal_whatever_the_acquisition_order(tmp_path: Path) -> None:
    def backwards(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position(2 - z)]

    write_series(tmp_path, images(4, 3), edit=backwards)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(4, 3)[:, ::-1])
    np.testing.assert_allclose(series.affine[:3, 3], lps_position(0) * [-1, -1, 1], atol=1e-5)


def test_frames_are_read_lazily(tmp_path: Path) -> None:
    paths = write_series(tmp_path, images(5, 1))
    series = series_in(tmp_path)
    paths[4].unlink()
    np.testing.assert_array_equal(series.frame(3), images(5, 1)[3])
    with pytest.raises(UnreadableError):
        series.frame(4)


@pytest.mark.parametrize(
    ("tags", "axis", "fraction"),
    [
        ({"InPlanePhaseEncodingDirection": "ROW", "AcquisitionMatrix": [0, 12, 5, 0]}, "x", 0.5),
        ({"InPlanePhaseEncodingDirection": "COL", "AcquisitionMatrix": [10, 0, 0, 6]}, "y", 0.5),
        # 4 lines over half of the read-out field of view (10 x 1.25 mm); the image shows 12 x 1.5 mm.
        ({"InPlanePhaseEncodingDirection": "COL", "AcquisitionMatrix": [10, 0, 0, 3], "PercentPhaseFieldOfView": 90},
         "y", 3 * 18 / (0.9 * 12.5) / 12),
        ({"InPlanePhaseEncodingDirection": "COL", "AcquisitionMatrix": [10, 0, 0, 1]}, "y", None),
        ({"InPlanePhaseEncodingDirection": "COL", "AcquisitionMatrix": [256, 0, 0, 192]}, "y", None),
        ({"InPlanePhaseEncodingDirection": None, "AcquisitionMatrix": [10, 0, 0, 6]}, None, None),
        ({"InPlanePhaseEncodingDirection": "COL"}, "y", None),
    ],
)  # fmt: skip
def test_phase_encoding(tmp_path: Path, tags: dict[str, Any], axis: str | None, fraction: float | None) -> None:
    write_series(tmp_path, images(1, 1), **tags)
    series = series_in(tmp_path)
    assert series.phase_axis == axis
    assert series.acquired_fraction == (None if fraction is None else pytest.approx(fraction))


# --- what belongs together -------------------------------------------------------------------------------------------


def test_cine_with_one_series_per_slice_is_one_stack(tmp_path: Path) -> None:
    frames = images(10, 4)
    cine(tmp_path, frames, series_per_slice=True)
    series = series_in(tmp_path)
    assert series.kind == "cine"
    assert series.source.name == "5-8_cine_sax"
    np.testing.assert_array_equal(series.array(), frames)
    assert any("joined" in note for note in series.source.notes)


def test_digits_at_the_end_of_a_description_count_slices(tmp_path: Path) -> None:
    def numbered(ds: Dataset, t: int, z: int) -> None:
        ds.SeriesDescription = f"cine_sax_{z + 1}"

    cine(tmp_path, images(10, 3), series_per_slice=True, edit=numbered)
    assert series_in(tmp_path).shape[1] == 3


def test_stress_and_rest_stay_apart(tmp_path: Path) -> None:
    for k, name in enumerate(("stress", "rest")):
        write_series(
            tmp_path / name, images(6, 3), SeriesNumber=5 + k, SeriesInstanceUID=f"{ROOT}.{k}",
            SeriesDescription=f"perfusion {name}",
        )  # fmt: skip
    assert [g.name for g in groups_in(tmp_path)] == ["5_perfusion_stress", "6_perfusion_rest"]


@pytest.mark.parametrize("delay_ms", [0.0, 600_000.0])
def test_two_runs_of_one_description_with_a_series_per_slice(tmp_path: Path, delay_ms: float) -> None:
    for run in range(2):

        def later(ds: Dataset, t: int, z: int, run: int = run) -> None:
            ds.AcquisitionTime = clock(t * BEAT_MS + z * 200 + run * delay_ms)

        write_series(
            tmp_path / str(run), images(6, 3) + np.uint16(1000 * run), series_per_slice=True, edit=later,
            SeriesNumber=5 + 10 * run, SeriesInstanceUID=f"{ROOT}.{run}", SeriesDescription="perf",
        )  # fmt: skip
    runs = [assemble(g) for g in groups_in(tmp_path)]
    assert [run.source.name for run in runs] == ["5-7_perf", "15-17_perf"]
    for k, run in enumerate(runs):
        np.testing.assert_array_equal(run.array(), images(6, 3) + 1000 * k)


def test_single_slices_at_unrelated_places_stay_apart(tmp_path: Path) -> None:
    def scattered(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position([0, 1, 2.37][z])]

    cine(tmp_path, images(8, 3), series_per_slice=True, edit=scattered)
    found = [assemble(g) for g in groups_in(tmp_path)]
    assert [s.shape[:2] for s in found] == [(8, 1)] * 3
    assert all("not joined" in s.source.notes[0] for s in found)


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["DERIVED", "PRIMARY", "M"])),
        ("EchoTime", ("1.2", "3.4")),
        ("InversionTime", ("100", "300")),
        ("ImageOrientationPatient", ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1])),
    ],
)
def test_one_series_of_two_scans_is_split(tmp_path: Path, tag: str, values: tuple[Any, Any]) -> None:
    """Even time points belong to one scan, odd ones to the other, as two echoes or components are stored."""

    def alternate(ds: Dataset, t: int, z: int) -> None:
        setattr(ds, tag, values[t % 2])

    frames = images(8, 2 if tag != "ImageOrientationPatient" else 1)
    write_series(tmp_path, frames, edit=alternate)
    found = {s.source.name: s.array() for s in map(assemble, groups_in(tmp_path))}
    assert len(found) == 2
    assert sorted(a.sum() for a in found.values()) == sorted(frames[k::2].sum() for k in range(2))


def test_real_pixel_spacing_may_differ_in_the_last_digits(tmp_path: Path) -> None:
    def wobble(ds: Dataset, t: int, z: int) -> None:
        ds.PixelSpacing = [f"{SPACING[1] + 1e-5 * t:.6f}", str(SPACING[2])]

    write_series(tmp_path, images(4, 2), edit=wobble)
    assert series_in(tmp_path).shape[:2] == (4, 2)


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order_tag", "tags"),
    [
        ("TemporalPositionIdentifier", {"TemporalPositionIdentifier": lambda t, z: t + 1}),
        ("TriggerTime", {"AcquisitionTime": lambda t, z: clock(0)}),
        ("AcquisitionTime", {"TriggerTime": lambda t, z: "120"}),
        ("ContentTime", {"TriggerTime": lambda t, z: "120", "AcquisitionTime": lambda t, z: clock(1000 * (t // 3))}),
        ("InstanceNumber", dict.fromkeys(("TriggerTime", "AcquisitionTime", "ContentTime"), lambda t, z: "")),
        ("InversionTime", {"InversionTime": lambda t, z: str(4000 - 300 * ((t * 5) % 9))}),
    ],
)  # fmt: skip
def test_first_tag_that_orders_every_slice(tmp_path: Path, order_tag: str, tags: dict[str, Any]) -> None:
    def replace(ds: Dataset, t: int, z: int) -> None:
        for tag, value in tags.items():
            setattr(ds, tag, value(t, z))

    frames = images(9, 2)
    write_series(tmp_path, frames, edit=replace)
    series = series_in(tmp_path)
    assert f"time order from {order_tag}" in series.source.notes[0]
    order = np.argsort([4000 - 300 * ((t * 5) % 9) for t in range(9)]) if order_tag == "InversionTime" else np.arange(9)
    np.testing.assert_array_equal(series.array(), frames[order])
    if order_tag in ("ContentTime", "InstanceNumber"):
        assert series.times_ms is None
    else:
        assert series.times_ms is not None
        assert np.all(np.diff(series.times_ms, axis=0) > 0)
    assert series.kind == ("t1" if order_tag == "InversionTime" else "perfusion")


def test_times_across_midnight(tmp_path: Path) -> None:
    def night(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = "120"
        ds.AcquisitionTime = clock(((13 * 60 + 40) * 60 - 3.2) * 1000 + t * BEAT_MS) if t < 4 else clock(
            (t - 4) * BEAT_MS - (10 * 60 + 20) * 60_000
        )  # fmt: skip

    write_series(tmp_path, images(8, 1), edit=night)
    assert pydicom.dcmread(tmp_path / "I003").AcquisitionTime == "235959.200000"
    assert pydicom.dcmread(tmp_path / "I004").AcquisitionTime == "000000.000000"
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(8, 1))
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, BEAT_MS * np.arange(8), atol=1e-3)


def test_jitter_of_the_trigger_is_not_an_order(tmp_path: Path) -> None:
    """One image a beat, each a few distinct milliseconds after the R wave."""
    delays = [112.5, 110.0, 117.5, 107.5, 115.0, 120.0]

    def jitter(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(delays[t])

    write_series(tmp_path, images(6, 1), edit=jitter)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(6, 1))
    assert "AcquisitionTime" in series.source.notes[0]


def test_slices_of_a_beat_keep_their_own_times(tmp_path: Path) -> None:
    write_series(tmp_path, images(5, 3), TriggerTime="120")
    series = series_in(tmp_path)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, BEAT_MS * np.arange(5)[:, None] + 200 * np.arange(3), atol=1e-3)


def test_times_estimated_from_the_heart_rate_are_said_to_be(tmp_path: Path) -> None:
    write_series(tmp_path, images(5, 1), TriggerTime="120", AcquisitionTime="", HeartRate="75")
    series = series_in(tmp_path)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, 800.0 * np.arange(5))
    assert "estimated" in series.source.notes[0]


# --- what is refused, and what may be dropped ------------------------------------------------------------------------


@pytest.mark.parametrize("per_slice", [False, True])
@pytest.mark.parametrize("hole", [(0, 0), (4, 1), (7, 2), (0, 2), (7, 0)])
def test_one_missing_frame_of_a_cine(tmp_path: Path, per_slice: bool, hole: tuple[int, int]) -> None:
    t, z = hole
    paths = cine(tmp_path, images(8, 3), series_per_slice=per_slice)
    paths[t * 3 + z].unlink()
    with pytest.raises(UnusableError, match=rf"slice {z + 1} at .* mm has 7, frame {t + 1} missing"):
        series_in(tmp_path)
    whole = series_in(tmp_path, on_missing="drop-frame")
    np.testing.assert_array_equal(whole.array(), np.delete(images(8, 3), t, axis=0))
    assert any(f"frame {t + 1} missing" in note for note in whole.source.notes)
    if z != 1:
        fewer = series_in(tmp_path, on_missing="drop-slice")
        np.testing.assert_array_equal(fewer.array(), np.delete(images(8, 3), z, axis=1))


def test_missing_frame_told_from_the_numbering_alone(tmp_path: Path) -> None:
    """Slice after slice, and times that differ between slices: only InstanceNumber says which frame is missing."""

    def free_running(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(t * (40 + 3 * z) + 5 * z)
        ds.InstanceNumber = z * 8 + t + 1

    paths = cine(tmp_path, images(8, 3), edit=free_running)
    paths[3 * 3 + 1].unlink()
    paths[0].unlink()
    series = series_in(tmp_path, on_missing="drop-frame")
    np.testing.assert_array_equal(series.array(), images(8, 3)[[1, 2, 4, 5, 6, 7]])


def test_dropping_is_refused_where_nobody_can_say_what_is_missing(tmp_path: Path) -> None:
    def anonymous(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(t * (40 + 3 * z) + 5 * z)
        ds.InstanceNumber = 1

    cine(tmp_path, images(8, 4), edit=anonymous)[5].unlink()
    with pytest.raises(UnusableError, match="cannot tell which"):
        series_in(tmp_path, on_missing="drop-frame")
    assert series_in(tmp_path, on_missing="drop-slice").shape[:2] == (8, 3)


@pytest.mark.parametrize("tag", ["TriggerTime", "AcquisitionTime"])
def test_as_many_frames_on_every_slice_but_not_the_same(tmp_path: Path, tag: str) -> None:
    paths = write_series(tmp_path, images(8, 2), **({} if tag == "TriggerTime" else {"TriggerTime": "120"}))
    for t, z in ((2, 0), (5, 1)):
        paths[t * 2 + z].unlink()
    with pytest.raises(UnusableError, match="missing"):
        series_in(tmp_path)
    if tag == "TriggerTime":
        series = series_in(tmp_path, on_missing="drop-frame")
        np.testing.assert_array_equal(series.array(), images(8, 2)[[0, 1, 3, 4, 6, 7]])


def test_cine_slices_with_heart_rates_of_their_own(tmp_path: Path) -> None:
    def scaled(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{t * (40 + [0.2, 0, 1, 3][z]):g}"

    cine(tmp_path, images(25, 4), series_per_slice=True, edit=scaled)
    series = series_in(tmp_path)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, np.arange(25)[:, None] * [40.2, 40, 41, 43])


def test_a_time_point_missing_on_all_slices(tmp_path: Path) -> None:
    paths = write_series(tmp_path, images(8, 2))
    for path in paths[6:8]:
        path.unlink()
    with pytest.raises(UnusableError, match="missing between frames 3 and 4"):
        series_in(tmp_path)
    series = series_in(tmp_path, on_missing="drop-frame")
    np.testing.assert_array_equal(series.array(), np.delete(images(8, 2), 3, axis=0))


def test_a_long_beat_is_no_hole(tmp_path: Path) -> None:
    def arrhythmia(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(BEAT_MS * t + (BEAT_MS if t > 3 else 0))

    write_series(tmp_path, images(8, 1), edit=arrhythmia)
    assert series_in(tmp_path).n_frames == 8


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_slice(tmp_path: Path, missing: int) -> None:
    paths = cine(tmp_path, images(8, 5), series_per_slice=True)
    for t in range(8):
        paths[t * 5 + missing].unlink()
    series = series_in(tmp_path)
    left = [z for z in range(5) if z != missing]
    assert series.origins_mm is not None
    np.testing.assert_allclose(series.origins_mm, [lps_position(z) * (-1, -1, 1) for z in left], atol=1e-6)
    with pytest.raises(UnusableError, match=r"not equally spaced: gaps of .*find the missing slices"):
        require_even_slices(series, "volumes are sums over slices")


def test_the_same_file_twice(tmp_path: Path) -> None:
    paths = write_series(tmp_path, images(4, 2))
    shutil.copy(paths[3], tmp_path / "copy")
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(4, 2))
    assert "copy left out: a copy of I003" in series.source.notes


def test_duplicates_under_other_identifiers(tmp_path: Path) -> None:
    two_in_one_folder(tmp_path, lambda folder: write_series(folder, images(4, 1)))
    with pytest.raises(UnusableError, match="duplicates such as I000, again_I000"):
        series_in(tmp_path)


def test_one_image_too_many(tmp_path: Path) -> None:
    paths = write_series(tmp_path, images(6, 3))
    extra = pydicom.dcmread(paths[4])
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.99"
    extra.save_as(tmp_path / "extra")
    with pytest.raises(UnusableError, match=r"expected 6 images .* slice 2 at .* has 7;"):
        series_in(tmp_path)


@pytest.mark.parametrize(
    ("tags", "words"),
    [({"PixelSpacing": ["2", "2"]}, "1.5x1.25 mm .* 2x2 mm"), ({"Rows": 6}, "12x10 .* 6x10")],
)
def test_two_grids_in_one_series(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    def last_differs(ds: Dataset, t: int, z: int) -> None:
        if t == 3:
            for tag, value in tags.items():
                setattr(ds, tag, value)

    write_series(tmp_path, images(4, 1), edit=last_differs)
    with pytest.raises(UnusableError, match=words):
        series_in(tmp_path)


def test_slices_with_gaps_of_two_sizes(tmp_path: Path) -> None:
    def uneven(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position([0, 1, 2.2][z])]

    write_series(tmp_path, images(2, 3), edit=uneven)
    series = series_in(tmp_path)
    assert series.origins_mm is not None
    assert series.source.notes[-1].startswith("gaps between slices of 8, 9.6 mm, each slice kept at its own place")


def test_slices_within_a_tenth_of_a_millimetre_are_one(tmp_path: Path) -> None:
    def wobble(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position(z) + 0.04 * (t % 2) * NORMAL]

    write_series(tmp_path, images(4, 3), edit=wobble)
    assert series_in(tmp_path).shape[:2] == (4, 3)


def test_a_slice_that_moves_in_its_plane(tmp_path: Path) -> None:
    def shifted(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position(z) + 3.0 * (t == 2) * ROW]

    write_series(tmp_path, images(4, 2), edit=shifted)
    with pytest.raises(UnusableError, match=r"3\.00 mm away"):
        series_in(tmp_path)


def test_a_broken_file_can_be_dropped(tmp_path: Path) -> None:
    paths = cine(tmp_path, images(8, 3))
    paths[13].write_bytes(paths[13].read_bytes()[:-50])
    with pytest.raises(UnreadableError, match="I013"):
        series_in(tmp_path)
    series = series_in(tmp_path, on_missing="drop-frame")
    np.testing.assert_array_equal(series.array(), np.delete(images(8, 3), 4, axis=0))
    assert any("I013 left out" in note for note in series.source.notes)


@pytest.mark.parametrize("on_missing", ["fail", "drop-frame", "drop-slice"])
def test_a_series_of_broken_files(tmp_path: Path, on_missing: str) -> None:
    for path in cine(tmp_path, images(2, 1)):
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UnreadableError, match="cut off"):
        series_in(tmp_path, on_missing=on_missing)


def test_all_messages_are_one_line(tmp_path: Path) -> None:
    paths = cine(tmp_path, images(10, 20))
    for path in paths[:140:7]:
        path.unlink()
    with pytest.raises(CmrsrError) as caught:
        series_in(tmp_path)
    assert "\n" not in str(caught.value)
    assert "and 12 more slices" in str(caught.value)


# --- real scans ------------------------------------------------------------------------------------------------------


def test_real_perfusion(real_data: Path) -> None:
    series = series_in(real_data / "perfusion-dicom")
    assert series.shape == (79, 1, 256, 256)
    assert (series.kind, series.phase_axis) == ("perfusion", "x")
    assert series.acquired_fraction == pytest.approx(0.5, abs=1e-3)
    assert series.times_ms is not None
    np.testing.assert_allclose(np.diff(series.times_ms), 697.6, atol=1)
    means = [float(series.frame(t).mean()) for t in (0, 20)]
    assert means[1] > 1.1 * means[0]  # contrast has come


def test_real_cine_of_eight_series(real_data: Path) -> None:
    series = series_in(real_data / "cine-dicom-jpeg2000")
    assert series.shape == (32, 8, 256, 256)
    assert series.kind == "cine"
    assert any("TriggerTime repeats or is constant" in note for note in series.source.notes)
    assert series.times_ms is not None
    assert series.times_ms.shape == (32, 8)
    assert 1000 < series.times_ms[-1].max() < 1200
    np.testing.assert_allclose(nib.affines.voxel_sizes(series.affine), (1.484375, 1.484375, 6), rtol=1e-6)


def test_real_t1_study(real_data: Path) -> None:
    found = {s.source.name: s for s in map(assemble, groups_in(real_data / "t1-dicom-phantom"))}
    magnitude, phase = found["12_ShMOLLI_192i_e11"], found["13_ShMOLLI_192i_e11_phase"]
    for series in (magnitude, phase):
        assert series.kind == "t1"
        assert series.times_ms is not None
        np.testing.assert_allclose(series.times_ms, [100, 180, 260, 1100, 2100, 3100, 4100])
    assert phase.array().min() == -4096
    assert all(s.n_frames == 1 for name, s in found.items() if "T1MAP" in name or "FITPARAMS" in name)
    assert sum(len(s.source.paths) for s in found.values()) == 23
