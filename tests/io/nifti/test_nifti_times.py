"""Which steps of a header are the time from frame to frame, and what a user does where one is not."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmrsr.io.nifti.series import nifti_writer, read_nifti
from cmrsr.io.series import Series
from tests.io.nifti.nifti_files import numbers, save


def stepped(folder: Path, n: int, step: float, unit: str = "msec", *, name: str = "scan", tr: float = 0.0) -> Series:
    """``n`` frames with this step, and a sidecar with a repetition time in seconds."""
    if tr:
        (folder / f"{name}.json").write_text(json.dumps({"RepetitionTime": tr}))
    return read_nifti(save(folder / f"{name}.nii.gz", numbers((8, 8, 1, n)), step=step, units=("mm", unit)))


@pytest.mark.parametrize(
    ("n", "step", "unit", "tr", "name"),
    [
        (25, 3.2, "msec", 0.0, "scan"),
        (25, 0.0032, "sec", 0.0032, "cine_sax"),
        (25, 3200, "usec", 0.0, "cine"),
        (25, 3.2, "unknown", 0.0, "cine"),  # ms, or several heart beats in s
        (25, 3.2, "sec", 0.0, "cine"),  # ms under the wrong unit
        (30, 3.2, "sec", 0.0032, "scan"),  # the same, and the sidecar says so
        (16, 15, "msec", 0.0, "scan"),  # 240 ms
        (400, 3.2, "msec", 0.0, "scan"),  # long enough for a beat, but no image is so fast
        (60, 12, "msec", 0.012, "flow"),
        (60, 160, "msec", 0.16, "perf_rest"),  # one slice after the other, many times in a beat
        (2, 40, "msec", 0.0, "cine"),  # end diastole and end systole, cut out of a cine
        (25, 900, "msec", 0.9, "cine"),  # one heart beat: the interval between R waves
        (40, 61, "sec", 0.0, "scan"),
    ],
)
def test_a_step_that_is_no_frame_time(tmp_path: Path, n: int, step: float, unit: str, tr: float, name: str) -> None:
    series = stepped(tmp_path, n, step, unit, name=name, tr=tr)
    assert series.times_ms is None
    (note,) = series.source.notes
    assert "frame times unknown" in note
    assert f"FrameTimes, in seconds, in {name}.json" in note
    (tmp_path / f"{name}.json").write_text(json.dumps({"FrameTimes": [0.05 * t for t in range(n)]}))  # as it says
    followed = read_nifti(tmp_path / f"{name}.nii.gz").times_ms
    assert followed is not None
    np.testing.assert_allclose(followed, 50.0 * np.arange(n))


@pytest.mark.parametrize(
    ("n", "step", "unit", "tr", "name", "step_ms"),
    [
        (25, 40, "msec", 0.04, "cine", 40),  # the time of all lines of a segment is the time of a phase
        (30, 0.0333, "sec", 0.0032, "cine_sax", 33.3),
        (25, 31250, "usec", 0.0, "cine", 31.25),
        (25, 31250, "unknown", 0.0, "cine", 31.25),
        (300, 60, "msec", 0.06, "cine_rt", 60),  # in real time over many beats
        (8, 120, "msec", 0.0, "cine", 120),  # coarse
        (60, 800, "msec", 0.8, "perf_stress", 800),
        (60, 0.3, "sec", 0.3, "perf_stress", 300),
        (5, 40, "msec", 0.0, "cine", 40),  # a part of a beat
        (2, 320, "msec", 0.0, "cine", 320),
        (50, 1600, "msec", 0.0, "perf", 1600),  # every other beat
        (3000, 20, "msec", 0.0, "scan", 20),
    ],
)
def test_a_step_that_is_one(
    tmp_path: Path, n: int, step: float, unit: str, tr: float, name: str, step_ms: float
) -> None:
    series = stepped(tmp_path, n, step, unit, name=name, tr=tr)
    assert series.times_ms is not None
    np.testing.assert_allclose(series.times_ms, np.arange(n) * step_ms, rtol=1e-6)


def test_the_note_names_the_beat_and_the_repetition_time(tmp_path: Path) -> None:
    (note,) = stepped(tmp_path, 25, 0.0032, "sec", tr=0.0032).source.notes
    assert "25 frames last 80 ms, less than a heart beat, and is the RepetitionTime of scan.json" in note


def test_more_frames_of_unknown_times_get_no_step(tmp_path: Path) -> None:
    series = stepped(tmp_path, 25, 3.2)
    with nifti_writer(
        tmp_path / "out.nii", series, shape=(50, 1, 8, 8), affine=series.affine, description=""
    ) as writer:
        for t in range(50):
            writer.write(series.frame(t // 2))
    out = nib.load(tmp_path / "out.nii")
    assert out.header.get_zooms()[3] == 1.0
    assert out.header.get_xyzt_units()[1] == "unknown"


@pytest.mark.parametrize("given", ["0.0032", True, None, -1, [0.0032], 1e308, 10**400])
def test_a_repetition_time_that_is_none(tmp_path: Path, given: object) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"RepetitionTime": given}))
    series = read_nifti(save(tmp_path / "x.nii.gz", numbers((8, 8, 1, 30)), step=0.015))
    assert series.times_ms is not None
