"""The protocol truncates, restores and scores as its words say, and the command writes what it promises."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.cli import run
from cmrsr.errors import UsageError
from cmrsr.io.discover import Candidate, discover
from cmrsr.metrics.images import psnr
from cmrsr.metrics.settings import Setting
from cmrsr.physics.kspace import degrade, n_lines
from cmrsr.runtime.bundle import load
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.sr.evaluation import protocol as sr_protocol
from cmrsr.tasks.sr.evaluation.protocol import ZERO_FILLING, EngineCache, Protocol, evaluate_series, parse_sr_settings
from cmrsr.tasks.sr.plan import SrOptions
from cmrsr.tasks.sr.run import super_resolve
from tests.conftest import perfusion_frames, save_nifti

ROUNDING = 1e-3  # dB: float32 images


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two full-resolution series of two patients, one of them with labels beside it."""
    folder = tmp_path / "scans"
    frames = perfusion_frames()
    save_nifti(folder / "p01_stress.nii.gz", frames)
    save_nifti(folder / "p02_rest.nii.gz", np.roll(frames, 3, axis=3))
    labels = np.zeros(frames.shape)
    labels[2:10, :, 18:24, 18:24] = 2
    save_nifti(folder / "p01_stress_label.nii.gz", labels)
    return folder


def candidate(folder: Path, name: str) -> Candidate:
    return next(c for c in discover([folder])[0] if c.name == name)


def test_zero_filling_is_scored_as_the_paper_defines_it(scans: Path, engine: Path) -> None:
    engines = EngineCache(DeviceChoice(precision="f32"), 4)
    protocol = Protocol(fraction=0.4, axes=("x", "y"), crop=0)
    one = candidate(scans, "p01_stress")
    results = list(evaluate_series(one, load(str(engine), "sr"), protocol, [Setting(steps=1, samples=1)], engines))
    hr = one.open().array()
    assert [r.axis for r in results] == ["x", "y"]
    for result, index in zip(results, (-1, -2), strict=True):
        lr = degrade(hr, n_lines(0.4, hr.shape[index]), index)
        assert_allclose(result.metrics[ZERO_FILLING]["PSNR (dB)"], psnr(lr, hr).ravel(), atol=ROUNDING)
        assert result.n_images == hr.shape[0] * hr.shape[1]
        assert result.patient == "p01"
        assert set(result.metrics) == {ZERO_FILLING, "bicubic", "Lanczos", "1 step"}


def test_curves_follow_the_labels_and_the_spread_is_reported(scans: Path, engine: Path) -> None:
    engines = EngineCache(DeviceChoice(precision="f32"), 8)
    protocol = Protocol(fraction=0.4, axes=("y",), crop=32)
    one = candidate(scans, "p01_stress")
    setting = Setting(steps=2, samples=3)
    (result,) = evaluate_series(one, load(str(engine), "sr"), protocol, [setting], engines)
    reference = result.curves["LV blood"]["reference"]
    frames = one.open().array()
    assert_allclose(reference, frames[2:10, 1, 18:24, 18:24].mean((1, 2)), rtol=1e-5)
    spread = result.spread[setting.name]
    assert spread.std > 0
    assert spread.error > 0
    assert spread.ratio == pytest.approx(spread.std / spread.error)
    assert 0 < spread.covered < 1


def test_every_nth_frame(scans: Path, engine: Path) -> None:
    engines = EngineCache(DeviceChoice(precision="f32"), 8)
    protocol = Protocol(axes=("y",), crop=0, every=5)
    one = candidate(scans, "p02_rest")
    (result,) = evaluate_series(one, load(str(engine), "sr"), protocol, [Setting(steps=1, samples=1)], engines)
    assert result.n_images == 3 * 2


def test_settings_are_parsed_and_named() -> None:
    assert parse_sr_settings("1x1, 5x8,50x1@0.5,5x1r1,5x8m") == [
        Setting(steps=1, samples=1), Setting(steps=5, samples=8), Setting(steps=50, samples=1, consistency=0.5),
        Setting(steps=5, samples=1, realism=1), Setting(steps=5, samples=8, plain_mean=True),
    ]  # fmt: skip
    assert [s.name for s in parse_sr_settings("1,5x8,5x1@1,5x1r1,5x8r0.5@0.5,5x8m")] == [
        "1 step",
        "5 steps, 8 samples",
        "5 steps, 1 sample, consistency 1",
        "single sample of 5 steps",
        "5 steps, 8 samples, realism 0.5, consistency 0.5",
        "mean of 8 × 5 steps",
    ]


@pytest.mark.parametrize("text", ["five", "5x8r", "5x8rm", "1x1m", "1x1r1", "5x8r2", "5x8r1.2.3", "5x8@2", ""])
def test_settings_that_cannot_be_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError, match="--"):
        parse_sr_settings(text)


def test_what_is_scored_is_what_sr_writes(scans: Path, engine: Path, tmp_path: Path) -> None:
    """5x2 is ``sr --steps 5 --samples 2``, 5x1r1 a single sample; one plan and one compilation serve all of them."""
    one = candidate(scans, "p01_stress")
    lr = degrade(one.open().array(), n_lines(0.4, one.open().shape[-2]), -2)
    options = {"steps": 5, "phase_axis": "y", "roi": (0, 0, *lr.shape[:1:-1])}
    choice = DeviceChoice(precision="f32")
    protocol = Protocol(fraction=0.4, axes=("y",), crop=0)
    settings = parse_sr_settings("5x2,5x1r1,5x2m")
    (result,) = evaluate_series(one, load(str(engine), "sr"), protocol, settings, EngineCache(choice, 8))
    hr = one.open().array()
    wanted = {
        "5 steps, 2 samples": SrOptions(samples=2, **options),
        "single sample of 5 steps": SrOptions(samples=1, realism=1, **options),
    }
    for name, chosen in wanted.items():
        series = one.open().with_frames(lr)
        written, _ = super_resolve(series, engine=str(engine), options=chosen, choice=choice)
        assert_allclose(result.metrics[name]["PSNR (dB)"], psnr(written.array(), hr).ravel(), atol=ROUNDING)
    assert len({tuple(m["PSNR (dB)"]) for m in result.metrics.values()}) == 6  # no two methods are the same


def test_a_series_is_planned_once_an_axis_and_a_size_compiled_once(
    scans: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(name: str) -> None:
        real = getattr(sr_protocol, name)
        monkeypatch.setattr(sr_protocol, name, lambda *given: (calls.append(name), real(*given))[1])

    counted("plan_sr")
    counted("load_sr_engine")
    bundle, engines = load(str(engine), "sr"), EngineCache(DeviceChoice(precision="f32"), 8)
    protocol = Protocol(crop=32)
    for name in ("p01_stress", "p02_rest"):
        settings = parse_sr_settings("1x1,2x2,2x1r1")
        assert len(list(evaluate_series(candidate(scans, name), bundle, protocol, settings, engines))) == 2
    assert (calls.count("plan_sr"), calls.count("load_sr_engine")) == (4, 1)


def test_command_writes_table_figures_and_page(
    scans: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = run([
        "evaluate", "sr", str(scans), "-o", str(out), "--engine", str(engine), "--settings", "1x1,2x2", "--axes", "y",
        "--crop", "32",
    ])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    record = json.loads((out / "evaluation.json").read_text())
    assert [s["series"] for s in record["series"]] == ["p01_stress", "p02_rest"]
    with (out / "evaluation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 24 * 5
    mine = [float(r["PSNR (dB)"]) for r in rows if r["method"] == "1 step" and r["series"] == "p02_rest"]
    zero = [float(r["PSNR (dB)"]) for r in rows if r["method"] == ZERO_FILLING and r["series"] == "p02_rest"]
    assert_allclose(record["series"][1]["psnr_gain_db"]["1 step"], np.mean(mine) - np.mean(zero), atol=ROUNDING)
    page = (out / "evaluation.html").read_text()
    assert "zero-filling" in page
    assert "2 steps, 2 samples" in page
    assert "HF power" in page
    assert "edge slope" in page
    for series in record["series"]:
        assert set(series["seconds_per_image"]) == {"1 step", "2 steps, 2 samples"}
        assert series["metrics"][ZERO_FILLING]["HF power"] < 0.5


@pytest.mark.parametrize(
    "arguments", [["--fraction", "1.5"], ["--axes", "z"], ["--settings", "0x1"], ["--crop", "3"], ["--every", "0"]]
)
def test_bad_requests_are_usage_errors(
    scans: Path, engine: Path, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["evaluate", "sr", str(scans), "-o", str(out), "--engine", str(engine), *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not out.exists()
