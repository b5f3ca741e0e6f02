from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cmrsr.tasks.interp4d.training.virtual import CineSet
from cmrsr.training.cache import FULL_SCALE, digest, load

SMALL = CineSet(n_patients=2, n_slices=3, n_phases=6, crop=64)


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    return SMALL.render(0)[0] / FULL_SCALE


def test_rendered_once_item_by_item(tmp_path: Path, stack: np.ndarray) -> None:
    images = load(SMALL, tmp_path)
    assert images.shape == (2, 2, 6, 3, 64, 64)
    assert np.array_equal(images[0] / FULL_SCALE, stack)
    assert not np.array_equal(images[0], images[1])
    assert digest(SMALL) != digest(replace(SMALL, seed=1))


def test_the_heart_beats_in_the_middle_slice_and_returns(stack: np.ndarray) -> None:
    noisy, clean = stack
    change = np.abs(np.diff(clean[:, 1], axis=0)).mean((1, 2))
    assert change.max() > 0.004
    # the cycle closes: the last phase is nearer to the first than end systole is
    from_start = np.abs(clean[:, 1] - clean[0, 1]).mean((1, 2))
    assert from_start[-1] < 0.7 * from_start.max()
    assert 0 < np.abs(noisy - clean).mean() < 0.5 * np.abs(clean - clean.mean()).mean()
    assert noisy.max() == pytest.approx(1.0)


def test_noise_is_new_in_every_frame(stack: np.ndarray) -> None:
    noise = stack[0] - stack[1]
    first, second = noise[0, 1].ravel(), noise[1, 1].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2
