"""``cmrsr train``: a run on a folder of series, then fine-tuning that begins from it."""

import json
from pathlib import Path

import pytest

from cmrsr.cli import run

Capture = pytest.CaptureFixture[str]
TINY = (
    "model.widths=[8, 16]", "model.blocks=[1, 1, 1]", "model.embedding=16", "data.crop=16", "optimiser.steps=2",
    "optimiser.batch_size=2", "optimiser.bf16=false", "optimiser.warmup=1", "validate_every=1",
)  # fmt: skip


def _train(folder: Path, *arguments: str) -> int:
    return run(["train", "perfgen-s", "--data", str(folder), *arguments, *(f"--set={setting}" for setting in TINY)])


def test_fine_tuning_goes_into_a_folder_of_its_own(nifti_folder: Path, tmp_path: Path, capfd: Capture) -> None:
    runs = tmp_path / "runs"
    assert _train(nifti_folder, "-o", str(runs)) == 0
    assert "the start" not in capfd.readouterr().err
    weights = (runs / "perfgen-s" / "weights.safetensors").read_bytes()
    assert _train(nifti_folder, "-o", str(runs), "--start", str(runs / "perfgen-s")) == 0
    told = " ".join(capfd.readouterr().err.split())
    assert "held-out data" in told
    assert "start" in told
    assert sorted(p.name for p in runs.iterdir()) == ["perfgen-s", "perfgen-s-tuned"]
    assert (runs / "perfgen-s" / "weights.safetensors").read_bytes() == weights
    summary = json.loads((runs / "perfgen-s-tuned" / "training.json").read_text())
    assert summary["recipe"]["start"] == "perfgen-s"
    assert summary["recipe"]["patience"] == 5
    assert summary["start"]["training"]["data"] == "3 patients of study, 1 of them for validation"


def test_a_trained_network_knows_how_far_it_may_be_off(nifti_folder: Path, tmp_path: Path) -> None:
    """For the numbers of steps that people ask for; an engine made of it says so, and its maps follow."""
    assert _train(nifti_folder, "-q", "-o", str(tmp_path / "runs")) == 0
    found = json.loads((tmp_path / "runs" / "perfgen-s" / "training.json").read_text())["uncertainty"]
    assert set(found) == {"2", "5", "10", "50"}
    assert all(one["scale"] > 0 for one in found.values())
    engine = tmp_path / "engine"
    assert run(["export", str(tmp_path / "runs" / "perfgen-s"), "-o", str(engine)]) == 0
    assert json.loads((engine / "bundle.json").read_text())["uncertainty"] == found
    out = tmp_path / "out"
    options = ["--engine", str(engine), "--steps", "2", "--no-report", "--phase-axis", "y", "-o", str(out)]
    assert run(["sr", str(nifti_folder), *options]) == 0
    sidecars = [json.loads(path.read_text()) for path in out.rglob("*_sr.json")]
    assert [sidecar["plan"]["uncertainty"] for sidecar in sidecars] == [found["2"]] * 3


def test_a_start_that_is_not_there_is_named_before_anything_is_rendered(tmp_path: Path, capfd: Capture) -> None:
    cache = tmp_path / "cache"
    arguments = ["train", "perfgen-s", "--start", "nowhere", "-o", str(tmp_path / "runs"), "--cache", str(cache)]
    assert run(arguments) == 5
    assert "nowhere" in capfd.readouterr().err
    assert not cache.exists()
