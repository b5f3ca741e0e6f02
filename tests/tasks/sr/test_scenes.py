from pathlib import Path

import numpy as np
import pytest

from cmrsr.errors import UnusableError, UsageError
from cmrsr.physics.fourier import fftnc
from cmrsr.tasks.registry import Recipe, load_data, load_recipe
from cmrsr.tasks.sr.training import scenes
from cmrsr.tasks.sr.training.data import Images
from cmrsr.tasks.sr.training.virtual import LeavesSet, VirtualSet
from tests.cine import beating_frames
from tests.conftest import save_nifti


@pytest.fixture(autouse=True)
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chests and leaves that are not drawn, but numbered: leaves from 1000 on."""

    def load(virtual: VirtualSet | LeavesSet, cache: Path, on_item: object) -> np.ndarray:
        n = virtual.n_items * virtual.item_shape[0]
        first = 1000 if isinstance(virtual, LeavesSet) else 0
        return first + np.arange(n)[:, None, None] * np.ones((1, 4, 4))

    monkeypatch.setattr(scenes, "load", load)


def _recipe(*overrides: str) -> Recipe:
    return load_recipe("perfgen-s", ["data.crop=16", "data.n_chests=10", "data.n_leaves=20", *overrides])


def _images(recipe: Recipe, tmp_path: Path) -> Images:
    found = load_data(recipe, "phantom", tmp_path)
    assert isinstance(found, Images)
    return found


def test_the_first_of_each_kind_are_held_out(tmp_path: Path) -> None:
    images = _images(_recipe("data.n_validation=3", "data.leaves_share=0.4"), tmp_path)
    numbers = [[[int(i[0, 0]) for i in pool.images] for pool in part] for part in (images.training, images.validation)]
    assert numbers == [[[*range(36, 120)], [*range(1003, 1020)]], [[*range(36)], [*range(1000, 1003)]]]
    assert [pool.share for pool in images.training] == pytest.approx([0.6, 0.4])
    assert all(pool.sharp and not pool.recoloured for pool in images.training)
    assert "10 virtual chests" in images.description
    assert "20 scenes of dead leaves" in images.description


def test_without_leaves(tmp_path: Path) -> None:
    images = _images(_recipe("data.n_validation=3", "data.leaves_share=0", "data.n_leaves=0"), tmp_path)
    assert [pool.share for pool in images.training] == [1.0]
    assert "leaves" not in images.description


@pytest.mark.parametrize(("key", "n"), [("n_chests", 10), ("n_leaves", 20)])
def test_some_must_be_left_to_train_on(key: str, n: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"data\.n_validation {n}: expected fewer than data\.{key} = {n}"):
        load_data(_recipe(f"data.n_validation={n}", f"data.n_chests={10 if key == 'n_chests' else 30}"), None, tmp_path)


def test_sharp_images_of_a_folder_beside_them(tmp_path: Path) -> None:
    for i in range(4):
        save_nifti(tmp_path / "more" / f"p{i}.nii.gz", beating_frames(2, 2, 64, 64))
    recipe = _recipe(f"data.also={tmp_path / 'more'}", "data.n_validation=1", "data.also_band=0.75")
    images = _images(recipe, tmp_path)
    assert [pool.share for pool in images.training] == pytest.approx([0.1, 0.4, 0.5])
    training, held_out = images.training[-1], images.validation[-1]
    assert training.sharp
    assert training.recoloured
    assert (len(training.images), len(held_out.images)) == (12, 4)  # of four patients one is held out
    assert {image.shape for image in training.images} == {(48, 48)}
    assert "4 patients of more as further scenes, p" in images.description
    scene = training.images[0].astype(np.float32)
    assert np.quantile(scene, 0.995) == pytest.approx(1, abs=0.01)
    original = np.abs(fftnc(beating_frames(2, 2, 64, 64)[0, 0], (0, 1)))[8:56, 8:56]
    ours = np.abs(fftnc(scene, (0, 1)))
    inner = np.s_[8:40, 8:40]  # float16 hides what is weakest
    assert np.corrcoef(original[inner].ravel(), ours[inner].ravel())[0, 1] > 0.999
    assert recipe.model_dump(mode="json")["data"]["also"] == "more"


def test_too_few_sharp_images(tmp_path: Path) -> None:
    save_nifti(tmp_path / "more" / "p1.nii.gz", beating_frames(2, 2, 64, 64))
    save_nifti(tmp_path / "more" / "p2.nii.gz", beating_frames(2, 2, 30, 64))
    recipe = _recipe(f"data.also={tmp_path / 'more'}", "data.n_validation=1", "data.also_band=0.75")
    with pytest.raises(UnusableError, match=r"data\.also .*: usable series of 1 patients found, .* at least 32x32"):
        load_data(recipe, "phantom", tmp_path)


def test_shares_leave_some_for_the_chests() -> None:
    with pytest.raises(UsageError, match=r"leaves_share 0\.9 and also_share 0\.5: expected less than 1 together"):
        _recipe("data.leaves_share=0.9", "data.also=more")
    _recipe("data.leaves_share=0.9")  # without a folder its share counts for nothing
