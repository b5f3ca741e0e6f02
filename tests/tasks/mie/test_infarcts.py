"""Slices are looked at once, kept on disk, and come back as they were."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cmrsr.phantom.scan import LABELS
from cmrsr.tasks.mie.features.signs import CELL, N_CLUSTERS, N_INVERSIONS, N_PHASES, enhancement_scale, recovery_signs
from cmrsr.tasks.mie.training import infarcts
from cmrsr.tasks.mie.training.data import Infarct
from cmrsr.tasks.mie.training.infarcts import virtual_infarcts, write_signs
from cmrsr.tasks.mie.training.virtual import InfarctSet
from tests.ring_infarcts import ENHANCED, SIZE, TIMES_MS, cine, labels_at, recovery

VIRTUAL = InfarctSet(n_patients=2, n_slices=2, window=SIZE)
CELLS = (SIZE // CELL, SIZE // CELL)


def planes() -> NDArray[np.uint16]:
    """Two patients of two slices, as the renderer packs them: the second slice of each has a scar."""
    out = np.zeros((4, N_PHASES + N_INVERSIONS + 4, SIZE, SIZE))
    for i in range(4):
        scar = i % 2 == 1
        out[i, :N_PHASES] = cine(scar, i) * 30000
        out[i, N_PHASES : N_PHASES + N_INVERSIONS] = recovery(scar, i) * 50000
        out[i, N_PHASES + N_INVERSIONS] = ENHANCED[labels_at(8, scar)] * 60000
        out[i, N_PHASES + N_INVERSIONS + 1] = labels_at(8, scar)
        out[i, N_PHASES + N_INVERSIONS + 2] = labels_at(9, scar)
        out[i, N_PHASES + N_INVERSIONS + 3, 0, :N_INVERSIONS] = TIMES_MS
    return out.astype(np.uint16)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the signs of ``planes``, written by other processes."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infarcts, "load", lambda *_: planes())
        virtual_infarcts(VIRTUAL, folder)
    return folder


@pytest.fixture(scope="module")
def patients(cache: Path) -> list[list[Infarct]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infarcts, "load", lambda *_: pytest.fail("rendered although the signs are there"))
        return virtual_infarcts(VIRTUAL, cache)


def test_slices_come_by_patient_in_their_order(patients: list[list[Infarct]]) -> None:
    assert [len(slices) for slices in patients] == [2, 2]
    for slices in patients:
        assert [bool((s.labels == LABELS["scar"]).any()) for s in slices] == [False, True]
    for i, s in enumerate(s for slices in patients for s in slices):
        assert_array_equal(s.labels, labels_at(8, i % 2 == 1))


def test_a_slice_is_its_signs(patients: list[list[Infarct]]) -> None:
    s = patients[1][1]
    assert s.cine.shape == (N_PHASES, SIZE, SIZE)
    assert s.motion.shape == (N_PHASES, 4, *CELLS)
    assert s.inversions.shape == (N_INVERSIONS, SIZE, SIZE)
    assert s.t1.shape == (1, SIZE, SIZE)
    assert s.clusters.shape == (N_CLUSTERS, *CELLS)
    assert s.labels.dtype == np.uint8
    images = planes()[3, N_PHASES : N_PHASES + N_INVERSIONS].astype(np.float32)
    wanted = recovery_signs(images, TIMES_MS, seed=3)
    assert_allclose(s.inversions, wanted.inversions, rtol=2e-3, atol=1e-4)  # half precision
    assert_allclose(s.t1, wanted.t1, rtol=2e-3, atol=1e-4)
    assert_allclose(s.clusters, wanted.clusters, atol=1e-3)
    assert_allclose(s.timing, TIMES_MS / 1000, rtol=1e-3)
    late = planes()[3, N_PHASES + N_INVERSIONS].astype(np.float32)
    assert_allclose(s.enhancement, late / enhancement_scale(late), rtol=2e-3)


def test_motion_is_about_a_centre_near_the_cavitys(patients: list[list[Infarct]]) -> None:
    """As a reader's would be, it is a little off; the wall moves towards it all the same."""
    s = patients[0][0]
    wall = labels_at(8, False)[2::CELL, 2::CELL] == LABELS["myocardium"]
    assert s.motion[N_PHASES // 2, 0][wall].mean() < -0.1


def test_nothing_else_is_left_in_the_cache(cache: Path) -> None:
    assert [p.suffix for p in cache.iterdir()] == [".npy"]


def test_an_interrupted_look_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(infarcts, "get_context", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_signs(planes(), VIRTUAL, tmp_path / "signs.npy")
    assert list(tmp_path.iterdir()) == []
