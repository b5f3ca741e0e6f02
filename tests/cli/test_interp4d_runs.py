"""``cmrsr interp4d`` on good input: acquired frames unchanged, new ones between them, times, files, a second run."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

import cmrsr
from cmrsr.cli import run
from cmrsr.io.outputs import sha256_file
from cmrsr.tasks.interp4d.run import OVERLAP, TILE
from tests.cine import beating_frames, interp_engine, write_interp_engine
from tests.cli.test_sr_runs import Capture, digests, load, read, series_in, statuses
from tests.conftest import oblique_affine
from tests.io.dicom.dicom_files import write_series

__all__ = ["interp_engine"]

STEP_MS = 150.0


@dataclass(frozen=True)
class Cli:
    """``cmrsr interp4d`` with the tiny engine."""

    engine: Path

    def __call__(self, *arguments: object, code: int = 0, report: bool = False) -> None:
        pages = [] if report else ["--no-report"]
        assert run(["interp4d", *map(str, arguments), "--engine", str(self.engine), *pages]) == code


@pytest.fixture
def interp4d(interp_engine: Path) -> Cli:
    return Cli(interp_engine)


def save_cine(
    path: Path, frames: NDArray[Any], dtype: type = np.int16, *, scale: tuple[float, float] = (1.0, 0.0),
    step_ms: float = STEP_MS, times_s: NDArray[np.float64] | None = None,
) -> Path:  # fmt: skip
    """Frames (t, z, y, x) as stored, (x, y, z, t), with scl_slope and scl_inter, and times in a BIDS sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(frames.astype(dtype).transpose(3, 2, 1, 0), oblique_affine((1.8, 1.8, 8.0)))
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((1.8, 1.8, 8.0, step_ms))
    nib.save(image, path)
    with path.open("r+b") as file:  # nibabel saves the scale of arrays as it likes
        file.seek(112)
        file.write(np.array(scale, "<f4").tobytes())
    if times_s is not None:
        path.with_suffix(".json").write_text(json.dumps({"FrameTimes": times_s.tolist()}))
    return path


def stored(path: Path) -> NDArray[Any]:
    """Voxels as they lie in the file, (t, z, y, x)."""
    return np.asarray(nib.load(path).dataobj.get_unscaled()).transpose(3, 2, 1, 0)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """6 phases of 3 slices."""
    return save_cine(tmp_path / "c1_cine.nii", beating_frames(6, 3, 24, 20))


def write_cine_dicom(folder: Path, frames: NDArray[Any], step_ms: float = 40.0, **tags: Any) -> Path:
    """One series a slice, each with its own delay after the R wave."""

    def phases(ds: Dataset, t: int, z: int) -> None:
        ds.TriggerTime = f"{t * (step_ms + z):g}"

    write_series(folder, frames, series_per_slice=True, SeriesDescription="cine", edit=phases, **tags)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two NIfTI series and one DICOM series, in folders."""
    save_cine(tmp_path / "study" / "c2_cine.nii", beating_frames(4, 1, 16, 16))
    save_cine(tmp_path / "study" / "sub" / "c10_cine.nii", beating_frames(5, 3, 24, 20))
    write_cine_dicom(tmp_path / "study" / "scanner", beating_frames(8, 3, 20, 24).astype(np.uint16))
    return tmp_path / "study"


DICOM = "5-7_cine_interp4d"  # what becomes of the DICOM series of the study

# ---- what is written -------------------------------------------------------------------------------------------------


def test_nifti_in_nifti_out(interp4d: Cli, one: Path, tmp_path: Path) -> None:
    interp4d(one)
    out = tmp_path / "c1_cine_cmrsr"
    assert sorted(p.name for p in out.iterdir()) == [
        "audit.jsonl", "c1_cine_interp4d.json", "c1_cine_interp4d.nii.gz", "run.json",
    ]  # fmt: skip
    before, after = nib.load(one), nib.load(out / "c1_cine_interp4d.nii.gz")
    assert after.shape == (20, 24, 3, 12)  # twice the frames where nothing else is asked for
    assert after.get_data_dtype() == before.get_data_dtype()
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    np.testing.assert_allclose(after.header.get_zooms(), (1.8, 1.8, 8.0, STEP_MS / 2), rtol=1e-6)
    assert after.header.get_xyzt_units() == before.header.get_xyzt_units()
    frames, new = load(one), load(out / "c1_cine_interp4d.nii.gz")[..., 1::2]
    linear = (frames + np.roll(frames, -1, axis=-1)) / 2
    assert 0 < np.abs(new - linear).mean() < np.abs(frames - linear).mean()


@pytest.mark.parametrize(
    ("dtype", "scale", "options"),
    [
        (np.int16, (1.0, 0.0), ("--factor", 3)),
        (np.int16, (0.25, -10.0), ("--open",)),
        (np.uint16, (0.0123, 3.0), ("--frames", 10)),
        (np.uint8, (1.0, 0.0), ("--frames", 10)),
        (np.uint8, (3.7, 0.0), ("--factor", 2)),
        (np.int32, (1.0, 0.0), ("--factor", 2)),
    ],
)
def test_acquired_integers_come_back_bit_for_bit(
    interp4d: Cli, tmp_path: Path, dtype: type, scale: tuple[float, float], options: tuple[object, ...]
) -> None:
    """Also at both ends of the stored type, or of what float32 holds exactly."""
    frames = beating_frames(5, 2, 16, 16)
    limits = np.iinfo(dtype)
    frames *= min(limits.max, 2**24 - 1) / frames.max()
    frames = np.rint(frames)
    frames[:, 0, 0, 0] = max(limits.min, 1 - 2**24)
    source = save_cine(tmp_path / "x_cine.nii", frames, dtype, scale=scale)
    interp4d(source, "-o", tmp_path / "out", *options)
    result = tmp_path / "out" / "x_cine_interp4d.nii.gz"
    acquired = np.array(read(tmp_path / "out" / "x_cine_interp4d.json")["plan"]["acquired"])
    assert acquired.sum() == 5
    assert (stored(result).dtype, len(acquired)) == (dtype, len(stored(result)))
    np.testing.assert_array_equal(stored(result)[acquired], stored(source))
    np.testing.assert_array_equal(load(result)[..., acquired], load(source))
    assert nib.load(result).dataobj.slope == np.float32(scale[0])


@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.37, -2.5)])
def test_acquired_floats_come_back_bit_for_bit(interp4d: Cli, tmp_path: Path, scale: tuple[float, float]) -> None:
    frames = beating_frames(5, 2, 16, 16) * np.float32(np.pi)
    source = save_cine(tmp_path / "x_cine.nii", frames, np.float32, scale=scale)
    interp4d(source, "-o", tmp_path / "out")
    np.testing.assert_array_equal(
        series_in(tmp_path / "out" / "x_cine_interp4d.nii.gz").array()[::2], series_in(source).array()
    )


def test_times_survive_the_round_trip(interp4d: Cli, tmp_path: Path) -> None:
    """Also those that a header with one step cannot hold: uneven, and another for each slice."""
    times = np.cumsum([0, 0.05, 0.04, 0.06, 0.05, 0.05])[:, None] + np.array([0, 0.003, 0.001])
    source = save_cine(tmp_path / "x_cine.nii", beating_frames(6, 3, 16, 16), times_s=times)
    interp4d(source, "-o", tmp_path / "out")
    before, after = series_in(source), series_in(tmp_path / "out" / "x_cine_interp4d.nii.gz")
    assert before.times_ms is not None
    assert after.times_ms is not None
    np.testing.assert_allclose(after.times_ms[::2], before.times_ms, atol=1e-6)
    np.testing.assert_allclose(after.times_ms[1:-1:2], (before.times_ms[1:] + before.times_ms[:-1]) / 2, atol=1e-6)
    assert np.diff(after.times_ms, axis=0).min() > 0
    step_ms = nib.load(tmp_path / "out" / "x_cine_interp4d.nii.gz").header.get_zooms()[3]
    assert step_ms == pytest.approx(np.diff(after.times_ms.mean(1)).mean())


def test_unknown_times_stay_unknown(interp4d: Cli, tmp_path: Path) -> None:
    source = save_cine(tmp_path / "x_cine.nii", beating_frames(5, 1, 16, 16), step_ms=1.0)
    interp4d(source, "-o", tmp_path / "out")
    assert series_in(tmp_path / "out" / "x_cine_interp4d.nii.gz").times_ms is None
    assert read(tmp_path / "out" / "x_cine_interp4d.json")["plan"]["position"] == [i / 2 for i in range(10)]


def test_dicom_in_dicom_out(interp4d: Cli, study: Path, tmp_path: Path) -> None:
    interp4d(study / "scanner", "--factor", 4, "-o", tmp_path / "out")
    folder = tmp_path / "out" / DICOM
    before, after = series_in(study / "scanner"), series_in(folder)
    assert after.shape == (32, *before.shape[1:])
    assert after.kind == "cine"
    np.testing.assert_array_equal(after.array()[::4], before.array())
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-6)
    assert before.times_ms is not None
    assert after.times_ms is not None
    assert after.times_ms.shape == (32, 3)  # each slice has its own
    np.testing.assert_allclose(after.times_ms[::4], before.times_ms)
    np.testing.assert_allclose(np.diff(after.times_ms, axis=0)[:28], [[10, 10.25, 10.5]] * 28)

    headers = [pydicom.dcmread(p) for p in sorted(folder.iterdir())]
    names = {header.SOPInstanceUID: header for header in (pydicom.dcmread(p) for p in before.source.paths)}
    assert len({h.SeriesInstanceUID for h in headers}) == 1
    assert {h.SeriesDescription for h in headers} == {"cine INTERP4D"}
    assert {h.SeriesNumber for h in headers} == {502}
    for t, z in ((0, 0), (1, 0), (6, 2), (31, 1)):
        header = headers[3 * t + z]
        sources = [names[item.ReferencedSOPInstanceUID] for item in header.SourceImageSequence]
        first, second = t // 4, (t // 4 + 1) % 8
        wanted = [first] if t % 4 == 0 else [first, second]
        assert [float(s.TriggerTime) for s in sources] == [i * (40 + z) for i in wanted]
        assert {s.SeriesInstanceUID for s in sources} == {f"{ROOT_OF_SERIES}.{z}"}
        assert ("INTERPOLATED" in header.ImageType) == (t % 4 > 0)
        assert header.TemporalPositionIdentifier == t + 1
        assert header.NumberOfTemporalPositions == header.CardiacNumberOfImages == 32


ROOT_OF_SERIES = "1.2.826.0.1.3680043.8.498.7.3.5"


def test_other_peoples_tools_take_the_result_for_one_series(interp4d: Cli, study: Path, tmp_path: Path) -> None:
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    interp4d(study / "scanner", "-o", tmp_path / "out")
    (tmp_path / "converted").mkdir()
    command = ["dcm2niix", "-f", "x", "-o", tmp_path / "converted", tmp_path / "out" / DICOM]
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(p.name for p in (tmp_path / "converted").iterdir()) == ["x.json", "x.nii"]
    converted = np.asarray(nib.load(tmp_path / "converted" / "x.nii").dataobj)
    assert converted.shape == (24, 20, 3, 16)
    ours = series_in(tmp_path / "out" / DICOM).array()
    assert sorted(converted[..., 3].ravel()) == sorted(ours[3].ravel())


def test_formats_can_be_exchanged(interp4d: Cli, one: Path, study: Path, tmp_path: Path) -> None:
    interp4d(one, "-o", tmp_path / "a", "--format", "dicom")
    interp4d(study / "scanner", "-o", tmp_path / "b", "--format", "nifti")
    to_dicom, to_nifti = series_in(tmp_path / "a" / "c1_cine_interp4d"), series_in(tmp_path / "b" / f"{DICOM}.nii.gz")
    for source, result in ((series_in(one), to_dicom), (series_in(study / "scanner"), to_nifti)):
        np.testing.assert_array_equal(result.array()[::2], source.array())
        np.testing.assert_allclose(result.affine, source.affine, atol=1e-3)
        assert source.times_ms is not None
        assert result.times_ms is not None
        np.testing.assert_allclose(result.times_ms[::2], source.times_ms, atol=1e-6)


def test_samples_write_their_spread(interp4d: Cli, one: Path, study: Path, tmp_path: Path) -> None:
    interp4d(one, study / "scanner", "--steps", 5, "--samples", 3, "-o", tmp_path / "out")
    std = load(tmp_path / "out" / "c1_cine_interp4d_std.nii.gz")
    assert std.shape == (20, 24, 3, 12)
    assert not std[..., ::2].any()  # nothing is uncertain about an acquired frame
    assert std[..., 1::2].min() > 0
    folder = tmp_path / "out" / "study" / "scanner"
    parametric = pydicom.dcmread(folder / f"{DICOM}_std.dcm")
    assert parametric.SOPClassUID == "1.2.840.10008.5.1.4.1.1.30"
    assert parametric.NumberOfFrames == 48
    for values, groups in zip(parametric.pixel_array, parametric.PerFrameFunctionalGroupsSequence, strict=True):
        new = groups.FrameContentSequence[0].TemporalPositionIndex % 2 == 0
        assert values.any() == new
        assert len(groups.DerivationImageSequence[0].SourceImageSequence) == 1 + new
    sidecar = read(tmp_path / "out" / "c1_cine_interp4d.json")
    assert sidecar["plan"]["spread_factor"] == 1.5
    assert set(sidecar["outputs"]) == {"c1_cine_interp4d.nii.gz", "c1_cine_interp4d_std.nii.gz"}


def test_the_sidecar_is_enough_to_repeat_the_run(interp4d: Cli, one: Path, tmp_path: Path) -> None:
    interp4d(one, "--frames", 9, "--steps", 2, "--seed", 7, "-o", tmp_path / "out")
    sidecar = read(tmp_path / "out" / "c1_cine_interp4d.json")
    assert sidecar["software"] == f"cmrsr {cmrsr.__version__}"
    assert sidecar["command"].startswith(f"cmrsr interp4d {one} --frames 9 --steps 2 --seed 7 ")
    assert "not a medical device" in sidecar["notice"]
    assert (sidecar["task"], sidecar["engine"]["name"]) == ("interp4d", "tiny")
    assert sidecar["input"]["shape_tzyx"] == [6, 3, 24, 20]
    assert sidecar["parameters"] == {
        "factor": None, "frames": 9, "cyclic": True, "steps": 2, "samples": 1, "seed": 7, "consistency": None,
    }  # fmt: skip
    plan = sidecar["plan"]
    np.testing.assert_allclose(plan["position"], np.arange(9) * 6 / 9, atol=1e-12)
    np.testing.assert_allclose(plan["times_ms"], np.arange(9) * 100, atol=1e-9)
    assert plan["acquired"] == [t % 3 == 0 for t in range(9)]
    assert (plan["cyclic"], plan["frames"], plan["new_frames"]) == (True, 9, 6)
    assert (plan["matrix_yx"], plan["padded_matrix_yx"]) == ([24, 20], [24, 24])
    assert (plan["consistency_across_slices"], plan["tile"], plan["tile_overlap"]) == (True, TILE, OVERLAP)
    assert sidecar["device"]["backend"] == "openvino"
    assert sidecar["warnings"] == []
    assert set(sidecar["seconds"]) == {"survey", "engine", "frames", "total"}
    assert sidecar["outputs"] == {"c1_cine_interp4d.nii.gz": sha256_file(tmp_path / "out" / "c1_cine_interp4d.nii.gz")}


def test_slices_can_be_left_as_they_are(interp4d: Cli, one: Path, tmp_path: Path) -> None:
    interp4d(one, "-o", tmp_path / "a")
    interp4d(one, "-o", tmp_path / "b", "--no-consistency")
    a, b = (load(tmp_path / name / "c1_cine_interp4d.nii.gz") for name in "ab")
    np.testing.assert_array_equal(a[..., ::2], b[..., ::2])
    assert np.abs(a - b)[..., 1::2].max() > 0
    assert read(tmp_path / "b" / "c1_cine_interp4d.json")["plan"]["tile"] is None


def test_a_series_that_is_no_beat_is_said_to_be_none(interp4d: Cli, tmp_path: Path, capfd: Capture) -> None:
    """A warning, in the sidecar, on the console and in run.json; with --open there is nothing to say."""
    source = save_cine(tmp_path / "x_cine.nii", beating_frames(8, 3, 16, 16, beats=0.45))
    interp4d(source, "-o", tmp_path / "a")
    (warning,) = read(tmp_path / "a" / "x_cine_interp4d.json")["warnings"]
    assert "if the series is not a whole beat, use --open" in warning
    assert warning in capfd.readouterr().err
    assert read(tmp_path / "a" / "run.json")["cases"][0]["warnings"] == [warning]
    interp4d(source, "-o", tmp_path / "b", "--open")
    assert read(tmp_path / "b" / "x_cine_interp4d.json")["warnings"] == []
    assert load(tmp_path / "b" / "x_cine_interp4d.nii.gz").shape[3] == 15


def test_quiet_and_verbose(interp4d: Cli, one: Path, tmp_path: Path, capfd: Capture) -> None:
    interp4d(one, "-o", tmp_path / "a", "-q")
    assert capfd.readouterr() == ("", "")
    interp4d(one, "-o", tmp_path / "b", "-v")
    text = capfd.readouterr().err
    assert f"→ {tmp_path / 'b' / 'c1_cine_interp4d.nii.gz'}" in text
    assert "6 frames to 12, 6 of them new; after the last frame comes the first" in text


def test_a_fallback_is_recorded_for_every_case(
    interp4d: Cli, study: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a series that takes over the engine of the one before."""
    monkeypatch.setattr("cmrsr.runtime.engine.cuda_provider", lambda: False)
    shutil.copy(study / "sub" / "c10_cine.nii", study / "sub" / "c11_cine.nii")
    interp4d(study / "sub", "--device", "cuda", "-o", tmp_path / "out")
    for name in ("c10", "c11"):
        record = read(tmp_path / "out" / f"{name}_cine_interp4d.json")
        assert [w for w in record["warnings"] if "--device cuda: no NVIDIA driver is installed here" in w]
        assert record["device"]["device"] == "cpu"
    assert capfd.readouterr().err.count("no NVIDIA driver is installed here") == 2


def test_a_real_cine_of_one_series_a_slice(interp4d: Cli, real_data: Path, tmp_path: Path) -> None:
    """JPEG 2000, all slices one 4-D series: written as one series, acquired images bit for bit."""
    for k in (75, 76, 77):
        (tmp_path / "in" / f"{k}").mkdir(parents=True)
        for path in sorted((real_data / "cine-dicom-jpeg2000" / f"ML cine - {k}").iterdir())[:6]:
            shutil.copy(path, tmp_path / "in" / f"{k}")
    interp4d(tmp_path / "in", "-o", tmp_path / "out", "-q")
    before, after = series_in(tmp_path / "in"), series_in(tmp_path / "out" / "75-77_ML_cine_interp4d")
    assert (before.shape, after.shape) == ((6, 3, 256, 256), (12, 3, 256, 256))
    np.testing.assert_array_equal(after.array()[::2], before.array())
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    assert before.times_ms is not None
    assert after.times_ms is not None
    np.testing.assert_allclose(after.times_ms[::2], before.times_ms)


# ---- the same bits ---------------------------------------------------------------------------------------------------

NOISY = ("--steps", 3, "--samples", 2, "--seed", 3, "--factor", 3)


@pytest.mark.parametrize("options", [("--batch-size", 1), ("--batch-size", 8, "--threads", 2)])
def test_batch_size_and_threads_do_not_change_a_bit(
    interp4d: Cli, one: Path, tmp_path: Path, options: tuple[object, ...]
) -> None:
    interp4d(one, "-o", tmp_path / "a", *NOISY)
    interp4d(one, "-o", tmp_path / "b", *options, *NOISY)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_shards_do_not_change_a_bit(interp4d: Cli, study: Path, tmp_path: Path) -> None:
    interp4d(study, "-o", tmp_path / "whole", *NOISY)
    for i in (1, 2):
        interp4d(study, "-o", tmp_path / "shards", "--shard", f"{i}/2", *NOISY)
    assert digests(tmp_path / "whole") == digests(tmp_path / "shards")


# ---- a second run ----------------------------------------------------------------------------------------------------


def test_a_second_run_skips_what_is_done(interp4d: Cli, study: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    interp4d(study, "-o", out)
    assert statuses(out) == {"c2_cine": "ok", "scanner/5-7_cine": "ok", "sub/c10_cine": "ok"}
    before = digests(out)
    outputs = {c["case"]: c["outputs"] for c in read(out / "run.json")["cases"]}
    interp4d(study, "-o", out)
    assert set(statuses(out).values()) == {"skipped"}
    assert {c["case"]: c["outputs"] for c in read(out / "run.json")["cases"]} == outputs
    assert capfd.readouterr().err.count("done before") == 3
    next((out / "scanner" / DICOM).iterdir()).unlink()
    interp4d(study, "-o", out)
    assert statuses(out) == {"c2_cine": "skipped", "scanner/5-7_cine": "ok", "sub/c10_cine": "skipped"}
    assert digests(out) == before  # also the identifiers


@pytest.mark.parametrize(
    "options", [("--factor", 3), ("--frames", 12), ("--open",), ("--no-consistency",), ("--seed", 1), ("--force",)]
)
def test_changed_options_do_it_again(interp4d: Cli, one: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    out = tmp_path / "out"
    interp4d(one, "-o", out)
    interp4d(one, "-o", out, *options)
    assert statuses(out) == {"c1_cine": "ok"}
    if options != ("--force",):
        interp4d(one, "-o", out, *options)
        assert statuses(out) == {"c1_cine": "skipped"}


def test_another_engine_does_it_again(interp4d: Cli, one: Path, tmp_path: Path) -> None:
    interp4d(one, "-o", tmp_path / "out")
    Cli(write_interp_engine(tmp_path / "engine", version="2"))(one, "-o", tmp_path / "out")
    assert statuses(tmp_path / "out") == {"c1_cine": "ok"}


def test_results_are_no_input_of_the_next_run(interp4d: Cli, study: Path, tmp_path: Path) -> None:
    interp4d(study)
    interp4d(tmp_path, "-o", tmp_path.parent / f"{tmp_path.name}_again")
    assert len(statuses(tmp_path.parent / f"{tmp_path.name}_again")) == 3


# ---- the report ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["4 → 8", "factor 2", "Uncertainty of every frame", "calibrated on virtual patients", "use --open"]),
        (("--open", "--frames", 6, "--steps", 3, "--samples", 2), ["4 → 6", "Uncertainty of every frame"]),
    ],
)
def test_the_report(
    interp4d: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...], words: list[str]
) -> None:
    monkeypatch.setenv("CMRSR_DEBUG", "1")  # a picture that cannot be drawn is an error
    save_cine(tmp_path / "x_cine.nii", beating_frames(4, 1, 16, 16, beats=0.3))
    interp4d(tmp_path / "x_cine.nii", "-o", tmp_path / "out", *options, report=True)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<section") == 1
    assert page.count("data:image/") == 4
    assert "Temporal super-resolution" in page
    for text in words:
        assert text in page
