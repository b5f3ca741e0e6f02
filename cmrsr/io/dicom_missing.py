"""Slices with too few or too many images: say which are missing, and drop what the user allows to drop."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cmrsr.errors import UnusableError
from cmrsr.io.dicom_read import DicomInstance
from cmrsr.io.dicom_time import ORDER, OnMissing, Slices

MAX_LISTED = 8


def complete(
    slices: Slices, positions_mm: Sequence[float], on_missing: OnMissing
) -> tuple[Slices, list[float], tuple[str, ...]]:
    """Slices of equal length, their positions, and notes on what was dropped.

    Raises UnusableError with a table of what is missing unless ``on_missing`` allows to drop it.
    """
    n = _expected(slices)
    if all(len(one) == n for one in slices):
        return slices, list(positions_mm), ()
    labels = _labels(slices, n)
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


def _expected(slices: Slices) -> int:
    """The number of images most slices have; the larger one where two numbers are equally frequent."""
    counts = Counter(len(one) for one in slices)
    return max(counts, key=lambda n: (counts[n], n))


def _row(z: int, slices: Slices, position_mm: float, n: int, labels: list[dict[int, DicomInstance]] | None) -> str:
    found = len(slices[z])
    row = f"slice {z + 1} at {position_mm:.1f} mm has {found}"
    if labels is not None and found < n:
        missing = [str(t + 1) for t in range(n) if t not in labels[z]]
        row += f", frame {', '.join(missing[:MAX_LISTED])} missing" + (" ..." if len(missing) > MAX_LISTED else "")
    return row


def _labels(slices: Slices, n: int) -> list[dict[int, DicomInstance]] | None:
    """For each slice {time index: image}; None where the tags do not tell which time points are missing."""
    if max(len(one) for one in slices) > n or all(len(one) != n for one in slices):
        return None
    for tag in ("TemporalPositionIdentifier", "InversionTime", "TriggerTime", "InstanceNumber"):
        if (labels := _labels_by_value(slices, n, tag)) is not None:
            return labels
    return _labels_by_numbering(slices, n)


def _labels_by_value(slices: Slices, n: int, tag: str) -> list[dict[int, DicomInstance]] | None:
    """All complete slices have the same n values, and the others a part of them (times within a tenth of a step)."""
    values: list[list[float]] = []
    for one in slices:
        found = [ORDER[tag](image) for image in one]
        known = [v for v in found if v is not None]
        if len(known) < len(one) or len(set(known)) < len(known):
            return None
        values.append(known)
    grid = np.sort(next(v for v in values if len(v) == n))
    tolerance = 0.1 * float(np.diff(grid).min()) if n > 1 else 0.0
    labels = []
    for one, known in zip(slices, values, strict=True):
        nearest = [int(np.argmin(np.abs(grid - v))) for v in known]
        if max(abs(grid[t] - v) for t, v in zip(nearest, known, strict=True)) > tolerance:
            return None
        labels.append(dict(zip(nearest, one, strict=True)))
    return labels if all(len(label) == len(one) for label, one in zip(labels, slices, strict=True)) else None


def _labels_by_numbering(slices: Slices, n: int) -> list[dict[int, DicomInstance]] | None:
    """InstanceNumber runs through the series with one constant step per slice; the missing numbers are the holes."""
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
