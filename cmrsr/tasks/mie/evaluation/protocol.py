"""A synthetic enhancement beside the acquired one: images and scar of every case, and what swapped inputs do."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnusableError
from cmrsr.heart.window import READING_MM
from cmrsr.io.planes import normal_of
from cmrsr.io.series import Series
from cmrsr.physics.volumes import DENSITY_G_ML
from cmrsr.tasks.mie.evaluation.baselines import MIXTURE, T1_THRESHOLD, planes, rescaled, threshold_mask
from cmrsr.tasks.mie.evaluation.cases import Case, Reference, on_window, slice_of, true_scar_g
from cmrsr.tasks.mie.evaluation.images import LPIPS, find_shift, image_scores, scaled
from cmrsr.tasks.mie.features.signs import heart_crop
from cmrsr.tasks.mie.grid import Shift, SliceGrid
from cmrsr.tasks.mie.measure import MieMeasured, measure
from cmrsr.tasks.mie.result import MieSlice

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
MOVED, UNMOVED, CLEAN = "acquired, moved", "acquired, as it lies", "noise-free, moved"
REFERENCES = (MOVED, UNMOVED, CLEAN)  # what images are compared with
N_SEGMENTS = 16


class Run(Interface):
    """What a run of ``mie`` gives: its slices, the window of each, the numbers."""

    @property
    def slices(self) -> tuple[MieSlice, ...]: ...
    @property
    def grids(self) -> tuple[SliceGrid, ...]: ...
    @property
    def measured(self) -> MieMeasured: ...


Enhance = Callable[[Series, Series], Run]  # T1 images and cine, by one engine
Perceived = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one method says of one case. Masses of the slices that have a reference; NaN where there is nothing.

    transmurality, true_transmurality (16,): percent by segment, of the method and of the reference on the same window.
    dice: of the scar, over the case's slices, with the reference moved and as it lies; NaN where neither has scar.
    e_cc_percent, true_e_cc_percent (z,), middle (z,): of every slice, and which are in the middle of the ventricle.
    shift_mm: by how much the reference was moved in each slice; NaN where no place was found for it.
    """

    scar_g: float
    scar_percent: float
    true_scar_percent: float
    dice: float
    dice_unmoved: float
    transmurality: NDArray[np.float64]
    true_transmurality: NDArray[np.float64]
    e_cc_percent: NDArray[np.float64]
    true_e_cc_percent: NDArray[np.float64]
    middle: NDArray[np.bool_]
    shift_mm: NDArray[np.float64]
    uncertainty_percent: float
    agreement: float
    flags: tuple[str, ...]
    seconds: float

    @property
    def scar_ml(self) -> float:
        return self.scar_g / DENSITY_G_ML


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSlice:
    """One slice to look at, (y, x) each; scar_truth: None where nobody drew it. reference, image: ``scaled``."""

    z: int
    t1_image: Array
    image: NDArray[np.float64]
    reference: NDArray[np.float64]
    scar: Mask
    scar_truth: Mask | None
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Target:
    """What an image is compared with: a reference, ``scaled``, and its scar, None where nobody drew it."""

    image: NDArray[np.float64]
    scar: Mask | None


@dataclass(slots=True)
class CaseScore:
    """One case. scar_g: of the reference in the slices that have one, None without a mask.

    readings, failures: by method (an engine, or the threshold). images: by method and reference, a row of metrics a
    slice. slices: which ones, from 0. material: of every slice, what baselines are made of; targets: by reference, as
    the first engine's images have them. shown: the slice with most scar, by the first engine.
    """

    name: str
    group: str
    scar_g: float | None
    scar_whole_g: float | None
    slices: tuple[int, ...] = ()
    readings: dict[str, Reading] = field(default_factory=dict)
    failures: dict[str, CmrsrError] = field(default_factory=dict)
    images: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)
    material: list[dict[str, Array]] = field(default_factory=list)
    targets: list[dict[str, Target]] = field(default_factory=list)
    shown: ShownSlice | None = None

    @property
    def has_scar(self) -> bool | None:
        """None where nobody drew it."""
        return None if self.scar_g is None else self.scar_g > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    """A slice with its reference: as it lies, and moved onto the image by ``shift`` where one was found."""

    one: MieSlice
    unmoved: Reference
    moved: Reference
    shift: Shift | None


def evaluate_case(
    case: Case,
    engines: Mapping[str, Enhance],
    *,
    perceived: Perceived | None = None,
    on_method: Callable[[str], None] | None = None,
) -> CaseScore:
    """Enhance one case with every engine, and compare with its reference. The threshold uses the first one's T1 maps.

    A run that is refused is a failure of that engine; UnusableError where no T1 slice has a reference.
    """
    gap_mm = case.t1.spacing_mm[0]
    result = CaseScore(name=case.name, group=case.group, scar_g=None, scar_whole_g=case.scar_whole_g)
    for name, enhance in engines.items():
        if on_method:
            on_method(name)
        started = time.monotonic()
        try:
            run = enhance(case.t1, case.cine)
        except CmrsrError as error:
            result.failures[name] = error
            continue
        seconds = time.monotonic() - started
        found = [
            (one, grid, z)
            for one, grid in zip(run.slices, run.grids, strict=True)
            if (z := slice_of(case.late, grid)) is not None
        ]
        if not found:
            raise UnusableError(
                f"{case.late.series.source.name}: no slice of it lies at a slice of {case.t1.source.name}; expected "
                "late enhancement of the same examination"
            )
        beside = [_beside(case, one, grid, z) for one, grid, z in found]
        images, targets = [scaled(b.one.image) for b in beside], [_targets(b) for b in beside]
        result.images |= {(name, k): v for k, v in _scores(images, targets, perceived).items()}
        result.readings[name] = _reading(case, beside, run.measured, gap_mm, seconds)
        if not result.targets:
            result.scar_g = true_scar_g(case.late, [z for *_, z in found], gap_mm)
            result.slices = tuple(one.z for one, *_ in found)
            result.material, result.targets = [planes(b.one) for b in beside], targets
            result.shown = _shown(beside, images)
            by_threshold = [replace(b, one=replace(b.one, scar=threshold_mask(b.one))) for b in beside]
            result.readings[T1_THRESHOLD] = _reading(case, by_threshold, run.measured, gap_mm, seconds)
    return result


def _beside(case: Case, one: MieSlice, grid: SliceGrid, z: int) -> _Beside:
    unmoved = on_window(case.late, z, grid)
    shift = find_shift(one.image, unmoved.image, one.labels > 0)
    return _Beside(
        one=one, unmoved=unmoved, shift=shift, moved=on_window(case.late, z, grid, shift) if shift else unmoved
    )


def _targets(beside: _Beside) -> dict[str, Target]:
    moved, unmoved = beside.moved, beside.unmoved
    images = {MOVED: (moved.image, moved.scar), UNMOVED: (unmoved.image, unmoved.scar)}
    if moved.clean is not None:
        images[CLEAN] = (moved.clean, moved.scar)
    return {
        name: Target(scaled(image), None if scar is None else heart_crop(scar))
        for name, (image, scar) in images.items()
    }


def _scores(
    images: Sequence[NDArray[np.float64]], targets: Sequence[Mapping[str, Target]], perceived: Perceived | None
) -> dict[str, list[dict[str, float]]]:
    """By reference, the metrics of every slice."""
    found: dict[str, list[dict[str, float]]] = {}
    for image, by_reference in zip(images, targets, strict=True):
        for reference, target in by_reference.items():
            scores = image_scores(image, target.image, target.scar)
            if perceived is not None:
                span = np.ptp(target.image)
                scores[LPIPS] = perceived(np.clip(image / span, 0, 1), target.image / span)
            found.setdefault(reference, []).append(scores)
    return found


def add_baselines(results: Sequence[CaseScore], perceived: Perceived | None = None) -> int | None:
    """Score the T1 images that need no model, in the cases' own ``images``, and say which one (from 0) was the best.

    Of cases with as many T1 images as most have; None where there is none.
    """
    counts = [len(r.material[0][MIXTURE]) for r in results if r.material]
    if not counts:
        return None
    usual = max(set(counts), key=counts.count)
    alike = [r for r in results if r.material and all(len(m[MIXTURE]) == usual for m in r.material)]
    made, best = rescaled(
        [m for r in alike for m in r.material], [t[MOVED].image for r in alike for t in r.targets]
    )  # fmt: skip
    for name, images in made.items():
        left = iter(images)
        for r in alike:
            own = _scores([next(left) for _ in r.targets], r.targets, perceived)
            r.images |= {(name, reference): rows for reference, rows in own.items()}
    return best


# --- numbers ----------------------------------------------------------------------------------------------------------


def _reading(case: Case, beside: Sequence[_Beside], whole: MieMeasured, gap_mm: float, seconds: float) -> Reading:
    """Scar of the slices that have a reference, against the reference measured in the same way."""
    ours = [b.one for b in beside]
    found = measure(ours, gap_mm=gap_mm, n_inversions=whole.n_inversions)
    nothing = np.full(N_SEGMENTS, np.nan)
    known = beside[0].moved.scar is not None
    truth = measure([_as_drawn(b) for b in beside], gap_mm=gap_mm, n_inversions=whole.n_inversions) if known else None
    pairs = [(b.one.scar, b.moved.scar, b.unmoved.scar) for b in beside]
    true_e_cc = np.full(len(ours), np.nan)
    if case.e_cc_percent is not None:
        true_e_cc = case.e_cc_percent[[one.cine_z for one in ours]]
    levels = [one.level for one in ours]
    return Reading(
        scar_g=found.scar_g, scar_percent=found.scar_percent,
        true_scar_percent=np.nan if truth is None else truth.scar_percent,
        dice=_dice([(a, b) for a, b, _ in pairs if b is not None]),
        dice_unmoved=_dice([(a, b) for a, _, b in pairs if b is not None]),
        transmurality=nothing if found.table is None else found.table.transmurality_percent,
        true_transmurality=nothing if truth is None or truth.table is None else truth.table.transmurality_percent,
        e_cc_percent=np.array([n.e_cc_percent for n in found.slices]), true_e_cc_percent=true_e_cc,
        middle=np.array([_in_the_middle(level, i, len(levels)) for i, level in enumerate(levels)]),
        shift_mm=np.array([np.nan if b.shift is None else READING_MM * float(np.hypot(*b.shift)) for b in beside]),
        uncertainty_percent=whole.uncertainty_percent, agreement=whole.agreement,
        flags=tuple(flag.code for flag in whole.flags), seconds=seconds,
    )  # fmt: skip


def _as_drawn(beside: _Beside) -> MieSlice:
    """The slice with the reference's scar, in the reference's wall where it was drawn; segments stay where they "
    "were.
    """
    one, truth = beside.one, beside.moved
    assert truth.scar is not None
    return replace(one, scar=truth.scar, labels=one.labels if truth.labels is None else truth.labels)


def _in_the_middle(level: float | None, i: int, n: int) -> bool:
    return i == n // 2 if level is None else 1 / 3 <= level < 2 / 3


def _dice(pairs: Sequence[tuple[Mask, Mask]]) -> float:
    both = sum(int((a & b).sum()) for a, b in pairs)
    total = sum(int(a.sum()) + int(b.sum()) for a, b in pairs)
    return 2 * both / total if total else float("nan")


def _shown(beside: Sequence[_Beside], images: Sequence[NDArray[np.float64]]) -> ShownSlice:
    most = [int((b.one.scar if b.moved.scar is None else b.moved.scar).sum()) for b in beside]
    i = int(np.argmax(most)) if any(most) else len(beside) // 2
    one, drawn = beside[i].one, beside[i].moved.scar
    return ShownSlice(
        z=one.z, t1_image=heart_crop(one.inversions[-1]), image=images[i], reference=scaled(beside[i].moved.image),
        scar=heart_crop(one.scar), scar_truth=None if drawn is None else heart_crop(drawn),
        labels=heart_crop(one.labels),
    )  # fmt: skip


def failures_of(results: Sequence[CaseScore]) -> Iterator[str]:
    """A line for every run that was refused."""
    for result in results:
        for method, error in result.failures.items():
            yield f"{result.name} ({method}): {error}"


# --- swapped inputs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Swapped:
    """T1 images of a case with the cine of another. refused: why, or empty. NaN and () where it was refused.

    own_...: of the same T1 images with their own cine.
    """

    t1: str
    cine: str
    refused: str
    flags: tuple[str, ...]
    agreement: float
    uncertainty_percent: float
    own_flags: tuple[str, ...]
    own_agreement: float
    own_uncertainty_percent: float


def swap(t1: Case, cine: Case, enhance: Enhance, own: Reading) -> Swapped:
    """Enhance T1 images with the cine of another, whose header is made to say that both lie in the same place."""
    kept: dict[str, Any] = {
        "t1": t1.name, "cine": cine.name, "own_flags": own.flags, "own_agreement": own.agreement,
        "own_uncertainty_percent": own.uncertainty_percent,
    }  # fmt: skip
    try:
        found = enhance(t1.t1, laid_over(cine.cine, t1.t1)).measured
    except CmrsrError as error:
        return Swapped(
            refused=str(error), flags=(), agreement=np.nan, uncertainty_percent=np.nan, **kept
        )  # fmt: skip
    return Swapped(
        refused="", flags=tuple(flag.code for flag in found.flags), agreement=found.agreement,
        uncertainty_percent=found.uncertainty_percent, **kept,
    )  # fmt: skip


def laid_over(cine: Series, t1: Series) -> Series:
    """The cine with an affine by which its stack has the middle, the directions and, slice by slice, the places of T1.

    Its pixels keep their size; of a stack with other slices than the T1 series, the gap stays too.
    """
    _, y_mm, x_mm = cine.spacing_mm
    gap_mm = t1.spacing_mm[0] if cine.shape[1] == t1.shape[1] else cine.spacing_mm[0]
    directions = t1.affine[:3, :2] / np.linalg.norm(t1.affine[:3, :2], axis=0)
    normal = normal_of(t1.affine) * np.sign(normal_of(t1.affine) @ t1.affine[:3, 2])
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([directions * [x_mm, y_mm], normal * gap_mm])
    middles = [np.append((np.array(s.shape[:0:-1]) - 1) / 2, 1.0) for s in (t1, cine)]
    affine[:3, 3] = (t1.affine @ middles[0])[:3] - affine[:3, :3] @ middles[1][:3]
    return replace(cine, affine=affine)
