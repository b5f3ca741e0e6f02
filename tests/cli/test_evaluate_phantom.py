"""``cmrsr evaluate phantom``: what it writes and prints, with and without real scans."""

import json
from pathlib import Path

import numpy as np
import pytest

from cmrsr.cli import run
from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.realism import compared_scans
from cmrsr.realism.population import GROUPS, measures
from tests.conftest import perfusion_frames, save_nifti

Capture = pytest.CaptureFixture[str]
ALONE = ["disease.png", "phantom.html", "phantom.json", "population.png"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest perfusion scan that can be measured."""
    small = Protocol(kinds=("perfusion",), n_frames=8, n_slices=1, matrix=96)
    monkeypatch.setattr(compared_scans, "PROTOCOLS", {"perfusion": small})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def evaluate(*arguments: object) -> int:
    return run(["evaluate", "phantom", *map(str, arguments)])


def test_hearts_are_judged_without_real_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate("--subjects", 5, "--seed", 4) == 0
    assert names(tmp_path / "phantom_evaluation") == ALONE
    saved = json.loads((tmp_path / "phantom_evaluation" / "phantom.json").read_text())
    assert saved["command"] == "cmrsr evaluate phantom --subjects 5 --seed 4"
    assert (saved["seed"], saved["realism"]) == (4, None)
    healthy = [measures(draw_patient(4, n, "normal")) for n in range(1, 6)]
    for row in saved["normal_values"]["rows"]:
        values = [getattr(m, row["measure"]) for m in healthy if m.sex == row["sex"]]
        assert (row["n"], row["mean"]) == (len(values), pytest.approx(np.mean(values)))
    drawn = [measures(draw_patient(4, n)).group for n in range(1, 6)]
    assert saved["acdc"]["n"] == {group: drawn.count(group) for group in GROUPS}
    captured = capfd.readouterr()
    assert captured.out == ""
    table = captured.err
    for row in saved["normal_values"]["rows"]:
        assert f"{row['mean']:.1f}" in table
        assert f"{row['published_mean']:.1f} ± {row['published_sd']:.1f}" in table
    assert "widest gap" not in table
    assert str(tmp_path / "phantom_evaluation" / "phantom.html") in table


@pytest.mark.usefixtures("quick")
def test_real_scans_are_compared_and_bad_ones_left_out(tmp_path: Path, capfd: Capture) -> None:
    real = tmp_path / "real"
    rng = np.random.default_rng(0)
    for patient in ("p1", "p2"):
        frames = perfusion_frames(6, 1, 104, 100)
        save_nifti(real / f"{patient}_perf.nii.gz", frames + rng.uniform(0, 60, frames.shape))
    save_nifti(real / "small_perf.nii.gz", perfusion_frames(6, 1))
    save_nifti(real / "what.nii.gz", perfusion_frames(6, 1, 104, 100))
    (real / "worn_perf.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    assert evaluate(real, "-o", out, "--subjects", 2, "--images", 1) == 0
    assert names(out) == sorted([*ALONE, "realism.png"])
    saved = json.loads((out / "phantom.json").read_text())
    found = saved["realism"]["perfusion"]
    assert (found["real"]["patients"], found["real"]["series"]) == (2, 2)
    assert (found["virtual"]["patients"], found["virtual"]["series"]) == (1, 2)  # stress and rest
    left_out = " ".join(saved["skipped"])
    assert len(saved["skipped"]) == 3
    for name in ("small_perf", "what", "worn_perf"):
        assert name in left_out
    text = " ".join(capfd.readouterr().err.split())
    assert text.count("left out ") == 3
    widest = found["widest_gaps"][0]
    assert f"virtual {widest['virtual']:.3g}, real {widest['real']:.3g}" in text


def test_quiet_says_nothing(tmp_path: Path, capfd: Capture) -> None:
    assert evaluate("-o", tmp_path / "out", "--subjects", 1, "-q") == 0
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_nothing_readable_is_an_error_and_writes_nothing(tmp_path: Path, capfd: Capture) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "p1.nii.gz").write_bytes(b"no image")
    assert evaluate(real, "-o", tmp_path / "out") == 3
    assert capfd.readouterr().err.count("\n") == 1
    assert names(tmp_path) == ["real"]


def test_the_output_is_never_inside_the_input(tmp_path: Path, capfd: Capture) -> None:
    save_nifti(tmp_path / "real" / "p1_perf.nii.gz", perfusion_frames(4, 1, 104, 100))
    assert evaluate(tmp_path / "real", "-o", tmp_path / "real" / "out") == 7
    assert "is inside the input" in capfd.readouterr().err
    assert names(tmp_path / "real") == ["p1_perf.nii.gz"]
