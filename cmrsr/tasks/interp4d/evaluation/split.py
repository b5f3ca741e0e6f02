"""Which frames of a series the methods are given, which they have to find, and when each of them was taken."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Frames by their index in the series, in order of time.

    known: given to the methods. hidden: of the gap after each known frame; the last gap of a cyclic series leads back
    to the first known frame.
    """

    known: tuple[int, ...]
    hidden: tuple[tuple[int, ...], ...]
    cyclic: bool
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> list[int]:
        """All hidden frames."""
        return [i for gap in self.hidden for i in gap]

    def clock(self, whole: Array) -> Array:
        """When the known frames were taken, from zero, and the end of the beat; ``whole``: the same of the series."""
        steps = [(whole[b] - whole[a]) % whole[-1] for a, b in pairwise(self.known)]
        end = whole[-1] - sum(steps) if self.cyclic else np.median(steps)
        return np.concatenate([[0.0], np.cumsum([*steps, end])])

    def tau(self, whole: Array) -> list[tuple[float, ...]]:
        """Where the hidden frames of each gap lie in it, between 0 and 1, by the clock of the series (n + 1,)."""
        lengths = np.diff(self.clock(whole))
        return [
            tuple(float((whole[i] - whole[a]) % whole[-1] / length) for i in gap)
            for a, gap, length in zip(self.known, self.hidden, lengths, strict=True)
        ]


def every(n: int, keep: int, *, cyclic: bool, name: str = "series") -> Split:
    """Every ``keep``-th of ``n`` frames is known. UnusableError for fewer than two known frames."""
    known = tuple(range(0, n, keep))
    if len(known) < 2:
        raise UnusableError(f"{name}: {n} frames, of which every {keep}th leaves one; expected more, or a lower --keep")
    ends = [*known[1:], n if cyclic else known[-1] + 1]
    hidden = tuple(tuple(range(a + 1, b)) for a, b in zip(known, ends, strict=True))
    notes = []
    if rest := n % keep:
        if cyclic:
            notes.append(f"{n} frames are no multiple of {keep}: the last gap has {rest - 1} hidden frames")
        elif rest > 1:
            notes.append(f"the last {rest - 1} frames lie beyond the last known one and were not scored")
    elif not cyclic:
        notes.append(f"the last {keep - 1} frames lie beyond the last known one and were not scored")
    return Split(known=known, hidden=hidden, cyclic=cyclic, notes=tuple(notes))


def between(n: int, first: int, last: int, *, cyclic: bool, at_most: int | None = None, name: str = "series") -> Split:
    """``first`` and ``last`` are known, the frames between hidden. UnusableError where there are none.

    A last frame before the first is reached over the end of a cyclic beat; else the two change places. at_most: frames
    of the sequence, both ends included: those nearest to even positions.
    """
    if not (0 <= first < n and 0 <= last < n):
        raise UnusableError(f"{name}: end-diastole is frame {first + 1} and end-systole {last + 1}, but it has {n}")
    if not cyclic and last < first:
        first, last = last, first
    path = [(first + i) % n for i in range((last - first) % n + 1)]
    if len(path) < 3:
        raise UnusableError(f"{name}: no frame between {first + 1} and {last + 1}, so there is nothing to compare with")
    if at_most is not None and len(path) > at_most:
        path = [path[int(i)] for i in np.rint(np.linspace(0, len(path) - 1, at_most))]
    notes = (f"between frames {path[0] + 1} and {path[-1] + 1}: {len(path) - 2} hidden",)
    return Split(known=(path[0], path[-1]), hidden=(tuple(path[1:-1]), ()), cyclic=False, notes=notes)


def most_different(frames: NDArray[Any], first: int) -> int:
    """The frame (t, ...) that differs most from ``first``: end-systole where nobody says which it is."""
    change = [np.mean(np.square(frame - frames[first], dtype=np.float64)) for frame in frames]
    return int(np.argmax(change))
