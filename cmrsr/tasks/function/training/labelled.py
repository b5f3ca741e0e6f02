"""Labelled cine of real patients, to train ``function`` on: found in a folder, brought to square pixels, cut out."""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnusableError
from cmrsr.io.discover import Candidate, discover
from cmrsr.io.patient import patient_of
from cmrsr.io.phases import pair_phases
from cmrsr.io.references.labels import LabelReferences
from cmrsr.io.references.reference import Reference
from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV, STRUCTURES
from cmrsr.tasks.function.training.data import Beat
from cmrsr.training.cache import FULL_SCALE

PIXEL_MM = 1.5
SIZE = 192  # pixels of a beat along y and x, at most: room for a heart that is turned, moved and zoomed
_log = logging.getLogger(__name__)
Array = NDArray[np.float64]


def read_labelled(
    folder: Path, *, pixel_mm: float = PIXEL_MM, on_item: Callable[[int, int], None] | None = None
) -> dict[str, list[Beat]]:
    """Beats by patient of all labelled series of a folder; ``on_item`` is told (done, total) of the series found.

    Labels are 1 RV cavity, 2 myocardium, 3 LV cavity; those of M&Ms, which exchange the cavities, are recognised. They
    are found by name: ``<scan>_gt`` or ``_label`` beside the scan (of single phases, as of ACDC, or 4-D with
    labels in some frames, as of M&Ms), or a file of the same name in another folder: ``<folder>-labels`` beside that of
    the images, ``labels`` in it, or ``labels`` where that is ``images``.
    Of a scan are taken the frames that have labels, at least two, from the one with the largest LV on. All slices are,
    where RV, myocardium and LV are labelled: a slice without labels then lies beyond the heart. Where some structure
    never is, nobody says so of a slice: those are taken that have labels in all these frames.
    A patient is the folder of a scan that is named like it, otherwise the first part of the path, or of the name up to
    the first underscore.
    UnusableError: there is no such scan. What cannot be used is left out, and the log says why.
    """
    folder = folder.absolute()
    candidates = pair_phases(discover([folder])[0])
    beats: dict[str, list[Beat]] = {}
    used: set[tuple[Path, ...]] = set()
    problems: list[str] = []
    labels_in = cache(LabelReferences)
    for i, candidate in enumerate(candidates):
        try:
            series = candidate.open()
            reference = _reference(candidate, series, folder, labels_in)
            if reference is not None and reference.paths not in used:  # of a whole beat and its single phases once
                beat = _beat(series, reference, pixel_mm)
                beats.setdefault(_patient(candidate.name), []).append(beat)
                used.add(reference.paths)
        except CmrsrError as error:
            problems.append(str(error))
        if on_item:
            on_item(i + 1, len(candidates))
    if not beats:
        why = f" ({problems[0]})" if problems else ""
        raise UnusableError(
            f"{folder}: {len(candidates)} series, none with labels of two phases{why}; expected <scan>_gt.nii.gz "
            f"beside the scans, or a folder {folder.name}-labels of files with the same names"
        )
    if problems:
        _log.warning("%d of %d series left out, the first: %s", len(problems), len(candidates), problems[0])
    return beats


def _patient(name: str) -> str:
    path = Path(name)
    return path.parent.name if path.parent.name and path.name.startswith(path.parent.name) else patient_of(name)


# --- labels -----------------------------------------------------------------------------------------------------------


def _reference(
    candidate: Candidate, series: Series, folder: Path, labels_in: Callable[[Path], LabelReferences]
) -> Reference | None:
    """The labels of a series; None where it has none."""
    for root, name in _places(candidate, folder):
        if (found := labels_in(root).of(name, series)) is not None:
            return found
    return None


def _places(candidate: Candidate, folder: Path) -> Iterator[tuple[Path, str]]:
    """Folders that may hold the labels of a series, and its name below each."""
    yield folder, candidate.name
    images = (folder / candidate.name).parent
    for above in [images, *images.parents]:
        names = [above.name.replace("images", "labels"), f"{above.name}-labels", f"{above.name}_labels"]
        for place in [*(above.with_name(name) for name in names), above / "labels"]:
            if place != above and place.is_dir():
                yield place, str((folder / candidate.name).relative_to(above))
        if above == folder:
            return


# --- from a series to a beat ------------------------------------------------------------------------------------------


def _beat(series: Series, reference: Reference, pixel_mm: float) -> Beat:
    frames = sorted(reference.labels)
    if len(frames) < 2:
        raise UnusableError(f"{reference.source}: labels of {len(frames)} phases of {series.source.name}, expected 2")
    labels = np.stack([reference.labels[t] for t in frames])
    known = tuple(s in reference.structures for s in STRUCTURES)
    slices = np.arange(labels.shape[1])
    if not all(known):
        slices = np.flatnonzero((labels > 0).any((2, 3)).all(0))
        if not slices.size:
            raise UnusableError(f"{reference.source}: no slice is labelled in all of {len(frames)} phases")
    largest = int((labels == LV).sum((1, 2, 3)).argmax())
    order = np.roll(np.arange(len(frames)), -largest)
    labels = labels[order][:, slices]
    gap_mm, *spacing = series.spacing_mm
    grids = [
        _grid(np.flatnonzero(labels.any(others)), n, mm, pixel_mm)
        for others, n, mm in zip(((0, 1, 3), (0, 1, 2)), labels.shape[2:], spacing, strict=True)
    ]
    images = np.stack([[_resampled(plane, grids, 3) for plane in series.frame(frames[k])[slices]] for k in order])
    images = np.maximum(images, 0)
    if not (np.isfinite(images).all() and images.max() > 0):
        raise UnusableError(f"{series.source.name}: NaN, or nothing positive, in the labelled slices")
    return Beat(
        images=(images * (FULL_SCALE / images.max())).round().astype(np.uint16),
        labels=np.stack([[_resampled_labels(plane, grids) for plane in frame] for frame in labels]),
        known=(known[0], known[1], known[2]),
        pixel_mm=pixel_mm,
        gap_mm=gap_mm,
    )


def _grid(heart: NDArray[Any], n: int, spacing_mm: float, pixel_mm: float) -> tuple[int, float, int]:
    """Along an axis of ``n`` pixels: the first pixel, the step in pixels and the number of steps, about the heart.

    Begins on a pixel, so that an image with that spacing already is copied as it is.
    """
    step = pixel_mm / spacing_mm
    size = min(SIZE, int((n - 1) / step + 1e-6) + 1)
    last = int(n - 1 - (size - 1) * step + 1e-6)
    middle = (heart[0] + heart[-1]) / 2
    return min(max(round(middle - (size - 1) / 2 * step), 0), last), step, size


def _resampled(plane: NDArray[Any], grids: list[tuple[int, float, int]], order: int) -> Array:
    """A slice (y, x) on the grids of its axes; smoothed before where these are coarser, against aliasing."""
    first, step, size = zip(*grids, strict=True)
    # The width of a pixel that is ``step`` times as wide: both as Gaussians whose variances add up.
    widths = [np.sqrt(max(s**2 - 1, 0.0)) / 2 for s in step]
    smooth = scipy.ndimage.gaussian_filter(np.asarray(plane, np.float64), widths, mode="nearest")
    out: Array = scipy.ndimage.affine_transform(
        smooth, np.array(step), np.array(first), output_shape=size, order=order, mode="nearest"
    )
    return out


def _resampled_labels(plane: NDArray[np.uint8], grids: list[tuple[int, float, int]]) -> NDArray[np.uint8]:
    """Of every pixel the label that has the largest share of it."""
    shares = [_resampled(plane == label, grids, 1) for label in (0, *STRUCTURES)]
    return np.asarray(np.argmax(shares, axis=0), np.uint8)
