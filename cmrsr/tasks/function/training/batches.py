"""Batches of labelled beats for ``function``: phases and slices of some patients, warped, degraded, recontrasted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from cmrsr.io.survey import SCALE_QUANTILE
from cmrsr.physics.kspace import n_lines, truncate
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.tasks.function.training.data import Beat

MARGIN = 16  # pixels around the crop that are degraded with it: ringing from the edge of the window stays outside
BRIGHTNESS = (0.6, 1.3)  # frame scale / series scale: a window may lack the brightest fat
MUSCLES_SHARE = 0.75  # of the beats that get further papillary muscles
SMALLEST_CAVITY = 20  # pixels: smaller ones hold no muscles to be seen
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

    known (batch, 3): whether RV, myocardium and LV are labelled. abnormal (batch,): of the whole beat, 0 or 1.
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
        n_t, n_z = beat.images.shape[:2]
        at = int(rng.integers(n_t)) + np.arange(config.n_phases) * max(n_t // config.n_phases, 1)
        phases = np.sort(at % n_t)
        slices = np.sort(rng.permutation(np.resize(rng.permutation(n_z), max(n_z, config.n_slices)))[: config.n_slices])
        image = torch.from_numpy(np.asarray(beat.images[phases][:, slices], np.float32))
        label = torch.from_numpy(np.asarray(beat.labels[phases][:, slices], np.float32))
        image = image / image.amax().clamp_min(1e-6)
        image, label = _placed(image, label, config, rng)
        if config.augment:
            image = _recontrasted(_with_muscles(image, label, rng), rng)
        low = _degraded(image.numpy(), config, rng)
        inside = slice(MARGIN, MARGIN + config.crop)
        scale = float(np.quantile(low[..., ::2, ::2], SCALE_QUANTILE))
        gain = float(np.exp(rng.uniform(*np.log(BRIGHTNESS)))) if config.augment else 1.0
        gain /= max(scale, 1e-6)
        lr.append(torch.from_numpy(low)[..., inside, inside] * gain)
        hr.append(image[..., inside, inside] * gain)
        labels.append(label[..., inside, inside].round().long())
        position.append(torch.from_numpy(phases / n_t).float())
        known.append(torch.tensor(beat.known))
        abnormal.append(float(ejection_fraction(beat) < ABNORMAL_EF))
    return BeatBatch(
        lr=torch.stack(lr), hr=torch.stack(hr), labels=torch.stack(labels), position=torch.stack(position),
        known=torch.stack(known), abnormal=torch.tensor(abnormal),
    )  # fmt: skip


def ejection_fraction(beat: Beat) -> float:
    """Of the whole labelled beat, 0..1; slices equally far apart."""
    volume = (beat.labels == LV).sum((1, 2, 3))
    return 1 - float(volume.min()) / max(float(volume.max()), 1.0)


def _placed(image: Tensor, label: Tensor, config: BeatConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut a window of crop and margin (t, z, y, x) around a place near the heart; augmented: turned, zoomed, bent."""
    n_t, n_z, height, width = image.shape
    size = config.crop + 2 * MARGIN
    where = (label > 0).nonzero()[:, 2:].float()
    centre = where.mean(0).numpy() if len(where) else np.array([height / 2, width / 2])
    matrix, bend = np.eye(2), np.zeros((2, size, size))
    if config.augment:
        centre = centre + rng.normal(0, 10, 2)
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        stretch = np.exp(rng.normal(0.04, 0.14) + rng.normal(0, 0.06, 2)) * rng.choice([-1, 1], 2)
        matrix = turn @ np.diag(stretch)
        coarse = torch.from_numpy(rng.normal(0, rng.uniform(0, 6), (1, 2, 5, 5)))
        bend = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0].numpy()
    grid = np.indices((size, size)) - (size - 1) / 2
    at = np.einsum("ij,jyx->iyx", matrix, grid) + bend + centre[:, None, None]
    if not config.augment:
        at = np.round(at)
    y, x = 2 * at[0] / (height - 1) - 1, 2 * at[1] / (width - 1) - 1
    sampling = torch.from_numpy(np.stack([x, y], -1)).float()[None]
    moved = F.grid_sample(image.reshape(1, -1, height, width), sampling, "bicubic", "reflection", align_corners=True)
    named = F.grid_sample(label.reshape(1, -1, height, width), sampling, "nearest", "zeros", align_corners=True)
    shape = (n_t, n_z, size, size)
    return moved.clamp_min(0).reshape(shape), named.reshape(shape)


def _with_muscles(image: Tensor, label: Tensor, rng: np.random.Generator) -> Tensor:
    """Papillary muscles in the LV of some beats, larger and more varied than the virtual patients' own, a rim of
    trabeculae, and blood of uneven brightness; readers count all of it as cavity, so the labels stay.
    """
    if rng.random() > MUSCLES_SHARE:
        return image
    image = image.clone()
    size = image.shape[-1]
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    uneven = torch.from_numpy(rng.normal(0, rng.uniform(0, 0.12), (1, 1, 9, 9))).float()
    uneven = F.interpolate(uneven, size=(size, size), mode="bicubic", align_corners=True)[0, 0].exp()
    rough = torch.from_numpy(rng.normal(0, 1, (1, 1, 9, 9))).float()
    rough = F.interpolate(rough, size=(size, size), mode="bicubic", align_corners=True)[0, 0]
    depth = (float(rng.uniform(0, 2.0)) + float(rng.uniform(0, 1.5)) * rough).clamp_min(0.05)  # of the rim, pixels
    density = float(rng.uniform(0.3, 1.0))
    n = int(rng.integers(1, 5))
    angle, turn = rng.uniform(0, 2 * np.pi, n), rng.uniform(0, np.pi, n)
    share, long, thick = rng.uniform(0.5, 0.95, n), rng.uniform(0.15, 0.5, n), rng.uniform(0.1, 0.25, n)
    tone = rng.uniform(0.8, 1.4, n)
    widest = ((label == LV).sum((2, 3)).amax(0) / np.pi).sqrt()  # of each slice: muscles do not shrink with the cavity
    for t, z in np.ndindex(*image.shape[:2]):
        cavity, wall = label[t, z] == LV, label[t, z] == MYOCARDIUM
        if int(cavity.sum()) < SMALLEST_CAVITY or int(wall.sum()) < SMALLEST_CAVITY:
            continue
        frame = image[t, z]
        dark = float(frame[wall].median())
        cy, cx = float(y[cavity].mean()), float(x[cavity].mean())
        radius, unit = (float(cavity.sum()) / np.pi) ** 0.5, float(widest[z])
        frame = torch.where(label[t, z] > 0, frame * uneven, frame)
        inwards = torch.from_numpy(distance_transform_edt(cavity.numpy())).float()
        rim = density * torch.exp(-(((inwards - 0.5) / depth) ** 2)) * cavity
        frame = frame + rim * (dark - frame)
        for k in range(n):
            dy = y - cy - share[k] * radius * np.sin(angle[k])
            dx = x - cx - share[k] * radius * np.cos(angle[k])
            along, across = dx * np.cos(turn[k]) + dy * np.sin(turn[k]), dy * np.cos(turn[k]) - dx * np.sin(turn[k])
            far = ((along / (long[k] * unit)) ** 2 + (across / (thick[k] * unit)) ** 2).sqrt()
            inside = torch.sigmoid((1 - far) * thick[k] * unit * 3) * cavity
            frame = frame + inside * (dark * tone[k] - frame)
        image[t, z] = frame
    return image


def _recontrasted(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Another contrast curve, coil shading, sharpness and noise."""
    size = image.shape[-1]
    image = image ** float(np.exp(rng.normal(0, 0.25)))
    shading = torch.from_numpy(rng.normal(0, rng.uniform(0, 0.5), (1, 1, 3, 3))).float()
    image = image * F.interpolate(shading, size=(size, size), mode="bicubic", align_corners=True).exp()
    if rng.random() < 0.25:
        image = _blurred(image, float(rng.uniform(0.4, 1.1)))
    if rng.random() < 0.5:
        noise = float(rng.uniform(0, 0.05)) * float(image.flatten()[::7].quantile(0.98))
        image = (image + noise * torch.from_numpy(rng.standard_normal(image.shape, np.float32))).abs()
    return image


def _blurred(image: Tensor, sigma: float) -> Tensor:
    at = torch.arange(-3, 4).float()
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    flat = F.pad(image.flatten(0, 1)[:, None], (3, 3, 3, 3), mode="reflect")
    out = F.conv2d(F.conv2d(flat, kernel.view(1, 1, 7, 1)), kernel.view(1, 1, 1, 7))
    return out.view(image.shape)


def _degraded(image: NDArray[np.float32], config: BeatConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """LR on the matrix of HR: k-space is cut along both axes, in a part of the beats after a smooth phase."""
    if rng.random() < config.full and config.augment:
        return image
    y_share, x_share = (
        rng.uniform(0.35, 0.9, 2) if config.augment and rng.random() < 0.15 else rng.uniform(*config.fraction, 2)
    )
    height, width = image.shape[-2:]
    out: NDArray[np.generic] = image
    if config.augment and rng.random() < 0.15:
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        a = rng.normal(0, 2, 5)
        phase = a[0] * y + a[1] * x + a[2] * (y * x) + a[3] * y**2 + a[4] * x**2
        out = image * np.exp(1j * phase).astype(np.complex64)
    out = truncate(truncate(out, n_lines(y_share, height), -2), n_lines(x_share, width), -1)
    return np.asarray(np.abs(out), dtype=np.float32)
