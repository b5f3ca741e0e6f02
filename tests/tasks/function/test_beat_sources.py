"""Labelled beats: virtual patients, folders of labelled cines, and both together."""

from pathlib import Path

import numpy as np
import pytest

from cmrsr.errors import UnusableError, UsageError
from cmrsr.tasks.function.training.data import Beats
from cmrsr.tasks.registry import load_data, load_recipe
from cmrsr.training import virtual
from tests.tasks.function.training_folders import save_acdc_patients


def beats(tmp_path: Path, *overrides: str, data: str | None = None) -> Beats:
    found = load_data(load_recipe("causal-s", list(overrides)), data, tmp_path)
    assert isinstance(found, Beats)
    return found


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three virtual patients, whose images hold their number."""
    arrays = np.stack([np.full((2, 2, 3, 8, 8), i, np.uint16) for i in range(3)])
    monkeypatch.setattr(virtual, "load", lambda *_: arrays)


@pytest.mark.usefixtures("rendered")
def test_virtual_patients_are_held_out_whole(tmp_path: Path) -> None:
    found = beats(tmp_path, "data.n_patients=3", "data.n_validation=1")
    assert [int(b.images.max()) for b in found.validation] == [0]
    assert [int(b.images.max()) for b in found.training] == [1, 2]
    with pytest.raises(UsageError, match="expected fewer than the 3 virtual patients"):
        beats(tmp_path, "data.n_patients=3", "data.n_validation=3")


def test_a_folder_is_split_by_patient(tmp_path: Path) -> None:
    folder = save_acdc_patients(tmp_path / "acdc", 5)
    found = beats(tmp_path, data=str(folder))
    assert (len(found.training), len(found.validation)) == (4, 1)
    assert "5 patients of acdc" in found.description
    alone = save_acdc_patients(tmp_path / "one", 1)
    with pytest.raises(UnusableError, match="1 patient found, expected at least 2"):
        beats(tmp_path, data=str(alone))


@pytest.mark.usefixtures("rendered")
def test_a_labelled_folder_beside_virtual_patients(tmp_path: Path) -> None:
    folder = save_acdc_patients(tmp_path / "acdc", 4)
    also = ("data.n_patients=3", "data.n_validation=1", f"data.also={folder}")
    half = beats(tmp_path, *also, "data.also_folds=2")
    assert (len(half.training), len(half.validation), len(half.also), len(half.also_validation)) == (2, 1, 2, 2)
    left_out = half.description.partition("without ")[2].split(", ")
    assert len(left_out) == 2  # named, so that a card can say who was never seen
    assert len(beats(tmp_path, *also, "data.also_folds=1").also) == 4
    named = beats(tmp_path, *also, f"data.also_held_out={left_out[:1]}")
    assert (len(named.also), len(named.also_validation)) == (3, 1)
    assert f"without {left_out[0]}" in named.description
    with pytest.raises(UnusableError, match="no labelled series of patient999, named in also_held_out"):
        beats(tmp_path, *also, "data.also_held_out=['patient999']")
