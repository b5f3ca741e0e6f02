"""Batches of labelled beats for ``function``: phases of neighbouring slices of some patients, drawn anew each time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cmrsr.io.survey import SCALE_QUANTILE
from cmrsr.physics.volumes import LV
from cmrsr.tasks.function.training.augment import degraded, placed, recontrasted, with_muscles
from cmrsr.tasks.function.training.data import Beat

MARGIN = 16  # pixels around the crop that are degraded with it: ringing from the edge of the window stays outside
BRIGHTNESS = (0.6, 1.3)  # frame scale / series scale: a window may lack the brightest fat
ABNORMAL_EF = 0.5  # below it, function counts as abnormal


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatConfig:
    """crop in pixels; n_phases, n_slices: drawn of a beat; fraction: of k-space along each axis that LR keeps.

    full: share of the patients that are not degraded at all. augment: False draws crops as they are (validation).
    """

    crop: int
    n_phases: int
    n_slices: int
    fraction: tuple[float, float]
    full: float = 0.25
    augment: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatBatch:
    """lr, hr (batch, t, z, y, x) in units of the series' scale, labels likewise; position (batch, t) in the beat.

    known (batch, t, z, 3): whether RV, myocardium and LV are labelled. abnormal (batch,): of the whole beat, 0 or 1.
    """

    lr: Tensor
    hr: Tensor
    labels: Tensor
    position: Tensor
    known: Tensor
    abnormal: Tensor


def draw_beats(
    beats: Sequence[Beat],
    config: BeatConfig,
    size: int,
    rng: np.random.Generator,
    *,
    also: Sequence[Beat] = (),
    also_share: float = 0.0,
) -> BeatBatch:
    """Beats of ``size`` patients, a share of them of ``also``; the frames of one are warped and degraded alike."""
    drawn = []
    for _ in range(size):
        source = also if also and rng.random() < also_share else beats
        drawn.append(source[int(rng.integers(len(source)))])
    with torch.autocast("cpu", enabled=False):
        return _batch(drawn, config, rng)


def _batch(beats: Sequence[Beat], config: BeatConfig, rng: np.random.Generator) -> BeatBatch:
    lr, hr, labels, position, known, abnormal = [], [], [], [], [], []
    for beat in beats:
        n_t = len(beat.images)
        at = int(rng.integers(n_t)) + np.arange(config.n_phases) * max(n_t // config.n_phases, 1)
        phases = np.sort(at % n_t)
        slices = _slices(beat.images.shape[1], config, rng)
        image = torch.from_numpy(np.asarray(beat.images[phases][:, slices], np.float32))
        label = torch.from_numpy(np.asarray(beat.labels[phases][:, slices], np.float32))
        image = image / image.amax().clamp_min(1e-6)
        image, label = placed(image, label, config.crop + 2 * MARGIN, rng, augment=config.augment)
        if config.augment:
            image = recontrasted(with_muscles(image, label, rng), label, rng)
        low = degraded(image.numpy(), config.fraction, config.full, rng, augment=config.augment)
        inside = slice(MARGIN, MARGIN + config.crop)
        scale = float(np.quantile(low[..., ::2, ::2], SCALE_QUANTILE))
        gain = float(np.exp(rng.uniform(*np.log(BRIGHTNESS)))) if config.augment else 1.0
        gain /= max(scale, 1e-6)
        lr.append(torch.from_numpy(low)[..., inside, inside] * gain)
        hr.append(image[..., inside, inside] * gain)
        labels.append(label[..., inside, inside].round().long())
        position.append(torch.from_numpy(phases / n_t).float())
        known.append(torch.from_numpy(beat.known_in(phases, slices)))
        abnormal.append(float(ejection_fraction(beat) < ABNORMAL_EF))
    return BeatBatch(
        lr=torch.stack(lr), hr=torch.stack(hr), labels=torch.stack(labels), position=torch.stack(position),
        known=torch.stack(known), abnormal=torch.tensor(abnormal),
    )  # fmt: skip


def _slices(n: int, config: BeatConfig, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Neighbouring slices of a stack of n, in augmentation from either end; a shorter stack repeats its last one."""
    first = int(rng.integers(max(n - config.n_slices, 0) + 1))
    slices = np.minimum(first + np.arange(config.n_slices), n - 1)
    return slices[::-1] if config.augment and rng.random() < 0.5 else slices


def ejection_fraction(beat: Beat) -> float:
    """Of the whole labelled beat, 0..1; slices equally far apart."""
    volume = (beat.labels == LV).sum((1, 2, 3))
    return 1 - float(volume.min()) / max(float(volume.max()), 1.0)
