"""The hidden frames of a series as every method restores them from the known ones, which are all that it is given."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.metrics.settings import Setting, parse_settings
from cmrsr.physics.optical_flow import linear_blend, motion_warp
from cmrsr.runtime.bundle import Bundle
from cmrsr.tasks.interp4d.evaluation.split import Split
from cmrsr.tasks.interp4d.plan import InterpOptions, InterpPlan, Interval, plan_interp
from cmrsr.tasks.interp4d.run import Engines, InterpFrame, run_interp

Array = NDArray[np.float32]
NEAREST, LINEAR, WARP, ESTIMATE = "nearest", "linear blend", "optical-flow warp", "classical estimate"
BASELINES = (LINEAR, WARP)  # those that ours is tested against
FROM_SAMPLES, FROM_MOTION = "spread of the samples", "expected error"


@dataclass(frozen=True, slots=True)
class Restored:
    """One hidden frame (z, y, x) by one method. sure: standard deviations of its error as foretold, by where from."""

    volume: Array
    sure: Mapping[str, Array] = field(default_factory=dict)


def parse_interp_settings(text: str) -> list[Setting]:
    """``1x1,5x8``: steps x samples of every way to run the engine."""
    settings = parse_settings(text)
    if any(one.consistency is not None or one.realism or one.plain_mean for one in settings):
        raise UsageError(f"--settings {text}: expected STEPSxSAMPLES without r, m or @, for instance 5x8")
    return [replace(one, plain_mean=one.samples > 1) for one in settings]  # what `cmrsr interp4d` writes


def other_way(setting: Setting, with_stage_2: bool) -> str:
    """The engine run the other way round than it would run by itself."""
    return f"{'with' if with_stage_2 else 'without'} stage 2, {setting.name}"


def ours(setting: Setting) -> str:
    """The name of a setting in tables."""
    return f"ours, {setting.name}"


def plan_split(
    known: Series, split: Split, clock: NDArray[np.float64], bundle: Bundle, options: InterpOptions
) -> InterpPlan:
    """The plan of ``interp4d`` for the known frames alone, with the hidden frames' own times as output.

    clock: of the whole series (n + 1,), as a plan has it.
    """
    plan = plan_interp(known, survey(known), bundle, options)
    taus = split.tau(clock)
    intervals = tuple(Interval(first=i, tau=tau, shown=False) for i, tau in enumerate(taus) if tau)
    position = np.array([one.first + tau for one in intervals for tau in one.tau])
    return replace(plan, intervals=intervals, clock=split.clock(clock), position=position, times_ms=None)


def restorations(
    known: Series,
    plan: Callable[[InterpOptions], InterpPlan],
    engines: Engines,
    settings: Sequence[Setting],
    options: InterpOptions,
) -> Iterator[tuple[str, Iterator[Restored]]]:
    """Every method by name with its frames in order of time; take the frames of one before asking for the next.

    plan: of the known frames with the options of a setting.
    """
    first = plan(options)
    for name, method in ((NEAREST, _nearest), (LINEAR, _linear), (WARP, _warp)):
        yield name, (Restored(frame) for frame in chain.from_iterable(_between(known, first, method)))
    for i, setting in enumerate(settings):
        chosen = replace(options, steps=setting.steps, samples=setting.samples)
        if i == 0:  # the guess is no product of the engine, but only a run of it says what it is
            other = replace(chosen, consistency=engines.bundle.manifest.defaults.consistency == 0)
            frames = list(run_interp(known, plan(other), engines, other))
            yield ESTIMATE, (Restored(frame.guess) for frame in frames if frame.guess is not None)
            yield other_way(setting, bool(other.consistency)), map(_restored, frames)
        yield ours(setting), map(_restored, run_interp(known, plan(chosen), engines, chosen))


def _restored(frame: InterpFrame) -> Restored:
    foretold = {FROM_SAMPLES: frame.std, FROM_MOTION: frame.expected}
    return Restored(frame.output, {source: std for source, std in foretold.items() if std is not None})


def _between(
    known: Series, plan: InterpPlan, method: Callable[[Array, Array, tuple[float, ...], float], Array]
) -> Iterator[Array]:
    for interval in plan.intervals:
        _, a, b, _ = plan.neighbours(interval)
        yield method(known.frame(a), known.frame(b), interval.tau, plan.scale)


def _nearest(first: Array, second: Array, tau: tuple[float, ...], scale: float) -> Array:
    return np.stack([first if t <= 0.5 else second for t in tau])


def _linear(first: Array, second: Array, tau: tuple[float, ...], scale: float) -> Array:
    return linear_blend(first, second, tau)


def _warp(first: Array, second: Array, tau: tuple[float, ...], scale: float) -> Array:
    slices = [motion_warp(a, b, tau, scale) for a, b in zip(first, second, strict=True)]
    return np.stack(slices, axis=1)
