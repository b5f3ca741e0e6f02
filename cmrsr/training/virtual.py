"""Training images from virtual patients, rendered once and kept on disk."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.anatomy import FINE, draw_chest
from cmrsr.phantom.perfusion import (
    displace,
    draw_motion,
    draw_passage,
    draw_sequence,
    region_signals,
    render,
    typical_peak,
)
from cmrsr.phantom.scanner import acquire, draw_scanner
from cmrsr.phantom.tissue import draw_regions

FULL_SCALE = 65535  # images are stored as uint16 of their own maximum
RENDERER = 2  # raise when the phantom changes what it draws, so that old caches are not used


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualSet:
    """How many chests, how many scans (contrast, scanner) of each, how many frames of a scan; matrix in pixels."""

    n_chests: int = 1500
    n_scans: int = 3
    n_frames: int = 4
    matrix: int = 160
    random_contrast: float = 0.25  # share of scans whose regions get arbitrary signals instead of a contrast passage
    seed: int = 0

    def digest(self) -> str:
        record = json.dumps([RENDERER, asdict(self)], sort_keys=True)
        return hashlib.sha256(record.encode()).hexdigest()[:16]


def load(virtual: VirtualSet, cache: Path, on_chest: Callable[[int], None] | None = None) -> NDArray[np.uint16]:
    """The images (n, matrix, matrix), memory-mapped from ``cache``; rendered there first where they are missing.

    Under torchrun the first process of each machine renders and the others wait for it.
    """
    path = cache / f"perfusion-{virtual.digest()}.npy"
    while int(os.environ.get("LOCAL_RANK", 0)) > 0 and not path.exists():
        time.sleep(1)
    if not path.exists():
        _render(virtual, path, on_chest)
    images: NDArray[np.uint16] = np.load(path, mmap_mode="r")
    return images


def _render(virtual: VirtualSet, path: Path, on_chest: Callable[[int], None] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # another run may be rendering the same
    per_chest = virtual.n_scans * virtual.n_frames
    shape = (virtual.n_chests * per_chest, virtual.matrix, virtual.matrix)
    out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint16, shape=shape)
    try:
        jobs = [(virtual, i) for i in range(virtual.n_chests)]
        with get_context("spawn").Pool() as pool:
            for i, images in enumerate(pool.imap(_chest_images, jobs, chunksize=4)):
                out[i * per_chest : (i + 1) * per_chest] = images
                if on_chest:
                    on_chest(i + 1)
        out.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _chest_images(job: tuple[VirtualSet, int]) -> NDArray[np.uint16]:
    """All images of one chest; depends on the set's seed and the chest's number alone."""
    virtual, index = job
    rng = np.random.default_rng((virtual.seed, index))
    chest = draw_chest(rng, float(rng.uniform(260, 420)))
    images = []
    for _ in range(virtual.n_scans):
        stress = bool(rng.random() < 0.5)
        passage = draw_passage(rng, 60, stress)
        chest = replace(chest, regions=draw_regions(rng, chest.kinds, chest.regions.segment))
        if rng.random() < virtual.random_contrast:
            signals = rng.random((passage.times_s.size, chest.regions.rho.size)).astype(np.float32) ** rng.uniform(1, 2)
        else:
            signals = region_signals(chest, passage, draw_sequence(rng))
        signals = signals / typical_peak(signals)
        scanner = draw_scanner(rng, FINE, virtual.matrix)
        motion = draw_motion(rng, passage.times_s)
        for t in rng.choice(passage.times_s.size, virtual.n_frames, replace=False):
            moved = displace(render(chest, signals[t]), chest, motion, int(t))
            image = acquire(moved.astype(np.float32), scanner, rng)
            images.append((image * (FULL_SCALE / image.max())).astype(np.uint16))
    return np.stack(images)
