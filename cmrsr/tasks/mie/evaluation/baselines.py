"""What needs no model: scar by a threshold on T1, and images that are T1 images in another contrast."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.heart.window import READING_MM
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.tasks.mie.features.scar import scar_mask
from cmrsr.tasks.mie.features.signs import enhancement_scale, heart_crop
from cmrsr.tasks.mie.result import MieSlice

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
T1_THRESHOLD = "T1 threshold"
BEST_INVERSION, T1_MAP, MIXTURE = "best IR image", "T1 map, rescaled", "mixture of IR images"
IMAGES = (BEST_INVERSION, T1_MAP, MIXTURE)
ABOVE_SD = 2.0  # of remote wall
SECTORS, LEAST_PIXELS = 6, 10  # of a slice's wall; of a sector
LONGEST_T1_MS = 3000.0


def threshold_mask(one: MieSlice) -> Mask:
    """Wall whose T1 exceeds the mean of remote wall by 2 standard deviations.

    Remote is the sixth of the slice's wall with the lowest median T1: where the scar is is not known. Cleaned as the
    scar of ``mie`` is. Nothing where no LV was found.
    """
    wall = (one.labels == MYOCARDIUM) & np.isfinite(one.t1_ms)
    if not wall.any() or not (one.labels == LV).any():
        return np.zeros(wall.shape, np.bool_)
    y, x = np.indices(wall.shape) - np.argwhere(one.labels == LV).mean(0)[:, None, None]
    sector = (np.arctan2(-y, x) % (2 * np.pi) * SECTORS / (2 * np.pi)).astype(int) % SECTORS
    parts = [one.t1_ms[wall & (sector == s)] for s in range(SECTORS)]
    parts = [part for part in parts if part.size >= LEAST_PIXELS]
    if not parts:
        return np.zeros(wall.shape, np.bool_)
    remote = min(parts, key=lambda part: float(np.median(part)))
    above = wall & (one.t1_ms > remote.mean() + ABOVE_SD * remote.std())
    return scar_mask(above.astype(np.float32), one.labels, READING_MM, 0.5)


def planes(one: MieSlice) -> dict[str, NDArray[np.float32]]:
    """What baselines are made of, each (n, y, x) about the heart: T1 images of one brightness, and the T1 map."""
    images = heart_crop(one.inversions) / enhancement_scale(one.inversions)
    t1 = np.nan_to_num(np.minimum(heart_crop(one.t1_ms), LONGEST_T1_MS), nan=0.0) / LONGEST_T1_MS
    return {MIXTURE: np.asarray(images, np.float32), T1_MAP: np.asarray(t1[None], np.float32)}


def rescaled(
    shown: Sequence[Mapping[str, NDArray[Any]]], truth: Sequence[NDArray[Any]]
) -> tuple[dict[str, list[Array]], int]:
    """The baselines' images of every slice, and which T1 image (from 0, by inversion time) was best.

    shown: ``planes`` of each; truth: references, ``scaled``. Weights and offset are those of least squares over these
    very slices: no T1 image, rescaled alike in all of them, comes nearer. All slices must have as many T1 images.
    """
    every = [np.asarray(one[MIXTURE], np.float64) for one in shown]
    mixture, _ = _fitted(every, truth)
    t1_map, _ = _fitted([np.asarray(one[T1_MAP], np.float64) for one in shown], truth)
    singles = [_fitted([images[k : k + 1] for images in every], truth) for k in range(len(every[0]))]
    best = int(np.argmin([error for _, error in singles]))
    return {BEST_INVERSION: singles[best][0], T1_MAP: t1_map, MIXTURE: mixture}, best


def _fitted(images: Sequence[Array], truth: Sequence[NDArray[Any]]) -> tuple[list[Array], float]:
    """Weighted sums of images (n, y, x) nearest to the references, and their mean square error."""
    n = len(images[0]) + 1
    normal, right = np.zeros((n, n)), np.zeros(n)
    tables = [np.concatenate([np.ones((1, *one.shape[1:])), one]).reshape(n, -1) for one in images]
    for table, wanted in zip(tables, truth, strict=True):
        normal += table @ table.T
        right += table @ np.asarray(wanted, np.float64).ravel()
    weights = np.linalg.lstsq(normal, right, rcond=None)[0]
    found = [np.maximum(weights @ table, 0).reshape(one.shape[1:]) for table, one in zip(tables, images, strict=True)]
    return found, float(np.mean([np.mean((f - w) ** 2) for f, w in zip(found, truth, strict=True)]))
