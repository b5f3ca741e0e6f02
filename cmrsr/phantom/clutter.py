"""Dead leaves: overlapping organic bodies of every size in space, the multi-scale clutter around the heart.

Ellipsoids of power-law size (equal area per octave in any cut) occlude each other in random order, so that every slice
has edges at every scale, as chest scans do, and all slices of a patient cut the same bodies.
Source: Lee, Mumford and Huang 2001, "Occlusion models for natural images".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator
BOXES = 0.2  # share of the bodies that are cut with corners


@dataclass(frozen=True, slots=True)
class Leaves:
    """Ellipsoids {p: (p - c)^T A (p - c) < 1} in mm, in the order they are painted."""

    centre: NDArray[np.float64]  # (n, 3)
    matrix: NDArray[np.float64]  # (n, 3, 3)
    reach: NDArray[np.float64]  # (n,) the longest half-axis
    box: NDArray[np.bool_]  # (n,)


@dataclass(frozen=True, slots=True)
class Cut:
    """The ellipses in which a plane cuts leaves, in pixels about the plane's first pixel; ``index`` of the leaf."""

    index: NDArray[np.int64]  # (m,) ascending
    centre: NDArray[np.float64]  # (m, 2) y, x
    axes: NDArray[np.float64]  # (m, 2)
    angle: NDArray[np.float64]  # (m,) of the first axis, from y towards x
    box: NDArray[np.bool_]  # (m,)


def draw_leaves(
    rng: Generator,
    n_per_cut: int,
    half_width_mm: float,
    radius_mm: tuple[float, float],
    elongation: float = 1.0,
    half_height_mm: float | None = None,
) -> Leaves:
    """Leaves in a cube (or a slab about z = 0), as many as give about ``n_per_cut`` in a cut through the middle.

    Radii have the density r^-4 in space, which is r^-3 in every cut.
    """
    low, high = radius_mm
    mean_radius = 1.5 * (low**-2 - high**-2) / (low**-3 - high**-3)
    height = half_height_mm or half_width_mm
    n = round(n_per_cut * height / mean_radius)
    r = (low**-3.0 + rng.random(n) * (high**-3.0 - low**-3.0)) ** (-1 / 3)
    stretch = np.exp(elongation * rng.normal(0.0, 0.4, (n, 3)))
    axes = r[:, None] * stretch / np.prod(stretch, 1, keepdims=True) ** (1 / 3)
    q = rng.normal(size=(n, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    turn = np.empty((n, 3, 3))
    turn[:, 0] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], 1)
    turn[:, 1] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], 1)
    turn[:, 2] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], 1)
    matrix = np.einsum("nij,nj,nkj->nik", turn, axes**-2, turn)
    centre = rng.uniform(-1.0, 1.0, (n, 3)) * [half_width_mm, half_width_mm, height]
    return Leaves(centre=centre, matrix=matrix, reach=axes.max(1), box=rng.random(n) < BOXES)


def cut(
    leaves: Leaves,
    origin: NDArray[np.float64],
    along_y: NDArray[np.float64],
    along_x: NDArray[np.float64],
    pixel_mm: float,
) -> Cut:
    """Cut leaves with the plane of pixels at ``origin`` + pixel_mm (y ``along_y`` + x ``along_x``), unit vectors."""
    normal = np.cross(along_y, along_x)
    near = np.flatnonzero(np.abs((leaves.centre - origin) @ normal) < leaves.reach)
    a = leaves.matrix[near]
    basis = np.stack([along_y, along_x], 1)
    offset = origin - leaves.centre[near]
    q = np.einsum("ia,nij,jb->nab", basis, a, basis)
    b = np.einsum("ia,nij,nj->na", basis, a, offset)
    p, r, s = q[:, 0, 0], q[:, 0, 1], q[:, 1, 1]
    det = p * s - r * r
    centre = -np.stack([(s * b[:, 0] - r * b[:, 1]) / det, (p * b[:, 1] - r * b[:, 0]) / det], 1)
    level = 1 - np.einsum("ni,nij,nj->n", offset, a, offset) - np.einsum("na,na->n", b, centre)
    met = level > 0
    p, r, s, level = p[met], r[met], s[met], level[met]
    # the ellipse's axes are the eigenvectors of its 2x2 matrix
    middle, half = (p + s) / 2, np.hypot((p - s) / 2, r)
    axes = np.sqrt(level[:, None] / np.stack([middle - half, middle + half], 1))
    angle = np.arctan2(middle - half - p, r)  # of the eigenvector of the smaller eigenvalue, the longer axis
    angle = np.where(np.abs(r) < 1e-12, np.where(p <= s, 0.0, np.pi / 2), angle)
    return Cut(
        index=near[met], centre=centre[met] / pixel_mm, axes=np.maximum(axes / pixel_mm, 0.6),
        angle=angle, box=leaves.box[near[met]],
    )  # fmt: skip


def paint(
    labels: NDArray[np.int32],
    shapes: Cut,
    first_label: int,
    where: NDArray[np.bool_],
    warp: NDArray[np.float64],
) -> None:
    """Paint cut leaves into ``labels`` (in place, inside ``where``), leaf i as ``first_label + i``, later over earlier.

    warp: (2, y, x) smooth displacement in pixels that bends the outlines: pixel p shows what lies at p + warp(p).
    """
    if not len(shapes.index):
        return
    size = np.array(labels.shape)
    place = shapes.centre.copy()
    for _ in range(4):  # where the middle of a leaf is seen: p + warp(p) = centre
        y, x = np.clip(np.rint(place), 0, size - 1).astype(np.int64).T
        place = shapes.centre - warp[:, y, x].T
    half = np.ceil(1.35 * shapes.axes.max(1) + 3).astype(np.int64)
    seen = ((place + half[:, None] > 0) & (place - half[:, None] < size)).all(1)
    top = np.full(labels.size, -1, np.int64)
    bins = np.r_[4, 5, 6, 8, 11, 16, 24, half.max() + 1]
    for low, high in zip(np.r_[0, bins], bins, strict=False):
        group = np.flatnonzero(seen & (half > low) & (half <= high))
        step = max(1, 400_000 // (2 * high + 1) ** 2)
        for start in range(0, len(group), step):
            _paint_equal(top, shapes, group[start : start + step], place, int(high), warp)
    found = (top >= 0) & where.ravel()
    labels.reshape(-1)[found] = first_label + top[found]


def _paint_equal(
    top: NDArray[np.int64],
    shapes: Cut,
    group: NDArray[np.int64],
    place: NDArray[np.float64],
    half: int,
    warp: NDArray[np.float64],
) -> None:
    """Mark the pixels of leaves that fit into boxes of 2 half + 1 pixels: ``top`` is the highest leaf of each pixel."""
    rows, columns = warp.shape[1:]
    box = np.arange(-half, half + 1)
    middle = np.rint(place[group]).astype(np.int64)
    y = (middle[:, 0, None] + box)[:, :, None]
    x = (middle[:, 1, None] + box)[:, None, :]
    valid = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    pixel = np.clip(y, 0, rows - 1) * columns + np.clip(x, 0, columns - 1)
    flow = warp.reshape(2, -1)[:, pixel]
    dy = flow[0] + (y - shapes.centre[group, 0, None, None])
    dx = flow[1] + (x - shapes.centre[group, 1, None, None])
    cos, sin = np.cos(shapes.angle[group])[:, None, None], np.sin(shapes.angle[group])[:, None, None]
    u = ((cos * dy + sin * dx) / shapes.axes[group, 0, None, None]) ** 2
    v = ((cos * dx - sin * dy) / shapes.axes[group, 1, None, None]) ** 2
    inside = np.where(shapes.box[group, None, None], u**3 + v**3, u + v) < 1
    inside &= valid
    index = np.broadcast_to(shapes.index[group, None, None], pixel.shape)
    np.maximum.at(top, pixel[inside], index[inside])


def smooth_field(
    rng: Generator, size: int, exponent: float, cutoff: float = 1.0, n_dims: int = 2
) -> NDArray[np.float64]:
    """A periodic random field (size,) * n_dims, amplitude spectrum ~ 1 / f^exponent up to ``cutoff`` of Nyquist; sd 1.

    ``cutoff`` must leave some frequency: at least 2 / size.
    """
    axes = [np.fft.fftfreq(size)] * (n_dims - 1) + [np.fft.rfftfreq(size)]
    f = np.sqrt(sum(g**2 for g in np.meshgrid(*axes, indexing="ij", sparse=True)))
    f[(0,) * n_dims] = 1.0
    amplitude = f**-exponent * (f <= 0.5 * max(cutoff, 2 / size))
    amplitude[(0,) * n_dims] = 0.0
    spectrum = amplitude * (rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape))
    field = np.fft.irfftn(spectrum, (size,) * n_dims, axes=range(n_dims))
    return np.asarray(field / field.std())


@dataclass(frozen=True, slots=True)
class Warp:
    """A smooth displacement of space: a sum of plane waves, in mm."""

    wave: NDArray[np.float64]  # (n, 3) rad/mm
    phase: NDArray[np.float64]  # (n,)
    amplitude: NDArray[np.float64]  # (n, 3) mm

    def at(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """The displacement (n, 3) at points (n, 3)."""
        return np.asarray(np.sin(points @ self.wave.T + self.phase) @ self.amplitude)


def draw_warp(rng: Generator, size_mm: float) -> Warp:
    """Waves of 40 to 300 mm, longer ones larger, of ``size_mm`` root mean square together."""
    n = 14
    length = 40.0 * 7.5 ** rng.random(n)
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    amplitude = rng.normal(size=(n, 3)) * length[:, None]
    amplitude *= size_mm * np.sqrt(2) / np.sqrt((amplitude**2).sum(0).mean())
    return Warp(direction * (2 * np.pi / length)[:, None], rng.uniform(0, 2 * np.pi, n), amplitude)
