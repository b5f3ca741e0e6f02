"""The cases that ``mie`` is evaluated on: a cine and T1 images with late enhancement of the same heart beside them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.nifti.series import nifti_stem, read_nifti
from cmrsr.io.planes import normal_of, slice_centres
from cmrsr.io.references.labels import SCAR
from cmrsr.io.series import Series
from cmrsr.physics.volumes import DENSITY_G_ML, LV, MYOCARDIUM, RV
from cmrsr.tasks.mie.grid import Shift, SliceGrid
from cmrsr.tasks.mie.inputs.pairing import NEAR_MM, PARALLEL_DEG

Array = NDArray[np.float32]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
LABEL_ENDINGS = ("_label", "_labels", "_scar", "_mask", "")  # of a file of labels, after the name of the enhancement
SAME_GRID_MM = 0.1  # between voxels of the enhancement and of its labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Enhancement:
    """Acquired late enhancement, the reference. Arrays (z, y, x) on its matrix; None where nobody knows.

    clean: the same images without noise. scar: where the scar is. labels: 1 RV, 2 myocardium with its scar, 3 LV.
    """

    series: Series
    clean: Array | None = None
    scar: Mask | None = None
    labels: Labels | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One examination. group: of disease, where known. e_cc_percent: true mean circumferential strain of the wall at

    end systole in the slices (z,) of the cine. scar_whole_g: scar of the whole ventricle. Both of virtual patients.
    """

    name: str
    t1: Series
    cine: Series
    late: Enhancement
    group: str = ""
    e_cc_percent: NDArray[np.float64] | None = None
    scar_whole_g: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Late enhancement on the window of a T1 slice, (y, x) each; see ``Enhancement``."""

    image: Array
    clean: Array | None
    scar: Mask | None
    labels: Labels | None


def slice_of(late: Enhancement, grid: SliceGrid) -> int | None:
    """The slice of the enhancement that lies at a T1 slice; None where none does."""
    place = np.array([grid.centre[1], grid.centre[0], grid.z, 1.0])
    normal = normal_of(late.series.affine)
    tilt = np.degrees(np.arccos(min(1.0, abs(float(normal @ normal_of(grid.t1))))))
    if tilt > PARALLEL_DEG:
        return None
    distance = np.abs((slice_centres(late.series) - (grid.t1 @ place)[:3]) @ normal)
    nearest = int(distance.argmin())
    return nearest if distance[nearest] <= NEAR_MM else None


def on_window(late: Enhancement, z: int, grid: SliceGrid, shift: Shift = (0.0, 0.0)) -> Reference:
    """Slice ``z`` of the enhancement on the window of a T1 slice; shift (y, x): pixels of the window by which the heart

    lies further along in the enhancement.
    """
    at = replace(grid, cine=late.series.affine, cine_z=z)

    def cut(images: NDArray[Any]) -> Array:
        return at.from_cine(images, shift)

    labels = None
    if late.labels is not None:
        shares = cut(np.stack([late.labels[z] == code for code in (0, RV, MYOCARDIUM, LV)]).astype(np.float32))
        labels = shares.argmax(0).astype(np.uint8)
    return Reference(
        image=cut(late.series.frame(0)[z][None])[0],
        clean=None if late.clean is None else cut(late.clean[z][None])[0],
        scar=None if late.scar is None else cut(late.scar[z][None].astype(np.float32))[0] > 0.5,
        labels=labels,
    )  # fmt: skip


def true_scar_g(late: Enhancement, slices: list[int], gap_mm: float) -> float | None:
    """Mass of the scar in slices of the enhancement, each as thick as T1 slices are apart; None without a mask."""
    if late.scar is None:
        return None
    _, y_mm, x_mm = late.series.spacing_mm
    return float(late.scar[slices].sum() * y_mm * x_mm * gap_mm / 1000 * DENSITY_G_ML)


def with_labels(series: Series, folder: Path | None) -> Enhancement:
    """Late enhancement of a file with the labels that lie beside it, or in ``folder``, under its name.

    The file is named like the enhancement, alone or with ``_label``, ``_scar`` or ``_mask``; 1 is scar where there is
    no other code, else 1 RV, 2 myocardium, 3 LV, 4 scar. Without such a file the images alone are compared.
    UnusableError: another grid, other codes.
    """
    if series.n_frames > 1:
        raise UnusableError(f"{series.source.name}: {series.n_frames} time points, expected one late enhancement")
    path = _label_file(series, folder)
    if path is None:
        return Enhancement(series=series)
    file = read_nifti(path, time_axis="none")
    found = file.frame(0)
    if found.shape != series.shape[1:] or np.abs(file.affine - series.affine).max() > SAME_GRID_MM:
        raise UnusableError(f"{path}: {found.shape} labels on another grid than the images {series.shape[1:]}")
    codes = {float(code) for code in np.unique(found)}
    if not codes <= {0.0, float(RV), float(MYOCARDIUM), float(LV), float(SCAR)}:
        raise UnusableError(f"{path}: expected 1 for scar, or 1 RV, 2 myocardium, 3 LV, 4 scar; found {max(codes):g}")
    if codes <= {0.0, 1.0}:
        return Enhancement(series=series, scar=found == 1)
    labels = np.where(found == SCAR, MYOCARDIUM, found).astype(np.uint8)
    return Enhancement(series=series, scar=found == SCAR, labels=labels)


def _label_file(series: Series, folder: Path | None) -> Path | None:
    paths = series.source.paths
    stems = [Path(series.source.name).name]
    if paths and series.source.format == "nifti":
        stems.insert(0, nifti_stem(paths[0]))
    if folder is not None and not folder.is_dir():
        raise UnreadableError(f"{folder}: no such folder; expected label files named like the late enhancement")
    where = folder or (paths[0].parent if paths else None)
    if where is None:
        return None
    for stem in stems:
        for ending in LABEL_ENDINGS:
            for suffix in (".nii.gz", ".nii"):
                path = where / f"{stem}{ending}{suffix}"
                if path.is_file() and path not in paths:
                    return path
    return None
