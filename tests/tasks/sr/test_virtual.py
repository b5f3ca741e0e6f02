from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cmrsr.tasks.sr.training.virtual import VirtualSet
from cmrsr.training.cache import digest, load

SMALL = VirtualSet(n_chests=2, n_scans=1, n_frames=2)


def test_rendered_once_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    images = load(SMALL, tmp_path / "cache", told.append)
    assert told == [1, 2]
    assert images.shape == (4, SMALL.matrix, SMALL.matrix)
    assert images.dtype == np.float16
    assert np.all((images.max((1, 2)) > 0.3) & (images.max((1, 2)) < 6))  # brightest tissue about 1
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [f"chests-{digest(SMALL)}.npy"]
    # any process renders a chest alike, and one chest does not depend on the others
    for index in (1, 0):
        assert np.array_equal(SMALL.render(index), images[2 * index : 2 * index + 2])
    again = load(SMALL, tmp_path / "cache", lambda _: pytest.fail("rendered twice"))
    assert np.array_equal(again, images)
    monkeypatch.setenv("LOCAL_RANK", "1")  # a second process of torchrun finds them ready
    assert np.array_equal(load(SMALL, tmp_path / "cache"), images)


def test_chests_scans_and_frames_differ() -> None:
    images = replace(SMALL, n_scans=2).render(5)
    assert len({image.tobytes() for image in images}) == 4
    assert np.all(images.astype(float).std((1, 2)) > 0.02)


def test_digest_tells_sets_apart() -> None:
    sets = [SMALL, replace(SMALL, n_chests=3), replace(SMALL, seed=1), replace(SMALL, random_contrast=0.0)]
    assert len({digest(s) for s in sets}) == len(sets)
    assert digest(SMALL) == digest(VirtualSet(n_chests=2, n_scans=1, n_frames=2))


def test_an_interrupted_rendering_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(replace(SMALL, n_chests=1, n_frames=1), tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []
