"""Temporal super-resolution of 4-D series: frames between the acquired ones, interval after interval.

Stage 1 denoises the unknown frames of an interval jointly, slice by slice, as residuals to a motion-compensated
estimate; stage 2 corrects each new volume across its slices. Acquired frames pass through as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.diffusion.noise import keyed_noise
from cmrsr.diffusion.residual import Residual
from cmrsr.io.series import Series
from cmrsr.physics.optical_flow import estimate
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine, default_threads
from cmrsr.runtime.engine import load_graph
from cmrsr.runtime.pipeline import Ahead
from cmrsr.tasks.interp4d.engine import ENGINE
from cmrsr.tasks.interp4d.expected_error import expected_error
from cmrsr.tasks.interp4d.plan import InterpOptions, InterpPlan, Interval, plan_interp
from cmrsr.tasks.interp4d.tiles import ramp, starts
from cmrsr.user_warnings import warn_user

Array = NDArray[np.float32]
JOINT = 12  # unknown frames denoised together at most, the length of the paper's sequences: memory grows with them
TILE, OVERLAP = 128, 32  # pixels of a volume that stage 2 sees at a time: its memory grows with the matrix otherwise


@dataclass(frozen=True, slots=True)
class InterpFrame:
    """One time point of the result (z, y, x).

    sources: indices of the acquired frames it comes from, one for an acquired frame itself. tau: between them, 0 to 1.
    guess: the classical estimate that was refined, None for an acquired frame. expected: standard deviation of the
    error that the motion between the sources lets one expect, None where the engine has no calibration; std: calibrated
    spread of the samples, None for a single one. Both are zero in an acquired frame.
    """

    output: Array
    sources: tuple[int, ...]
    tau: float
    guess: Array | None
    std: Array | None
    expected: Array | None = None

    @property
    def acquired(self) -> bool:
        return len(self.sources) == 1


class Engines:
    """The graphs of one bundle, compiled once for every shape that comes up."""

    def __init__(self, bundle: Bundle, choice: DeviceChoice) -> None:
        self.bundle, self.choice = bundle, choice
        self._loaded: dict[tuple[str, tuple[int, ...]], Engine] = {}

    def step(self, batch: int, n: int, matrix: tuple[int, int]) -> Engine:
        """Stage 1 for ``n`` unknown frames of ``batch`` slices."""
        frames = (batch, n, *matrix)
        shapes = {
            "x_t": frames, "known": (batch, 2, *matrix), "base": frames, "bend": frames, "tau": (batch, n),
        }  # fmt: skip
        return self._get("step", shapes)

    def volume(self, shape: tuple[int, int, int]) -> Engine:
        """Stage 2 for a volume (z, y, x)."""
        return self._get("volume", {"volume": (1, 3, *shape)})

    def _get(self, name: str, shapes: dict[str, tuple[int, ...]]) -> Engine:
        key = (name, next(iter(shapes.values())))
        if key not in self._loaded:
            self._loaded[key] = load_graph(self.bundle, self.bundle.manifest.graphs[name], shapes, self.choice)
        return self._loaded[key]

    @property
    def description(self) -> dict[str, str]:
        """Backend, device and precision of what was loaded; empty before."""
        engine = next(iter(self._loaded.values()), None)
        return {} if engine is None else {
            "backend": engine.backend, "device": engine.device, "precision": engine.precision,
        }  # fmt: skip

    def close(self) -> None:
        for engine in self._loaded.values():
            engine.close()
        self._loaded.clear()


def joint_groups(n: int) -> list[list[int]]:
    """Which of ``n`` unknown frames are denoised together: all up to JOINT, else every second, third ... of them."""
    m = -(-n // JOINT)
    return [list(range(i, n, m)) for i in range(m)]


def n_evaluations(series: Series, plan: InterpPlan, options: InterpOptions) -> int:
    """Images that go through the network over all intervals: the unit of ``run_interp``'s progress."""
    return plan.n_new * series.shape[1] * options.steps * options.samples


def run_interp(
    series: Series,
    plan: InterpPlan,
    engines: Engines,
    options: InterpOptions,
    *,
    on_evaluation: Callable[[int], None] | None = None,
) -> Iterator[InterpFrame]:
    """The frames of the result in order; memory holds a few frames, whatever the length of the series."""
    if options.samples > 1 and options.steps == 1:
        warn_user(
            "one step gives the mean: the samples are all but equal and their spread says nothing, use --steps 5",
            stacklevel=2,
        )
    sampler = _Sampler(plan, engines, options, on_evaluation)
    calibration = engines.bundle.manifest.expected_error
    held: dict[int, Array] = {}
    index = 0
    with ThreadPoolExecutor(engines.choice.threads or default_threads()) as pool:
        for interval in plan.intervals:
            wanted = plan.neighbours(interval)
            held = {i: held[i] if i in held else series.frame(i) for i in wanted if i is not None}
            _, first, second, _ = wanted
            if interval.shown:
                zero = np.zeros_like(held[first])
                std, expected = zero if options.samples > 1 else None, zero if calibration else None
                yield InterpFrame(held[first], (first,), 0.0, None, std, expected)
                index += 1
            if interval.tau:
                around = [None if i is None else held[i] for i in wanted]
                known, guess, bend = _guess(around, interval, plan, pool)
                errors = expected_error(known, interval.tau, calibration) if calibration else None
                frames, spread = sampler.frames(known, guess, bend, interval.tau, index)
                for i, tau in enumerate(interval.tau):
                    volume = frames[i]
                    if plan.consistent:
                        volume = _corrected(volume, known, engines)
                    std, expected = (None if x is None else x[i] * np.float32(plan.scale) for x in (spread, errors))
                    yield InterpFrame(
                        _finish(volume, plan), (first, second), tau, _finish(guess[:, i], plan), std, expected
                    )
                index += len(interval.tau)


def _guess(
    around: Sequence[Array | None], interval: Interval, plan: InterpPlan, pool: ThreadPoolExecutor
) -> tuple[Array, Array, Array]:
    """In units of the scale: known (z, 2, y, x), guess and its curvature part (z, n, y, x)."""
    before, first, second, after = (None if frame is None else frame / np.float32(plan.scale) for frame in around)
    assert first is not None
    assert second is not None
    gaps = plan.gaps(interval)

    def slice_of(z: int) -> tuple[Array, Array]:
        return estimate(
            None if before is None else before[z], first[z], second[z], None if after is None else after[z],
            interval.tau, 1.0, gaps,
        )  # fmt: skip

    guess, bend = zip(*pool.map(slice_of, range(len(first))), strict=True)
    return np.stack([first, second], 1), np.stack(guess), np.stack(bend)


class _Sampler:
    """Runs the DDIM loop on the slices of an interval, in batches of one static size."""

    def __init__(
        self, plan: InterpPlan, engines: Engines, options: InterpOptions, on_evaluation: Callable[[int], None] | None
    ) -> None:
        self.plan, self.engines, self.options, self.on_evaluation = plan, engines, options, on_evaluation
        diffusion = engines.bundle.manifest.diffusion
        weight = 1.0 if diffusion.residual_weight is None else diffusion.residual_weight
        self.residual = Residual(diffusion.residual_std or 1.0, weight)
        self.spread_factor = engines.bundle.spread_factor(options.steps) or 1.0
        self.coefficients = [step.array() for step in ddim_coefficients(diffusion.build(), options.steps)]

    def frames(
        self, known: Array, guess: Array, bend: Array, tau: tuple[float, ...], index: int
    ) -> tuple[Array, Array | None]:
        """Mean and calibrated spread over the samples, (n, z, y, x) each. index: of the first frame in the output."""
        out = np.empty((len(tau), len(known), *self.plan.matrix), np.float32)
        spread = np.empty_like(out) if self.options.samples > 1 else None
        for some in joint_groups(len(tau)):
            place = [index + i for i in some]
            mean, std = self._joint(known, guess[:, some], bend[:, some], [tau[i] for i in some], place)
            out[some] = mean
            if spread is not None:
                spread[some] = std
        return out, spread

    def _joint(
        self, known: Array, guess: Array, bend: Array, tau: list[float], place: list[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """``frames`` for those that are denoised together; ``place``: of each in the output, the key of its noise."""
        n, matrix = len(tau), self.plan.padded
        n_z, k = len(known), self.options.samples
        batch = self.options.batch(n_z)
        engine = self.engines.step(batch, n, matrix)
        items = [(z, sample) for z in range(n_z) for sample in range(k)]
        mean = np.zeros((n_z, n, *self.plan.matrix), np.float64)
        m2 = np.zeros_like(mean) if k > 1 else None
        gain = self.residual.gain(np.asarray(tau, np.float32))[:, None, None]
        taus = np.tile(np.asarray(tau, np.float32), (batch, 1))
        y, x = self.plan.matrix

        def add(some: list[tuple[int, int]], residuals: Array) -> None:
            for (z, sample), residual in zip(some, residuals, strict=False):
                value = guess[z] + gain * residual[:, :y, :x]
                delta = value - mean[z]
                mean[z] += delta / (sample + 1)
                if m2 is not None:
                    m2[z] += delta * (value - mean[z])

        with Ahead(self.on_evaluation) as ahead:
            for start in range(0, len(items), batch):
                some = items[start : start + batch]
                full = [*some, *[some[-1]] * (batch - len(some))]  # a full tail: the batch size is static
                shown, base, curved = (self._padded(part[[z for z, _ in full]]) for part in (known, guess, bend))
                x_t = np.stack([
                    [keyed_noise(self.options.seed, self.plan.digest, t, z, s, matrix) for t in place] for z, s in full
                ])  # fmt: skip
                given = {"known": shown, "base": base, "bend": curved, "tau": taus}
                ahead.start(engine, x_t, given, self.coefficients, len(some) * n, partial(add, some))
            ahead.finish()
        spread = None if m2 is None else np.sqrt(m2 / (k - 1)) * self.spread_factor
        return mean.swapaxes(0, 1), None if spread is None else spread.swapaxes(0, 1)

    def _padded(self, images: Array) -> Array:
        """To the stride, by reflection."""
        rows, columns = (p - n for p, n in zip(self.plan.padded, self.plan.matrix, strict=True))
        return np.pad(images, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric")


def _corrected(volume: Array, known: Array, engines: Engines) -> Array:
    """Stage 2: a new volume (z, y, x) beside its known neighbours (z, 2, y, x), tile by tile."""
    graph = engines.bundle.manifest.graphs["volume"]
    shown = np.stack([volume, known[:, 0], known[:, 1]])[None]
    n_z, n_y, n_x = volume.shape
    tile_y, tile_x = (min(TILE, -(-n // graph.stride) * graph.stride) for n in (n_y, n_x))
    shown = np.pad(
        shown, ((0, 0), (0, 0), (0, 0), (0, max(0, tile_y - n_y)), (0, max(0, tile_x - n_x))), mode="symmetric"
    )
    engine = engines.volume((n_z, tile_y, tile_x))
    weight = ramp(tile_y, OVERLAP)[:, None] * ramp(tile_x, OVERLAP)
    total, weights = np.zeros(shown.shape[2:], np.float32), np.zeros(shown.shape[3:], np.float32)
    for y in starts(shown.shape[3], tile_y, OVERLAP):
        for x in starts(shown.shape[4], tile_x, OVERLAP):
            at = (slice(y, y + tile_y), slice(x, x + tile_x))
            (corrected,) = engine(np.ascontiguousarray(shown[:, :, :, *at]))
            total[:, *at] += weight * corrected[0, 0]
            weights[at] += weight
    return np.asarray((total / weights)[:, :n_y, :n_x], dtype=np.float32)


def _finish(volume: Array, plan: InterpPlan) -> Array:
    return np.asarray(np.maximum(volume * np.float32(plan.scale), np.float32(plan.minimum)), dtype=np.float32)


class InterpResult(NamedTuple):
    """A series with more frames, and the standard deviation of its error (t, z, y, x); None without samples."""

    series: Series
    std: Array | None


def interpolate(
    series: Series,
    *,
    engine: str = "tssc-s",
    options: InterpOptions | None = None,
    choice: DeviceChoice | None = None,
) -> InterpResult:
    """More frames for a series in memory, with their uncertainty where ``samples`` > 1.

    The call behind ``cmrsr interp4d``; by default twice the frames. Raises the errors of ``cmrsr.errors``.
    """
    from cmrsr.io.survey import survey

    options = options or InterpOptions(factor=2)
    bundle = ENGINE.load(engine)
    plan = plan_interp(series, survey(series), bundle, options)
    for text in plan.notes:
        warn_user(text, stacklevel=2)
    with closing(Engines(bundle, choice or DeviceChoice())) as engines:
        frames = list(run_interp(series, plan, engines, options))
    result = series.with_frames(np.stack([f.output for f in frames]), times_ms=plan.times_ms)
    std = None if frames[0].std is None else np.stack([f.std for f in frames if f.std is not None])
    return InterpResult(result, std)
