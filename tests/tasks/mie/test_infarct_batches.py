"""Crops, turns and mirrors keep all planes of a slice on each other, and what has a direction turns with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from torch.testing import assert_close

from cmrsr.tasks.mie.features.signs import CELL, N_CLUSTERS, N_INVERSIONS, N_PHASES, motion_signs
from cmrsr.tasks.mie.training import batches as infarct_batches
from cmrsr.tasks.mie.training.batches import InfarctBatch, draw_infarcts, whole_infarcts
from cmrsr.tasks.mie.training.data import Infarct
from tests.ring_infarcts import MIDDLE, PIXEL_MM, SIZE, cine, ring_infarct

CROP = 32


@pytest.fixture(autouse=True)
def plain_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Geometry alone, unless a test asks for more."""
    for name in ("GAMMA_SD", "GAIN_SD", "NOISE", "T1_SHIFT_S", "T1_STRETCH"):
        monkeypatch.setattr(infarct_batches, name, 0.0)


def numbered() -> Infarct:
    """Every plane says where its pixel (or cell) lies: 1 + row * SIZE + column of the pixel, or of the cell's first."""
    y, x = np.indices((SIZE, SIZE))
    number = 1.0 + y * SIZE + x
    cells = number[::CELL, ::CELL]
    with np.errstate(over="ignore"):
        return Infarct(
            cine=np.repeat(number[None], N_PHASES, 0), motion=np.tile(cells, (N_PHASES, 4, 1, 1)),
            inversions=np.repeat(number[None], N_INVERSIONS, 0), timing=np.arange(8, dtype=np.float32),
            t1=number[None], clusters=np.repeat(cells[None], N_CLUSTERS, 0), enhancement=number,
            labels=number.astype(np.int32),
        )  # fmt: skip  # float64 instead of half: numbers beyond 2048 stay exact


def corners(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """The least number within each cell, which is that of its first pixel whichever way it is turned."""
    *lead, y, x = cells.shape
    return cells.reshape(*lead, y // CELL, CELL, x // CELL, CELL).min((-3, -1))


def test_planes_stay_on_each_other() -> None:
    seen = set()
    for seed in range(24):
        batch = draw_infarcts([numbered()], CROP, 1, np.random.default_rng(seed))
        where = batch.labels[0].numpy().astype(np.float32)
        assert where.shape == (CROP, CROP)
        for plane in (batch.cine[0, 3], batch.inversions[0, 5], batch.t1[0, 0], batch.enhancement[0, 0]):
            assert_array_equal(plane.numpy(), where)
        assert_array_equal(batch.clusters[0, 2].numpy(), corners(where))
        for part in range(4):
            assert_array_equal(np.abs(batch.motion[0, 4, part].numpy()), corners(where))
        assert_array_equal(batch.timing[0].numpy(), np.arange(8))
        row, column = np.divmod(where - 1, SIZE)
        assert (row.min() % CELL, column.min() % CELL) == (0, 0)  # cells are cut whole
        seen.add((where[1, 0] - where[0, 0], where[0, 1] - where[0, 0]))
    assert len(seen) == 8  # all turns and mirrors


def test_signs_of_a_turned_slice_are_the_turned_signs() -> None:
    """Across the radius a mirror changes the direction; nothing else changes. Flow is found anew, so nearly."""
    frames = np.stack([np.roll(frame, t % 3, -1) for t, frame in enumerate(cine(True, 1))])  # moves across, too
    before = motion_signs(frames, (MIDDLE, MIDDLE), PIXEL_MM)
    one = replace(ring_infarct(1), cine=before.cine, motion=before.motion)
    mirrors = set()
    for seed in range(6):
        where = draw_infarcts([numbered()], SIZE, 1, np.random.default_rng(seed)).labels[0].numpy() - 1
        batch = draw_infarcts([one], SIZE, 1, np.random.default_rng(seed))
        moved = frames.reshape(N_PHASES, -1)[:, where]
        after = motion_signs(moved, (MIDDLE, MIDDLE), PIXEL_MM)
        assert_allclose(batch.cine[0].numpy(), after.cine, rtol=0.01)
        heart = (slice(None), slice(None), slice(3, 9), slice(3, 9))
        error = np.abs(batch.motion[0].numpy() - after.motion)[heart].mean((0, 2, 3))
        size = np.abs(after.motion[heart]).mean((0, 2, 3))
        assert (error < 0.3 * size).all(), (error, size)
        (down, right) = (where[1, 0] - where[0, 0], where[0, 1] - where[0, 0])
        mirrors.add((down, right) in ((SIZE, -1), (-SIZE, 1), (1, SIZE), (-1, -SIZE)))
    assert mirrors == {False, True}


def test_colours_change_and_the_truth_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    one = ring_infarct(0)
    plain = whole_infarcts([one])
    shifts = []
    for seed in range(8):
        batch = draw_infarcts([one], SIZE, 1, np.random.default_rng(seed))
        assert sorted(batch.labels.unique().tolist()) == sorted(plain.labels.unique().tolist())
        assert_close(batch.enhancement.sort().values.sum(), plain.enhancement.sum(), rtol=1e-5, atol=0)
        assert batch.cine.min() >= 0
        assert batch.inversions.min() >= 0
        wall = (batch.labels == 2)[:, None]
        shifts.append(float(batch.t1[wall].median() - plain.t1[(plain.labels == 2)[:, None]].median()))
        assert not torch.equal(batch.cine.flatten().sort().values, plain.cine.flatten().sort().values)
    assert 0.01 < np.std(shifts) < 0.15


def test_unknown_t1_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    one = ring_infarct(0)
    t1 = one.t1.copy()
    t1[:, :12] = 0
    batch = draw_infarcts([replace(one, t1=t1)], SIZE, 4, np.random.default_rng(1))
    assert ((batch.t1 == 0).sum((1, 2, 3)) >= 12 * SIZE).all()


def test_a_batch_is_its_seed() -> None:
    slices = [ring_infarct(i) for i in range(3)]
    one, same, other = (draw_infarcts(slices, CROP, 4, np.random.default_rng(s)) for s in (5, 5, 6))
    for a, b in zip(one, same, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.cine, other.cine)


def test_shapes_and_types() -> None:
    n, cells = 2, CROP // CELL
    batch = draw_infarcts([ring_infarct(0)], CROP, n, np.random.default_rng(0))
    assert {name: tuple(part.shape) for name, part in zip(InfarctBatch._fields, batch, strict=True)} == {
        "cine": (n, N_PHASES, CROP, CROP), "motion": (n, N_PHASES, 4, cells, cells),
        "inversions": (n, N_INVERSIONS, CROP, CROP), "timing": (n, N_INVERSIONS), "t1": (n, 1, CROP, CROP),
        "clusters": (n, N_CLUSTERS, cells, cells), "enhancement": (n, 1, CROP, CROP), "labels": (n, CROP, CROP),
    }  # fmt: skip
    assert batch.labels.dtype == torch.int64
    assert {part.dtype for part in batch[:-1]} == {torch.float32}
    assert batch.to("cpu").cine.device.type == "cpu"


def test_whole_slices_are_as_they_are() -> None:
    one = ring_infarct(2)
    batch = whole_infarcts([one])
    for name in ("cine", "motion", "inversions", "t1", "clusters"):
        assert_array_equal(getattr(batch, name)[0].numpy(), getattr(one, name))
    assert_array_equal(batch.enhancement[0, 0].numpy(), one.enhancement)
    assert_array_equal(batch.labels[0].numpy(), one.labels)
