"""Which image is which time point: the tag that orders them, the times in milliseconds, and what is missing."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.dicom_read import DicomInstance
from cmrsr.io.series import Kind

OnMissing = Literal["fail", "drop-frame", "drop-slice"]
Slices = list[list[DicomInstance]]
Value = Callable[[DicomInstance], float | None]

# In this order. The inversion time leads: where it differs from image to image, it is the axis of a T1 series.
ORDER: dict[str, Value] = {
    "InversionTime": lambda i: i.inversion_time_ms,
    "TemporalPositionIdentifier": lambda i: i.temporal_position,
    "TriggerTime": lambda i: i.trigger_time_ms,
    "AcquisitionTime": lambda i: i.acquired_at_ms,
    "ContentTime": lambda i: i.content_at_ms,
    "InstanceNumber": lambda i: i.instance_number,
}
# ContentTime is when an image was stored, so it orders images but does not say when they were acquired.
TIMES = ("InversionTime", "TriggerTime", "AcquisitionTime")
DAY_MS = 86_400_000.0
SAME_TIME_MS = 0.5
MIN_FRAMES_FOR_A_PATTERN = 4
MIN_INVERSION_TIMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """Images ``[t][z]``, times (t,) or (t, z), the tag that ordered them ("" for one frame), and what was decided."""

    table: tuple[tuple[DicomInstance, ...], ...]
    times_ms: NDArray[np.float64] | None
    tag: str
    notes: tuple[str, ...]


def arrange(slices: Slices, positions_mm: Sequence[float], kind: Kind, on_missing: OnMissing) -> Arranged:
    """Order the images of every slice in time. ``slices`` are complete (see ``complete``), all of equal length.

    Raises UnusableError when no tag tells the images of a slice apart, or a time point is missing on every slice.
    """
    if len(slices[0]) == 1:
        return Arranged(table=(tuple(one[0] for one in slices),), times_ms=None, tag="", notes=())
    notes: list[str] = []
    for tag in ORDER:
        ordered = _sort(slices, tag)
        if ordered is None:
            if tag in ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime") and _all_have(slices, tag):
                notes.append(f"{tag} repeats or is constant within a slice, so it does not give the order")
        elif tag == "TriggerTime" and _is_jitter(ordered):
            notes.append("TriggerTime contradicts the acquisition order (jitter of the trigger), so it is not used")
        elif tag != "InversionTime" or len(ordered[0]) >= MIN_INVERSION_TIMES:
            break
    else:
        one, where = next((s, z) for s, z in zip(slices, positions_mm, strict=True) if _repeats(s))
        raise UnusableError(
            f"{len(one)} images at slice position {where:.1f} mm cannot be put in order of time: no tag of "
            f"{', '.join(ORDER)} tells all of them apart (duplicates such as {', '.join(_repeats(one))}); "
            "remove the duplicates"
        )
    holes = [_hole(one, tag) for one in ordered]
    if any(holes):
        hole = next(h for h in holes if h)
        if on_missing != "drop-frame" or len(set(holes)) > 1:
            raise UnusableError(f"{hole}; find the missing files, or pass --on-missing drop-frame to leave the gap")
        notes.append(f"{hole}; the gap was left")
    times, source = _times(ordered, tag, kind)
    notes.insert(0, f"time order from {tag}, {source}")
    return Arranged(table=tuple(zip(*ordered, strict=True)), times_ms=times, tag=tag, notes=tuple(notes))


def _all_have(slices: Slices, tag: str) -> bool:
    return all(ORDER[tag](image) is not None for one in slices for image in one)


def _sort(slices: Slices, tag: str) -> Slices | None:
    """Every slice sorted by a tag; None unless all images have it and no value repeats within a slice."""
    ordered = []
    for one in slices:
        values = _values(one, tag)
        if values is None or len(np.unique(values)) < len(values):
            return None
        ordered.append([one[i] for i in np.argsort(values)])
    return ordered


def _values(images: Sequence[DicomInstance], tag: str) -> NDArray[np.float64] | None:
    """The tag's value of each image, None where one lacks it; clock times are continued past midnight."""
    found = [ORDER[tag](image) for image in images]
    values = np.array([np.nan if v is None else v for v in found])
    if np.isnan(values).any():
        return None
    if tag in ("AcquisitionTime", "ContentTime") and np.ptp(values) > DAY_MS / 2:
        values = np.where(values - values.min() < DAY_MS / 2, values + DAY_MS, values)
    return values


def _is_jitter(ordered: Slices) -> bool:
    """One image a beat: its delay after the R wave scatters by a few ms and says nothing about the order of beats."""
    for one in ordered:
        clock, trigger = _values(one, "AcquisitionTime"), _values(one, "TriggerTime")
        if clock is None or trigger is None or len(np.unique(clock)) < len(clock):
            continue
        if np.any(np.diff(clock) < 0) and np.ptp(trigger) < np.ptp(clock) / 2:
            return True
    return False


def _repeats(images: Sequence[DicomInstance]) -> list[str]:
    """Up to four file names that share the value of the most telling tag."""
    for tag in reversed(ORDER):
        values = _values(images, tag)
        if values is not None and len(np.unique(values)) < len(values):
            repeated = {v for v, n in Counter(values.tolist()).items() if n > 1}
            return [i.path.name for i, v in zip(images, values, strict=True) if v in repeated][:4]
    return []


def _hole(one: Sequence[DicomInstance], tag: str) -> str:
    """A time point missing from a slice: a gap in the numbering which the times confirm. "" when there is none."""
    n = len(one)
    if n < MIN_FRAMES_FOR_A_PATTERN or tag == "InversionTime":
        return ""
    times = next((v for t in ("TriggerTime", "AcquisitionTime") if _increasing(v := _values(one, t))), None)
    late = np.ones(n - 1, bool) if times is None else np.diff(times) > 1.5 * np.median(np.diff(times))
    for number in ("TemporalPositionIdentifier", "InstanceNumber"):
        values = _values(one, number)
        if values is None or not _increasing(values):
            continue
        steps = np.diff(values) / np.median(np.diff(values))
        gaps = np.flatnonzero((steps >= 2) & (steps % 1 == 0) & late)
        if gaps.size:
            return f"a time point is missing between frames {gaps[0] + 1} and {gaps[0] + 2} of {n} (gap in {number})"
    return ""


def _increasing(values: NDArray[np.float64] | None) -> bool:
    return values is not None and bool(np.all(np.diff(values) > 0))


def _times(ordered: Slices, tag: str, kind: Kind) -> tuple[NDArray[np.float64] | None, str]:
    """Times (t,) or (t, z) in ms, and in words where they come from."""
    for name in [tag] if tag in TIMES else TIMES[1:]:
        columns = [_values(one, name) for one in ordered]
        if all(_increasing(column) for column in columns):
            times: NDArray[np.float64] = np.array(columns).T
            if name == "AcquisitionTime":
                # Slices of one series share the clock of the scan; slices of different series (a cine, one slice
                # after another) share only the phase within the beat.
                one_scan = len({image.series_uid for one in ordered for image in one}) == 1 or kind == "perfusion"
                times -= times.min() if one_scan else times[:1]
            same = np.ptp(times, axis=1).max() <= SAME_TIME_MS
            return times[:, 0] if same else times, f"times from {name}"
    first = ordered[0][0]
    beat = first.nominal_interval_ms or 0.0
    if not 300 <= beat <= 2500:
        beat = 60_000 / rate if (rate := first.heart_rate_bpm or 0.0) and 24 <= rate <= 200 else 0.0
    n = len(ordered[0])
    if beat and kind == "perfusion":
        return np.linspace(0.0, (n - 1) * beat, n), f"times estimated: one frame a heart beat of {beat:.0f} ms (header)"
    if beat and kind == "cine":
        return np.linspace(
            0.0, beat, n, endpoint=False
        ), f"times estimated: {n} phases over a heart beat of {beat:.0f} ms (header)"
    return None, "no tag gives the times"
