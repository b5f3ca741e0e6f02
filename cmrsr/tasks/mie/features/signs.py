"""What CPKDM is shown of one slice: knowledge drawn from cine and native T1 images, in the units it was trained in."""

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmrsr.physics.kinematics import beat_displacement, kinematics
from cmrsr.tasks.mie.features.clusters import tissue_clusters
from cmrsr.tasks.mie.features.registration import Registered, recovered, register_inversions

Array = NDArray[np.float32]
Window = TypeVar("Window", bound=Any)  # an array, or a tensor
N_PHASES, N_INVERSIONS, N_CLUSTERS = 12, 8, 6
CELL = 4  # pixels a side of a cell of motion and clusters
HEART_CROP = 96  # pixels a side about the heart in which enhancement is scaled and judged: 144 mm
SCALE_QUANTILE = 0.98  # of a window: what becomes 1
MOTION_UNITS = (10.0, 10.0, 0.3, 0.2)  # u_r and u_c in mm, e_rr, e_cc: brings them to the size of other features
LARGEST = 3.0  # of those units
LONGEST_T1_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionSigns:
    """cine (t, y, x) in units of its bright signal, and its motion (t, 4, y / CELL, x / CELL)."""

    cine: Array
    motion: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySigns:
    """inversions (8, y, x) in units of their bright signal, timing (8,) and t1 (1, y, x) in s, 0 where T1 is unknown,
    labels (y, x): clusters, by rising T1; clusters (6, y / CELL, x / CELL): their shares of each cell. registered: the
    images and the fit that all this comes from.
    """

    inversions: Array
    timing: Array
    t1: Array
    labels: NDArray[np.uint8]
    clusters: Array
    registered: Registered


def motion_signs(window: NDArray[Any], centre: ArrayLike, pixel_mm: float) -> MotionSigns:
    """Motion features of a cine (t, y, x) over one cycle from end-diastole, about the LV centre (y, x) in pixels.

    ``N_PHASES`` frames are taken evenly; with fewer frames some are taken twice.
    """
    n = len(window)
    frames = np.asarray(window, np.float32)[np.round(np.arange(N_PHASES) * n / N_PHASES).astype(int) % n]
    found = kinematics(beat_displacement(frames), centre, pixel_mm)
    parts = np.stack([found.u_r, found.u_c, found.e_rr, found.e_cc], 1)
    scaled = np.clip(parts / np.array(MOTION_UNITS, np.float32)[:, None, None], -LARGEST, LARGEST)
    return MotionSigns(cine=frames / _bright(frames), motion=_pooled(scaled))


def recovery_signs(window: NDArray[Any], inversion_ms: NDArray[Any], seed: int = 0) -> RecoverySigns:
    """Recovery features of magnitude inversion-recovery images (n, y, x) of one slice, after motion correction."""
    order = np.argsort(inversion_ms, kind="stable")
    registered = register_inversions(np.asarray(window, np.float32)[order], np.asarray(inversion_ms)[order])
    images, times = eight(registered, np.asarray(inversion_ms, np.float64)[order])
    labels = tissue_clusters(images, registered.fit.t1_ms, N_CLUSTERS, seed)
    one_hot = (labels == np.arange(N_CLUSTERS)[:, None, None]).astype(np.float32)
    t1 = np.nan_to_num(np.minimum(registered.fit.t1_ms / 1000, LONGEST_T1_S), nan=0.0)
    return RecoverySigns(
        inversions=images / _bright(images), timing=(times / 1000).astype(np.float32),
        t1=t1[None].astype(np.float32), labels=labels, clusters=_pooled(one_hot), registered=registered,
    )  # fmt: skip


def eight(registered: Registered, inversion_ms: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """``N_INVERSIONS`` images and their times (ms): evenly chosen of more; of fewer, the fit fills the widest gaps."""
    images, times = registered.images, inversion_ms
    if len(times) > N_INVERSIONS:
        kept = np.round(np.linspace(0, len(times) - 1, N_INVERSIONS)).astype(int)
        return images[kept], times[kept]
    while len(times) < N_INVERSIONS:
        gap = int(np.argmax(np.diff(times)))
        between = (times[gap] + times[gap + 1]) / 2
        filled = recovered(registered.fit, np.array([between])).astype(np.float32)
        images, times = np.insert(images, gap + 1, filled[0], 0), np.insert(times, gap + 1, between)
    return images, times


def enhancement_scale(window: NDArray[Any]) -> float:
    """What is 1 in a window (y, x) of late enhancement: its bright signal within HEART_CROP pixels about the middle."""
    return float(_bright(heart_crop(np.asarray(window, np.float32))))


def heart_crop(window: Window) -> Window:
    """The HEART_CROP x HEART_CROP pixels in the middle of (..., y, x): the heart and what lies close to it.

    All pixels where there are fewer.
    """
    top, left = (max(n - HEART_CROP, 0) // 2 for n in window.shape[-2:])
    return cast(Window, window[..., top : top + HEART_CROP, left : left + HEART_CROP])


def _bright(images: Array) -> np.float32:
    return np.float32(max(float(np.quantile(images[..., ::2, ::2], SCALE_QUANTILE)), 1e-6))


def _pooled(maps: NDArray[np.floating[Any]]) -> Array:
    """Means over cells of (..., y, x)."""
    *lead, y, x = maps.shape
    cells = maps.reshape(*lead, y // CELL, CELL, x // CELL, CELL)
    return np.asarray(cells.mean((-3, -1)), np.float32)
