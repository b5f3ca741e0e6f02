"""Slices with the truth of their enhancement, as ``mie`` is trained on them: their signs, kept on disk."""

import os
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.scan import LABELS
from cmrsr.tasks.mie.features.signs import (
    CELL,
    N_CLUSTERS,
    N_INVERSIONS,
    N_PHASES,
    enhancement_scale,
    motion_signs,
    recovery_signs,
)
from cmrsr.tasks.mie.training.data import Infarct
from cmrsr.tasks.mie.training.virtual import InfarctSet
from cmrsr.training.cache import digest, load

SIGNS = 2  # raised when the signs change, so that old caches are not used
CENTRE_SD_MM = 2.0  # how far off a reader's centre of the LV may be
_STREAM = 21


def virtual_infarcts(
    virtual: InfarctSet, cache: Path, on_item: Callable[[int], None] | None = None
) -> list[list[Infarct]]:
    """The slices of every virtual patient, rendered and looked at where ``cache`` does not hold them yet."""
    path = cache / f"signs-{digest(virtual)}-{SIGNS}.npy"
    if not path.exists():
        planes = load(virtual, cache, on_item)
        write_signs(planes, virtual, path)
    packed = np.load(path, mmap_mode="r")
    return [
        [_unpacked(packed[i * virtual.n_slices + z], virtual.window) for z in range(virtual.n_slices)]
        for i in range(virtual.n_patients)
    ]


def write_signs(planes: NDArray[np.uint16], virtual: InfarctSet, path: Path) -> None:
    """Look at all slices (n, planes, y, x) with all processors."""
    partial_path = path.with_suffix(f".{os.getpid()}.partial")
    work = partial(_packed, pixel_mm=virtual.pixel_mm)
    out = np.lib.format.open_memmap(
        partial_path, mode="w+", dtype=np.float16, shape=(len(planes), _length(virtual.window))
    )
    try:
        with get_context("spawn").Pool() as pool:
            for i, row in enumerate(pool.imap(work, enumerate(planes), chunksize=4)):
                out[i] = row
        out.flush()
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


def _packed(item: tuple[int, NDArray[np.uint16]], pixel_mm: float) -> NDArray[np.float16]:
    index, planes = item
    rng = np.random.default_rng((_STREAM, index))
    images = planes.astype(np.float32)
    n_phases = len(planes) - N_INVERSIONS - 4
    start = images[n_phases + N_INVERSIONS + 2]
    where = np.argwhere(start == LABELS["lv"])
    centre = where.mean(0) if len(where) else np.array(start.shape) / 2
    motion = motion_signs(images[:n_phases], centre + rng.normal(0, CENTRE_SD_MM / pixel_mm, 2), pixel_mm)
    times = images[-1, 0, :N_INVERSIONS].astype(np.float64)
    recovery = recovery_signs(images[n_phases : n_phases + N_INVERSIONS], times, seed=index)
    late = images[n_phases + N_INVERSIONS]
    late = late / enhancement_scale(late)
    parts = (
        motion.cine, motion.motion, recovery.inversions, recovery.timing, recovery.t1, recovery.clusters, late,
        images[n_phases + N_INVERSIONS + 1],
    )  # fmt: skip
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float16)


def _shapes(n: int) -> list[tuple[int, ...]]:
    cells = (n // CELL, n // CELL)
    return [
        (N_PHASES, n, n), (N_PHASES, 4, *cells), (N_INVERSIONS, n, n), (N_INVERSIONS,), (1, n, n),
        (N_CLUSTERS, *cells), (n, n), (n, n),
    ]  # fmt: skip


def _length(n: int) -> int:
    return sum(int(np.prod(shape)) for shape in _shapes(n))


def _unpacked(row: NDArray[np.float16], n: int) -> Infarct:
    parts, start = [], 0
    for shape in _shapes(n):
        size = int(np.prod(shape))
        parts.append(row[start : start + size].reshape(shape))
        start += size
    cine, motion, inversions, timing, t1, clusters, late, labels = parts
    return Infarct(
        cine=cine, motion=motion, inversions=inversions, timing=np.asarray(timing, np.float32), t1=t1,
        clusters=clusters, enhancement=late, labels=np.asarray(labels, np.uint8),
    )  # fmt: skip
