"""What is drawn anew whenever a labelled beat is shown: place, shape, contrast of every tissue, muscles, k-space."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from cmrsr.physics.kspace import n_lines, truncate
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV

MUSCLES_SHARE = 0.75  # of the beats that get further papillary muscles
SMALLEST_CAVITY = 20  # pixels: smaller ones hold no muscles to be seen
ASIDE_SHARE = 0.2  # of the crops that lie far from the heart: the search looks there, and what is there is no heart
RESHAPED_SHARE = 0.5  # of the beats whose cavity is widened or narrowed within its wall
RECOLOURED_SHARE = 0.4  # of the beats whose surroundings get signals that depend on theirs in no order
SOFT = 1.0  # pixels: edge of the tissues whose signal is changed


def placed(
    image: Tensor, label: Tensor, size: int, rng: np.random.Generator, *, augment: bool = True
) -> tuple[Tensor, Tensor]:
    """Cut a window (t, z, size, size) around a place near the heart; augmented: turned, zoomed, bent, its cavity
    reshaped.
    """
    n_t, n_z, height, width = image.shape
    where = (label > 0).nonzero()[:, 2:].float()
    centre = where.mean(0).numpy() if len(where) else np.array([height / 2, width / 2])
    heart = centre
    matrix, bend = np.eye(2), np.zeros((2, size, size))
    if augment:
        centre = centre + rng.normal(0, 30 if rng.random() < ASIDE_SHARE else 10, 2)
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        stretch = np.exp(rng.normal(0.04, 0.14) + rng.normal(0, 0.06, 2)) * rng.choice([-1, 1], 2)
        matrix = turn @ np.diag(stretch)
        coarse = torch.from_numpy(rng.normal(0, rng.uniform(0, 6), (1, 2, 5, 5)))
        bend = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0].numpy()
    grid = np.indices((size, size)) - (size - 1) / 2
    at = np.einsum("ij,jyx->iyx", matrix, grid) + bend + centre[:, None, None]
    if not augment:
        at = np.round(at)
    elif rng.random() < RESHAPED_SHARE:
        at = _reshaped(at, label, heart, rng)
    y, x = 2 * at[0] / (height - 1) - 1, 2 * at[1] / (width - 1) - 1
    sampling = torch.from_numpy(np.stack([x, y], -1)).float()[None]
    moved = F.grid_sample(image.reshape(1, -1, height, width), sampling, "bicubic", "reflection", align_corners=True)
    named = F.grid_sample(label.reshape(1, -1, height, width), sampling, "nearest", "zeros", align_corners=True)
    shape = (n_t, n_z, size, size)
    return moved.clamp_min(0).reshape(shape), named.reshape(shape)


def _reshaped(
    at: NDArray[np.float64], label: Tensor, heart: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Places (2, y, x) to sample from, drawn together or apart about the LV's axis: thick walls about small cavities,
    thin ones about wide cavities, as hypertrophic and dilated hearts have them.
    """
    where = (label == LV).nonzero()[:, 2:].float()
    centre = where.mean(0).numpy() if len(where) else heart
    n_frames = max(int((label == LV).any(-1).any(-1).sum()), 1)
    radius = 1.2 * np.sqrt(len(where) / n_frames / np.pi) + 4
    away = at - centre[:, None, None]
    near = np.exp(-((away**2).sum(0) / radius**2))
    out: NDArray[np.float64] = centre[:, None, None] + away * (1 + rng.uniform(-0.35, 0.6) * near)
    return out


def with_muscles(image: Tensor, label: Tensor, rng: np.random.Generator) -> Tensor:
    """Papillary muscles in the LV of some beats, larger and more varied than the virtual patients' own, a rim of
    trabeculae, and blood of uneven brightness; readers count all of it as cavity, so the labels stay.
    """
    if rng.random() > MUSCLES_SHARE:
        return image
    image = image.clone()
    size = image.shape[-1]
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    uneven = _smooth(rng, rng.uniform(0, 0.12), 9, size).exp()
    rough = _smooth(rng, 1.0, 9, size)
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


def recontrasted(image: Tensor, label: Tensor, rng: np.random.Generator) -> Tensor:
    """Other signals of the tissues and of what surrounds the heart, another contrast curve, shading, sharpness, noise.

    Labels to images as in SynthSeg (Billot 2023), but with the texture of the image that the labels were drawn on.
    """
    size = image.shape[-1]
    heart = _blurred((label > 0).float(), SOFT)
    if rng.random() < RECOLOURED_SHARE:
        image = heart * image + (1 - heart) * _recoloured(image, rng)
    change = torch.zeros_like(image)
    for structure, sd in ((RV, 0.12), (MYOCARDIUM, 0.22), (LV, 0.12)):
        change += float(rng.normal(0, sd)) * (label == structure)
    image = image * _blurred(change, SOFT).exp()
    image = image ** float(np.exp(rng.normal(0, 0.25)))
    image = image * _smooth(rng, rng.uniform(0, 0.35), 3, size).exp()
    if rng.random() < 0.3:
        image = _blurred(image, float(rng.uniform(0.4, 1.3)))
    if rng.random() < 0.5:
        noise = float(rng.uniform(0, 0.06)) * float(image.flatten()[::7].quantile(0.98))
        image = (image + noise * torch.from_numpy(rng.standard_normal(image.shape, np.float32))).abs()
    return image


def _recoloured(image: Tensor, rng: np.random.Generator) -> Tensor:
    """The smooth part through a curve that may rise and fall, the texture on it by another gain."""
    smooth = _blurred(image, 1.5)
    top = float(image.flatten()[::7].quantile(0.99))
    knots = torch.from_numpy(rng.uniform(0, 1.1, int(rng.integers(4, 9)))).float() * top
    at = (smooth / max(top, 1e-6)).clamp(0, 1) * (len(knots) - 1)
    below = at.floor().long().clamp(max=len(knots) - 2)
    curve = knots[below] + (at - below) * (knots[below + 1] - knots[below])
    return (curve + float(rng.uniform(0.4, 1.3)) * (image - smooth)).clamp_min(0)


def degraded(
    image: NDArray[np.float32], fraction: tuple[float, float], full: float, rng: np.random.Generator, *, augment: bool
) -> NDArray[np.float32]:
    """LR on the matrix of HR: k-space is cut along both axes, in a part of the beats after a smooth phase; ``full``:
    share of the beats that stay as they are.
    """
    if augment and rng.random() < full:
        return image
    y_share, x_share = rng.uniform(0.35, 0.9, 2) if augment and rng.random() < 0.15 else rng.uniform(*fraction, 2)
    height, width = image.shape[-2:]
    out: NDArray[np.generic] = image
    if augment and rng.random() < 0.15:
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        a = rng.normal(0, 2, 5)
        phase = a[0] * y + a[1] * x + a[2] * (y * x) + a[3] * y**2 + a[4] * x**2
        out = image * np.exp(1j * phase).astype(np.complex64)
    out = truncate(truncate(out, n_lines(y_share, height), -2), n_lines(x_share, width), -1)
    return np.asarray(np.abs(out), dtype=np.float32)


def _smooth(rng: np.random.Generator, sd: float, n: int, size: int) -> Tensor:
    """A smooth random field (size, size) from n x n independent values."""
    coarse = torch.from_numpy(rng.normal(0, sd, (1, 1, n, n))).float()
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0, 0]


def _blurred(image: Tensor, sigma: float) -> Tensor:
    at = torch.arange(-3, 4).float()
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    flat = F.pad(image.flatten(0, 1)[:, None], (3, 3, 3, 3), mode="reflect")
    out = F.conv2d(F.conv2d(flat, kernel.view(1, 1, 7, 1)), kernel.view(1, 1, 1, 7))
    return out.view(image.shape)
