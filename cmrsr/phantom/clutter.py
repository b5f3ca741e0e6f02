"""Dead leaves: overlapping organic shapes of every size, the multi-scale clutter around the heart.

Shapes of power-law size (equal area per octave) occlude each other in random order, so that the image has edges at
every scale, as chest scans do.  Source: Lee, Mumford and Huang 2001, "Occlusion models for natural images".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Leaves:
    """Ellipses in pixels of the rendering grid, painted in order: centre, half-axes, angle, tilt through the slice."""

    centre: NDArray[np.float64]  # (n, 2) y, x
    axes: NDArray[np.float64]  # (n, 2)
    angle: NDArray[np.float64]  # (n,)
    tilt: NDArray[np.float64]  # (n, 2) shift of the centre over the half slice thickness
    power: NDArray[np.float64]  # (n,) exponent of the superellipse: 2 = ellipse, large = box


def draw_leaves(
    rng: Generator, n: int, size: int, radius: tuple[float, float], tilt: float, elongation: float = 1.0
) -> Leaves:
    """``n`` leaves over a square of ``size`` pixels with radii between ``radius`` drawn from p(r) ~ r^-3."""
    low, high = radius[0] ** -2.0, radius[1] ** -2.0
    r = (low + rng.random(n) * (high - low)) ** -0.5
    stretch = np.exp(elongation * rng.normal(0.0, 0.45, n))
    axes = np.stack([r * stretch, r / stretch], 1)
    return Leaves(
        centre=rng.uniform(-0.05 * size, 1.05 * size, (n, 2)),
        axes=np.maximum(axes, 0.6),
        angle=rng.uniform(0, np.pi, n),
        tilt=rng.normal(0.0, tilt, (n, 2)) * np.minimum(1.0, r / 6)[:, None],
        power=np.where(rng.random(n) < 0.8, 2.0, 6.0),
    )


def paint(
    labels: NDArray[np.int32],
    leaves: Leaves,
    first_label: int,
    where: NDArray[np.bool_],
    warp: NDArray[np.float64],
    depth: float,
) -> None:
    """Paint the leaves into ``labels`` (in place, inside ``where``), leaf i as ``first_label + i``.

    warp: (2, y, x) smooth displacement that bends the outlines; depth: position in the slice, -1..1.
    """
    rows, columns = labels.shape
    margin = float(np.abs(warp).max()) + 1
    centres = leaves.centre + depth * leaves.tilt
    reach = leaves.axes.max(1) * 1.1 + margin
    low = np.floor(centres - reach[:, None]).astype(int)
    high = np.ceil(centres + reach[:, None]).astype(int) + 1
    cos, sin = np.cos(leaves.angle), np.sin(leaves.angle)
    for i in range(len(reach)):
        y0, x0 = max(low[i, 0], 0), max(low[i, 1], 0)
        y1, x1 = min(high[i, 0], rows), min(high[i, 1], columns)
        if y0 >= y1 or x0 >= x1:
            continue
        dy = warp[0, y0:y1, x0:x1] + (np.arange(y0, y1) - centres[i, 0])[:, None]
        dx = warp[1, y0:y1, x0:x1] + (np.arange(x0, x1) - centres[i, 1])[None, :]
        u = (cos[i] * dy + sin[i] * dx) / leaves.axes[i, 0]
        v = (cos[i] * dx - sin[i] * dy) / leaves.axes[i, 1]
        inside = (u * u + v * v < 1) if leaves.power[i] == 2 else (u**6 + v**6 < 1)
        inside &= where[y0:y1, x0:x1]
        labels[y0:y1, x0:x1][inside] = first_label + i


def smooth_field(rng: Generator, size: int, exponent: float, cutoff: float = 1.0) -> NDArray[np.float64]:
    """A periodic random field (size, size), amplitude spectrum ~ 1 / f^exponent up to ``cutoff`` of Nyquist; sd 1."""
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None, :]
    f = np.hypot(fy, fx)
    f[0, 0] = 1.0
    amplitude = f**-exponent * (f <= 0.5 * cutoff)
    amplitude[0, 0] = 0.0
    spectrum = amplitude * (rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape))
    field = np.fft.irfft2(spectrum, (size, size))
    return np.asarray(field / field.std())
