"""Dead-leaves scenes: overlapping flat shapes of every size, with texture, for what no virtual chest holds.

Leaves with concave or cornered outlines and radii of density r^-3 cover each other in random order; each has its own
brightness and a fractal or striped texture; nearer layers cover farther ones, and each is as sharp as its depth.
Follows what is published of VibrantLeaves (Achddou, Gousseau and Ladjal, arXiv 2504.10201): geometry, texture, depth.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.clutter import smooth_field

Generator = np.random.Generator
SIZE = 384  # pixels of a scene along each side
_POINTS = 40  # of an outline
_FRACTAL, _STRIPED = 7, 2  # textures to choose from in a scene


@dataclass(frozen=True, slots=True)
class Layer:
    """Leaves at one depth: the share of the scene they cover before overlapping, and their blur in pixels."""

    cover: float
    blur: float


def draw_scene(rng: Generator, size: int = SIZE) -> NDArray[np.float32]:
    """A scene (size, size), values from 0 to about 1.5, everywhere covered."""
    textures = _textures(rng, size)
    smallest = float(np.exp(rng.uniform(np.log(1.5), np.log(10.0))))
    depths = np.sort(rng.uniform(0, 1.8, 3))[::-1] * rng.choice([0.0, 1.0], p=[0.4, 0.6])
    scene = np.zeros((size, size), np.float32)
    for cover, blur in zip((4.0, float(rng.uniform(0.2, 1.0)), float(rng.uniform(0.0, 0.4))), depths, strict=True):
        image, seen = _layer(rng, size, Layer(cover, float(blur)), smallest, textures, whole=cover == 4.0)
        scene = seen * image + (1 - seen) * scene
    return scene


def outlines(rng: Generator, n: int, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Closed outlines (n, points, 2) about zero, y and x in pixels: round, concave, cornered, all stretched and turned.

    radii (n,): of the circle that an outline grew from.
    """
    angle = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    order = np.arange(1, 8)
    rough = rng.uniform(0, 0.55, (n, 1)) * rng.normal(size=(n, order.size)) / order**0.8
    waves = np.cos(angle[:, None, None] * order + rng.uniform(0, 2 * np.pi, (n, order.size)))
    r = np.exp(np.clip((waves * rough).sum(2), -1.2, 1.0)).T  # (n, points)
    # of the cornered ones only a few points stay: the others move onto the one before
    step = np.where(rng.random((n, 1)) < 0.4, rng.integers(4, 14, (n, 1)), 1)
    kept = np.arange(_POINTS) // step * step
    r, angle = np.take_along_axis(r, kept, 1), angle[kept]
    stretch = np.exp(rng.normal(0, 0.45, (n, 1)))
    turn = rng.uniform(0, 2 * np.pi, (n, 1))
    u, v = r * np.sin(angle) * stretch, r * np.cos(angle) / stretch
    y, x = np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v
    return np.stack([y, x], 2) * radii[:, None, None]


def draw_radii(rng: Generator, n: int, low: float, high: float) -> NDArray[np.float64]:
    """Radii of density r^-3: every octave covers the same area."""
    return np.asarray((low**-2.0 + rng.random(n) * (high**-2.0 - low**-2.0)) ** -0.5)


def _layer(
    rng: Generator, size: int, layer: Layer, smallest: float, textures: NDArray[np.float32], whole: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(image, how much of it is seen, 0..1) of one depth."""
    largest = 0.3 * size
    mean_area = np.pi * 2 * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    n = max(1, round(layer.cover * size**2 / mean_area))
    radii = draw_radii(rng, n, smallest, largest)
    if whole:  # large ones first, so that nothing is left bare
        radii = np.r_[rng.uniform(0.3, 0.6, 24) * size, radii]
        n = radii.size
    points = outlines(rng, n, radii) + rng.uniform(-0.05, 1.05, (n, 1, 2)) * size
    fixed = np.ascontiguousarray(np.rint(points[:, :, ::-1] * 16), np.int32)  # OpenCV: x before y, in 16ths of a pixel
    labels = np.zeros((size, size), np.int32)
    for i, outline in enumerate(fixed):
        cv2.fillPoly(labels, [outline], i + 1, shift=4)
    bright = np.where(rng.random(n + 1) < 0.3, rng.uniform(0, 0.2, n + 1), rng.random(n + 1) ** 1.3)
    amplitude = rng.uniform(0, 0.35, n + 1) * (rng.random(n + 1) < 0.8)
    kind, shift = rng.integers(len(textures), size=n + 1), rng.integers(size, size=(2, n + 1))
    y, x = np.indices((size, size))
    grain = textures[kind[labels], (y + shift[0, labels]) % size, (x + shift[1, labels]) % size]
    image = (bright[labels] * np.maximum(1 + amplitude[labels] * grain, 0)).astype(np.float32)
    seen = np.ones_like(image) if whole else (labels > 0).astype(np.float32)
    if layer.blur < 0.2:
        return image, seen
    image = cv2.GaussianBlur(image * seen, (0, 0), layer.blur)
    seen = cv2.GaussianBlur(seen, (0, 0), layer.blur)
    return np.asarray(image / np.maximum(seen, 1e-3), np.float32), np.asarray(seen, np.float32)


def _textures(rng: Generator, size: int) -> NDArray[np.float32]:
    """Fields of unit deviation (kinds, size, size): fractal ones of several roughnesses, bent stripes."""
    fields = [smooth_field(rng, size, float(rng.uniform(0.7, 2.0))) for _ in range(_FRACTAL)]
    y, x = np.indices((size, size))
    for _ in range(_STRIPED):
        period, turn = np.exp(rng.uniform(np.log(4), np.log(40))), rng.uniform(0, np.pi)
        bent = period * rng.uniform(0, 1.0) * smooth_field(rng, size, 2.0, 0.2)
        wave = np.sin(2 * np.pi / period * (np.sin(turn) * y + np.cos(turn) * x + bent))
        fields.append(np.sqrt(2) * wave)
    return np.stack(fields).astype(np.float32)
