"""The tags that can put the images of one slice in order of time, and how far each can be believed."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.series import Kind

Slices = list[list[DicomInstance]]
Value = Callable[[DicomInstance], float | None]

# In this order. The inversion time leads: where it differs from image to image, it is the axis of a T1 series.
ORDER: dict[str, Value] = {
    "InversionTime": lambda i: i.inversion_time_ms,
    "TemporalPositionIdentifier": lambda i: i.temporal_position,
    "DimensionIndexValues": lambda i: i.dimensions.time,
    "TriggerTime": lambda i: i.trigger_time_ms,
    "AcquisitionTime": lambda i: i.acquired_at_ms,
    "ContentTime": lambda i: i.content_at_ms,
    "InstanceNumber": lambda i: i.instance_number,
}
# ContentTime is when an image was stored, so it orders images but does not say when they were acquired.
TIMES = ("InversionTime", "TriggerTime", "AcquisitionTime")
DAY_MS = 86_400_000.0
# No heart beats faster, and no cine covers less of a beat: shorter spans are repetition times or delays.
SHORTEST_BEAT_MS = 200.0
FEWEST_FRAMES = 5  # fewer may well be part of a beat
# Medians of the time from frame to frame that the two kinds can have.
STEP_MS: dict[Kind, tuple[float, float]] = {"cine": (2.0, 250.0), "perfusion": (250.0, 6000.0)}
IRREGULAR = 0.5  # of the mean step, standard deviation: phases of a beat are evenly spaced, delays at random are not


def values(images: Sequence[DicomInstance], tag: str) -> NDArray[np.float64] | None:
    """The tag's value of each image, None where one lacks it; clock times are continued past midnight."""
    found = [ORDER[tag](image) for image in images]
    array = np.array([np.nan if v is None else v for v in found])
    if np.isnan(array).any():
        return None
    if tag in ("AcquisitionTime", "ContentTime") and np.ptp(array) > DAY_MS / 2:
        array = np.where(array - array.min() < DAY_MS / 2, array + DAY_MS, array)
    return array


def increasing(found: NDArray[np.float64] | None) -> bool:
    """Whether there are values, each above the one before."""
    return found is not None and bool(np.all(np.diff(found) > 0))


def distinct(found: NDArray[np.float64] | None) -> bool:
    """Whether there are values, all of them different."""
    return found is not None and len(np.unique(found)) == len(found)


def trigger_is_delay(slices: Slices, kind: Kind) -> bool:
    """Whether TriggerTime is the delay after the R wave in one beat after another, which does not order the beats.

    One image a beat: the delay scatters by some ms and contradicts the clock or, where an anonymiser removed the clock,
    the numbers of the images.
    """
    return any(_scatters(one, kind) for one in slices)


def _scatters(one: Sequence[DicomInstance], kind: Kind) -> bool:
    trigger = values(one, "TriggerTime")
    if trigger is None or len(one) < 3 or not distinct(trigger):
        return False
    order = np.argsort(trigger)
    span = float(np.ptp(trigger))
    clock, number = values(one, "AcquisitionTime"), values(one, "InstanceNumber")
    if clock is not None and distinct(clock) and not increasing(clock[order]):
        return span < float(np.ptp(clock)) / 2 or _several_beats(trigger[np.argsort(clock)])
    if number is None or not distinct(number) or increasing(number[order]):
        return False
    if _several_beats(trigger[np.argsort(number)]):
        return True
    steps = np.diff(trigger[order])
    irregular = len(one) >= FEWEST_FRAMES and float(steps.std()) > IRREGULAR * float(steps.mean())
    return kind == "perfusion" or span < SHORTEST_BEAT_MS or irregular


def _several_beats(trigger: NDArray[np.float64]) -> bool:
    """Whether trigger times in the order of acquisition rise, fall back and rise through the same range again."""
    runs = np.split(trigger, np.flatnonzero(np.diff(trigger) < 0) + 1)
    if len(runs) < 2 or len(trigger) < 3 * len(runs):
        return False
    shared = [min(a[-1], b[-1]) - max(a[0], b[0]) for a, b in itertools.pairwise(runs)]
    return bool(np.median(shared) > 0.5 * np.median([run[-1] - run[0] for run in runs]))


def implausible(times_ms: NDArray[np.float64], name: str, kind: Kind) -> str:
    """Why times (t, z) of the tag ``name`` cannot be those of the frames, in words; "" where they can."""
    n = len(times_ms)
    if n < FEWEST_FRAMES or name == "InversionTime":
        return ""
    step = float(np.median(np.diff(times_ms, axis=0)))
    span = float(np.ptp(times_ms, axis=0).max()) + step
    low, high = STEP_MS.get(kind, (0.0, np.inf))
    if name == "TriggerTime" and kind != "perfusion" and span < SHORTEST_BEAT_MS:
        return f"{name} spans {span:.0f} ms, which is no heart beat: not taken for the times of the frames"
    if not low <= step <= high:
        return f"{name} steps by {step:.3g} ms, which no {kind} does from frame to frame: not taken for the times"
    return ""
