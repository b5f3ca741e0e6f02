from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cmrsr.errors import UnusableError, UsageError
from cmrsr.tasks.interp4d.training.data import Stacks
from cmrsr.tasks.interp4d.training.virtual import CineSet
from cmrsr.tasks.mie.training import sources
from cmrsr.tasks.mie.training.data import Infarcts
from cmrsr.tasks.mie.training.virtual import InfarctSet
from cmrsr.tasks.registry import Recipe, load_data, load_recipe
from cmrsr.training import virtual
from cmrsr.training.cache import default_cache
from cmrsr.training.folds import split_patients
from tests.cine import beating_frames
from tests.conftest import save_nifti

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
    (training,), (validation,) = images.training, images.validation
    assert (len(training.images), len(validation.images)) == (48, 24)
    assert {image.shape for image in (*training.images, *validation.images)} == {(48, 40)}
    assert not training.sharp  # finished images are not scanned a second time
    assert images.description == "3 patients of study, 1 of them for validation"


def test_a_folder_with_too_little_in_it(nifti_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"usable series of 0 patients found, .* at least 44x44 pixels"):
        load_data(_recipe("data.crop=44"), str(nifti_folder), tmp_path)
    with pytest.raises(UnusableError, match="usable series of 1 patients found, expected at least 2"):
        load_data(_recipe(), str(nifti_folder / "sub"), tmp_path)


# ---- whole stacks for interp4d ---------------------------------------------------------------------------------------


def _clips(*overrides: str, name: str = "tssc-s") -> Recipe:
    return load_recipe(name, ["data.crop=32", "data.gap=[2, 4]", *overrides])


@pytest.fixture
def cine_folder(tmp_path: Path) -> Path:
    """Three patients with four beats, among series that are too short, too small or no series."""
    folder = tmp_path / "cine"
    for i, name in enumerate(("p1_rest", "p1_stress", "p2_rest", "p3/cine")):
        save_nifti(folder / f"{name}.nii.gz", beating_frames(6 + i))
    save_nifti(folder / "p4_volume.nii.gz", beating_frames(1))
    save_nifti(folder / "p5_short.nii.gz", beating_frames(2))
    save_nifti(folder / "p6_small.nii.gz", beating_frames(6, 3, 24, 40))
    (folder / "p7_damaged.nii.gz").write_bytes(b"no image")
    image = nib.Nifti1Image(np.ones((40, 40, 3), np.int16), np.eye(4))
    nib.save(image, folder / "p8_three_axes.nii.gz")
    return folder


def _stacks(*arguments: Any) -> Stacks:
    found = load_data(*arguments)
    assert isinstance(found, Stacks)
    return found


def test_a_folder_of_cine_is_split_by_patient(cine_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = _stacks(_clips(), str(cine_folder), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 9) for i in range(9)]  # what is not usable counts as well
    assert found.description == "3 patients of cine, 1 of them for validation"
    frames = [[len(stack.shown) for stack in part] for part in (found.training, found.validation)]
    assert sorted([*frames[0], *frames[1]]) == [6, 7, 8, 9]
    held_out = {6: "p1", 7: "p1", 8: "p2", 9: "p3"}[frames[1][0]]
    assert sorted(frames[1]) == {"p1": [6, 7], "p2": [8], "p3": [9]}[held_out]
    for stack in (*found.training, *found.validation):
        assert stack.shown.shape[1:] == (3, 40, 36)
        assert stack.clean is None
        np.testing.assert_array_equal(stack.shown, beating_frames(len(stack.shown)))


def test_a_folder_with_too_few_beats(cine_folder: Path, tmp_path: Path) -> None:
    for recipe, wanted in (
        (
            _clips("data.crop=48"),
            r"of 0 patients found, expected at least 2 with more than 2 phases, 1 slices and 48x48",
        ),
        (_clips("data.gap=[8, 9]"), r"of 1 patients found, .* more than 8 phases"),
        (_clips("data.n_slices=4", name="tssc-s-volume"), r"of 0 patients found, .* 4 slices"),
    ):
        with pytest.raises(UnusableError, match=wanted):
            load_data(recipe, str(cine_folder), tmp_path)
    # slices matter for volumes alone
    assert _stacks(_clips("data.n_slices=4"), str(cine_folder), tmp_path).training
    assert _stacks(_clips("data.n_slices=3", name="tssc-s-volume"), str(cine_folder), tmp_path).training


def test_virtual_patients_are_held_out_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def rendered(patients: CineSet, cache: Path, on_item: Any) -> np.ndarray:
        assert cache == tmp_path
        assert isinstance(patients, CineSet)
        on_item(patients.n_patients)
        patient, noise = np.arange(patients.n_patients)[:, None], np.array([[1000, 0]])
        return (patient + noise)[..., None, None, None, None] * np.ones((1, 1, 5, 2, 32, 32), np.uint16)

    monkeypatch.setattr(virtual, "load", rendered)
    seen: list[tuple[int, int]] = []
    recipe = _clips("data.n_patients=7", "data.n_validation=2")
    found = _stacks(recipe, None, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(7, 7)]
    numbers = []
    for part in (found.validation, found.training):
        for stack in part:
            assert stack.clean is not None
            assert stack.shown.shape == stack.clean.shape == (5, 2, 32, 32)
            assert (stack.shown - stack.clean == 1000).all()
            numbers.append(int(stack.clean.max()))
    assert numbers == [0, 1, *range(2, 7)]
    assert len(found.validation) == 2
    assert "7 virtual patients" in found.description
    with pytest.raises(UsageError, match=r"data\.n_validation 7: expected fewer than the 7 virtual patients"):
        load_data(_clips("data.n_patients=7", "data.n_validation=7"), "phantom", tmp_path)


# ---- slices for mie --------------------------------------------------------------------------------------------------


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many virtual patients as are asked for, of three slices each: (patient, slice)."""

    def infarcts(virtual: InfarctSet, cache: Path, on_item: Any) -> list[list[tuple[int, int]]]:
        assert virtual.n_slices == 3
        return [[(i, z) for z in range(3)] for i in range(virtual.n_patients)]

    monkeypatch.setattr(sources, "virtual_infarcts", infarcts)


def _infarcts(tmp_path: Path, *overrides: str, data: str | None = None) -> tuple[list[Any], list[Any]]:
    found = load_data(load_recipe("cpkdm-s", list(overrides)), data, tmp_path)
    assert isinstance(found, Infarcts)
    assert "virtual patients" in found.description
    return list(found.training), list(found.validation)


@pytest.mark.usefixtures("looked")
def test_slices_are_split_by_patient(tmp_path: Path) -> None:
    """The first patients are held out, whole: no slice of theirs is trained on."""
    training, validation = _infarcts(tmp_path, "data.n_patients=6", "data.n_validation=2")
    assert validation == [(i, z) for i in (0, 1) for z in range(3)]
    assert training == [(i, z) for i in (2, 3, 4, 5) for z in range(3)]
    with pytest.raises(UsageError, match=r"data\.n_validation 6: expected fewer than the 6 virtual patients"):
        _infarcts(tmp_path, "data.n_patients=6", "data.n_validation=6")


@pytest.mark.usefixtures("looked")
def test_folds_hold_every_patient_out_once(tmp_path: Path) -> None:
    held_out = []
    for fold in range(5):
        training, validation = _infarcts(tmp_path, "data.n_patients=12", "data.folds=5", f"data.fold={fold}")
        patients = [{i for i, _ in part} for part in (training, validation)]
        assert not patients[0] & patients[1]
        assert len(patients[0] | patients[1]) == 12
        assert len(training) + len(validation) == 36
        held_out += sorted(patients[1])
    assert sorted(held_out) == list(range(12))


def test_mie_is_not_trained_on_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mie learns from virtual patients"):
        _infarcts(tmp_path, data=str(tmp_path))


def test_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "cmrsr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "cmrsr"
