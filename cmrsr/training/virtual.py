"""Training images from virtual patients, rendered once and kept on disk."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.breath import draw_breath
from cmrsr.phantom.chest import draw_chest
from cmrsr.phantom.contrast import draw_passage, draw_sequence, first_pass_signals
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.plane import FINE, Plane
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scanner import HARD, acquire, draw_scanner, typical_peak
from cmrsr.phantom.tissue import redraw_materials

FULL_SCALE = 65535  # images are stored as uint16 of their own maximum
_STREAM = 9  # of a patient's random numbers
RENDERER = 3  # raise when the phantom changes what it draws, so that old caches are not used


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
    patient = draw_patient(virtual.seed, index + 1)
    rng = patient.rng(_STREAM)
    chest = draw_chest(patient)
    section = Section(patient, chest, _draw_plane(rng, patient))
    images = []
    for _ in range(virtual.n_scans):
        # the same shapes in other tissues, at another time, on another scanner
        materials = redraw_materials(rng, chest.materials, float(rng.choice([1.5, 3.0])))
        passage = draw_passage(rng, patient, 60, bool(rng.random() < 0.5))
        if rng.random() < virtual.random_contrast:
            signals = rng.random((passage.times_s.size, materials.rho.size), np.float32) ** rng.uniform(1, 2)
        else:
            signals = first_pass_signals(materials, passage, draw_sequence(rng))
        signals = signals / typical_peak(signals)
        scanner = draw_scanner(rng, FINE, virtual.matrix, HARD)
        breath = draw_breath(rng, passage.times_s[-1], (1.0, 4.0, 10.0))
        activation = rng.random()  # the phase of the cycle that triggering happens to hit
        for t in rng.choice(passage.times_s.size, virtual.n_frames, replace=False):
            moment = section.at(Pose(activation=activation, breath_mm=breath.at(passage.times_s[t])))
            image = acquire(moment.signal(signals[t], materials.texture), scanner, rng)
            images.append((image * (FULL_SCALE / image.max())).astype(np.uint16))
    return np.stack(images)


def _draw_plane(rng: np.random.Generator, patient: VirtualPatient) -> Plane:
    """A slice through the heart: short-axis, leaning a little or, for variety, a lot, turned in any way."""
    lean = rng.choice([0.1, 0.8], p=[0.8, 0.2])
    normal = patient.turn[:, 2] + lean * rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    along_x = np.cross(normal, rng.normal(size=3))
    along_x /= np.linalg.norm(along_x)
    heart = patient.heart.lv
    centre = patient.apex_mm + patient.turn[:, 2] * (heart.base_z * rng.uniform(0.15, 0.95)) + rng.normal(0, 10, 3)
    return Plane(
        centre=centre, along_y=np.cross(normal, along_x), along_x=along_x, fov=float(rng.uniform(260, 420)),
        thickness=float(rng.uniform(5, 10)),
    )  # fmt: skip
