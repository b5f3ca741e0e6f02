"""Pairs of low and high resolution for training: the degradation, crops and augmentation, drawn anew at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.survey import SCALE_QUANTILE
from cmrsr.phantom.scanner import raw_filter
from cmrsr.physics.fourier import centre_pad, fft1c, ifft1c
from cmrsr.physics.kspace import band, n_lines, truncate
from cmrsr.tasks.sr.training.acquisition import FINEST, Exposure, draw_acquisition, expose, rician_mean
from cmrsr.tasks.sr.training.data import Pool
from cmrsr.tasks.sr.training.recipe import PairData
from cmrsr.training.crops import corner, smallest_side

Generator = np.random.Generator
Real = NDArray[np.float32]
Trio = tuple[Real, Real, Real]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairConfig:
    """phase_share: of finished images, how many get a phase; short: of scenes, how many are really acquired short."""

    crop: int
    fraction: tuple[float, float]
    phase_share: float
    short: float
    brightness: tuple[float, float] = (0.3, 1.3)  # frame scale / series scale: a frame may be far dimmer than others

    @classmethod
    def of(cls, data: PairData) -> Self:
        """What a recipe asks for."""
        return cls(crop=data.crop, fraction=data.fraction, phase_share=data.phase_share, short=data.short_share)


@dataclass(frozen=True, slots=True)
class Batch:
    """lr, hr: (batch, 1, crop, crop) float32 in units of the series' scale, phase encoding along y.

    expected: the mean of hr over the noise that the missing lines would have carried, given all else; hr itself where
    the noise is not known. Against it the posterior mean is learnt with less noise. brightness: (batch,), the scale of
    the frame in the same units. fraction: (batch,), of the lines that were kept.
    """

    lr: Real
    hr: Real
    expected: Real
    brightness: Real
    fraction: Real


def draw_batch(pools: Sequence[Pool], config: PairConfig, size: int, rng: Generator) -> Batch:
    """Degrade ``size`` randomly chosen images over their whole field of view, then crop.

    The axis of phase encoding, flips and the fraction of lines vary; crops prefer the middle, where the heart is.
    """
    c = config.crop
    lr, hr, expected = (np.empty((size, 1, c, c), np.float32) for _ in range(3))
    low, high = np.log(config.brightness)
    brightness = np.exp(rng.uniform(low, high, size)).astype(np.float32)
    fraction = np.empty(size, np.float32)
    share = np.array([pool.share for pool in pools])
    for i in range(size):
        pool = pools[int(rng.choice(len(pools), p=share / share.sum()))]
        image = np.asarray(pool.images[int(rng.integers(len(pool.images)))], dtype=np.float32)
        if rng.random() < 0.5:
            image = image.T
        image = image[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        if pool.recoloured:
            image = recoloured(image, rng)
        trio, lines = _scanned(image, config, rng) if pool.sharp else _shortened(image, config, rng)
        fraction[i] = lines / trio[0].shape[0]
        scale = float(np.quantile(trio[0][::2, ::2], SCALE_QUANTILE))
        at = tuple(slice(o, o + c) for o in corner(trio[0].shape, c, rng))
        gain = brightness[i] / max(scale, 1e-12)
        lr[i, 0], hr[i, 0], expected[i, 0] = (part[at] * gain for part in trio)
    return Batch(lr, hr, expected, brightness, fraction)


def _shortened(image: Real, config: PairConfig, rng: Generator) -> tuple[Trio, int]:
    """(lr, hr, expected) of a scanner's finished image, and the lines kept."""
    lines = draw_lines(image.shape[0], config, rng)
    if rng.random() >= config.phase_share:
        return (np.abs(truncate(image, lines, 0)), image, image), lines
    y, x = (np.linspace(-1, 1, n) for n in image.shape)
    y = y[:, None]
    a = rng.normal(0, 2, 5)
    phase = a[0] * y + a[1] * x + a[2] * (y * x) + a[3] * y**2 + a[4] * x**2
    return (np.abs(truncate(image * np.exp(1j * phase).astype(np.complex64), lines, 0)), image, image), lines


def _scanned(scene: Real, config: PairConfig, rng: Generator) -> tuple[Trio, int]:
    """(lr, hr, expected) and the lines of a scene: its full image cut afterwards, or acquired short to begin with."""
    exposure = expose(scene, draw_acquisition(rng, scene.shape[0]), rng)
    lines = draw_lines(exposure.noisy.shape[0], config, rng)
    if rng.random() < config.short:
        return acquired_short(exposure, lines, float(rng.uniform(0, 0.7)) if rng.random() < 0.5 else 0.0), lines
    return shortened_afterwards(exposure, lines), lines


def shortened_afterwards(exposure: Exposure, lines: int) -> Trio:
    """(lr, hr, expected) where the magnitude image of the full acquisition is transformed and cut.

    Known of the noise is what lies in the band of the cut magnitude image: beyond it, the mean magnitude remains.
    """
    hr = np.abs(exposure.noisy)
    mean = rician_mean(np.abs(exposure.clean), exposure.sd)
    expected = mean + truncate(hr - mean, lines, 0).real
    return np.abs(truncate(hr, lines, 0)), hr, np.asarray(expected, np.float32)


def acquired_short(exposure: Exposure, lines: int, strength: float) -> Trio:
    """(lr, hr, expected) where only ``lines`` were ever acquired, and a raw filter of ``strength`` covers them.

    Known of the noise is what lies in those lines; what the other lines add to the mean magnitude is Rician.
    """
    short = truncate(exposure.noisy, lines, 0)
    power = np.abs(fft1c(exposure.noisy - exposure.clean, 0)) ** 2
    outside = 1 - power[band(lines, power.shape[0])].sum() / max(float(power.sum()), 1e-12)
    known = np.abs(short + exposure.clean - truncate(exposure.clean, lines, 0))
    expected = rician_mean(known, exposure.sd * np.sqrt(max(outside, 0.0)).astype(np.float32))
    if strength > 0:
        short = _filtered(short, lines, strength)
    return np.abs(short), np.abs(exposure.noisy), expected


def _filtered(image: NDArray[np.complex64], lines: int, strength: float) -> NDArray[Any]:
    weight = centre_pad(raw_filter(lines, lines, strength, 0.3).astype(np.float32), image.shape[0], 0)
    return ifft1c(fft1c(image, 0) * weight[:, None], 0)


def recoloured(image: Real, rng: Generator) -> Real:
    """An image (brightest about 1) in another contrast: grey values mapped by a random smooth curve, some regions dim.

    A bSSFP cine becomes as varied as saturation recovery before, during and after the passage of contrast.
    """
    levels = np.linspace(0, 1.2, 6)
    if rng.random() < 0.5:
        curve = levels ** rng.uniform(0.6, 1.8)
    else:
        curve = np.clip(np.r_[rng.uniform(0, 0.2), rng.random(5) * 1.2], 0, None)
    fine = np.linspace(-0.2, 1.6, 181)
    mapped = np.interp(fine, levels, curve)
    smooth = np.convolve(np.pad(mapped, 8, mode="edge"), np.hanning(19)[1:-1] / np.hanning(19).sum(), mode="valid")
    return np.asarray(np.interp(image, fine, smooth), np.float32)


def draw_lines(size: int, config: PairConfig, rng: Generator) -> int:
    """How many of ``size`` lines are kept; now and then outside the range, so that its edges are inside."""
    low, high = (0.25, 0.8) if rng.random() < 0.15 else config.fraction
    return n_lines(rng.uniform(low, high), size)


def smallest_image(pool: Pool) -> int:
    """Pixels along the shorter side of the smallest image that comes of a pool."""
    smallest = smallest_side(pool.images)
    return round(FINEST[0] * smallest) if pool.sharp else smallest
