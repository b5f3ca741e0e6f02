"""Temporal super-resolution on anybody's 4-D series: hide frames, restore them from the others, compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.heart.centre import heart_centre
from cmrsr.io import acdc
from cmrsr.io.discover import Candidate
from cmrsr.io.series import Series
from cmrsr.io.survey import survey
from cmrsr.io.window import window_around
from cmrsr.metrics.settings import Setting
from cmrsr.tasks.interp4d.evaluation.methods import Restored, plan_split, restorations
from cmrsr.tasks.interp4d.evaluation.published import STANDARDS
from cmrsr.tasks.interp4d.evaluation.score import Scoring
from cmrsr.tasks.interp4d.evaluation.split import Split, between, every, most_different
from cmrsr.tasks.interp4d.plan import MAX_FACTOR, InterpOptions, plan_interp
from cmrsr.tasks.interp4d.run import Engines

Array = NDArray[np.float32]
ProtocolName = Literal["holdout-frames", "ed-es", "uvi", "tssc"]
TSSC_FRAMES = 12
SHOWN_SHARE = 0.6  # of the image's shorter side: the window of the pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """keep: every how many frames one is kept. crop: heart window in pixels, scored beside the whole image; 0: none.
    es: frame of end-systole, from 1; None: as ``Info.cfg`` says, else the one that differs most from the first.
    """

    name: ProtocolName = "holdout-frames"
    keep: int = 4
    cyclic: bool = True
    crop: int = 0
    es: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.keep <= MAX_FACTOR:
            raise UsageError(f"--keep {self.keep}: expected 2 to {MAX_FACTOR}")
        if self.crop and self.crop < 16:
            raise UsageError(f"--crop {self.crop}: expected 0 or at least 16 pixels")
        if self.crop and self.name in STANDARDS:
            raise UsageError(f"--crop {self.crop}: --protocol {self.name} fixes what is scored; leave one of them out")
        if self.es is not None and self.name == "holdout-frames":
            raise UsageError(f"--es {self.es}: --protocol holdout-frames knows no end-systole; leave one of them out")
        if self.es is not None and self.es < 1:
            raise UsageError(f"--es {self.es}: expected a frame, counted from 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One series to be scored on. phases: frames of end-diastole and end-systole, from 0, where it says. clean: the
    same frames without noise, of a virtual patient.
    """

    name: str
    patient: str
    series: Series
    phases: tuple[int, int] | None = None
    clean: Series | None = None


@dataclass(slots=True)
class SeriesResult:
    """One series: every metric by method, one value a hidden frame; frames from 0, tau in their gaps.

    sureness: by method and source, rms of the standard deviation that was foretold and of the error. shown: truth and
    methods at one place, (y, x); aspect: its pixels' height over width.
    """

    name: str
    patient: str
    split: Split
    notes: tuple[str, ...]
    frames: list[int] = field(default_factory=list)
    tau: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    metrics: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    sureness: dict[str, tuple[float, float]] = field(default_factory=dict)
    shown: dict[str, Array] = field(default_factory=dict)
    shown_frame: int = 0
    shown_plane: int = 0
    aspect: float = 1.0

    @property
    def n_frames(self) -> int:
        return len(self.frames)

    @property
    def primary(self) -> str:
        """The metric that stands for all where there is room for one."""
        return next(iter(next(iter(self.metrics.values()))))


def real_case(candidate: Candidate) -> Case:
    """A series of a file, with end-diastole and end-systole where the ACDC layout gives them."""
    return Case(
        name=candidate.name, patient=acdc.patient(candidate), series=candidate.open(),
        phases=acdc.phases(candidate.paths[0]),
    )  # fmt: skip


def evaluate_case(
    case: Case,
    protocol: Protocol,
    settings: Sequence[Setting],
    engines: Engines,
    *,
    seed: int = 0,
    batch_size: int = 2,
    on_method: Callable[[str], None] | None = None,
) -> SeriesResult:
    """Hide frames of one series, restore them with every method and score them.

    UnusableError where the series cannot be interpolated, or has nothing to hide.
    """
    options = InterpOptions(frames=2, cyclic=protocol.cyclic, seed=seed, batch_size=batch_size)  # as many as it plans
    original = case.series.with_frames(case.series.array())
    found = survey(original)
    whole = plan_interp(original, found, engines.bundle, options)
    split, notes = _split(case, original, protocol)
    standard = STANDARDS.get(protocol.name)
    series = original if standard is None else standard.apply(original)
    known = _known(series, split, whole.clock)
    planned = partial(plan_split, known, split, whole.clock, engines.bundle)
    options = replace(options, cyclic=split.cyclic)
    truth = [series.frame(t) for t in split.frames]
    clean = None if case.clean is None or standard else [case.clean.frame(t) for t in split.frames]
    centre, _ = heart_centre(original, found.variance)
    scoring = Scoring(
        peak=1.0 if standard else found.maximum, window=_window(original, centre, protocol.crop), standard=standard
    )
    result = SeriesResult(case.name, case.patient, split, (*notes, *_notes(whole.notes, planned(options).notes)))
    middle = centre if standard is None else (series.shape[2] / 2, series.shape[3] / 2)
    at, view = _look_at(result, known, truth, middle)
    scores: dict[str, list[dict[str, float]]] = {}
    for name, frames in restorations(known, planned, engines, settings, options):
        if on_method:
            on_method(name)
        scores[name], sure = [], _Sureness()
        for i, restored in enumerate(frames):
            scores[name].append(scoring(restored.volume, truth[i], None if clean is None else clean[i]))
            sure.add(restored, truth[i])
            if i == at:
                result.shown[name] = restored.volume[view].copy()
        result.sureness |= {f"{source} of {name}": value for source, value in sure.values().items()}
    _keep_finite(result, scores, [tau for gap in split.tau(whole.clock) for tau in gap])
    return result


def _split(case: Case, series: Series, protocol: Protocol) -> tuple[Split, list[str]]:
    """What is hidden, and how end-diastole and end-systole were found where they matter."""
    n, name = series.n_frames, series.source.name
    if protocol.name == "holdout-frames":
        split = every(n, protocol.keep, cyclic=protocol.cyclic, name=name)
        return split, list(split.notes)
    ed = 0 if case.phases is None else case.phases[0]
    if protocol.es is not None:
        es, source = protocol.es - 1, "end-systole as asked for"
    elif case.phases is not None:
        es, source = case.phases[1], "end-diastole and end-systole as the scan says"
    else:
        es = most_different(series.array(), ed)
        source = "end-diastole taken as the first frame, end-systole as the one that differs most from it"
    at_most = TSSC_FRAMES if protocol.name == "tssc" else None
    split = between(n, ed, es, cyclic=protocol.cyclic, at_most=at_most, name=name)
    return split, [source, *split.notes]


def _known(series: Series, split: Split, clock: NDArray[np.float64]) -> Series:
    """The known frames alone, held in memory: whatever a method does with them, it sees no other."""
    times = None if series.times_ms is None else split.clock(clock)[:-1]
    return series.with_frames(np.stack([series.frame(t) for t in split.known]), times_ms=times)


def _notes(whole: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    return [*whole, *(f"of the known frames: {note}" for note in known if note not in whole)]


def _window(series: Series, centre: tuple[float, float], crop: int) -> tuple[slice, slice] | None:
    return _slices(window_around(centre, (series.shape[2], series.shape[3]), crop)) if crop else None


def _slices(window: tuple[int, int, int, int]) -> tuple[slice, slice]:
    x, y, width, height = window
    return slice(y, y + height), slice(x, x + width)


def _look_at(
    result: SeriesResult, known: Series, truth: Sequence[Array], centre: tuple[float, float]
) -> tuple[int, tuple[int, slice, slice]]:
    """Choose what is shown of a result: the place among the hidden frames, and slice, rows and columns around a centre.

    The frame with the largest change from the nearest known one, and of the middle half of the slices (at the base,
    other things than the heart's motion change most) the one with the largest.
    """
    change, frames = [], iter(truth)
    for first, gap in enumerate(result.split.hidden):
        ends = known.frame(first), known.frame((first + 1) % known.n_frames)
        for _ in gap:
            frame = next(frames)
            change.append(np.min([np.mean((frame - end) ** 2, axis=(1, 2)) for end in ends], axis=0))
    at = int(np.argmax(np.mean(change, axis=1)))
    low = len(change[at]) // 4
    plane = low + int(np.argmax(change[at][low : len(change[at]) - low]))
    _, _, n_y, n_x = known.shape
    view = (plane, *_slices(window_around(centre, (n_y, n_x), round(SHOWN_SHARE * min(n_y, n_x)))))
    result.shown, result.shown_frame, result.shown_plane = {"truth": truth[at][view]}, result.split.frames[at], plane
    result.aspect = known.spacing_mm[1] / known.spacing_mm[2]
    return at, view


class _Sureness:
    """Sums up what one method foretold of its error, and the error."""

    def __init__(self) -> None:
        self._foretold: dict[str, float] = {}
        self._error, self._n = 0.0, 0

    def add(self, restored: Restored, truth: Array) -> None:
        for source, std in restored.sure.items():
            self._foretold[source] = self._foretold.get(source, 0.0) + _energy(std)
        self._error += _energy(restored.volume - truth)
        self._n += truth.size

    def values(self) -> dict[str, tuple[float, float]]:
        """By source: root mean square foretold, and of the error."""
        return {
            source: (float(np.sqrt(total / self._n)), float(np.sqrt(self._error / self._n)))
            for source, total in self._foretold.items()
        }


def _energy(values: Array) -> float:
    return float(np.sum(np.square(values, dtype=np.float64)))


def _keep_finite(result: SeriesResult, scores: dict[str, list[dict[str, float]]], taus: Sequence[float]) -> None:
    """Put the scores into the result, without the frames that a method meets exactly: they have no PSNR to average.

    Scanners and converters repeat frames; a blend that hits one exactly says nothing of blending.
    """
    frames, names = result.split.frames, list(next(iter(scores.values()))[0])
    table = np.array([[[one[k] for k in names] for one in rows] for rows in scores.values()])  # method, frame, metric
    names, table = _defined(names, table)
    usable = np.isfinite(table).all(axis=(0, 2))
    if not usable.any():
        raise UnusableError(f"{result.name}: every hidden frame is the same as a known one or a blend of them")
    if not usable.all():
        listed = ", ".join(str(frames[i] + 1) for i in np.flatnonzero(~usable))
        result.notes += (f"frames that a method meets exactly (repeated ones?) were not scored: {listed}",)
    result.frames = [frames[i] for i in np.flatnonzero(usable)]
    result.tau = np.array(taus)[usable]
    result.metrics = {m: {k: table[i, usable, j] for j, k in enumerate(names)} for i, m in enumerate(scores)}


def _defined(names: list[str], table: NDArray[np.float64]) -> tuple[list[str], NDArray[np.float64]]:
    """Without the metrics that have no value at all, such as the through-plane error of equal slices."""
    kept = [j for j in range(len(names)) if not np.isnan(table[:, :, j]).all()]
    return [names[j] for j in kept], table[:, :, kept]
