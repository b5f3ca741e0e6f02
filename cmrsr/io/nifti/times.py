"""The times of the frames of a NIfTI file: listed in its sidecar, or the step of its header where that can be true."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.series import Kind

# In this order: inversion times that differ from frame to frame are the axis of a T1 series, whenever it was acquired.
FRAME_TIMES = ("InversionTime", "FrameTimes", "TriggerTime")
LEAST_INVERSION_TIMES = 3  # different ones: fewer are scans of their own, such as late enhancement

UNITS_MS = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
# Without a unit a step is seconds (frames a heart beat apart), ms or us (frames of a cine). Between the first two a
# repetition time in ms and several heart beats in seconds look the same.
_UNITLESS = ((0.0, 2.0, "sec"), (10.0, 10_000.0, "msec"), (10_000.0, np.inf, "usec"))
# The phases of a cine are 15 to 60 ms apart, and one excitation follows the other within 2 to 8 ms: a shorter step is
# the repetition time of the pulse sequence. One a heart beat is the other end, several seconds; beyond a minute the
# stated unit is wrong.
_STEP_LIMITS_MS = (10.0, 60_000.0)
_SHORTEST_BEAT_MS = 250.0  # 240 a minute, which no adult reaches; a whole series spans one beat at least
# So few may be a part of a beat, cut out or gated to systole. Two are its end phases, with the step of their cine.
_PART_OF_A_BEAT = range(3, 10)
# A gated cine is one beat, of at most 3 s; a series in real time is longer, but its frames follow each other faster.
_LONGEST_BEAT_MS, _SLOWEST_REAL_TIME_MS = 3000.0, 150.0
_LINE_BY_LINE_MS = 20.0  # below it a step that is the repetition time leaves time for a line or two of an image
_EQUAL = 0.02


def series_times(
    header: Any, sidecar: dict[str, Any], name: str, shape: tuple[int, int], kind: Kind, notes: list[str]
) -> tuple[Kind, NDArray[np.float64] | None]:
    """The kind, "t1" by inversion times, else ``kind``; times (t,) or (t, z), ms, of ``shape`` = (t, z) images.

    From the sidecar ``name`` where it lists them, otherwise from the header's step. Nothing but inversion times gives
    those of a T1 series. None, with a note, where nothing can be believed.
    """
    if shape[0] == 1:
        return kind, None
    key, times_ms = _listed_times(sidecar, name, shape, notes) or ("", None)
    if key == "InversionTime":
        return "t1", times_ms
    if kind == "t1":
        notes.append("no inversion times: no sidecar lists them")
        return kind, None
    return kind, _stepped_times(header, sidecar, name, shape[0], kind, notes) if times_ms is None else times_ms


def _stepped_times(
    header: Any, sidecar: dict[str, Any], name: str, n_frames: int, kind: Kind, notes: list[str]
) -> NDArray[np.float64] | None:
    step, unit = float(header.get_zooms()[3]), header.get_xyzt_units()[1]
    if step in (0.0, 1.0):
        # ITK writes 1.0 "sec" when it knows nothing, so that even a stated unit proves nothing.
        notes.append(f"frame times unknown: the time step {step:g} ({unit}) is what writers put when they know none")
        return None
    if unit == "unknown":
        unit = next((u for low, high, u in _UNITLESS if low <= step < high), "unknown")
        if unit != "unknown":
            notes.append(f"the time step {step:g} has no unit and was taken as {unit}")
    step_ms = step * UNITS_MS.get(unit, 0.0)
    why = [_no_frame_time(step_ms, n_frames, kind), _is_repetition(step_ms, sidecar, name)]
    if any(why):
        why = [text for text in why if text]
        notes.append(
            f"frame times unknown: the time step {step:g} {unit} {', and '.join(why)}; list them as FrameTimes, in "
            f"seconds, in {name}"
        )
        return None
    return np.arange(n_frames, dtype=np.float64) * np.float64(step_ms)


def _no_frame_time(step_ms: float, n_frames: int, kind: Kind) -> str:
    """Why a step cannot be the time from frame to frame; empty where it can."""
    span_ms = n_frames * step_ms
    if step_ms == 0:
        return "has no unit of time"
    if step_ms > _STEP_LIMITS_MS[1]:
        return "is none of a cardiac scan"
    if span_ms < _SHORTEST_BEAT_MS and n_frames not in _PART_OF_A_BEAT:
        return f"makes {n_frames} frames last {span_ms:.3g} ms, less than a heart beat"
    if step_ms < _STEP_LIMITS_MS[0]:
        return "is shorter than a cardiac frame, and rather a repetition time"
    if kind == "perfusion" and step_ms < _SHORTEST_BEAT_MS:
        return "is less than a heart beat, from one perfusion image to the next"
    if kind == "cine" and step_ms > _SLOWEST_REAL_TIME_MS and span_ms > _LONGEST_BEAT_MS:
        return f"makes {n_frames} frames last {span_ms / 1000:.3g} s, more than the heart beat of a cine"
    return ""


def _is_repetition(step_ms: float, sidecar: dict[str, Any], name: str) -> str:
    """In words, where the step is a repetition time too short for a frame; also one of ms under the unit of seconds."""
    given = sidecar.get("RepetitionTime")
    if not (isinstance(given, int | float) and 0 < given * 1000 < _LINE_BY_LINE_MS):
        return ""
    same = any(abs(step_ms / (given * factor) - 1) <= _EQUAL for factor in (1e3, 1e6))
    return f"is the RepetitionTime of {name}" if same else ""


def _listed_times(
    sidecar: dict[str, Any], name: str, shape: tuple[int, int], notes: list[str]
) -> tuple[str, NDArray[np.float64]] | None:
    """The key and its times, ms, (t,) or (t, z) of ``shape`` = (t, z) images; None where no key of them can be used.

    The first of ``FRAME_TIMES`` that increases from frame to frame; inversion times may come in any order, as MOLLI
    acquires them. What cannot be used is noted, never an error. name: of the file, for the notes.
    """
    for key in FRAME_TIMES:
        listed = sidecar.get(key)
        if not isinstance(listed, list):  # one number for all frames is no time axis
            continue
        times_ms = _milliseconds(listed)
        if times_ms.shape not in (shape[:1], shape):
            notes.append(f"{key} of {name} was not used: expected {shape[0]} numbers, one for each frame")
        elif np.isfinite(times_ms).all() and (
            np.diff(times_ms, axis=0).min() > 0 or (key == "InversionTime" and _are_inversions(times_ms))
        ):
            notes.append(f"times from {key} of {name}")
            return key, times_ms
        else:
            notes.append(f"{key} of {name} does not increase from frame to frame and was not used")
    return None


def lists_inversions(sidecar: dict[str, Any], n: int) -> bool:
    """Whether ``n`` images one after the other are those of a T1 series."""
    listed = sidecar.get("InversionTime")
    times_ms = _milliseconds(listed) if isinstance(listed, list) else np.empty(0)
    return times_ms.shape == (n,) and _are_inversions(times_ms)


def _are_inversions(times_ms: NDArray[np.float64]) -> bool:
    columns = times_ms.reshape(len(times_ms), -1).T
    return bool(np.isfinite(times_ms).all() and times_ms.min() > 0) and all(
        len(np.unique(column)) >= LEAST_INVERSION_TIMES for column in columns
    )


def _milliseconds(seconds: list[Any]) -> NDArray[np.float64]:
    """Empty where they are not numbers in rows of equal length."""
    try:
        with np.errstate(over="ignore"):
            return np.array(seconds, dtype=np.float64) * 1000
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)
