"""Pairs of low and high resolution for training: the degradation, crops and augmentation, drawn anew at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.survey import SCALE_QUANTILE
from cmrsr.physics.kspace import n_lines, truncate


@dataclass(frozen=True, slots=True, kw_only=True)
class PairConfig:
    crop: int
    fraction: tuple[float, float]
    phase_share: float
    brightness: tuple[float, float] = (0.3, 1.3)  # frame scale / series scale: a frame may be far dimmer than others


@dataclass(frozen=True, slots=True)
class Batch:
    """lr, hr: (batch, 1, crop, crop) float32 in units of the series' scale, phase encoding along y.

    brightness: (batch,), the scale of the frame in the same units.
    """

    lr: NDArray[np.float32]
    hr: NDArray[np.float32]
    brightness: NDArray[np.float32]


def draw_batch(images: Sequence[NDArray[Any]], config: PairConfig, size: int, rng: np.random.Generator) -> Batch:
    """Degrade ``size`` randomly chosen images (each y, x) over their whole field of view, then crop.

    The axis of phase encoding, flips and the fraction of lines vary; crops prefer the middle, where the heart is.
    """
    c = config.crop
    lr = np.empty((size, 1, c, c), np.float32)
    hr = np.empty((size, 1, c, c), np.float32)
    low, high = np.log(config.brightness)
    brightness = np.exp(rng.uniform(low, high, size)).astype(np.float32)
    for i in range(size):
        image = np.asarray(images[int(rng.integers(len(images)))], dtype=np.float32)
        if rng.random() < 0.5:
            image = image.T
        image = image[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        low_resolution = _degrade(image, config, rng)
        scale = float(np.quantile(low_resolution[::2, ::2], SCALE_QUANTILE))
        at = tuple(slice(o, o + c) for o in corner(image.shape, c, rng))
        gain = brightness[i] / max(scale, 1e-12)
        lr[i, 0] = low_resolution[at] * gain
        hr[i, 0] = image[at] * gain
    return Batch(lr, hr, brightness)


def _degrade(image: NDArray[np.float32], config: PairConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    wide = rng.random() < 0.15  # now and then outside the range, so that the edges of the range are inside
    low, high = (0.25, 0.8) if wide else config.fraction
    lines = n_lines(rng.uniform(low, high), image.shape[0])
    if rng.random() >= config.phase_share:
        return np.asarray(np.abs(truncate(image, lines, 0)))
    y, x = (np.linspace(-1, 1, n) for n in image.shape)
    y = y[:, None]
    a = rng.normal(0, 2, 5)
    phase = a[0] * y + a[1] * x + a[2] * (y * x) + a[3] * y**2 + a[4] * x**2
    return np.asarray(np.abs(truncate(image * np.exp(1j * phase).astype(np.complex64), lines, 0)))


def corner(shape: tuple[int, ...], crop: int, rng: np.random.Generator) -> tuple[int, int]:
    """A corner for the crop: the mean of two uniform draws, which prefers the middle."""
    y, x = (int((rng.random() + rng.random()) / 2 * (n - crop + 1)) for n in shape)
    return y, x
