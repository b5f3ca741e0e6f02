"""One pass over a series in bounded memory that gives what every later step needs to know about it."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series

Array = NDArray[np.float64]

MIN_MATRIX = 8
SCALE_QUANTILE = 0.995
# 2^18 values leave 1300 above the quantile: its sampling error is far below that of the anatomy it stands for.
_SAMPLE_SIZE = 2**18
_SPECTRUM_FRAMES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one pass over a series found.

    digest: sha256 over shape, affine, times and all voxels (float32, little endian).
    scale: 0.995 quantile of the positive values: the one normalisation scale of the series.
    mean, variance: (z, y, x) over time (variance with divisor t).
    power_x (x,), power_y (y,): mean of |FFT|^2 along that axis (unitary, zero frequency at n // 2) over the other axis,
    the slices and at most 64 evenly chosen frames.
    """

    digest: str
    scale: float
    minimum: float
    maximum: float
    mean: Array
    variance: Array
    power_x: Array
    power_y: Array


def survey(series: Series, *, on_frame: Callable[[int], None] | None = None) -> Survey:
    """Read every frame once; ``on_frame`` is told each frame's index when done.

    UnusableError: less than 8x8 in plane, NaN or infinite voxels, a constant series or frame, nothing positive.
    """
    name, (n_t, n_z, n_y, n_x) = series.source.name, series.shape
    if min(n_y, n_x) < MIN_MATRIX:
        raise UnusableError(
            f"{name}: images of {n_x}x{n_y} voxels, expected at least {MIN_MATRIX}x{MIN_MATRIX}; "
            f"if the first two axes of the file are not the image, name the time axis with --time-axis"
        )
    digest = _start_digest(series)
    sampler = _Sampler(series)
    chosen = set(np.linspace(0, n_t - 1, min(n_t, _SPECTRUM_FRAMES)).round().astype(int).tolist())
    mean, m2 = np.zeros((n_z, n_y, n_x)), np.zeros((n_z, n_y, n_x))
    power_x, power_y = np.zeros(n_x // 2 + 1), np.zeros(n_y // 2 + 1)
    lows, highs = np.empty(n_t), np.empty(n_t)

    for t in range(n_t):
        frame = np.ascontiguousarray(series.frame(t), dtype="<f4")
        with np.errstate(invalid="ignore"):  # some bit patterns of NaN
            lows[t], highs[t] = frame.min(), frame.max()  # both carry NaN, and one of them any infinity
        if not (math.isfinite(lows[t]) and math.isfinite(highs[t])):
            count = frame.size - int(np.isfinite(frame).sum())
            raise UnusableError(
                f"{name}: {count} NaN or infinite of {frame.size} voxels in frame {t + 1} of {n_t}; "
                f"give these voxels a number, or leave out that frame"
            )
        digest.update(frame.data)
        sampler.add(frame)
        delta = frame - mean  # Welford (1962)
        mean += delta / (t + 1)
        m2 += delta * (frame - mean)
        if t in chosen:
            power_x += _half_power(frame, axis=2)
            power_y += _half_power(frame, axis=1)
        if on_frame is not None:
            on_frame(t)

    minimum, maximum = float(lows.min()), float(highs.max())
    _refuse_constant(name, lows, highs)
    if maximum <= 0:
        raise UnusableError(f"{name}: no positive value (all in {minimum:g} to {maximum:g}), expected magnitude images")
    return Survey(
        digest=digest.hexdigest(),
        scale=sampler.scale() or maximum,
        minimum=minimum,
        maximum=maximum,
        mean=mean,
        variance=m2 / n_t,
        power_x=_whole_power(power_x / len(chosen), n_x),
        power_y=_whole_power(power_y / len(chosen), n_y),
    )


def _start_digest(series: Series) -> "hashlib._Hash":
    digest = hashlib.sha256(np.asarray(series.shape, "<i8").tobytes())
    digest.update((series.affine + 0.0).astype("<f8").tobytes())  # + 0.0: minus zero is zero
    if series.source.background is not None:  # it makes another result than zeros do
        digest.update(np.packbits(series.source.background).tobytes())
    if series.origins_mm is not None:
        digest.update((series.origins_mm + 0.0).astype("<f8").tobytes())
    digest.update(b"no times" if series.times_ms is None else series.times_ms.astype("<f8").tobytes())
    return digest


def _refuse_constant(name: str, lows: Array, highs: Array) -> None:
    constant = np.flatnonzero(lows == highs)
    if constant.size == 0:
        return
    if constant.size == lows.size and lows.min() == highs.max():
        raise UnusableError(f"{name}: every voxel is {lows[0]:g}, expected an image")
    frames = ", ".join(str(t + 1) for t in constant[:5]) + (", ..." if constant.size > 5 else "")
    raise UnusableError(
        f"{name}: {constant.size} of {lows.size} frames hold one value only (frame {frames}); leave them out"
    )


class _Sampler:
    """Every n-th voxel of the whole series, n chosen from the series' shape alone: bounded and reproducible."""

    def __init__(self, series: Series) -> None:
        self._frame_size = math.prod(series.shape[1:])
        stride = -(-math.prod(series.shape) // _SAMPLE_SIZE)
        while math.gcd(stride, self._frame_size) > 1:  # a common factor would visit the same columns again and again
            stride += 1
        self._stride = stride
        self._next = 0
        self._values: list[NDArray[np.float32]] = []

    def add(self, frame: NDArray[np.float32]) -> None:
        values = frame.reshape(-1)[self._next :: self._stride]
        self._next += values.size * self._stride - self._frame_size
        self._values.append(values.copy())

    def scale(self) -> float:
        """The quantile of the positive values; 0 where the sample holds none."""
        values = np.concatenate(self._values)
        positive = values[values > 0]
        return float(np.quantile(positive, SCALE_QUANTILE)) if positive.size else 0.0


def _half_power(frame: NDArray[np.float32], *, axis: int) -> Array:
    """Sum over everything but ``axis`` of |FFT|^2 for the frequencies 0 .. n // 2, divided by the number of lines."""
    spectrum = np.fft.rfft(frame.astype(np.float64), axis=axis, norm="ortho")
    others = tuple(a for a in range(3) if a != axis)
    power: Array = (spectrum.real**2 + spectrum.imag**2).mean(axis=others)
    return power


def _whole_power(half: Array, n: int) -> Array:
    """All ``n`` frequencies, centred, of the half that a real signal has: |F(-k)| = |F(k)|."""
    return np.fft.fftshift(np.concatenate([half, half[1 : (n + 1) // 2][::-1]]))
