"""Cleaning the labels of one time point: one left ventricle, one right ventricle beside it, nothing else."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmrsr.physics.volumes import LV, MYOCARDIUM, RV

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
LEAST_CAVITY_MM2 = 20.0  # in a slice: below it no reader draws a cavity, and half of it would be partial volume
# Of the cavity's outline in a slice. Readers ask for half; cut by a tilted valve plane it may be just that, so that at
# half itself the noise of the outline would decide on a whole slice.
LEAST_ENCLOSED = 0.4
# Added to the share by which a piece overlaps the cavity of the slice before, when the LV is followed along its axis: a
# piece elsewhere has to be so much larger or better enclosed.
ELSEWHERE = 0.2
MOST_PIECES = 8  # of a slice that are looked at, the largest: the rest are specks
RV_REACH = 2  # pixels between the RV and the LV's wall at most: what a network leaves open along the septum
_NEIGHBOURS = np.ones((3, 3, 3), bool)  # in z: overlap, a pixel aside at most
_CROSS = ndimage.generate_binary_structure(2, 1)


def clean_labels(labels: Labels, pixel_mm2: float) -> Labels:
    """Labels (z, y, x) of one time point with one LV and one RV; all zero where no LV is found.

    - The LV, cavity and wall, is the largest body connected through the slices; all else is dropped.
    - Of several pieces called LV in a slice, the LV is the one that the wall encloses best, that is large, and that
      continues the LV of the neighbouring slice; another one beside it is the RV.
    - A slice has LV cavity if that piece covers ``LEAST_CAVITY_MM2`` or more and the wall encloses two fifths or more
      of its outline: at the base this ends the ventricle where the atrium begins, whose wall is not labelled.
    - Slices with cavity are one run without a gap, the one of the largest volume. Towards the apex and the base wall
      without cavity counts as far as it continues the run.
    - What lies within the cavity, such as papillary muscles, is cavity; what lies within the wall is wall.
    - The RV of a slice is the largest piece that touches the LV; in slices beyond the LV what overlaps the RV of the
      slice before.
    """
    out = np.zeros_like(labels)
    box = ndimage.find_objects((labels > 0).astype(np.uint8))
    if not box:
        return out
    window, found = labels[box[0]], out[box[0]]
    cavity, wall = _left_ventricle(window, pixel_mm2)
    found[wall] = MYOCARDIUM
    found[cavity] = LV
    if cavity.any():
        found[_right_ventricle(((window == RV) | (window == LV)) & (found == 0), cavity | wall)] = RV
    return out


def _left_ventricle(labels: Labels, pixel_mm2: float) -> tuple[Mask, Mask]:
    """Cavity and wall (z, y, x)."""
    body = _largest_body(labels)
    cavity, wall = _followed((labels == LV) & body, (labels == MYOCARDIUM) & body), np.zeros(labels.shape, bool)
    for z in range(len(labels)):
        if body[z].any():
            cavity[z], wall[z] = _slice(cavity[z], body[z] & (labels[z] == MYOCARDIUM), pixel_mm2)
    run = _run(cavity.sum((1, 2)))
    kept = _continued(run, cavity, wall)
    cavity[~run] = False
    wall[~kept] = False
    return cavity, wall


def _largest_body(labels: Labels) -> Mask:
    """The largest 3-D component of cavity and wall that has cavity."""
    pieces, n = ndimage.label((labels == LV) | (labels == MYOCARDIUM), _NEIGHBOURS)
    return _biggest(pieces, n, labels == LV)


def _followed(blood: Mask, wall: Mask) -> Mask:
    """One piece of the blood pool (z, y, x) per slice, followed from where it is largest and best enclosed."""
    out = np.zeros_like(blood)
    pieces = [_pieces(b, w) for b, w in zip(blood, wall, strict=True)]
    best = [max((score for score, _ in one), default=0.0) for one in pieces]
    start = int(np.argmax(best))
    for way in (range(start, len(out)), range(start - 1, -1, -1)):
        before = out[start]
        for z in way:
            if not pieces[z]:
                continue
            overlaps = [_size(piece & before) / max(1, min(_size(piece), _size(before))) for _, piece in pieces[z]]
            chosen = int(np.argmax([s * (ELSEWHERE + o) for (s, _), o in zip(pieces[z], overlaps, strict=True)]))
            out[z] = before = pieces[z][chosen][1]
    return out


def _pieces(blood: Mask, wall: Mask) -> list[tuple[float, Mask]]:
    """The connected pieces (y, x) with their holes filled, each with its size times its enclosure squared."""
    labelled, n = ndimage.label(blood)
    size = np.bincount(labelled.ravel(), minlength=n + 1)[1:]
    found: list[tuple[float, Mask]] = []
    for i in np.argsort(-size, kind="stable")[:MOST_PIECES] + 1:
        piece = np.asarray(ndimage.binary_fill_holes(labelled == i))
        found.append((_size(piece) * _enclosed(piece, wall) ** 2, piece))
    return found


def _size(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _enclosed(cavity: Mask, wall: Mask) -> float:
    """Share of the outline of a cavity (y, x) that is wall."""
    outline = ndimage.binary_dilation(cavity, _CROSS) & ~cavity
    return _size(outline & wall) / max(1, _size(outline))


def _slice(cavity: Mask, wall: Mask, pixel_mm2: float) -> tuple[Mask, Mask]:
    """Cavity and wall (y, x) of one slice of the body."""
    wall = wall & ~cavity
    enclosed = _enclosed(cavity, wall) >= LEAST_ENCLOSED
    if not enclosed or np.count_nonzero(cavity) * pixel_mm2 < LEAST_CAVITY_MM2:
        cavity = np.zeros_like(cavity)
    whole = _largest(cavity | wall)
    holes = ndimage.binary_fill_holes(whole) & ~whole
    if holes.any():
        beside = ndimage.binary_propagation(cavity, mask=cavity | holes)
        cavity, whole = cavity | beside, whole | holes
    return cavity & whole, whole & ~cavity


def _right_ventricle(labelled: Mask, heart: Mask) -> Mask:
    """What is RV (z, y, x) of what is labelled so, beside the LV's body."""
    out = np.zeros_like(labelled)
    slices = np.flatnonzero(heart.any((1, 2)))
    for z in range(slices[0], slices[-1] + 1):
        near = ndimage.binary_dilation(heart[z], _CROSS, iterations=RV_REACH)
        out[z] = _rounded(_largest(labelled[z], near), heart[z])
    for beyond, step in ((range(slices[0] - 1, -1, -1), 1), (range(slices[-1] + 1, len(out)), -1)):
        for z in beyond:
            out[z] = _rounded(_largest(labelled[z], out[z + step]), heart[z])
    return out


def _rounded(rv: Mask, heart: Mask) -> Mask:
    """With its holes filled: trabeculae are cavity."""
    return np.asarray(ndimage.binary_fill_holes(rv) & ~heart if rv.any() else rv)


def _largest(mask: Mask, touching: Mask | None = None) -> Mask:
    """The largest piece (y, x) of a mask, of those that touch another mask."""
    pieces, n = ndimage.label(mask)
    if n == 0 or (n == 1 and touching is None):
        return mask
    return _biggest(pieces, n, mask if touching is None else touching)


def _biggest(pieces: NDArray[np.int32], n: int, touching: Mask) -> Mask:
    """The biggest of the pieces 1..n that have a pixel in ``touching``; nothing where none has."""
    size = np.bincount(pieces.ravel(), minlength=n + 1) * (np.bincount(pieces[touching], minlength=n + 1) > 0)
    size[0] = 0
    return np.asarray((pieces == size.argmax()) & size.any())


def _run(size: NDArray[np.int64]) -> Mask:
    """The run (z,) of neighbouring slices with a size above 0 whose sum is largest."""
    runs, n = ndimage.label(size > 0)
    if n < 2:
        return np.asarray(size > 0)
    return np.asarray(runs == 1 + np.argmax(ndimage.sum_labels(size, runs, range(1, n + 1))))


def _continued(run: Mask, cavity: Mask, wall: Mask) -> Mask:
    """The run (z,) and the slices of wall without cavity, both (z, y, x), that continue it."""
    pieces, _ = ndimage.label(run | (wall.any((1, 2)) & ~cavity.any((1, 2))))
    return np.asarray(np.isin(pieces, np.unique(pieces[run])) & (pieces > 0))
