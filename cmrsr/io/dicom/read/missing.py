"""Slices with too few or too many images: say which are missing, and drop what the user allows to drop."""

from collections.abc import Sequence

import numpy as np

from cmrsr.errors import UnusableError
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.read.order import ORDER, Slices, trigger_is_delay
from cmrsr.io.dicom.read.time_axis import OnMissing
from cmrsr.io.series import Kind

MAX_LISTED = 8
SHARED = ("TemporalPositionIdentifier", "DimensionIndexValues", "TriggerTime", "InstanceNumber")
SAME_TIME = 0.1  # of a step: closer values are one time point


def without_last_volume(images: Sequence[DicomInstance]) -> tuple[list[DicomInstance], list[str]]:
    """The frames of one multi-frame file without a last volume that was cut short, as a scan is when it is stopped.

    All images, and no note, where the frames do not come volume by volume.
    """
    frames = sorted(images, key=lambda i: i.frame)
    if len({i.path for i in frames}) != 1 or frames[0].n_frames == 1:
        return list(images), []
    places = [tuple(np.round(i.position_mm, 1)) for i in frames]
    n = len(set(places))
    extra = len(frames) % n
    if not extra or len(frames) <= n or any(place != places[k % n] for k, place in enumerate(places)):
        return list(images), []
    return frames[:-extra], [f"the last volume holds {extra} of {n} slices and was left out: the scan was stopped"]


def complete(
    slices: Slices, positions_mm: Sequence[float], kind: Kind, on_missing: OnMissing
) -> tuple[Slices, list[float], tuple[str, ...]]:
    """Slices of equal length, their positions, and notes on what was dropped.

    Raises UnusableError with a table of what is missing unless ``on_missing`` allows to drop it.
    """
    shared = [tag for tag in SHARED if tag != "TriggerTime" or not trigger_is_delay(slices, kind)]
    labels = next((found for tag in shared if (found := _labels_by_value(slices, tag)) is not None), None)
    n = 1 + max(max(label) for label in labels) if labels is not None else _expected(slices, shared)
    if all(len(one) == n for one in slices):
        return slices, list(positions_mm), ()
    if labels is None:
        labels = _labels_by_numbering(slices, n)
    odd = [z for z, one in enumerate(slices) if len(one) != n]
    rows = [_row(z, slices, positions_mm[z], n, labels) for z in odd]
    table = "; ".join(rows[:MAX_LISTED]) + (
        f"; and {len(rows) - MAX_LISTED} more slices" if len(rows) > MAX_LISTED else ""
    )
    if on_missing == "drop-slice":
        kept = [z for z in range(len(slices)) if z not in odd]
        return [slices[z] for z in kept], [positions_mm[z] for z in kept], (f"slices dropped: {table}",)
    if on_missing == "fail":
        raise UnusableError(
            f"expected {n} images at each of {len(slices)} slice positions: {table}; "
            "find the missing files, or pass --on-missing drop-frame or drop-slice"
        )
    if labels is None:
        raise UnusableError(f"cannot tell which time points are missing: {table}; try --on-missing drop-slice")
    common = set.intersection(*(set(one) for one in labels))
    if not common:
        raise UnusableError(f"no time point is complete: {table}; try --on-missing drop-slice")
    kept_images = [[one[label] for label in sorted(common)] for one in labels]
    return kept_images, list(positions_mm), (f"{n - len(common)} of {n} time points dropped: {table}",)


def _expected(slices: Slices, shared: Sequence[str]) -> int:
    """The largest number of images of a slice, not counting those that repeat a value no other slice repeats."""
    distinct = [len(one) for one in slices]
    for tag in shared:
        values = [{ORDER[tag](image) for image in one} for one in slices]
        if None not in set.union(*values) and any(len(v) == len(one) for v, one in zip(values, slices, strict=True)):
            distinct = [min(n, len(v)) for n, v in zip(distinct, values, strict=True)]
    return max(distinct)


def _row(z: int, slices: Slices, position_mm: float, n: int, labels: list[dict[int, DicomInstance]] | None) -> str:
    found = len(slices[z])
    row = f"slice {z + 1} at {position_mm:.1f} mm has {found}"
    if labels is not None and found < n:
        missing = [str(t + 1) for t in range(n) if t not in labels[z]]
        row += f", frame {', '.join(missing[:MAX_LISTED])} missing" + (" ..." if len(missing) > MAX_LISTED else "")
    return row


def _labels_by_value(slices: Slices, tag: str) -> list[dict[int, DicomInstance]] | None:
    """For each slice {time index: image}, by a tag that is the same on all slices; None where it is not.

    The values of all slices together are the time points. They must be as far apart as those of one slice and not many
    more: slices that each run on a clock of their own give a crowd of values, not a grid with holes.
    """
    values: list[list[float]] = []
    for one in slices:
        known = [v for image in one if (v := ORDER[tag](image)) is not None]
        if len(known) < len(one) or len(set(known)) < len(known):
            return None
        values.append(known)
    n, together = max(len(v) for v in values), np.unique(np.concatenate(values))
    if n < 2:
        return None
    step = float(np.median(np.diff(np.sort(max(values, key=len)))))
    grid = together[np.diff(together, prepend=-np.inf) > SAME_TIME * step]
    if np.diff(grid).min() < 0.5 * step or len(grid) > 1.5 * n:
        return None
    labels = []
    for one, known in zip(slices, values, strict=True):
        nearest = [int(np.searchsorted(grid, v, side="right")) - 1 for v in known]
        labels.append(dict(zip(nearest, one, strict=True)))
    return labels if all(len(label) == len(one) for label, one in zip(labels, slices, strict=True)) else None


def _labels_by_numbering(slices: Slices, n: int) -> list[dict[int, DicomInstance]] | None:
    """InstanceNumber runs through the series with one constant step per slice; the missing numbers are the holes."""
    if max(len(one) for one in slices) > n:
        return None
    numbers = [sorted((i.instance_number or 0.0, k) for k, i in enumerate(one)) for one in slices]
    steps = {float(s) for v in numbers if len(v) == n for s in np.diff([number for number, _ in v])}
    used = [number for v in numbers for number, _ in v]
    if len(steps) != 1 or (step := steps.pop()) < 1 or len(set(used)) < len(used):
        return None
    labels = []
    for one, ordered in zip(slices, numbers, strict=True):
        own = [number for number, _ in ordered]
        others = set(used) - set(own)
        starts = []
        for k in range(n - int((own[-1] - own[0]) // step)):
            start = own[0] - k * step
            wanted = {start + t * step for t in range(n)}
            if start >= 1 and set(own) <= wanted and not wanted & others:
                starts.append(start)
        if len(starts) != 1:
            return None
        labels.append({int((number - starts[0]) // step): one[k] for number, k in ordered})
    return labels
