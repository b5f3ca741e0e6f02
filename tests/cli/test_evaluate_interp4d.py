"""``cmrsr evaluate interp4d``: series, the ACDC layout in one command, virtual patients, and bad requests."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from cmrsr.cli import run
from cmrsr.phantom.examination import Protocol
from cmrsr.tasks.interp4d.evaluation import virtual as interp_virtual
from tests.cine import beating_frames, interp_engine
from tests.conftest import save_nifti

__all__ = ["interp_engine"]

Capture = pytest.CaptureFixture[str]
FILES = ["evaluation.csv", "evaluation.html", "evaluation.json"]
OURS = "ours, 1 step"


def cine(n_t: int = 8, shift: int = 0) -> NDArray[np.float32]:
    """A beat with some noise: no two frames have the same score."""
    noise = np.random.default_rng(shift).integers(0, 5, (n_t, 3, 40, 36))
    return np.roll(beating_frames(n_t), shift, axis=3) + noise.astype(np.float32)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two cine series of two patients."""
    folder = tmp_path / "scans"
    save_nifti(folder / "p01_sa.nii.gz", cine())
    save_nifti(folder / "p02_sa.nii.gz", cine(shift=5))
    return folder


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    """One patient as the challenge has them."""
    folder = tmp_path / "testing" / "patient101"
    frames = cine()
    save_nifti(folder / "patient101_4d.nii.gz", frames)
    for t in (1, 5):
        save_nifti(folder / f"patient101_frame{t:02d}.nii.gz", frames[t - 1 : t])
        save_nifti(folder / f"patient101_frame{t:02d}_gt.nii.gz", frames[t - 1 : t] > 500)
    (folder / "Info.cfg").write_text("ED: 1\nES: 5\nGroup: NOR\nHeight: 160.0\nNbFrame: 8\nWeight: 60.0\n")
    return folder.parent


def evaluate(*arguments: object) -> int:
    return run(["evaluate", "interp4d", *map(str, arguments)])


def saved(out: Path) -> Any:
    assert sorted(path.name for path in out.iterdir()) == FILES
    return json.loads((out / "evaluation.json").read_text())


def test_series_are_scored_and_written_down(scans: Path, interp_engine: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out"
    code = evaluate(scans, "-o", out, "--engine", interp_engine, "--settings", "1x1,2x2", "--crop", 24, "--gaps", "2,4")
    captured = capfd.readouterr()
    assert (code, captured.out) == (0, ""), captured.err
    record = saved(out)
    assert record["protocol"]["name"] == "holdout-frames"
    assert [one["series"] for one in record["series"]] == ["p01_sa", "p02_sa"]
    assert list(record["pooled_psnr_by_gap"]) == ["2", "4"]
    with (out / "evaluation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 6 * 7
    mine = [float(row["PSNR (dB)"]) for row in rows if row["method"] == OURS]
    assert_allclose(record["overall"][OURS]["per_frame"]["PSNR (dB)"], np.mean(mine), rtol=1e-4)
    assert_allclose(record["pooled_psnr_by_gap"]["4"][OURS], record["overall"][OURS]["pooled_psnr_db"])
    page = (out / "evaluation.html").read_text()
    for words in (OURS, "mean of 2 × 2 steps", "Larger gaps", "optical-flow warp", "Difference to linear blend"):
        assert words in page
    for words in ("published", "UVI-Net"):
        assert words not in page + captured.err
    assert "spread of the samples of ours, mean of 2 × 2 steps" in captured.err
    assert str(out / "evaluation.html") in captured.err


@pytest.mark.parametrize(("protocol", "figure"), [("uvi", "33.55"), ("tssc", "32.971")])
def test_the_published_table_in_one_command(
    acdc: Path, interp_engine: Path, protocol: str, figure: str, capfd: Capture
) -> None:
    assert evaluate(acdc, "--protocol", protocol, "--engine", interp_engine) == 0
    printed = " ".join(capfd.readouterr().err.split())
    assert "UVI-Net (published on ACDC)" in printed
    assert figure in printed
    out = acdc.with_name("testing_cmrsr")
    record = saved(out)
    (one,) = record["series"]
    assert (one["patient"], one["known_frames"], one["frames"]) == ("patient101", [1, 5], [2, 3, 4])
    page = (out / "evaluation.html").read_text()
    assert "Published on ACDC, not measured here" in page
    assert figure in page


def test_a_bad_series_fails_alone(scans: Path, interp_engine: Path, tmp_path: Path, capfd: Capture) -> None:
    save_nifti(scans / "p03_still.nii.gz", cine(2))
    (scans / "p04_worn.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    assert evaluate(scans, "-o", out, "--engine", interp_engine) == 8
    errors = capfd.readouterr().err
    assert "p03_still: 2 frames, of which every 4th leaves one" in errors
    assert "p04_worn" in errors
    assert len(saved(out)["failures"]) == 2


def test_nothing_usable_leaves_nothing(interp_engine: Path, tmp_path: Path, capfd: Capture) -> None:
    folder = tmp_path / "scans"
    save_nifti(folder / "p1_sa.nii.gz", cine(3))
    assert evaluate(folder, "--engine", interp_engine) == 4
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]


def test_virtual_patients_need_no_data(
    interp_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interp_virtual, "SCAN", Protocol(kinds=("cine",), n_frames=8, n_slices=3, matrix=64))
    assert evaluate("--subjects", 1, "--seed", 5, "--engine", interp_engine, "-q", "--gaps", "4") == 0
    assert capfd.readouterr().err == ""
    out = tmp_path / "interp4d_evaluation"
    record = saved(out)
    assert (record["protocol"]["name"], record["virtual_patients"], record["seed"]) == ("ed-es", 1, 5)
    (one,) = record["series"]
    assert one["patient"] == "subject001"
    assert one["known_frames"][0] == 1
    assert len(one["frames"]) == one["known_frames"][1] - 2
    assert "PSNR to noise-free (dB)" in one["metrics"][OURS]
    assert list(record["pooled_psnr_by_gap"]) == ["4"]
    assert "Virtual patients 1 to 1 of seed 5" in (out / "evaluation.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--keep", 1], "--keep 1"),
        (["--keep", 3, "--protocol", "uvi"], "--keep 3"),
        (["--crop", 4], "--crop 4"),
        (["--crop", 32, "--protocol", "tssc"], "--crop 32"),
        (["--es", 3], "--es 3"),
        (["--gaps", "2,x"], "--gaps 2,x"),
        (["--gaps", "1"], "--gaps 1: expected 2 to 60"),
        (["--settings", "0x1"], "--steps 0"),
        (["--settings", "1x1@1"], "without r, m or @"),
        (["--batch-size", 0], "--batch-size 0"),
        (["--speed", 2], "--subjects"),
        (["--subjects", 2], "one of them"),
        (["--protocol", "all"], "--protocol"),
    ],
)
def test_bad_requests(
    scans: Path, interp_engine: Path, tmp_path: Path, arguments: list[Any], words: str, capfd: Capture
) -> None:
    out = tmp_path / "out"
    assert evaluate(scans, "-o", out, "--engine", interp_engine, *arguments) == 2
    error = capfd.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert words in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give DATA"),
        (["--subjects", 0], "--subjects 0"),
        (["--subjects", 1, "--seed", 0], "--seed 0"),
        (["--subjects", 1, "--speed", 5], "--speed 5"),
        (["--subjects", 1, "--es", 5], "--es 5"),
    ],
)
def test_bad_requests_for_virtual_patients(
    interp_engine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[Any],
    words: str,
    capfd: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate("--engine", interp_engine, *arguments) == 2
    assert words in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_output_is_never_inside_the_input(scans: Path, interp_engine: Path, capfd: Capture) -> None:
    assert evaluate(scans, "-o", scans / "out", "--engine", interp_engine) == 7
    assert "is inside the input" in capfd.readouterr().err
    assert not (scans / "out").exists()
