"""Tags are believed as far as they can be true: trigger delays, impossible beats, localisers, copies, gaps."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import ROOT, cine, clock, images, lps_position, series_in, write_series
from pydicom.dataset import Dataset

from cmrsr.io.dicom.read.instance import read_headers
from cmrsr.io.dicom.read.localiser import without_localisers

NO_CLOCK = {"AcquisitionDate": None, "AcquisitionTime": None, "ContentDate": None, "ContentTime": None}


def jitter(step_ms: float, start_ms: float = 40.0) -> Any:
    delays = np.random.default_rng(3).permutation(12) * step_ms + start_ms

    def edit(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{delays[(t + 5 * z) % 12]:g}"

    return edit


@pytest.mark.parametrize("n_z", [1, 3])
@pytest.mark.parametrize("description", ["perfusion rest", "tfl sr 3 slices"])
@pytest.mark.parametrize(("step_ms", "start_ms"), [(2.5, 40.0), (15.0, 400.0)])
def test_a_trigger_delay_does_not_order_beats(
    tmp_path: Path, n_z: int, description: str, step_ms: float, start_ms: float
) -> None:
    """One image a beat, no clock: the image numbers give the order, also where no word says perfusion."""
    edit = jitter(step_ms, start_ms)
    write_series(tmp_path, images(12, n_z), edit=edit, SeriesDescription=description, NominalInterval=850, **NO_CLOCK)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(12, n_z))
    if series.kind == "perfusion":
        np.testing.assert_allclose(series.times_ms, np.arange(12) * 850.0)
        assert "times estimated: one frame a heart beat of 850 ms (header)" in series.source.notes[0]
    else:
        assert series.times_ms is None


def test_repeated_delays_of_beats_are_one_scan(tmp_path: Path) -> None:
    """Delays in steps of the scanner's clock repeat; that makes no second scan of them."""

    def coarse(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = str(40 + 5 * (t % 3))

    write_series(tmp_path, images(12, 2), edit=coarse, **NO_CLOCK)
    np.testing.assert_array_equal(series_in(tmp_path).array(), images(12, 2))


def test_a_delay_that_grows_by_chance_is_no_frame_time(tmp_path: Path) -> None:
    write_series(tmp_path, images(12, 1), edit=lambda ds, t, z: setattr(ds, "TriggerTime", str(40 + 3 * t)), **NO_CLOCK)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(12, 1))
    assert series.times_ms is None
    assert "TriggerTime steps by 3 ms, which no perfusion does from frame to frame" in " ".join(series.source.notes)


def test_trigger_times_that_count_on_through_a_perfusion_are_times(tmp_path: Path) -> None:
    write_series(
        tmp_path, images(12, 1), edit=lambda ds, t, z: setattr(ds, "TriggerTime", str(40 + 790 * t)), **NO_CLOCK
    )
    np.testing.assert_array_equal(series_in(tmp_path).times_ms, 40 + 790.0 * np.arange(12))


def test_a_cine_whose_numbers_were_shuffled_keeps_its_trigger_times(tmp_path: Path) -> None:
    """Evenly spaced over a beat: such times are those of phases, whatever the images' numbers are."""
    numbers = np.random.default_rng(1).permutation(20) + 1

    def shuffled(ds: Dataset, t: int, z: int) -> None:
        ds.InstanceNumber = int(numbers[t])

    cine(tmp_path, images(20, 2), edit=shuffled, **NO_CLOCK)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(20, 2))
    np.testing.assert_array_equal(series.times_ms, 40.0 * np.arange(20))


@pytest.mark.parametrize("clock_there", [True, False])
@pytest.mark.parametrize("n_beats", [2, 3])
def test_beats_of_a_real_time_scan_are_not_folded_into_one(tmp_path: Path, n_beats: int, clock_there: bool) -> None:
    """Times after the R wave, none of them twice: sorted by them, the frames of all beats would be mixed."""
    beats = [780.0, 845.0, 812.0][:n_beats]
    start, at = np.cumsum([0.0, *beats[:-1]]), np.arange(0, sum(beats), 45.0)

    def real_time(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{at[t] - start[start <= at[t]][-1]:.1f}"
        if clock_there:
            ds.AcquisitionTime = ds.ContentTime = clock(at[t])

    frames = images(len(at), 1)
    cine(tmp_path, frames, edit=real_time, **({} if clock_there else NO_CLOCK))
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), frames)
    if clock_there:
        assert series.times_ms is not None
        np.testing.assert_allclose(series.times_ms, at, atol=1e-3)


def test_a_beat_that_begins_late_is_one_beat(tmp_path: Path) -> None:
    """Numbered from the first image after a delay, through the R wave: the trigger time falls back once, to go on."""
    at = (40.0 * np.arange(20) + 300) % 800

    def delayed(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{at[t]:g}"

    cine(tmp_path, images(20, 1), edit=delayed, **NO_CLOCK)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(20, 1)[np.argsort(at)])


@pytest.mark.parametrize("interval", [None, 800])
def test_a_beat_of_eighty_milliseconds_is_none(tmp_path: Path, interval: int | None) -> None:
    def repetition_time(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{3.2 * t:g}"

    cine(tmp_path, images(25, 1), edit=repetition_time, NominalInterval=interval, **NO_CLOCK)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(25, 1))
    assert "TriggerTime spans 80 ms, which is no heart beat" in " ".join(series.source.notes)
    if interval is None:
        assert series.times_ms is None
    else:
        np.testing.assert_allclose(series.times_ms, 32.0 * np.arange(25))


# --- localisers ------------------------------------------------------------------------------------------------------


def left_out(folder: Path, named: set[Path] | None = None) -> tuple[int, int]:
    """Images kept, and files left out as localisers."""
    found, skipped = read_headers(sorted(p for p in folder.rglob("*") if p.is_file()))
    assert not skipped
    kept, localisers = without_localisers(found, named or set())
    return len(kept), len(localisers)


def planes(ds: Dataset, t: int, z: int) -> None:
    ds.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]][z]


@pytest.mark.parametrize(
    "tags", [{"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"SeriesDescription": "AAHeart_Scout"}]
)
def test_few_images_of_different_planes_are_a_localiser(tmp_path: Path, tags: dict[str, Any]) -> None:
    paths = write_series(tmp_path, images(1, 3), edit=planes, **tags)
    assert left_out(tmp_path) == (0, 3)
    assert left_out(tmp_path, set(paths)) == (3, 0), "named files are taken"


def test_a_stack_of_single_images_called_a_localiser_is_one(tmp_path: Path) -> None:
    write_series(tmp_path, images(1, 5), SeriesDescription="haste localizer tra")
    assert left_out(tmp_path) == (0, 5)


@pytest.mark.parametrize("description", ["cine_scout_realtime", "TI_scout", "survey of perfusion"])
def test_a_time_series_is_none_whatever_it_is_called(tmp_path: Path, description: str) -> None:
    write_series(tmp_path, images(8, 2), SeriesDescription=description)
    assert left_out(tmp_path) == (16, 0)


def test_planes_without_the_word_are_kept(tmp_path: Path) -> None:
    write_series(tmp_path, images(1, 3), edit=planes, SeriesDescription="cine lax")
    assert left_out(tmp_path) == (3, 0)


# --- copies ----------------------------------------------------------------------------------------------------------


def test_copies_of_files_are_left_out(tmp_path: Path) -> None:
    cine(tmp_path / "a", images(8, 2))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(8, 2))
    assert sum("a copy of" in note for note in series.source.notes) == 16


def test_a_file_that_another_archive_stored_again_is_a_copy(tmp_path: Path) -> None:
    """Equal in everything that matters, but not byte for byte."""
    paths = cine(tmp_path, images(8, 2))
    ds = pydicom.dcmread(paths[3])
    ds.StationName = "another"
    ds.save_as(tmp_path / "again")
    np.testing.assert_array_equal(series_in(tmp_path).array(), images(8, 2))


@pytest.mark.parametrize("uid", [f"{ROOT}.1", ""])
def test_one_identifier_for_all_images(tmp_path: Path, uid: str) -> None:
    cine(tmp_path, images(8, 2), edit=lambda ds, t, z: setattr(ds, "SOPInstanceUID", uid))
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(8, 2))
    assert any("SOPInstanceUID is missing or the same" in note for note in series.source.notes)


# --- slices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_slice", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.03])
def test_gaps_that_differ_by_a_few_per_cent(tmp_path: Path, share: float, per_slice: bool) -> None:
    """A stack with its mean step, and a note where the gaps are not quite equal."""
    off = np.random.default_rng(2).uniform(-share, share, 5)

    def moved(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position(z + off[z])]

    cine(tmp_path, images(6, 5), edit=moved, series_per_slice=per_slice)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(6, 5))
    assert series.origins_mm is None
    assert series.spacing_mm[0] == pytest.approx(8 * (4 + off[4] - off[0]) / 4, abs=1e-6)
    assert any("taken as evenly spaced" in note for note in series.source.notes) == (share > 0.01)


def test_base_middle_and_apex_keep_their_places(tmp_path: Path) -> None:
    def three(ds: Dataset, t: int, z: int) -> None:
        ds.ImagePositionPatient = [f"{v:.8g}" for v in lps_position((0, 2.4, 5.6)[z])]

    write_series(tmp_path, images(6, 3), edit=three)
    series = series_in(tmp_path)
    np.testing.assert_array_equal(series.array(), images(6, 3))
    assert series.origins_mm is not None
    np.testing.assert_allclose(series.origins_mm, [lps_position(p) * (-1, -1, 1) for p in (0, 2.4, 5.6)], atol=1e-6)


def test_clock_of_slices_survives(tmp_path: Path) -> None:
    """Times from the clock where every file has a series of its own: slices of one scan, each at its own time."""

    def own(ds: Dataset, t: int, z: int) -> None:
        ds.SeriesInstanceUID, ds.TriggerTime = f"{ROOT}.5.{t}.{z}", "100"
        ds.AcquisitionTime = clock(800 * t + 200 * z)

    write_series(tmp_path, images(8, 2), edit=own)
    times = series_in(tmp_path).times_ms
    assert times is not None
    np.testing.assert_allclose(times, 800.0 * np.arange(8)[:, None] + [0, 200], atol=1e-3)
