from pathlib import Path

import numpy as np
import pytest

from cmrsr.errors import UnusableError, UsageError
from cmrsr.training import sources
from cmrsr.training.recipe import Recipe, load_recipe
from cmrsr.training.sources import default_cache, load_data, split_patients
from cmrsr.training.virtual import VirtualSet

PATIENTS = [f"p{i:02d}" for i in range(23)]


def _recipe(*overrides: str) -> Recipe:
    return load_recipe("perfgen-s", ["data.crop=32", *overrides])


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_are_disjoint_and_cover_all(folds: int) -> None:
    held_out = []
    for fold in range(folds):
        training, validation = split_patients(PATIENTS, folds, fold)
        assert set(training) | set(validation) == set(PATIENTS)
        assert not set(training) & set(validation)
        held_out += validation
    assert sorted(held_out) == PATIENTS
    sizes = [len(split_patients(PATIENTS, folds, fold)[1]) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1


def test_one_fold_holds_out_a_fifth_whatever_the_order() -> None:
    training, validation = split_patients(PATIENTS, 1, 0)
    assert len(validation) == 5
    assert set(split_patients(PATIENTS[::-1], 1, 0)[1]) == set(validation)
    assert validation != PATIENTS[: len(validation)]
    assert len(training) == 18
    for n in (2, 3, 4):
        assert [len(part) for part in split_patients(PATIENTS[:n], 1, 0)] == [n - 1, 1]


def test_a_folder_is_split_by_patient(nifti_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    images = load_data(_recipe(), str(nifti_folder), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    # three patients of one series of 12 beats and 2 slices; two train, one validates
    assert (len(images.training), len(images.validation)) == (48, 24)
    assert {image.shape for image in images.training + images.validation} == {(48, 40)}
    assert images.description == "3 patients of study, 1 of them for validation"


def test_a_folder_with_too_little_in_it(nifti_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"usable series of 0 patients found, .* at least 44x44 pixels"):
        load_data(_recipe("data.crop=44"), str(nifti_folder), tmp_path)
    with pytest.raises(UnusableError, match="usable series of 1 patients found, expected at least 2"):
        load_data(_recipe(), str(nifti_folder / "sub"), tmp_path)


def test_virtual_chests_are_held_out_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def rendered(virtual: VirtualSet, cache: Path, on_chest: object) -> np.ndarray:
        assert cache == tmp_path
        n = virtual.n_chests * virtual.n_scans * virtual.n_frames
        return np.arange(n)[:, None, None] * np.ones((1, 4, 4))

    monkeypatch.setattr(sources, "load", rendered)
    images = load_data(_recipe("data.n_chests=10", "data.n_validation=3"), None, tmp_path)
    assert [int(image[0, 0]) for image in images.validation] == list(range(36))
    assert [int(image[0, 0]) for image in images.training] == list(range(36, 120))
    assert "10 virtual chests" in images.description
    with pytest.raises(UsageError, match=r"data\.n_validation 10: expected fewer than the 10 virtual chests"):
        load_data(_recipe("data.n_chests=10", "data.n_validation=10"), "phantom", tmp_path)


def test_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "cmrsr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "cmrsr"
