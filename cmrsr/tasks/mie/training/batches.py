"""Batches of slices for ``mie``: crops, turned and mirrored, in slightly other brightness."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmrsr.tasks.mie.features.signs import CELL
from cmrsr.tasks.mie.training.data import Infarct

GAMMA_SD, GAIN_SD, NOISE = 0.15, 0.1, 0.02  # of the cine's contrast, of all brightness, of added noise at most
T1_SHIFT_S, T1_STRETCH = 0.03, 0.05  # sd, of scanners and sequences among each other


class InfarctBatch(NamedTuple):
    """What the model is given (see ``models.cpkdm``), and the truth: enhancement (n, 1, y, x), labels (n, y, x)."""

    cine: Tensor
    motion: Tensor
    inversions: Tensor
    timing: Tensor
    t1: Tensor
    clusters: Tensor
    enhancement: Tensor
    labels: Tensor

    def to(self, device: str) -> "InfarctBatch":
        return InfarctBatch(*(x.to(device) for x in self))


def draw_infarcts(slices: Sequence[Infarct], crop: int, size: int, rng: np.random.Generator) -> InfarctBatch:
    """``size`` slices, each cut at random, turned by quarters, mirrored and recoloured."""
    return _stacked([_augmented(slices[int(i)], crop, rng) for i in rng.integers(len(slices), size=size)])


def whole_infarcts(slices: Sequence[Infarct]) -> InfarctBatch:
    """Slices as they are."""
    return _stacked([_arrays(s) for s in slices])


def _arrays(s: Infarct) -> list[NDArray[np.float32]]:
    parts = (s.cine, s.motion, s.inversions, s.timing, s.t1, s.clusters, s.enhancement[None], s.labels)
    return [np.asarray(part, np.float32) for part in parts]


def _stacked(rows: list[list[NDArray[np.float32]]]) -> InfarctBatch:
    parts = [torch.from_numpy(np.stack([np.ascontiguousarray(row[k]) for row in rows])) for k in range(len(rows[0]))]
    return InfarctBatch(*parts)._replace(labels=parts[-1].long())


def _augmented(s: Infarct, crop: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    parts = _arrays(s)
    room = (s.labels.shape[-1] - crop) // CELL
    top, left = rng.integers(0, room + 1, 2)
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    timing = 3
    for k, part in enumerate(parts):
        if k == timing:
            continue
        fine = 1 if part.shape[-1] == s.labels.shape[-1] else CELL
        y, x, n = (int(v) * CELL // fine for v in (top, left, crop // CELL))
        cut = np.rot90(part[..., y : y + n, x : x + n], turns, (-2, -1))
        parts[k] = cut[..., ::-1] if mirrored else cut
    cine, motion, inversions, _, t1 = parts[:5]
    if mirrored:  # across the radius, from x towards y: a mirror turns it round
        motion = motion * np.array([1, -1, 1, 1], np.float32)[:, None, None]
    gains = np.exp(rng.normal(0, GAIN_SD, 2)).astype(np.float32)
    parts[0] = _noisy(cine ** np.float32(np.exp(rng.normal(0, GAMMA_SD))) * gains[0], rng)
    parts[1] = motion
    parts[2] = _noisy(inversions * gains[1], rng)
    parts[4] = np.where(t1 > 0, t1 * (1 + rng.normal(0, T1_STRETCH)) + rng.normal(0, T1_SHIFT_S), 0).astype(np.float32)
    return parts


def _noisy(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    noise = rng.standard_normal(images.shape, np.float32) * np.float32(rng.uniform(0, NOISE))
    return np.abs(images + noise)
