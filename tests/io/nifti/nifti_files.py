"""NIfTI files of any header that tests write, and copies of a series."""

import gzip
import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cmrsr.io.nifti.series import nifti_writer
from cmrsr.io.series import Series

FLOAT32 = 1e-6  # the matrices of a NIfTI header are float32
ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3)))
SPACING = (1.5, 2.0, 8.0)


def turned(order: tuple[int, ...], signs: tuple[int, ...], tilt: float = 0.2) -> NDArray[np.float64]:
    """One of the 48 axis orders and directions, tilted, with the spacing of the axes."""
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.eye(3)[:, list(order)] @ np.diag(np.multiply(signs, SPACING))
    affine[:3, 3] = -30, 12.5, 77
    return affine


def save(path: Path, data: NDArray[Any], *, affine: NDArray[np.float64] | None = None, **header: Any) -> Path:
    """A NIfTI file of ``data`` exactly as stored; header fields by name, ``step`` and ``units`` for the time."""
    image = nib.Nifti1Image(data, turned((0, 1, 2), (1, 1, 1)) if affine is None else affine, dtype=data.dtype)
    units = header.pop("units", ("mm", "sec"))
    image.header.set_xyzt_units(*units)
    step = header.pop("step", 0.5)
    image.header.set_zooms([*image.header.get_zooms()[:3], *([step] * (data.ndim > 3)), *([1.0] * (data.ndim - 4))])
    for name, value in header.items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    if "scl_slope" in header:  # nibabel would choose its own
        patch(path, 112, np.array([header["scl_slope"], header.get("scl_inter", 0)], "<f4").tobytes())
    return path


def patch(path: Path, at: int, new: bytes) -> None:
    zipped = path.suffix == ".gz"
    raw = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    raw[at : at + len(new)] = new
    path.write_bytes(gzip.compress(bytes(raw)) if zipped else bytes(raw))


def copy(series: Series, path: Path, **changes: Any) -> Path:
    """Read -> write, by default unchanged."""
    how = {"shape": series.shape, "affine": series.affine, "times_ms": series.times_ms, **changes}
    with nifti_writer(path, series, description="a copy", **how) as writer:
        for frame in series:
            writer.write(np.resize(frame, how["shape"][1:]))
    return path


def numbers(shape: tuple[int, ...], dtype: Any = np.int16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
