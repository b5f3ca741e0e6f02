"""One series of ``interp4d`` to files: what the report is given, how often frames are read, which engines are kept."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.batch.case import Kept
from cmrsr.batch.run import CaseResult
from cmrsr.batch.shown import SHOWN_FRAMES, SHOWN_WINDOW
from cmrsr.errors import CmrsrWarning
from cmrsr.io.discover import Candidate
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.engine import load_graph
from cmrsr.tasks.interp4d import files as interp4d_files
from cmrsr.tasks.interp4d.files import InterpDetails, InterpFiles, between, is_acquired
from cmrsr.tasks.interp4d.plan import InterpOptions, plan_interp
from cmrsr.tasks.interp4d.run import Engines, InterpFrame, run_interp
from cmrsr.user_warnings import warn_user
from tests.cine import beating_frames, cine_series, interp_engine, write_interp_engine
from tests.conftest import oblique_affine

__all__ = ["cine_series", "interp_engine"]

F32 = DeviceChoice(precision="f32", threads=1)


@pytest.fixture
def bundle(interp_engine: Path) -> Bundle:
    return load(str(interp_engine), "interp4d")


class Watch:
    """Hears how many evaluations were announced and how many came."""

    announced = heard = 0

    def case_started(self, name: str, n_evaluations: int) -> None:
        self.announced += n_evaluations

    def evaluated(self, n: int) -> None:
        self.heard += n

    def case_ended(self, result: CaseResult) -> None: ...


def files_of(bundle: Bundle, out: Path, **options: Any) -> InterpFiles:
    return InterpFiles(bundle=bundle, options=InterpOptions(**options), choice=F32, out=out)


def process(files: InterpFiles, series: Series, name: str = "c", watch: Watch | None = None) -> CaseResult:
    candidate = Candidate(name=name, format="nifti", paths=(), open=lambda: series)
    return files.process(candidate, series, watch or Watch())


def run(bundle: Bundle, series: Series, **options: Any) -> list[InterpFrame]:
    chosen = InterpOptions(**options)
    engines = Engines(bundle, F32)
    frames = list(run_interp(series, plan_interp(series, survey(series), bundle, chosen), engines, chosen))
    engines.close()
    return frames


VARIANTS = [
    {"factor": 3}, {"factor": 2, "cyclic": False}, {"frames": 8}, {"frames": 7, "cyclic": False},
    {"factor": 2, "steps": 3, "samples": 2},
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_what_is_shown_is_what_was_done(
    bundle: Bundle, cine_series: Series, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Against the frames of a run in memory, and against the file."""
    result = process(files_of(bundle, tmp_path, **options), cine_series)
    details = result.details
    assert isinstance(details, InterpDetails)
    assert details.device == "openvino cpu f32"
    shown, frames = details.shown, run(bundle, cine_series, **options)
    left, top, width, height = shown.window
    assert (shown.plane, width, height) == (1, 36, 40)  # the whole matrix: it is smaller than the window

    def cut(volume: Any) -> Any:
        return volume[1, top : top + height, left : left + width]

    def rms(values: Any) -> float:
        return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))

    assert_array_equal(shown.frames, np.arange(len(frames)))
    assert_array_equal(shown.acquired, [frame.acquired for frame in frames])
    acquired = cine_series.array()
    for t, frame in enumerate(frames):
        first, last = acquired[frame.sources[0]], acquired[frame.sources[-1]]
        guess = frame.output if frame.guess is None else frame.guess
        assert_array_equal(shown.before[t], cut(first))
        assert_array_equal(shown.after[t], cut(frame.output))
        assert_array_equal(shown.guess[t], cut(guess))
        assert shown.change[t] == pytest.approx(rms(cut(last) - cut(first)))
        assert shown.refinement[t] == pytest.approx(rms(cut(frame.output) - cut(guess)), abs=1e-6)
    assert (shown.change > 0).tolist() == (~shown.acquired).tolist()
    assert shown.expected is not None
    assert shown.frame_expected is not None
    expected = [frame.expected for frame in frames if frame.expected is not None]
    assert_array_equal(shown.expected, [cut(error) for error in expected])
    assert_allclose(shown.frame_expected, [rms(cut(error)) for error in expected])
    assert (shown.frame_expected > 0).tolist() == (~shown.acquired).tolist()
    if options.get("samples", 1) == 1:
        assert shown.std is None
        assert shown.frame_std is None
    else:
        assert shown.std is not None
        assert shown.frame_std is not None
        stds = [frame.std for frame in frames if frame.std is not None]
        assert_array_equal(shown.std, [cut(std) for std in stds])
        assert_allclose(shown.frame_std, [rms(cut(std)) for std in stds])
        assert (shown.frame_std > 0).tolist() == (~shown.acquired).tolist()
    written = read_nifti(tmp_path / "c_interp4d.nii.gz").array()
    assert_allclose(written[:, 1, top : top + height, left : left + width], shown.after, rtol=1e-6)


def test_scripts_can_read_the_expected_error(bundle: Bundle, cine_series: Series, tmp_path: Path) -> None:
    """Four significant digits, in the unit of the image, zero where a frame was acquired."""
    for unit in (1.0, 1e-4):
        series = Series.from_array(unit * cine_series.array(), affine=cine_series.affine)
        details = process(files_of(bundle, tmp_path, factor=3), series).details
        assert isinstance(details, InterpDetails)
        errors = json.loads((tmp_path / "c_interp4d.json").read_text())["plan"]["expected_error"]
        assert_allclose(errors, details.shown.frame_expected, rtol=5e-4)
        assert [error > 0 for error in errors] == (~details.shown.acquired).tolist()
        assert errors == [float(f"{error:.4g}") for error in errors]


def test_without_a_calibration_no_error_is_expected(cine_series: Series, tmp_path: Path) -> None:
    silent = load(str(write_interp_engine(tmp_path / "silent", expected_error=None)))
    details = process(files_of(silent, tmp_path, factor=2), cine_series).details
    assert isinstance(details, InterpDetails)
    assert details.shown.expected is None
    assert details.shown.frame_expected is None
    assert json.loads((tmp_path / "c_interp4d.json").read_text())["plan"]["expected_error"] is None


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_writer_is_told_the_sources_of_every_frame(
    bundle: Bundle, cine_series: Series, options: dict[str, Any]
) -> None:
    plan = plan_interp(cine_series, survey(cine_series), bundle, InterpOptions(**options))
    frames = run(bundle, cine_series, **options)
    assert between(plan) == tuple(frame.sources for frame in frames)
    assert_array_equal(is_acquired(plan), [frame.acquired for frame in frames])


def test_little_is_shown_of_a_long_and_large_series(bundle: Bundle, tmp_path: Path) -> None:
    """The window lies around what beats, which is off the middle here."""
    frames = np.full((130, 1, 144, 160), 100, np.float32)
    frames[:, :, 84:124, 10:46] = beating_frames(130, 1)
    details = process(files_of(bundle, tmp_path, factor=3), Series.from_array(frames)).details
    shown = details.shown
    assert shown.before.shape == shown.after.shape == shown.guess.shape == (SHOWN_FRAMES, SHOWN_WINDOW, SHOWN_WINDOW)
    assert len(shown.change) == len(shown.refinement) == details.plan.n_frames == 390
    assert (shown.frames[0], shown.frames[-1]) == (0, 389)
    assert_array_equal(shown.acquired, shown.frames % 3 == 0)
    x, y, width, height = shown.window
    assert (x, width, height) == (0, SHOWN_WINDOW, SHOWN_WINDOW)
    assert y <= 84
    assert y + height >= 124
    for t in (0, 77, 239):
        assert_array_equal(shown.before[t], frames[shown.frames[t] // 3, 0, y : y + height, :width])


@pytest.mark.parametrize("memory", [True, False])
def test_frames_are_decoded_once_where_memory_allows(
    bundle: Bundle, cine_series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    """Otherwise once for every pass: survey, check of the beat, work (which begins and ends at the same)."""
    if not memory:
        monkeypatch.setattr(interp4d_files, "HELD_BYTES", 0)
    count: Counter[int] = Counter()

    def counted(t: int) -> Any:
        count[t] += 1
        return cine_series.frame(t)

    process(files_of(bundle, tmp_path, factor=2), replace(cine_series, reader=counted))
    assert set(count) == set(range(6))
    assert max(count.values()) == 1 if memory else 3 <= min(count.values()) <= max(count.values()) <= 4


def test_progress_adds_up(bundle: Bundle, cine_series: Series, tmp_path: Path) -> None:
    watch = Watch()
    process(files_of(bundle, tmp_path, frames=9, steps=3, samples=2, batch_size=4), cine_series, watch=watch)
    assert watch.heard == watch.announced == 6 * 3 * 3 * 2


def test_nothing_new_is_said(bundle: Bundle, cine_series: Series, tmp_path: Path) -> None:
    result = process(files_of(bundle, tmp_path, frames=6), cine_series)
    assert result.warnings == ("every frame asked for was acquired: nothing is new",)
    assert_array_equal(read_nifti(tmp_path / "c_interp4d.nii.gz").array(), cine_series.array())


def test_an_engine_serves_all_series_of_its_size(
    bundle: Bundle, cine_series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    closed: list[Engines] = []

    def counted(bundle: Bundle, graph: Any, shapes: Any, choice: Any) -> Any:
        loaded.append(graph.file)
        return load_graph(bundle, graph, shapes, choice)

    monkeypatch.setattr("cmrsr.tasks.interp4d.run.load_graph", counted)
    close = Engines.close
    monkeypatch.setattr(Engines, "close", lambda engines: (closed.append(engines), close(engines)))
    files = files_of(bundle, tmp_path, factor=2)
    for name in ("a", "b"):
        process(files, cine_series, name)
    assert (loaded, closed) == (["step.onnx", "volume.onnx"], [])
    process(files, Series.from_array(beating_frames(4, 3, 24, 24), affine=oblique_affine()), "c")
    assert (len(loaded), len(closed)) == (4, 1)


class Thing:
    open = True

    def close(self) -> None:
        self.open = False


def test_a_kept_engine_repeats_its_warnings() -> None:
    def load_with_a_word() -> Thing:
        warn_user("the CPU is used")
        return Thing()

    kept: Kept[Thing] = Kept()
    things = []
    for key in (1, 1, 2):
        with pytest.warns(CmrsrWarning, match="the CPU is used") as caught:
            things.append(kept.get(key, load_with_a_word))
        assert len(caught) == 1
    assert things[0] is things[1]
    assert [thing.open for thing in things] == [False, False, True]


def test_a_load_that_fails_leaves_nothing_kept() -> None:
    def fails() -> Thing:
        raise MemoryError

    kept: Kept[Thing] = Kept()
    first = kept.get(1, Thing)
    with pytest.raises(MemoryError):
        kept.get(2, fails)
    assert not first.open
    assert kept.get(1, Thing) is not first
