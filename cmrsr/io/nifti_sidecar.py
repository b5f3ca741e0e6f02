"""What the JSON file beside a NIfTI file says (BIDS): the times of its frames, inversion times among them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.nifti_header import reason

# In this order: inversion times that differ from frame to frame are the axis of a T1 series, whenever it was acquired.
FRAME_TIMES = ("InversionTime", "FrameTimes", "TriggerTime")
LEAST_INVERSION_TIMES = 3  # different ones: fewer are scans of their own, such as late enhancement


def read_sidecar(path: Path, stem: str, notes: list[str] | None = None) -> dict[str, Any]:
    """The sidecar ``<stem>.json`` of the NIfTI file ``path``; empty, with a note, where it cannot be used."""
    file = path.with_name(f"{stem}.json")
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        if notes is not None:
            notes.append(f"{file.name} was not used: {reason(error)}")
        return {}
    return content if isinstance(content, dict) else {}


def frame_times(
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
