"""One series of ``cmrsr interp4d`` from files to files: plan, engines, frames, and what the report shows of them."""

import functools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.case import CaseFiles, Kept
from cmrsr.batch.run import CaseResult, Listener
from cmrsr.batch.shown import ShownFrames
from cmrsr.batch.sinks import Layout, Sink, image_sink
from cmrsr.batch.work import Loaded, OnEvaluation, Outcome, Prepared, Work, device_of
from cmrsr.heart.centre import heart_centre
from cmrsr.io.derivation import Derivation
from cmrsr.io.discover import Candidate
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.physics.rms import rms
from cmrsr.runtime.bundle import Task
from cmrsr.runtime.choice import Engine
from cmrsr.tasks.interp4d.plan import InterpOptions, InterpPlan, plan_interp
from cmrsr.tasks.interp4d.run import OVERLAP, TILE, Engines, InterpFrame, joint_groups, n_evaluations, run_interp

Array = NDArray[np.float32]
HELD_FRAMES = 4  # at least: those of one interval, of which the report looks at two
HELD_BYTES = 256 * 2**20  # at most otherwise: survey, plan, heart and work each read all frames, and decoding is slow


@dataclass(slots=True, kw_only=True)
class InterpFiles(CaseFiles[InterpOptions, Candidate]):
    """``cmrsr interp4d``."""

    task: ClassVar[Task] = "interp4d"
    number: ClassVar[int] = 1
    engines: Kept[Engines] = field(default_factory=Kept, repr=False)

    def process(self, candidate: Candidate, series: Series, listener: Listener) -> CaseResult:
        return CaseFiles.process(self, candidate, _held(series), listener)

    def prepare(self, case: Candidate, series: Series, found: Survey) -> Prepared:
        def begin() -> Work:
            plan = plan_interp(series, found, self.bundle, self.options)
            centre, _ = heart_centre(series, found.variance)
            return InterpWork(self, series, plan, centre)

        return Prepared(begin)


class InterpWork(Work):
    """The interpolation of one series; ``centre``: of the heart, (y, x) in pixels."""

    def __init__(self, files: InterpFiles, series: Series, plan: InterpPlan, centre: tuple[float, float]) -> None:
        self._files, self._series, self._plan, self._centre = files, series, plan, centre
        options, bundle = files.options, files.bundle
        self.layout = Layout(
            shape=(plan.n_frames, *series.shape[1:]), affine=series.affine, times_ms=plan.times_ms,
            between=between(plan),
        )  # fmt: skip
        self.n_evaluations = n_evaluations(series, plan, options)
        self._described = {
            "cyclic": plan.cyclic, "factor": options.factor, "frames": plan.n_frames, "new_frames": plan.n_new,
            "position": plan.position, "acquired": is_acquired(plan), "times_ms": plan.times_ms,
            "matrix_yx": plan.matrix, "padded_matrix_yx": plan.padded, "scale": plan.scale,
            "consistency_across_slices": plan.consistent, "tile": TILE if plan.consistent else None,
            "tile_overlap": OVERLAP if plan.consistent else None, "heart_xy": centre[::-1],
            "spread_factor": bundle.spread_factor(options.steps) if options.samples > 1 else None,
        }  # fmt: skip
        way = "after the last frame comes the first" if plan.cyclic else "from the first frame to the last"
        self.notes = (f"{series.n_frames} frames to {plan.n_frames}, {plan.n_new} of them new; {way}",)
        empty = () if plan.n_new else ("every frame asked for was acquired: nothing is new",)
        self._warnings = (*plan.notes, *empty)

    def load(self) -> Loaded:
        files, plan = self._files, self._plan
        n = next((len(joint_groups(len(i.tau))[0]) for i in plan.intervals if i.tau), 1)

        def step(engines: Engines) -> Engine:
            return engines.step(files.options.batch(self._series.shape[1]), n, plan.padded)

        def load() -> Engines:
            engines = Engines(files.bundle, files.choice)
            step(engines)
            return engines

        engines = files.engines.get((plan.padded, self._series.shape[1]), load)
        engine = step(engines)
        return Loaded(engine, partial(self._run, engines, engine))

    def sink(self, kind: str, target: Path, derivation: Derivation) -> AbstractContextManager[Sink]:
        return image_sink(kind, target, self._series, self.layout, derivation, self._files.options.samples > 1)

    def _run(self, engines: Engines, engine: Engine, sink: Sink, on_evaluation: OnEvaluation) -> Outcome:
        files, series, plan = self._files, self._series, self._plan
        calibrated = files.bundle.manifest.expected_error is not None
        shown = Shown(series, plan, self._centre, sampled=files.options.samples > 1, calibrated=calibrated)
        for t, frame in enumerate(run_interp(series, plan, engines, files.options, on_evaluation=on_evaluation)):
            shown.add(t, frame, [series.frame(i) for i in frame.sources])
            sink.write(frame)
        errors = None if shown.frame_expected is None else [_rounded(e) for e in shown.frame_expected]
        return Outcome(
            plan={**self._described, "expected_error": errors},
            warnings=self._warnings,
            details=InterpDetails(series=series, plan=plan, shown=shown, device=device_of(engine)),
        )


def between(plan: InterpPlan) -> tuple[tuple[int, ...], ...]:
    """The acquired frames around each output frame; a single one for an acquired frame itself."""
    sources: list[tuple[int, ...]] = []
    for interval in plan.intervals:
        _, first, second, _ = plan.neighbours(interval)
        sources += [(first,)] * interval.shown + [(first, second)] * len(interval.tau)
    return tuple(sources)


def is_acquired(plan: InterpPlan) -> NDArray[np.bool_]:
    """Whether each output frame is an acquired one, (t,)."""
    return np.asarray(plan.position == plan.position.round())


def _held(series: Series) -> Series:
    """The same series, which keeps as many of the frames last read as memory is given."""
    frame_bytes = 4 * math.prod(series.shape[1:])
    return replace(series, reader=functools.lru_cache(max(HELD_FRAMES, HELD_BYTES // frame_bytes))(series.reader))


@dataclass(frozen=True, slots=True)
class InterpDetails:
    """What the report needs of one case."""

    series: Series
    plan: InterpPlan
    shown: "Shown"
    device: str


class Shown(ShownFrames):
    """The frames shown, (n_shown, h, w): what a viewer shows without interpolation, the result, the estimate.

    acquired: (n_shown,). before: the nearest earlier acquired frame. after: the result. guess: the classical estimate,
    an acquired frame itself. expected: standard deviation of the error, None where the engine has no calibration. std:
    of the samples, None for a single one.
    Root mean squares over the window for all frames of the result, (n,): frame_expected and frame_std of the latter
    two; refinement of what the network changed in the estimate; change of the difference of both source frames. All are
    zero where the frame was acquired.
    """

    def __init__(
        self, series: Series, plan: InterpPlan, centre: tuple[float, float], *, sampled: bool, calibrated: bool
    ) -> None:
        super().__init__(plan.n_frames, series.shape[1], plan.matrix, centre)
        self.acquired = is_acquired(plan)[self.frames]
        self.before, self.after, self.guess = self.blank(), self.blank(), self.blank()
        self.expected = self.blank() if calibrated else None
        self.std = self.blank() if sampled else None
        self.refinement, self.change = np.zeros(plan.n_frames), np.zeros(plan.n_frames)
        self.frame_expected = np.zeros(plan.n_frames) if calibrated else None
        self.frame_std = np.zeros(plan.n_frames) if sampled else None

    def add(self, t: int, frame: InterpFrame, sources: Sequence[Array]) -> None:
        """Frame ``t`` of the result; ``sources``: the acquired frames that it names."""
        after, guess = self.cut(frame.output), self.cut(frame.output if frame.guess is None else frame.guess)
        first, last = self.cut(sources[0]), self.cut(sources[-1])
        self.refinement[t], self.change[t] = rms(after - guess), rms(last - first)
        row = self.row(t)
        for volume, of_frame, shown in (
            (frame.expected, self.frame_expected, self.expected), (frame.std, self.frame_std, self.std),
        ):  # fmt: skip
            if volume is None or of_frame is None or shown is None:
                continue
            of_frame[t] = rms(self.cut(volume))
            if row is not None:
                shown[row] = self.cut(volume)
        if row is not None:
            self.before[row], self.after[row], self.guess[row] = first, after, guess


def _rounded(value: float) -> float:
    """To four significant digits, whatever the unit of the image."""
    return float(f"{value:.4g}")
