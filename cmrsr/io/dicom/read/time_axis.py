"""Which image is which time point: the tag that orders them, the times in milliseconds, and what is missing."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.read.order import (
    ORDER,
    SHORTEST_BEAT_MS,
    TIMES,
    Slices,
    distinct,
    implausible,
    increasing,
    trigger_is_delay,
    values,
)
from cmrsr.io.series import Kind

OnMissing = Literal["fail", "drop-frame", "drop-slice"]
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

    Raises UnusableError when no tag tells the images of a slice apart, when images of equal time are two scans that no
    tag tells apart, or when a time point is missing on every slice.
    """
    if len(slices[0]) == 1:
        return Arranged(table=(tuple(one[0] for one in slices),), times_ms=None, tag="", notes=())
    notes: list[str] = []
    for tag in ORDER:
        ordered = _sort(slices, tag)
        if ordered is None:
            if tag in ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime") and _all_have(slices, tag):
                notes.append(f"{tag} repeats or is constant within a slice, so it does not give the order")
        elif tag == "TriggerTime" and trigger_is_delay(slices, kind):
            notes.append("TriggerTime is a delay after the R wave that contradicts the order of the beats: not used")
        elif tag != "InversionTime" or len(ordered[0]) >= MIN_INVERSION_TIMES:
            break
    else:
        raise _no_order(slices, positions_mm)
    if tag in ("ContentTime", "InstanceNumber"):
        _refuse_two_beats(ordered, positions_mm, kind)
    holes = [_hole(one, tag) for one in ordered]
    if any(holes):
        hole = next(h for h in holes if h)
        if on_missing != "drop-frame" or len(set(holes)) > 1:
            raise UnusableError(f"{hole}; find the missing files, or pass --on-missing drop-frame to leave the gap")
        notes.append(f"{hole}; the gap was left")
    times, source, doubts = _times(ordered, tag, kind)
    in_file = tag == "InstanceNumber" and ordered[0][0].n_frames > 1
    notes = [f"time order from {'the order of the frames in the file' if in_file else tag}, {source}", *notes, *doubts]
    return Arranged(table=tuple(zip(*ordered, strict=True)), times_ms=times, tag=tag, notes=tuple(notes))


def _no_order(slices: Slices, positions_mm: Sequence[float]) -> UnusableError:
    repeated = ((one, where, _repeats(one)) for one, where in zip(slices, positions_mm, strict=True))
    one, where, files = next((r for r in repeated if r[2]), (slices[0], positions_mm[0], []))
    if files:
        why, what = f"tells all of them apart (duplicates such as {', '.join(files)})", "remove the duplicates"
    else:
        why, what = "is there for all of them", "export the series again with its InstanceNumber or TriggerTime"
    return UnusableError(
        f"{len(one)} images at slice position {where:.1f} mm cannot be put in order of time: no tag of "
        f"{', '.join(ORDER)} {why}; {what}"
    )


def _all_have(slices: Slices, tag: str) -> bool:
    return all(ORDER[tag](image) is not None for one in slices for image in one)


def _sort(slices: Slices, tag: str) -> Slices | None:
    """Every slice sorted by a tag; None unless all images have it and no value repeats within a slice."""
    ordered = []
    for one in slices:
        found = values(one, tag)
        if found is None or not distinct(found):
            return None
        ordered.append([one[i] for i in np.argsort(found)])
    return ordered


def _repeats(images: Sequence[DicomInstance]) -> list[str]:
    """Up to four files that share a value of the most telling tag."""
    for tag in reversed(ORDER):
        found = values(images, tag)
        if found is not None and not distinct(found):
            repeated = [v for v, n in Counter(found.tolist()).items() if n > 1]
            return _names([i for i, v in zip(images, found, strict=True) if v == repeated[0]][:4])
    return []


def _names(images: Sequence[DicomInstance]) -> list[str]:
    """The images by their paths below the folder that they share, with the frame where it is one of several."""
    folder = Path(os.path.commonpath([image.path.parent for image in images]))
    frames = [f" frame {image.frame + 1}" if image.n_frames > 1 else "" for image in images]
    return [f"{image.path.relative_to(folder)}{frame}" for image, frame in zip(images, frames, strict=True)]


def _refuse_two_beats(slices: Slices, positions_mm: Sequence[float], kind: Kind) -> None:
    """UnusableError where every phase of a beat is there several times: two scans, which numbers alone would join."""
    if kind == "perfusion":
        return
    for one, where in zip(slices, positions_mm, strict=True):
        trigger = values(one, "TriggerTime")
        if trigger is None:
            continue
        phases, counts = np.unique(trigger, return_counts=True)
        if len(phases) < MIN_FRAMES_FOR_A_PATTERN or np.ptp(phases) < SHORTEST_BEAT_MS:
            continue
        if counts[0] == 1 or np.ptp(counts) > 0:
            continue
        twins = [image for image in one if image.trigger_time_ms == phases[0]]
        raise UnusableError(
            f"{counts[0]} images at each of {len(phases)} trigger times at slice position {where:.1f} mm, such as "
            f"{' and '.join(_names(twins[:2]))}: several scans in one series, which differ only "
            f"in {_differences(twins)}; sort their files into folders of their own"
        )


def _differences(twins: Sequence[DicomInstance]) -> str:
    first, second = twins[:2]
    tags = [t for t in ("AcquisitionTime", "ContentTime", "InstanceNumber") if ORDER[t](first) != ORDER[t](second)]
    others = dict(first.separating).items() ^ dict(second.separating).items()
    return ", ".join(dict.fromkeys([*tags, *(key for key, _ in sorted(others))])) or "their pixels"


def _hole(one: Sequence[DicomInstance], tag: str) -> str:
    """A time point missing from a slice: a gap in the numbering which the times confirm. "" when there is none."""
    n = len(one)
    if n < MIN_FRAMES_FOR_A_PATTERN or tag == "InversionTime":
        return ""
    times = next((v for t in ("TriggerTime", "AcquisitionTime") if increasing(v := values(one, t))), None)
    late = np.ones(n - 1, bool) if times is None else np.diff(times) > 1.5 * np.median(np.diff(times))
    for number in ("TemporalPositionIdentifier", "InstanceNumber"):
        found = values(one, number)
        if found is None or not increasing(found):
            continue
        steps = np.diff(found) / np.median(np.diff(found))
        gaps = np.flatnonzero((steps >= 2) & (steps % 1 == 0) & late)
        if gaps.size:
            return f"a time point is missing between frames {gaps[0] + 1} and {gaps[0] + 2} of {n} (gap in {number})"
    return ""


def _times(ordered: Slices, tag: str, kind: Kind) -> tuple[NDArray[np.float64] | None, str, list[str]]:
    """Times (t,) or (t, z) in ms, in words where they come from, and why other tags do not give them."""
    doubts: list[str] = []
    for name in TIMES[:1] if tag == TIMES[0] else TIMES[1:]:
        columns = [values(one, name) for one in ordered]
        if not all(increasing(column) for column in columns):
            continue
        times: NDArray[np.float64] = np.array(columns).T
        if doubt := implausible(times, name, kind):
            doubts.append(doubt)
            continue
        if name == "AcquisitionTime":
            # Slices of one series share the clock of the scan; slices of different series (a cine, one slice
            # after another) share only the phase within the beat.
            one_scan = len({image.identity.series for one in ordered for image in one}) == 1 or kind == "perfusion"
            times -= times.min() if one_scan else times[:1]
        same = np.ptp(times, axis=1).max() <= SAME_TIME_MS
        return times[:, 0] if same else times, f"times from {name}", doubts
    first = ordered[0][0]
    beat = first.nominal_interval_ms or 0.0
    if not 300 <= beat <= 2500:
        beat = 60_000 / rate if (rate := first.heart_rate_bpm or 0.0) and 24 <= rate <= 200 else 0.0
    n = len(ordered[0])
    if beat and kind == "perfusion":
        frames = f"times estimated: one frame a heart beat of {beat:.0f} ms (header)"
        return np.linspace(0.0, (n - 1) * beat, n), frames, doubts
    if beat and kind == "cine":
        phases = f"times estimated: {n} phases over a heart beat of {beat:.0f} ms (header)"
        return np.linspace(0.0, beat, n, endpoint=False), phases, doubts
    return None, "no tag gives the times", doubts
