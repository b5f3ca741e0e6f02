"""What ``interp4d`` decides about a 4-D series before the first evaluation: which frames, at which times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.magnitude import refuse_maps
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey
from cmrsr.physics.rms import rms
from cmrsr.runtime.bundle import Bundle

Array = NDArray[np.float32]
MAX_FACTOR = 60
MAX_FRAMES = 1000
MIN_SLICES = 3  # of a stack whose slices can be made consistent
OPEN_RATIO = 2.0  # last to first frame over the largest usual change: more is no beat that closes
SAME_POSITION = 1e-6  # of a frame: asked for at an acquired one
UNEVEN = 1.5  # a step between frames over the median one: phases are missing there


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpOptions:
    """What a user may choose; the names are those of the command line. ``factor`` or ``frames``, not both."""

    factor: int | None = None
    frames: int | None = None
    cyclic: bool = True
    steps: int = 1
    samples: int = 1
    seed: int = 0
    consistency: bool | None = None  # whether stage 2 corrects the volumes; None: as the bundle has it
    batch_size: int = 2  # slices at a time

    def __post_init__(self) -> None:
        if (self.factor is None) == (self.frames is None):
            raise UsageError("give --factor K (frames per interval) or --frames M (frames per beat), one of them")
        if self.factor is not None and not 2 <= self.factor <= MAX_FACTOR:
            raise UsageError(f"--factor {self.factor}: expected 2 to {MAX_FACTOR}")
        if self.frames is not None and not 2 <= self.frames <= MAX_FRAMES:
            raise UsageError(f"--frames {self.frames}: expected 2 to {MAX_FRAMES}")
        for flag, value, most in (
            ("steps", self.steps, 1000), ("samples", self.samples, 256), ("batch-size", self.batch_size, 1024),
        ):  # fmt: skip
            if not 1 <= value <= most:
                raise UsageError(f"--{flag} {value}: expected 1 to {most}")

    def batch(self, n_slices: int) -> int:
        """Slices and samples at a time: no more than there are."""
        return min(self.batch_size, n_slices * self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Two acquired frames and the output frames from the first of them up to the second; the end of an open series is
    an interval of its last frame alone.

    first: index of the acquired frame; tau: of the unknown frames between, (n,), strictly between 0 and 1.
    shown: whether the first frame itself is one of the output.
    """

    first: int
    tau: tuple[float, ...]
    shown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpPlan:
    """Everything decided about one series before the first evaluation.

    times_ms: of the output, (t,) or (t, z) as the input's, None without. clock: (n + 1,) when the frames were acquired,
    in ms or frames, the last one the end of the beat. position: (t,) of the output in frames of the input.
    """

    intervals: tuple[Interval, ...]
    cyclic: bool
    position: NDArray[np.float64]
    times_ms: NDArray[np.float64] | None
    clock: NDArray[np.float64]
    matrix: tuple[int, int]
    padded: tuple[int, int]
    scale: float
    minimum: float  # results below are clipped: zero for magnitudes
    digest: str
    consistent: bool  # whether stage 2 corrects the volumes
    notes: tuple[str, ...]

    @property
    def n_frames(self) -> int:
        return len(self.position)

    @property
    def n_new(self) -> int:
        """Output frames that were not acquired."""
        return sum(len(interval.tau) for interval in self.intervals)

    def neighbours(self, interval: Interval) -> tuple[int | None, int, int, int | None]:
        """The frames before, at and after both ends of an interval; None where there is none."""
        n = len(self.clock) - 1
        wanted = [interval.first + step for step in (-1, 0, 1, 2)]
        if self.cyclic:
            before, a, b, after = (i % n for i in wanted)
            return (before, a, b, after) if n > 2 else (None, a, b, None)
        before, a, b, after = wanted
        return (before if before >= 0 else None), a, min(b, n - 1), (after if after < n else None)

    def gaps(self, interval: Interval) -> tuple[float, float, float]:
        """Times from the frame before the interval to its first, its second, and the frame after that."""
        steps = np.diff(self.clock)
        n = len(steps)
        left, own, right = (float(steps[(interval.first + i) % n]) for i in (-1, 0, 1))
        return left, own, right


def plan_interp(series: Series, found: Survey, bundle: Bundle, options: InterpOptions) -> InterpPlan:
    """Choose the output frames of a series; UnusableError where it cannot be interpolated."""
    refuse_maps(series)
    name, n = series.source.name, series.n_frames
    if n < 2:
        raise UnusableError(
            f"{name}: one volume without a time axis, expected a 4-D series of at least two frames; if time is another "
            "axis of the file, name it with --time-axis"
        )
    notes: list[str] = []
    clock = _clock(series, name)
    if options.cyclic:
        if n == 2:
            notes.append(
                "two frames: the way back from the second to the first is taken to last as long; "
                "if there is none, use --open"
            )
        _check_closed(series, notes)
    position, times_ms = _output_times(series, clock, options, name)
    step = np.diff(clock)[: n if options.cyclic else n - 1]
    if step.max() > UNEVEN * np.median(step):
        k = int(np.argmax(step))
        notes.append(
            f"between frames {k + 1} and {(k + 1) % n + 1} more time passes than elsewhere: look there with care"
        )
    if series.kind not in ("cine", "unknown"):
        notes.append(f"this looks like a {series.kind} series; the engine {bundle.manifest.name} was made for cine")
    trained = bundle.manifest.trained
    _, y, x = series.spacing_mm
    low, high = trained.spacing_mm
    if not low * 0.95 <= min(y, x) <= max(y, x) <= high * 1.05:
        notes.append(
            f"pixels of {x:.3g} x {y:.3g} mm, the engine was trained on {low:g} to {high:g} mm: "
            "look at the result with care"
        )
    if trained.gap_ms and series.times_ms is not None and step.max() > 1.05 * trained.gap_ms[1]:
        notes.append(
            f"up to {step.max():.0f} ms between frames, the engine was trained on up to {trained.gap_ms[1]:.0f} ms: "
            "look at the result with care"
        )
    wanted = bundle.manifest.defaults.consistency > 0 if options.consistency is None else options.consistency
    consistent = wanted and series.shape[1] >= MIN_SLICES and series.origins_mm is None
    if wanted and series.shape[1] < MIN_SLICES:
        notes.append(f"{series.shape[1]} slice(s): consistency across slices needs {MIN_SLICES} and was left out")
    elif wanted and not consistent:
        notes.append("slices are not equally spaced: consistency across slices needs equal gaps and was left out")
    stride = bundle.manifest.step.stride
    _, _, n_y, n_x = series.shape
    return InterpPlan(
        intervals=_intervals(position, n), cyclic=options.cyclic, position=position, times_ms=times_ms,
        clock=clock, matrix=(n_y, n_x), padded=(-(-n_y // stride) * stride, -(-n_x // stride) * stride),
        scale=found.scale, minimum=min(found.minimum, 0.0), digest=found.digest, consistent=consistent,
        notes=tuple(notes),
    )  # fmt: skip


def _clock(series: Series, name: str) -> NDArray[np.float64]:
    """Times of the frames, the mean over slices, from zero; then the end of the beat, one usual step after the last."""
    n = series.n_frames
    if series.times_ms is None:
        return np.arange(n + 1, dtype=np.float64)
    times = np.asarray(series.times_ms, np.float64).reshape(n, -1).mean(axis=1)
    step = np.diff(times)
    if not (np.isfinite(step).all() and step.min() > 0):
        raise UnusableError(f"{name}: the times of its frames do not increase, correct them or leave them out")
    return np.append(times - times[0], times[-1] - times[0] + np.median(step))


def _check_closed(series: Series, notes: list[str]) -> None:
    """Note where the last frame is far from the first: not a whole beat."""
    n = series.n_frames
    if n < 4:
        return
    frames = [series.frame(t) for t in (0, 1)]
    first, before, usual = frames[0], frames[1], [rms(frames[1] - frames[0])]
    for t in range(2, n):
        frame = series.frame(t)
        usual.append(rms(frame - before))
        before = frame
    end = rms(first - before)
    if end > OPEN_RATIO * np.quantile(usual, 0.9):
        notes.append(
            f"the last frame differs from the first {end / np.median(usual):.1f} times as much as neighbours usually "
            "do: if the series is not a whole beat, use --open"
        )


def _output_times(
    series: Series, clock: NDArray[np.float64], options: InterpOptions, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Position of every output frame in frames of the input, and its time."""
    n = series.n_frames
    if options.factor is not None:
        n_out = n * options.factor if options.cyclic else (n - 1) * options.factor + 1
        if n_out > MAX_FRAMES:
            raise UsageError(f"--factor {options.factor} of {name} ({n} frames): expected at most {MAX_FRAMES} frames")
        position = np.arange(n_out) / options.factor
    else:
        assert options.frames is not None
        last = n if options.cyclic else n - 1
        share = np.arange(options.frames) / (options.frames if options.cyclic else options.frames - 1)
        position = np.interp(share * clock[last], clock, np.arange(n + 1))
    nearest = position.round()
    position = np.where(np.abs(position - nearest) < SAME_POSITION, nearest, position)
    if series.times_ms is None:
        return position, None
    times = np.asarray(series.times_ms, np.float64)
    usual = np.median(np.diff(times, axis=0), axis=0, keepdims=True)  # of every slice: the heart rate may have changed
    return position, _interpolated(np.concatenate([times, times[-1:] + usual]), position)


def _interpolated(values: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of ``values`` (n, ...) at fractional positions."""
    low = np.minimum(np.floor(position).astype(int), len(values) - 2)
    share = (position - low).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((1 - share) * values[low] + share * values[low + 1])


def _intervals(position: NDArray[np.float64], n: int) -> tuple[Interval, ...]:
    out = []
    for first in range(n):
        inside = position[(position >= first) & (position < first + 1)]
        tau = tuple(float(p - first) for p in inside if p > first)
        if inside.size:
            out.append(Interval(first=first, tau=tau, shown=bool(inside[0] == first)))
    return tuple(out)
