from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmrsr.physics.band import Band, coarse_axis, detect_band
from cmrsr.physics.fourier import fft1c
from cmrsr.physics.kspace import degrade, n_lines

FRACTIONS = (0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7)


def _power(frames: np.ndarray, axis: int) -> np.ndarray:
    """Mean power spectrum along one axis of (t, y, x)."""
    others = tuple(a for a in range(3) if a != axis)
    return np.asarray((np.abs(fft1c(frames, axis)) ** 2).mean(axis=others))


def _discs(size: int, noise: float, seed: int, n_frames: int = 3) -> np.ndarray:
    """Overlapping ellipses of many sizes: edges at every scale, as chest scans have; (t, size, size - 7)."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((n_frames, size, size - 7))
    y, x = np.indices(frames.shape[1:])
    for frame in frames:
        for _ in range(150):
            cy, cx = rng.uniform(0, size, 2)
            radius = size * rng.uniform(0.01, 0.25) ** 1.5
            frame[np.hypot(y - cy, (x - cx) * rng.uniform(0.6, 1.6)) < radius] = rng.uniform(0.05, 1)
    k = rng.normal(size=(2, *frames.shape)) * noise
    return np.asarray(np.hypot(frames + k[0], k[1]))


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("size", [64, 65, 96, 97, 128])
def test_truncated_lines_are_counted(size: int, noise: float) -> None:
    frames = _discs(size, noise, seed=size)
    assert detect_band(_power(frames, 1)).lines == size
    for fraction in FRACTIONS:
        for lines in (n_lines(fraction, size), n_lines(fraction, size) + 1):  # even and odd
            found = detect_band(_power(degrade(frames, lines, 1), 1))
            assert (found.lines, found.size) == (lines, size)
            assert found.fraction == lines / size


def test_either_axis() -> None:
    frames = degrade(_discs(96, 0.01, seed=1), 34, 1)
    y, x = detect_band(_power(frames, 1)), detect_band(_power(frames, 2))
    assert (y.lines, x.lines) == (34, 89)
    assert coarse_axis(x, y) == "y"
    assert coarse_axis(y, x) == "x"


def test_no_axis_is_coarse_where_both_are_alike() -> None:
    assert coarse_axis(Band(60, 100, 9.0), Band(96, 160, 9.0)) is None
    assert coarse_axis(Band(90, 100, 9.0), Band(100, 100, 1.0)) is None


@pytest.mark.parametrize("size", [8, 9, 16, 17])
def test_tiny_matrices_count_as_full(size: int) -> None:
    assert detect_band(_power(_discs(size, 0.1, seed=3), 1)).lines == size


def test_noise_alone_counts_as_full() -> None:
    noise = np.abs(np.random.default_rng(0).normal(size=(4, 96, 96)))
    assert detect_band(_power(noise, 1)).lines == 96


@pytest.mark.parametrize("name", ["p01_rest", "p05_stress", "p07_stress"])
def test_real_scans_truncated_to_a_third(real_data: Path, name: str) -> None:
    path = real_data / "perfusion-nifti" / f"{name}.nii.gz"
    frames = np.asarray(nib.load(path).dataobj, dtype=np.float64)[:, :, 0, ::6].transpose(2, 1, 0)
    for axis in (1, 2):
        size = frames.shape[axis]
        assert detect_band(_power(frames, axis)).lines == size
        lines = n_lines(0.35, size)
        lr = degrade(frames, lines, axis)
        bands = {"y": detect_band(_power(lr, 1)), "x": detect_band(_power(lr, 2))}
        coarse = "y" if axis == 1 else "x"
        assert bands[coarse].lines == lines
        assert coarse_axis(bands["x"], bands["y"]) == coarse
