"""Slices of a ring about a disc that beats, part of it scarred and still, as ``mie`` is trained on them."""

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cmrsr.phantom.scan import LABELS
from cmrsr.tasks.mie.features.signs import N_INVERSIONS, N_PHASES, motion_signs, recovery_signs
from cmrsr.tasks.mie.training.data import Infarct, Infarcts

SIZE, PIXEL_MM = 48, 1.5
MIDDLE = (SIZE - 1) / 2
TIMES_MS = np.array([100.0, 180, 1000, 1080, 1900, 1980, 2800, 3700])
# of background, RV, myocardium, LV and scar
T1_MS = np.array([300.0, 1800.0, 1100.0, 1800.0, 1450.0])
CINE = np.array([0.25, 0.9, 0.4, 1.0, 0.4])
ENHANCED = np.array([0.3, 0.5, 0.1, 0.6, 1.0])

Array = NDArray[np.float32]


def labels_at(inner: float, scar: bool, size: int = SIZE) -> NDArray[np.uint8]:
    """``LABELS`` of a ring of 6 pixels about a cavity, an RV beside it; the scar is its lower right quarter."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    radius = np.hypot(y, x)
    out = np.zeros((size, size), np.uint8)
    out[np.hypot(y, x + 14) < 8] = LABELS["rv"]
    out[radius < inner + 6] = LABELS["myocardium"]
    if scar:
        out[(radius < inner + 6) & (y > 0) & (x > 0)] = LABELS["scar"]
    out[radius < inner] = LABELS["lv"]
    return out


def cine(scar: bool, seed: int, size: int = SIZE) -> Array:
    """(N_PHASES, y, x), whose texture is that of the seed."""
    rough = gaussian_filter(np.random.default_rng(seed).random((size, size)), 1.5)
    inner = 7 + 2 * np.cos(2 * np.pi * np.arange(N_PHASES) / N_PHASES)
    still = labels_at(9, scar, size)
    y, x = np.indices((size, size)) - (size - 1) / 2
    frames = []
    for r in inner:
        labels = np.where(scar & (y > 0) & (x > 0), still, labels_at(float(r), False, size))
        frames.append(gaussian_filter(CINE[labels], 0.7) * (0.8 + 0.4 * rough))
    return np.stack(frames).astype(np.float32)


def recovery(scar: bool, seed: int, size: int = SIZE) -> Array:
    """(N_INVERSIONS, y, x)."""
    t1 = T1_MS[labels_at(8, scar, size)]
    images = np.abs(1 - 2 * np.exp(-TIMES_MS[:, None, None] / t1))
    return np.abs(images + np.random.default_rng(seed).normal(0, 0.02, images.shape)).astype(np.float32)


@functools.cache
def ring_infarct(seed: int = 0, *, scar: bool = True, size: int = SIZE) -> Infarct:
    """Its signs are those that a scan would have; the enhancement is one grey a tissue."""
    labels = labels_at(8, scar, size)
    middle = (size - 1) / 2
    motion = motion_signs(cine(scar, seed, size), (middle, middle), PIXEL_MM)
    found = recovery_signs(recovery(scar, seed, size), TIMES_MS)
    assert len(found.timing) == N_INVERSIONS
    return Infarct(
        cine=motion.cine.astype(np.float16), motion=motion.motion.astype(np.float16),
        inversions=found.inversions.astype(np.float16), timing=found.timing, t1=found.t1.astype(np.float16),
        clusters=found.clusters.astype(np.float16),
        enhancement=gaussian_filter(ENHANCED[labels], 0.5).astype(np.float16), labels=labels,
    )  # fmt: skip


def ring_infarcts(n_training: int = 4, n_validation: int = 2) -> Infarcts:
    """Every second slice has a scar."""
    slices = [ring_infarct(i, scar=i % 2 == 0) for i in range(n_training + n_validation)]
    return Infarcts(training=slices[n_validation:], validation=slices[:n_validation], description="rings")
