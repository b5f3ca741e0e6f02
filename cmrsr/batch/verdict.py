"""Whether a command takes a series, by the command's own plan.

From headers alone a plan is made of blank images: what it decides by the voxels (NaN, the spectrum, the beat) stays
open until the voxels are read, with ``deep``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cmrsr.errors import CmrsrError, UnusableError
from cmrsr.io.candidate import Candidate
from cmrsr.io.nifti.header import TimeAxis
from cmrsr.io.series import Series
from cmrsr.io.survey import MIN_MATRIX, Survey, survey
from cmrsr.runtime.bundle import Bundle

_MADE_FOR = "this looks like a"  # how plans say that an engine was made for another kind of series
Plan = Callable[[Series, Survey], Sequence[str]]  # a command's own plan, of which the notes are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """works: the command takes the series; message: why it does not, or with what; remarks: what its plan notes."""

    works: bool
    message: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Look:
    """How series are looked at, for all commands. deep: read all voxels, and call ``on_survey`` after each series.

    inputs, time_axis: what was typed.
    """

    inputs: Sequence[Path]
    time_axis: TimeAxis = None
    deep: bool = False
    on_survey: Callable[[], None] = lambda: None
    _surveys: dict[str, Survey] = field(default_factory=dict)

    def verdict(self, one: Candidate, plan: Plan, n_blank: int | None = None) -> Verdict:
        """By a plan; n_blank: of so many images, where it looks at all voxels and they are blank."""
        try:
            series = one.open()
            if self.deep:
                notes = tuple(plan(series, self._survey(one, series)))
            else:
                known = plan(blank(series, n_blank), blank_survey(series))
                notes = tuple(note for note in known if note.startswith(_MADE_FOR))
        except CmrsrError as error:
            return Verdict(works=False, message=str(error))
        return Verdict(works=True, remarks=notes)

    def _survey(self, one: Candidate, series: Series) -> Survey:
        if one.name not in self._surveys:
            self._surveys[one.name] = survey(series)
            self.on_survey()
        return self._surveys[one.name]


# A task's own: by the names of the series, whether its command takes them with that engine.
Judge = Callable[[Sequence[Candidate], Bundle, Look], dict[str, Verdict]]


def blank(series: Series, n_images: int | None = None) -> Series:
    """The series with images that cost nothing, of which there are as many as before or ``n_images``."""
    nothing = np.zeros((1, 1, 1), np.float32)
    one = replace(series, reader=lambda t: nothing)
    return one if n_images is None else replace(one, shape=(n_images, *series.shape[1:]), times_ms=None)


def blank_survey(series: Series) -> Survey:
    """The survey of images of which nothing is known: all of k-space filled. UnusableError: too few pixels."""
    n_y, n_x = series.shape[2:]
    if min(n_y, n_x) < MIN_MATRIX:
        raise UnusableError(
            f"{series.source.name}: images of {n_x}x{n_y} voxels, expected at least {MIN_MATRIX}x{MIN_MATRIX}; if the "
            "first two axes of the file are not the image, name the time axis with --time-axis"
        )
    zeros = np.broadcast_to(np.float64(0), series.shape[1:])
    return Survey(
        digest="", scale=1.0, minimum=0.0, maximum=1.0, mean=zeros, variance=zeros, power_x=np.ones(n_x),
        power_y=np.ones(n_y),
    )  # fmt: skip
