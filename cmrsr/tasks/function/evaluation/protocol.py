"""Super-resolution and function together: a cine at full resolution, at half of it, and restored, each measured."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnusableError, UsageError
from cmrsr.io.references.reference import Labels, Reference
from cmrsr.io.series import Series
from cmrsr.io.window import Affine, window_around
from cmrsr.metrics.agreement import dice
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from cmrsr.tasks.function.evaluation.cases import Case, heart_of, shown_frame
from cmrsr.tasks.function.evaluation.coarse import BASELINES, FACTOR, coarse, made_even
from cmrsr.tasks.function.evaluation.images import ImageScoring, only_finite
from cmrsr.tasks.function.measure import Measured

Array = NDArray[np.float32]
STRUCTURES = {LV: "LV", MYOCARDIUM: "myocardium", RV: "RV"}
MASKS, REGRESSION = "masks", "regression"
GRID = 1e-3  # by which two grids may be turned against each other


@dataclass(frozen=True, slots=True)
class Condition:
    """What is measured: ``scale`` and ``super_resolve`` as the options of ``function`` have them, None: by itself."""

    name: str
    scale: int | None
    super_resolve: bool | None


FULL = Condition("full resolution", None, None)
ZERO_FILLED = Condition("zero-filled", FACTOR, False)
RESTORED = Condition("super-resolved", FACTOR, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """scale: 2 measures at full and half resolution, 1 at full resolution alone. crop: heart window in pixels that

    images are scored in beside the whole; 0: none.
    """

    scale: int = FACTOR
    crop: int = 96

    def __post_init__(self) -> None:
        if self.scale not in (1, FACTOR):
            raise UsageError(f"--scale {self.scale}: expected 2, or 1 for full resolution alone")
        if self.crop and self.crop < 16:
            raise UsageError(f"--crop {self.crop}: expected 0 or at least 16 pixels")

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (FULL,) if self.scale == 1 else (FULL, ZERO_FILLED, RESTORED)


class Run(Interface):
    """What a run of ``function`` gives: images and labels (t, z, y, x) on one matrix, its affine, the numbers."""

    @property
    def frames(self) -> Array: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def affine(self) -> Affine: ...
    @property
    def measured(self) -> Measured: ...


Measure = Callable[[Series, Condition], Run]  # by one engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number of a heart: where it stands in a reference and in what was measured."""

    name: str
    unit: str
    reference: Callable[[Reference], float | None]
    masks: Callable[[Measured], float]
    regressed: Callable[[Measured], float] | None = None


QUANTITIES = (
    Quantity(name="EF", unit="points", reference=lambda r: r.ef_percent, masks=lambda m: m.lv.ef_percent,
             regressed=lambda m: m.regressed.ef_percent),
    Quantity(name="EDV", unit="mL", reference=lambda r: r.edv_ml, masks=lambda m: m.lv.edv_ml,
             regressed=lambda m: m.regressed.edv_ml),
    Quantity(name="ESV", unit="mL", reference=lambda r: r.esv_ml, masks=lambda m: m.lv.esv_ml,
             regressed=lambda m: m.regressed.esv_ml),
    Quantity(name="mass", unit="g", reference=lambda r: r.mass_g, masks=lambda m: m.mass_g),
    Quantity(name="RV EF", unit="points", reference=lambda r: r.rv_ef_percent, masks=lambda m: m.rv.ef_percent),
    Quantity(name="RV EDV", unit="mL", reference=lambda r: r.rv_edv_ml, masks=lambda m: m.rv.edv_ml),
    Quantity(name="RV ESV", unit="mL", reference=lambda r: r.rv_esv_ml, masks=lambda m: m.rv.esv_ml),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One run's numbers. values: by source (masks, regression) and quantity. dice: by structure, mean over frames."""

    values: Mapping[str, Mapping[str, float]]
    abnormal_probability: float
    dice: Mapping[str, float]
    dice_at: Mapping[str, tuple[float, float]]  # at ED and ES of the reference, where both are labelled
    ef_within: float | None  # half the 90 % interval of the EF that the engine gives, points
    ed: int
    es: int
    flags: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class CaseScore:
    """One case. reference: without its labels. readings, failures: by (engine, condition).

    images: by method (a baseline, or an engine), every metric with one value an image, or one of the case.
    shown: grey images (y, x) by method, and the masks in them; aspect: of their pixels.
    """

    name: str
    patient: str
    reference: Reference
    body: Reference | None
    readings: dict[tuple[str, str], Reading] = field(default_factory=dict)
    failures: dict[tuple[str, str], CmrsrError] = field(default_factory=dict)
    images: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    shown: dict[str, tuple[Array, Labels | None]] = field(default_factory=dict)
    shown_at: tuple[int, int] = (0, 0)
    aspect: float = 1.0


def truths(reference: Reference) -> dict[str, float]:
    """The values that a reference has, by quantity."""
    return {q.name: value for q in QUANTITIES if (value := q.reference(reference)) is not None}


def evaluate_case(
    case: Case,
    engines: Mapping[str, Measure],
    protocol: Protocol,
    *,
    on_method: Callable[[str], None] | None = None,
) -> CaseScore:
    """Measure one case under every condition with every engine, and compare with its reference.

    A run that is refused is a failure of that engine and condition; UnusableError where nothing can be tried.
    """
    series = made_even(case.series)
    series = series.with_frames(series.array())
    rows, columns = series.shape[2:]
    labels = {t: one[:, :rows, :columns] for t, one in case.reference.labels.items()}
    frame, plane = shown_frame(case.reference)
    result = CaseScore(case.name, case.patient, replace(case.reference, labels={}), case.body)
    result.shown_at = (frame, plane if plane >= 0 else series.shape[1] // 2)
    result.aspect = series.spacing_mm[1] / series.spacing_mm[2]
    centre = heart_of(list(labels.values())) or (rows / 2, columns / 2)
    window = _slices(centre, (rows, columns), protocol.crop)
    view = window or (slice(None), slice(None))
    inputs = {FULL: series}
    scoring = None
    if protocol.scale == FACTOR:
        low = coarse(series)
        inputs[ZERO_FILLED] = inputs[RESTORED] = low = low.with_frames(low.array())
        clean = None if case.clean is None else made_even(case.clean)
        scoring = ImageScoring(series, window=window, clean=clean)
        for name, enlarge in BASELINES.items():
            if on_method:
                on_method(name)
            frames = np.stack([enlarge(volume) for volume in low])
            result.images[name] = scoring(frames)
    _look(result, FULL.name, series.array(), view, labels.get(frame))
    for engine, measure in engines.items():
        for condition in protocol.conditions:
            if on_method:
                on_method(f"{engine}, {condition.name}")
            started = time.monotonic()
            try:
                run = measure(inputs[condition], condition)
                on_grid = _Nearest(run, series)
                if condition is RESTORED and scoring is not None:
                    _same_matrix(run, series, engine)
                    result.images[engine] = scoring(run.frames)
            except CmrsrError as error:
                result.failures[engine, condition.name] = error
                continue
            reading = _reading(run.measured, labels, on_grid, case.reference, time.monotonic() - started)
            result.readings[engine, condition.name] = reading
            if condition is not FULL:
                name = condition.name if condition is ZERO_FILLED else engine
                _look(result, name, run.frames, view, on_grid(frame))
    result.images = only_finite(result.images)
    return result


def _slices(centre: tuple[float, float], matrix: tuple[int, int], crop: int) -> tuple[slice, slice] | None:
    if not crop:
        return None
    x, y, width, height = window_around(centre, matrix, crop)
    return slice(y, y + height), slice(x, x + width)


def _look(result: CaseScore, name: str, frames: Array, view: tuple[slice, slice], labels: Labels | None) -> None:
    """Keep what is shown of a method, once."""
    frame, plane = result.shown_at
    if name not in result.shown and frames.shape[1] > plane:
        at = (plane, *view)
        result.shown[name] = (frames[frame][at].copy(), None if labels is None else labels[at].copy())


def _same_matrix(run: Run, series: Series, engine: str) -> None:
    if run.frames.shape != series.shape:
        raise UnusableError(
            f"{engine}: restored {run.frames.shape} of {series.source.name}, expected {series.shape} to compare with"
        )


class _Nearest:
    """Labels of a run on the matrix of a series, whose voxels lie along the same axes: the nearest ones, 0 outside."""

    def __init__(self, run: Run, series: Series) -> None:
        self._labels = run.labels
        to_run = np.linalg.inv(run.affine) @ series.affine  # of voxels (x, y, z)
        turned = np.abs(to_run[:3, :3] - np.diag(np.diag(to_run[:3, :3]))).max()
        if turned > GRID or run.labels.shape[:2] != series.shape[:2]:
            raise UnusableError(f"{series.source.name}: the masks lie on another grid than the images")
        self._places = [
            np.rint(to_run[axis, axis] * np.arange(series.shape[3 - axis]) + to_run[axis, 3]).astype(int)
            for axis in range(3)
        ]

    def __call__(self, t: int) -> Labels:
        out: Labels = self._labels[t]
        for axis, places in enumerate(self._places):
            n = out.shape[2 - axis]
            inside = (places >= 0) & (places < n)
            out = np.asarray(out.take(places.clip(0, n - 1), axis=2 - axis))
            out[tuple(~inside if a == 2 - axis else slice(None) for a in range(3))] = 0
        return out


def _reading(
    measured: Measured, labels: Mapping[int, Labels], on_grid: _Nearest, reference: Reference, seconds: float
) -> Reading:
    overlap: dict[str, list[float]] = {STRUCTURES[s]: [] for s in STRUCTURES if s in reference.structures}
    for t, truth in labels.items():
        ours = on_grid(t)
        for s, name in STRUCTURES.items():
            if name in overlap:
                overlap[name].append(dice(ours, truth, s))
    return Reading(
        values={
            MASKS: {q.name: q.masks(measured) for q in QUANTITIES},
            REGRESSION: {q.name: q.regressed(measured) for q in QUANTITIES if q.regressed},
        },
        abnormal_probability=measured.abnormal_probability,
        dice={name: _mean(values) for name, values in overlap.items() if np.isfinite(values).any()},
        dice_at=_at_phases(labels, overlap), ef_within=measured.intervals.get("lv_ef_percent"),
        ed=measured.ed, es=measured.es, flags=tuple(flag.code for flag in measured.flags if flag.doubt),
        seconds=seconds,
    )  # fmt: skip


def _at_phases(labels: Mapping[int, Labels], overlap: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Overlap by structure in the labelled frames of the largest and the smallest LV; nothing where that is one."""
    volume = [int(np.count_nonzero(truth == LV)) for truth in labels.values()]
    if not volume or max(volume) == min(volume):
        return {}
    ed, es = int(np.argmax(volume)), int(np.argmin(volume))
    return {name: (values[ed], values[es]) for name, values in overlap.items()}


def _mean(values: Sequence[float]) -> float:
    """Of those that are defined."""
    return float(np.mean([value for value in values if np.isfinite(value)]))


def failures_of(results: Sequence[CaseScore]) -> Iterator[str]:
    """A line for every run that was refused."""
    for result in results:
        for (engine, condition), error in result.failures.items():
            yield f"{result.name} ({engine}, {condition}): {error}"
