"""The stream: results as the frames come, whatever their order; what waits, fails and is done before."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from cmrsr.errors import CmrsrError
from cmrsr.io.survey import survey
from cmrsr.physics.kspace import degrade
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.sr.plan import SrOptions, load_sr_engine, plan_sr
from cmrsr.tasks.sr.run import run_sr
from cmrsr.tasks.sr.stream import plan as stream_plan
from cmrsr.tasks.sr.stream import run as module
from cmrsr.tasks.sr.stream.arrivals import Arrival, FolderArrivals
from cmrsr.tasks.sr.stream.files import StreamFiles
from cmrsr.tasks.sr.stream.log import FrameResult, Latencies, StreamLog, Timing
from cmrsr.tasks.sr.stream.run import SrStream
from cmrsr.tasks.sr.stream.single_frames import read_single_frame
from tests.conftest import save_nifti
from tests.dicom_tools import complaints_of
from tests.engines import acquired_frames
from tests.io.dicom.dicom_files import write_series

Act = Callable[[], object]
PATIENCE = 2000  # looks
COL = {"InPlanePhaseEncodingDirection": "COL"}


@pytest.fixture(scope="module")
def bundle(engine: Path) -> Bundle:
    return load(str(engine), "sr")


class Script:
    """A folder in which something is done before each look; the next only when nothing is left of the last."""

    def __init__(self, folder: Path, acts: Sequence[Act] = ()) -> None:
        self._folder = FolderArrivals(folder)
        self.left_out: Counter[str] = self._folder.left_out
        self.acts = list(acts)
        self._looks = 0

    @property
    def ended(self) -> bool:
        return not self.acts

    def poll(self) -> list[Arrival]:
        self._looks += 1
        assert self._looks < PATIENCE
        if self.acts:
            self.acts.pop(0)()
        return self._folder.poll()

    def release(self, path: Path) -> None:
        pass


class Listener:
    def __init__(self, on_frame: Callable[[FrameResult], object] = lambda result: None) -> None:
        self.results: list[FrameResult] = []
        self.notes: list[str] = []
        self._on_frame = on_frame

    def frame_ended(self, result: FrameResult) -> None:
        self.results.append(result)
        self._on_frame(result)

    def noted(self, text: str) -> None:
        self.notes.append(text)

    def at_rest(self, log: StreamLog) -> None:
        pass

    def summary(self) -> list[tuple[str, str]]:
        return [(one.name.name, one.status) for one in self.results]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_REST_S", 0.05)
    monkeypatch.setattr(module, "BUSY_S", 0.001)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a file may seem to be at rest between two writes."""
    monkeypatch.setattr(module, "AT_REST_S", 3600.0)


class Run:
    """A stream over ``folder`` with the tiny engine."""

    def __init__(self, bundle: Bundle, folder: Path, out: Path) -> None:
        self.bundle, self.folder, self.out = bundle, folder, out
        folder.mkdir(exist_ok=True)
        out.mkdir(exist_ok=True)

    def __call__(
        self, *acts: Act, code: int = 0, listener: Listener | None = None, stop: threading.Event | None = None,
        file_format: str = "same", force: bool = False, **options: Any,
    ) -> Listener:  # fmt: skip
        files = StreamFiles(
            bundle=self.bundle, options=SrOptions(**options), choice=DeviceChoice(threads=1), out=self.out,
            format=file_format, force=force,
        )  # type: ignore[arg-type]  # fmt: skip
        listener = listener or Listener()
        stream = SrStream(
            files, Script(self.folder, acts), listener, {}, stop=stop or threading.Event(), endless=stop is not None
        )
        assert stream.run() == code
        assert not list(self.out.rglob("*.partial"))
        return listener

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "run.json").read_text()))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "stream.jsonl").read_text().splitlines()]


@pytest.fixture
def stream(bundle: Bundle, tmp_path: Path) -> Run:
    return Run(bundle, tmp_path / "incoming", tmp_path / "out")


def dicom(folder: Path, n_t: int = 3, n_z: int = 2, **tags: Any) -> list[Path]:
    frames = acquired_frames(n_t, n_z, axis=2).round().astype(np.uint16)
    return write_series(folder, frames, **(COL | tags))


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*_sr.*")}


def moved(paths: Sequence[Path], to: Path) -> list[Act]:
    """Each file renamed into the folder, one at a look."""
    return [lambda path=path: path.rename(to / path.name) for path in paths]  # type: ignore[misc]


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_is_that_of_the_frame_alone(stream: Run, tmp_path: Path) -> None:
    paths = dicom(tmp_path / "made")
    frame = read_single_frame(paths[3], Path("x"), explicit=True).series
    options = SrOptions(batch_size=1)
    plan = plan_sr(frame, survey(frame), stream.bundle, options)
    engine = load_sr_engine(stream.bundle, plan, options, DeviceChoice(threads=1))
    (wanted,) = run_sr(frame, plan, stream.bundle, engine, options)
    engine.close()
    stream(*moved(paths, stream.folder))
    found = pydicom.dcmread(stream.out / f"{paths[3].name}_sr.dcm")
    assert plan.axis == "y"
    assert not np.array_equal(wanted.output.round(), frame.array()[0].round())
    np.testing.assert_array_equal(found.pixel_array, wanted.output[0].round())


def test_dicom_results_are_one_new_series_with_the_places_and_times_of_the_source(stream: Run, tmp_path: Path) -> None:
    paths = dicom(tmp_path / "made", TemporalPositionIdentifier=7)
    sources = {p.name: pydicom.dcmread(p) for p in paths}
    stream(*moved(paths, stream.folder))
    results = [pydicom.dcmread(stream.out / f"{name}_sr.dcm") for name in sources]
    assert len({ds.SeriesInstanceUID for ds in results}) == 1
    assert len({ds.SOPInstanceUID for ds in results}) == len(results)
    for ds, source in zip(results, sources.values(), strict=True):
        assert ds.SeriesInstanceUID != source.SeriesInstanceUID
        kept = ["StudyInstanceUID", "FrameOfReferenceUID", "InstanceNumber", "TriggerTime", "AcquisitionTime"]
        kept += ["PixelSpacing", "TemporalPositionIdentifier"]
        assert [ds[k].value for k in kept] == [source[k].value for k in kept]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
            np.testing.assert_allclose(ds[keyword].value, source[keyword].value, atol=1e-6)
        assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert ds.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert "stream=True" in ds.DerivationDescription
    assert not complaints_of(stream.out / f"{paths[0].name}_sr.dcm")


def test_images_and_identifiers_do_not_depend_on_the_order(bundle: Bundle, tmp_path: Path) -> None:
    found = []
    for k, backwards in enumerate((False, True)):
        run = Run(bundle, tmp_path / f"in{k}", tmp_path / f"out{k}")
        paths = dicom(tmp_path / f"made{k}")
        run(*moved(paths[::-1] if backwards else paths, run.folder), steps=3, samples=1, seed=2)
        images = [pydicom.dcmread(run.out / f"{p.name}_sr.dcm") for p in paths]
        found.append([(ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.PixelData) for ds in images])
    assert found[0] == found[1]


def test_interleaved_series_are_as_if_they_came_alone(bundle: Bundle, tmp_path: Path) -> None:
    made = [dicom(tmp_path / "rest"), dicom(tmp_path / "stress", n_t=2, SeriesInstanceUID="1.2.3", SeriesNumber=9)]
    made[1] = [p.rename(p.with_name(f"S{p.name}")) for p in made[1]]
    together = Run(bundle, tmp_path / "in", tmp_path / "out")
    mixed = [one for pair in zip(*made, strict=False) for one in pair] + made[0][len(made[1]) :]
    data = {p.name: p.read_bytes() for p in mixed}
    together(*moved(mixed, together.folder))
    assert [one["frames"] for one in [together.record()]] == [{"ok": 10, "skipped": 0, "failed": 0, "waiting": 0}]
    assert len(together.record()["series"]) == 2
    for k, paths in enumerate(made):
        alone = Run(bundle, tmp_path / f"in{k}", tmp_path / f"out{k}")
        for path in paths:
            (alone.folder / path.name).write_bytes(data[path.name])
        alone()
        own = bytes_of(alone.out)
        assert len(own) == len(paths)
        for name, result in own.items():
            a, b = pydicom.dcmread(alone.out / name), pydicom.dcmread(together.out / name)
            assert (a.SOPInstanceUID, a.PixelData) == (b.SOPInstanceUID, b.PixelData), (name, len(result))


def test_nifti_frames_keep_their_names_and_have_a_spread(stream: Run) -> None:
    frames = acquired_frames(1, 3)
    save_nifti(stream.folder / "p1" / "perf_1.nii.gz", frames)
    for z in range(3):
        save_nifti(stream.folder / "p1" / f"one_{z}.nii", frames[:, z : z + 1])
    stream(samples=2, steps=2, batch_size=4)
    volume = nib.load(stream.out / "p1" / "perf_1_sr.nii.gz")
    assert volume.shape[:3] == (32, 40, 3)
    assert b"stream=True" in volume.header.extensions[0].get_content()
    std = np.asarray(nib.load(stream.out / "p1" / "perf_1_sr_std.nii.gz").dataobj)
    assert std.shape[:3] == (32, 40, 3)
    assert (std > 0).mean() > 0.9
    assert sorted(p.name for p in stream.out.rglob("one_*")) == sorted(
        name for z in range(3) for name in (f"one_{z}_sr.nii.gz", f"one_{z}_sr_std.nii.gz")
    )


def test_more_steps_in_a_stream_keep_the_image_and_add_its_spread(bundle: Bundle, tmp_path: Path) -> None:
    found = {}
    asked: dict[str, dict[str, Any]] = {
        "best": {}, "several": {"steps": 4}, "sample": {"steps": 4, "samples": 1, "realism": 1.0},
    }  # fmt: skip
    for name, options in asked.items():
        run = Run(bundle, tmp_path / f"{name} in", tmp_path / f"{name} out")
        save_nifti(run.folder / "a.nii.gz", acquired_frames(1, 3))
        run(**options)
        found[name] = nib.load(run.out / "a_sr.nii.gz").get_fdata()
        assert (run.out / "a_sr_std.nii.gz").exists() == (name == "several")
    moved_by = {name: np.abs(image - found["best"]).max() for name, image in found.items()}
    assert 0 < moved_by["several"] < 0.4 * moved_by["sample"]


def test_batches_of_slices_are_as_singles(bundle: Bundle, tmp_path: Path) -> None:
    found = []
    for k, batch_size in enumerate((1, 2, 8)):
        run = Run(bundle, tmp_path / f"in{k}", tmp_path / f"out{k}")
        save_nifti(run.folder / "a.nii.gz", acquired_frames(1, 3))
        run(batch_size=batch_size)
        found.append(np.asarray(nib.load(run.out / "a_sr.nii.gz").dataobj))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_format_may_be_nifti_but_not_dicom_from_nifti(stream: Run, tmp_path: Path) -> None:
    dicom(stream.folder, 1, 1)
    stream(file_format="nifti")
    assert [p.name for p in stream.out.rglob("*_sr.*")] == ["I000_sr.nii.gz"]
    save_nifti(stream.folder / "a.nii.gz", acquired_frames(1))
    listener = stream(file_format="dicom", code=8)
    assert [one.status for one in listener.results if one.name.name == "a.nii.gz"] == ["failed"]


def test_the_spread_of_dicom_frames_is_said_to_be_left_out_once(stream: Run) -> None:
    dicom(stream.folder)
    listener = stream(samples=2, steps=2)
    assert sum("spread" in note for note in listener.notes) == 1


# --- what waits, what fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
@pytest.mark.usefixtures("patient")
def test_a_file_that_grows_is_waited_for(stream: Run, tmp_path: Path, kind: str) -> None:
    if kind == "dicom":
        (source,) = dicom(tmp_path / "made", 1, 1)
    else:
        source = tmp_path / "a.nii.gz"
        save_nifti(source, acquired_frames(1))
    data = source.read_bytes()
    target = stream.folder / source.name
    cuts = np.linspace(0, len(data), 12).astype(int)
    listener = stream(*[lambda n=n: target.write_bytes(data[:n]) for n in cuts])
    assert listener.summary() == [(source.name, "ok")]
    assert stream.record()["frames"]["failed"] == 0


def test_a_file_that_stays_cut_off_fails_alone_and_is_taken_up_when_it_grows(stream: Run, tmp_path: Path) -> None:
    whole, cut = dicom(tmp_path / "made", 1, 2)
    data = cut.read_bytes()
    target = stream.folder / "cut.dcm"
    target.write_bytes(data[:-100])
    whole.rename(stream.folder / whole.name)
    listener = stream(code=8)
    assert sorted(listener.summary()) == [(whole.name, "ok"), ("cut.dcm", "failed")]
    (failure,) = stream.record()["failures"]
    assert "cut off" in failure["message"]
    assert failure["exit_code"] == 3
    assert [line["status"] for line in stream.lines()] == ["ok", "failed"]

    failed = threading.Event()
    listener = Listener(lambda result: failed.set() if result.status == "failed" else None)
    source = Script(stream.folder)
    source.acts = _once(failed, lambda: target.write_bytes(data))
    files = StreamFiles(bundle=stream.bundle, options=SrOptions(), choice=DeviceChoice(threads=1), out=stream.out)
    assert SrStream(files, source, listener, {}, stop=threading.Event()).run() == 0
    assert [one for one in listener.summary() if one[0] == "cut.dcm"] == [("cut.dcm", "failed"), ("cut.dcm", "ok")]


def _once(happened: threading.Event, then: Act) -> list[Act]:
    """Looks at which nothing is done until something has happened, then one that acts."""
    acts: list[Act] = []

    def wait() -> None:
        acts.insert(0, then if happened.is_set() else wait)

    acts.append(wait)
    return acts


def test_an_image_that_cannot_be_used_fails_alone(stream: Run) -> None:
    dicom(stream.folder, 2, 1)
    save_nifti(stream.folder / "blank.nii.gz", np.zeros((1, 1, 40, 32)))
    listener = stream(code=8)
    assert Counter(status for _, status in listener.summary()) == {"ok": 2, "failed": 1}
    assert "every voxel is 0" in stream.record()["failures"][0]["message"]


def test_all_failed_is_the_code_of_the_failures(stream: Run) -> None:
    save_nifti(stream.folder / "blank.nii.gz", np.zeros((1, 1, 40, 32)))
    stream(code=4)


@pytest.mark.usefixtures("patient")
def test_zeros_at_the_end_of_a_reserved_file_are_waited_for(stream: Run, tmp_path: Path) -> None:
    source = tmp_path / "a.nii"
    save_nifti(source, acquired_frames(1))
    data = source.read_bytes()
    target = stream.folder / "a.nii"
    reserved = data[:352] + bytes(len(data) - 352)
    listener = stream(lambda: target.write_bytes(reserved), lambda: None, lambda: target.write_bytes(data))
    assert listener.summary() == [("a.nii", "ok")]


def test_a_defect_fails_its_frame_alone(stream: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    dicom(stream.folder, 2, 1)
    calls = iter([ValueError("a defect"), None])
    real = module.run_sr

    def flawed(*args: Any, **kwargs: Any) -> Any:
        if error := next(calls):
            raise error
        return real(*args, **kwargs)

    monkeypatch.delenv("CMRSR_DEBUG", raising=False)
    monkeypatch.setattr(module, "run_sr", flawed)
    listener = stream(code=8)
    assert [status for _, status in listener.summary()] == ["failed", "ok"]
    assert "unexpected ValueError: a defect" in listener.results[0].message


def test_two_files_of_one_result_are_not_mixed_up(stream: Run, tmp_path: Path) -> None:
    a, b = dicom(tmp_path / "made", 2, 1)
    (stream.folder / "I").write_bytes(a.read_bytes())
    (stream.folder / "I.dcm").write_bytes(b.read_bytes())
    listener = stream(code=8)
    assert sorted(status for _, status in listener.summary()) == ["failed", "ok"]


def test_what_is_no_image_of_ours_is_left_out(stream: Run, tmp_path: Path) -> None:
    dicom(stream.folder, 1, 1, Modality="CT")
    (stream.folder / "notes.txt").write_text("nothing")
    assert not stream().results
    assert sum(stream.record()["left_out"].values()) == 2


# --- ends and new beginnings ------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(stream: Run) -> None:
    dicom(stream.folder)
    stream()
    before = {p: p.stat().st_mtime_ns for p in stream.out.rglob("*_sr.dcm")}
    assert {status for _, status in stream().summary()} == {"skipped"}
    assert {p: p.stat().st_mtime_ns for p in stream.out.rglob("*_sr.dcm")} == before

    spoilt, gone, *_ = sorted(before)
    spoilt.write_bytes(b"spoilt")
    gone.unlink()
    assert Counter(status for _, status in stream().summary()) == {"skipped": 4, "ok": 2}
    assert Counter(status for _, status in stream(steps=2).summary()) == {"ok": 6}
    assert Counter(status for _, status in stream(steps=2, force=True).summary()) == {"ok": 6}


def test_the_frame_in_hand_is_finished_when_it_is_stopped(stream: Run) -> None:
    dicom(stream.folder)
    stop = threading.Event()
    stream(listener=Listener(lambda result: stop.set()), stop=stop)
    record = stream.record()
    assert (record["state"], record["exit_code"]) == ("stopped", 0)
    assert record["frames"] == {"ok": 1, "skipped": 0, "failed": 0, "waiting": 5}
    assert Counter(status for _, status in stream().summary()) == {"skipped": 1, "ok": 5}


def test_an_interrupted_run_says_so(stream: Run) -> None:
    dicom(stream.folder)

    def interrupt(result: FrameResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(listener=Listener(interrupt))
    assert (stream.record()["state"], stream.record()["exit_code"]) == ("interrupted", 130)


def test_a_log_that_cannot_be_written_ends_the_run(stream: Run) -> None:
    dicom(stream.folder, 1, 1)
    (stream.out / "stream.jsonl").mkdir()
    with pytest.raises(CmrsrError):
        stream()
    assert (stream.record()["state"], stream.record()["exit_code"]) == ("failed", 7)


# --- plans and times --------------------------------------------------------------------------------------------------


def frame_of(path: Path, image: Any) -> Any:
    save_nifti(path, image[None, None])
    return read_single_frame(path, Path(path.name), explicit=True)


def test_axis_and_band_stay_from_the_first_frame_that_shows_them(bundle: Bundle, tmp_path: Path) -> None:
    full = acquired_frames(4, fraction=1.0)[:, 0]
    along_x, along_y = degrade(full, 13, -1), degrade(full, 16, -2)
    frames = [frame_of(tmp_path / f"{k}.nii", image) for k, image in enumerate([full[0], *along_x[1:], *along_y])]
    series = stream_plan.StreamSeries(frames[0], 1)
    plans = [series.plan_for(frame, bundle, SrOptions()) for frame in frames]
    assert plans[0].axis_source == "assumed"
    assert {(plan.axis, plan.band.lines) for plan in plans[1:]} == {("x", 13)}
    assert [plan.scale for plan in plans] == [survey(frame.series).scale for frame in frames]
    assert len({plan.digest for plan in plans}) == len(plans)


def test_a_full_spectrum_settles_after_a_while(bundle: Bundle, tmp_path: Path) -> None:
    full = acquired_frames(2, fraction=1.0)[:, 0]
    frame, late = frame_of(tmp_path / "a.nii", full[0]), frame_of(tmp_path / "b.nii", degrade(full[1], 13, -1))
    series = stream_plan.StreamSeries(frame, 1)
    for _ in range(stream_plan.SETTLED_AFTER):
        assert not series.settled
        series.plan_for(frame, bundle, SrOptions())
    assert series.settled
    assert series.plan_for(late, bundle, SrOptions()).axis == "y"


def test_of_two_edges_the_far_lesser_is_chance() -> None:
    def power(fall_db: float, lines: int) -> Any:
        level = np.where(np.abs(np.arange(96) - 48) <= lines // 2, 0.0, -fall_db)
        return 10 ** (level / 10)

    x, y = stream_plan.clearer(power(40, 40), power(5, 20))
    assert (y == 1).all()
    assert not (x == 1).all()
    x, y = stream_plan.clearer(power(5, 20), power(40, 40))
    assert (x == 1).all()
    x, y = stream_plan.clearer(power(10, 20), power(20, 40))
    assert not (x == 1).all()
    assert not (y == 1).all()


def test_latencies_are_of_what_came_while_it_looked() -> None:
    latencies = Latencies()
    assert latencies.summary() == {"frames": 0}
    for k in range(1, 101):
        latencies.add(Timing(waiting_ms=k, reading_ms=1, computing_ms=2, writing_ms=3, early=False))
    latencies.add(Timing(waiting_ms=1e6, reading_ms=1, computing_ms=2, writing_ms=3, early=True))
    found = latencies.summary()
    assert (found["frames"], found["median"], found["max"]) == (100, 56.5, 106.0)
    assert found["parts"]["computing_ms"] == {"median": 2.0, "p95": 2.0}


def test_every_result_has_a_line_with_its_times(stream: Run, tmp_path: Path) -> None:
    paths = dicom(tmp_path / "made")
    first, *later = paths
    first.rename(stream.folder / first.name)
    stream(lambda: None, *moved(later, stream.folder))
    lines = stream.lines()
    assert [line["frame"] for line in lines] == [p.name for p in paths]
    for line in lines:
        parts = [line[f"{part}_ms"] for part in ("waiting", "reading", "computing", "writing")]
        assert line["latency_ms"] == pytest.approx(sum(parts), abs=0.01)
        assert min(parts) >= 0
    assert [line["early"] for line in lines] == [True] + [False] * (len(paths) - 1)
    assert stream.record()["latency_ms"]["frames"] == len(paths) - 1
