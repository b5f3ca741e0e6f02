"""What each command would do with the series of a folder, by the commands' own plans.

From headers alone a plan is made of blank images: what it decides by the voxels (NaN, the spectrum, the beat) stays
open until the voxels are read, with ``deep``.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cmrsr.errors import CmrsrError, UnusableError
from cmrsr.io.candidate import Candidate
from cmrsr.io.nifti.header import TimeAxis
from cmrsr.io.series import Series
from cmrsr.io.survey import MIN_MATRIX, Survey, survey
from cmrsr.runtime.bundle import Bundle, Task

COMMANDS: tuple[Task, ...] = ("sr", "interp4d", "function", "mie")
ENGINES: Mapping[Task, str] = {"sr": "perfgen-s", "interp4d": "tssc-s", "function": "causal-s", "mie": "cpkdm-s"}
_MADE_FOR = "this looks like a"  # how plans say that an engine was made for another kind of series


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """works: the command takes the series; message: why it does not, or with what; remarks: what its plan notes."""

    works: bool
    message: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Judge:
    """bundles: the engines that are there; what a command lacks is its verdict. deep: read all voxels, and call
    ``on_survey`` after each series.
    """

    bundles: Mapping[Task, Bundle | CmrsrError]
    deep: bool = False
    on_survey: Callable[[], None] = lambda: None
    _surveys: dict[str, Survey] = field(default_factory=dict)

    def judge(
        self, candidates: Sequence[Candidate], *, inputs: Sequence[Path], time_axis: TimeAxis = None
    ) -> dict[str, dict[Task, Verdict]]:
        """By the names of the series, the verdict of each command; of one that cannot be opened, its error."""
        opened = [replace(one, open=functools.cache(one.open)) for one in candidates]
        result: dict[str, dict[Task, Verdict]] = {one.name: {} for one in opened}
        for one in opened:
            result[one.name]["sr"] = self._plan("sr", one)
            result[one.name]["interp4d"] = self._plan("interp4d", one)
        for name, verdict in self._function(opened, time_axis).items():
            result[name]["function"] = verdict
        for name, verdict in self._mie(opened, inputs, time_axis).items():
            result[name]["mie"] = verdict
        return result

    def _function(self, candidates: Sequence[Candidate], time_axis: TimeAxis) -> dict[str, Verdict]:
        """After single phases have been joined as the command joins them."""
        from cmrsr.io.acdc import beats_alone
        from cmrsr.io.phases import pair_phases

        arranged = pair_phases(beats_alone(candidates), time_axis=time_axis)
        owner = {path: one for one in arranged for path in one.paths}
        verdicts = {}
        for one in candidates:
            taken = owner.get(one.paths[0])
            if taken is None:
                verdicts[one.name] = Verdict(works=False, message="left to the series of the whole beat next to it")
                continue
            verdict = self._plan("function", taken)
            if verdict.works and len(taken.paths) > len(one.paths):
                verdict = replace(verdict, message=f"joined with the other phase as {Path(taken.name).name}")
            verdicts[one.name] = verdict
        return verdicts

    def _mie(self, candidates: Sequence[Candidate], inputs: Sequence[Path], time_axis: TimeAxis) -> dict[str, Verdict]:
        from cmrsr.tasks.mie.inputs.pairing import pair_studies

        bundle = self.bundles["mie"]
        if isinstance(bundle, CmrsrError):
            return {one.name: Verdict(works=False, message=str(bundle)) for one in candidates}
        try:
            pairs = pair_studies(candidates, inputs=inputs, time_axis=time_axis)
        except CmrsrError as error:
            return {one.name: Verdict(works=False, message=str(error)) for one in candidates}
        verdicts: dict[Path, Verdict] = {}
        for refused in pairs.refused:
            verdicts |= {path: Verdict(works=False, message=str(refused.error)) for path in refused.paths}
        for t1 in pairs.t1:
            from cmrsr.tasks.mie.plan import MieOptions, plan_mie  # imports much, and most folders hold no pair

            cine = pairs.cines[t1.name]
            try:
                plan_mie(t1.open(), cine.open(), "", MieOptions())
                both = Path(t1.name).name, Path(cine.name).name
                found = [Verdict(works=True, message=f"{what} {other}") for what, other in
                         zip(("with the cine", "as the cine of"), reversed(both), strict=True)]  # fmt: skip
            except CmrsrError as error:
                found = [Verdict(works=False, message=str(error))] * 2
            for one, verdict in zip((t1, cine), found, strict=True):
                for path in one.paths:
                    if not (known := verdicts.get(path)) or not known.works:
                        verdicts[path] = verdict
        alone = Verdict(works=False, message="neither T1 images nor the cine of any")
        return {one.name: verdicts.get(one.paths[0], alone) for one in candidates}

    def _plan(self, command: Task, one: Candidate) -> Verdict:
        bundle = self.bundles[command]
        try:
            if isinstance(bundle, CmrsrError):
                raise bundle
            series = one.open()
            found = self._survey(one, series) if self.deep else blank_survey(series)
            notes = _plan(command, series if self.deep else blank(series, command), found, bundle)
        except CmrsrError as error:
            return Verdict(works=False, message=str(error))
        remarks = notes if self.deep else tuple(note for note in notes if note.startswith(_MADE_FOR))
        return Verdict(works=True, remarks=remarks)

    def _survey(self, one: Candidate, series: Series) -> Survey:
        if one.name not in self._surveys:
            self._surveys[one.name] = survey(series)
            self.on_survey()
        return self._surveys[one.name]


def _plan(command: Task, series: Series, found: Survey, bundle: Bundle) -> tuple[str, ...]:
    """The notes of a command's own plan with its default options. CmrsrError: it would be refused."""
    if command == "sr":
        from cmrsr.tasks.sr.plan import SrOptions, plan_sr

        return plan_sr(series, found, bundle, SrOptions()).notes
    if command == "interp4d":
        from cmrsr.tasks.interp4d.plan import InterpOptions, plan_interp

        return plan_interp(series, found, bundle, InterpOptions(factor=2)).notes
    from cmrsr.tasks.function.plan import FunctionOptions, plan_function

    return plan_function(series, found, bundle, FunctionOptions()).notes


def load_bundles() -> dict[Task, Bundle | CmrsrError]:
    """The engine that each command takes by default, or why it cannot be had."""
    from cmrsr.runtime.bundle import load

    bundles: dict[Task, Bundle | CmrsrError] = {}
    for command, name in ENGINES.items():
        try:
            bundles[command] = load(name, command)
        except CmrsrError as error:
            bundles[command] = error
    return bundles


def blank(series: Series, command: Task) -> Series:
    """The series with images that cost nothing; for ``sr``, which seeks the heart in all of them, with one alone."""
    nothing = np.zeros((1, 1, 1), np.float32)
    one = replace(series, reader=lambda t: nothing)
    return replace(one, shape=(1, *series.shape[1:]), times_ms=None) if command == "sr" else one


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
