"""What an evaluation of ``mie`` found: detection and extent of scar by method, images, segments, strain, swapped "
"inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.metrics.agreement import Agreement, Detection, Interval, agreement, detection, wilson
from cmrsr.metrics.statistics import Comparison, Paired, compare_methods, paired, per_patient
from cmrsr.physics.volumes import DENSITY_G_ML
from cmrsr.tasks.mie.evaluation.baselines import BEST_INVERSION, IMAGES, T1_THRESHOLD
from cmrsr.tasks.mie.evaluation.images import METRICS
from cmrsr.tasks.mie.evaluation.protocol import MOVED, CaseScore, Reading, Swapped

DETECTED_G = 1.0  # of scar, from which a patient is called to have it
CLASSES = (25.0, 50.0, 75.0)  # percent of transmurality that part them: Kim et al. 2000
CLASS_NAMES = ("< 25 %", "25-50 %", "50-75 %", "> 75 %")
DIFFERENT_HEARTS = ("hearts_differ", "heart_lost", "wall_lost")  # flags by which swapped inputs give themselves away
PUBLISHED = {"SSIM": 0.78, "PSNR (dB)": 26.97, "LPIPS": 0.083, "MSE": 0.0034, "SSIM in scar": 0.74,
             "PSNR in scar (dB)": 24.84}  # fmt: skip  # CPKDM (Qi et al., MICCAI 2024), in print, on 195 patients
VOLUME, EXTENT = "scar (mL)", "scar (% of the wall)"


def scar_methods(results: Sequence[CaseScore], engines: Sequence[str]) -> list[str]:
    """Those that read at least one case: the engines, then the threshold."""
    return [m for m in (*engines, T1_THRESHOLD) if any(m in r.readings for r in results)]


def image_methods(results: Sequence[CaseScore], engines: Sequence[str]) -> list[str]:
    """Methods that made images, engines first."""
    return [m for m in (*engines, *IMAGES) if any((m, MOVED) in r.images for r in results)]


def read_by(results: Sequence[CaseScore], method: str) -> list[tuple[CaseScore, Reading]]:
    """The cases that a method read, with its readings."""
    return [(r, r.readings[method]) for r in results if method in r.readings]


# --- scar -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Dice of the scar in patients who have it: mean, and with the reference as it lies; (None, None) of nobody."""

    n: int
    moved: float | None
    unmoved: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmurality:
    """AHA segments of all patients by class of transmurality, table[reference, method]. None: too few to say.

    share: that have the same class. kappa: Cohen's, beyond chance. scarred: shares of the segments above 0 % in either.
    """

    table: NDArray[np.int64]
    n: int
    share: float | None
    kappa: float | None
    n_scarred: int
    share_scarred: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScarRow:
    """One method over all cases. normal_largest_g: the most scar it sees where there is none; None without such cases.

    n_failed: cases that it could not read.
    """

    method: str
    n_failed: int
    detection: Detection | None
    agreement: Mapping[str, Agreement]
    overlap: Overlap
    transmurality: Transmurality
    normal_largest_g: float | None
    n_normal: int


def scar_rows(results: Sequence[CaseScore], engines: Sequence[str]) -> list[ScarRow]:
    """Of the engines and the threshold; nothing where no case has a scar mask."""
    if all(r.scar_g is None for r in results):
        return []
    return [_scar_row(results, method) for method in scar_methods(results, engines)]


def _scar_row(results: Sequence[CaseScore], method: str) -> ScarRow:
    known = [(r, one) for r, one in read_by(results, method) if r.scar_g is not None]
    mass = np.array([one.scar_g for _, one in known])
    truth = np.array([r.scar_g for r, _ in known], np.float64)
    extent = np.array([(one.scar_percent, one.true_scar_percent) for _, one in known]).reshape(-1, 2)
    extent = extent[np.isfinite(extent).all(1)]
    compared: dict[str, Agreement] = {}
    if known:
        compared[VOLUME] = agreement(mass / DENSITY_G_ML, truth / DENSITY_G_ML)
    if len(extent):
        compared[EXTENT] = agreement(extent[:, 0], extent[:, 1])
    normal = mass[truth == 0]
    scarred = [one for r, one in known if r.has_scar]
    return ScarRow(
        method=method, n_failed=sum(method not in r.readings for r in results if r.scar_g is not None),
        detection=detection(mass, mass >= DETECTED_G, truth > 0) if known else None, agreement=compared,
        overlap=Overlap(
            n=len(scarred), moved=_mean([one.dice for one in scarred]),
            unmoved=_mean([one.dice_unmoved for one in scarred]),
        ),
        transmurality=transmurality_agreement([one for _, one in known]),
        normal_largest_g=float(normal.max()) if normal.size else None, n_normal=normal.size,
    )  # fmt: skip


def transmurality_agreement(readings: Sequence[Reading]) -> Transmurality:
    """Over the segments that both method and reference cover."""
    pairs = np.concatenate(
        [np.stack([r.true_transmurality, r.transmurality], 1) for r in readings] or [np.zeros((0, 2))]
    )
    pairs = pairs[np.isfinite(pairs).all(1)]
    classes = np.digitize(pairs, CLASSES)
    n_classes = len(CLASSES) + 1
    table = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(table, (classes[:, 0], classes[:, 1]), 1)
    either = (pairs > 0).any(1)
    same = classes[:, 0] == classes[:, 1]
    return Transmurality(
        table=table, n=len(pairs), share=float(same.mean()) if len(pairs) else None, kappa=cohen_kappa(table),
        n_scarred=int(either.sum()), share_scarred=float(same[either].mean()) if either.any() else None,
    )  # fmt: skip


def cohen_kappa(table: NDArray[np.int64]) -> float | None:
    """Agreement of two raters beyond chance, of counts (classes, classes); None where chance alone agrees in all."""
    n = table.sum()
    if not n:
        return None
    chance = float(table.sum(0) @ table.sum(1)) / n**2
    return None if chance == 1 else float((np.trace(table) / n - chance) / (1 - chance))


def volume_pairs(results: Sequence[CaseScore], method: str) -> NDArray[np.float64]:
    """(n, 2): scar in mL by a method and by the reference, of the cases that have both."""
    pairs = [(one.scar_ml, r.scar_g / DENSITY_G_ML) for r, one in read_by(results, method) if r.scar_g is not None]
    return np.array(pairs).reshape(-1, 2)


def compare_scar(results: Sequence[CaseScore], engines: Sequence[str]) -> list[Comparison]:
    """Absolute errors and Dice by method, over the cases that all have, tested against the threshold and, of several

    engines, against the first.
    """
    methods = scar_methods(results, engines)
    some = [r for r in results if r.scar_g is not None and all(m in r.readings for m in methods)]

    def error(r: CaseScore, one: Reading) -> float:
        assert r.scar_g is not None
        return abs(one.scar_g - r.scar_g) / DENSITY_G_ML

    metrics: dict[str, Callable[[CaseScore, Reading], float]] = {
        "scar error (mL)": error,
        "scar error (% of the wall)": lambda _, one: abs(one.scar_percent - one.true_scar_percent),
        "Dice of scar": lambda _, one: one.dice,
    }
    table = {m: {k: [value(r, r.readings[m]) for r in some] for k, value in metrics.items()} for m in methods}
    return _compared(table, [r.name for r in some], _baselines(T1_THRESHOLD, engines))


# --- images -----------------------------------------------------------------------------------------------------------


def compare_images(results: Sequence[CaseScore], engines: Sequence[str], reference: str) -> list[Comparison]:
    """Engines and rescaled T1 images against one kind of reference, slice by slice, over those that all methods have.

    Tested against the best T1 image and, of several engines, against the first.
    """
    methods = image_methods(results, engines)
    some = [r for r in results if all((m, reference) in r.images for m in methods)]
    table = {
        m: {k: [row.get(k, np.nan) for r in some for row in r.images[m, reference]] for k in METRICS} for m in methods
    }
    patients = [r.name for r in some for _ in r.images[methods[0], reference]] if methods else []
    return _compared(table, patients, _baselines(BEST_INVERSION, engines))


def by_patient(results: Sequence[CaseScore], method: str, reference: str, metric: str) -> dict[str, float]:
    """Means over the slices, a value a patient who has one."""
    found = [
        (r.name, row[metric]) for r in results for row in r.images.get((method, reference), []) if metric in row
    ]  # fmt: skip
    return per_patient([value for _, value in found], [name for name, _ in found]) if found else {}


def _baselines(without: str, engines: Sequence[str]) -> list[str]:
    return [without, engines[0]] if len(engines) > 1 else [without]


def _compared(
    table: Mapping[str, Mapping[str, Sequence[float]]], patients: Sequence[str], baselines: Sequence[str]
) -> list[Comparison]:
    """Metric by metric over the values that all methods have; listed method by method."""
    found: dict[tuple[str, str], Comparison] = {}
    metrics = list(next(iter(table.values()))) if table else []
    for metric in metrics:
        values = np.array([table[m][metric] for m in table], np.float64)
        usable = np.atleast_1d(np.isfinite(values).all(0))
        if not usable.any():
            continue
        names = [name for name, used in zip(patients, usable, strict=True) if used]
        of_all = {m: {metric: row[usable]} for m, row in zip(table, values, strict=True)}
        found |= {(c.method, metric): c for c in compare_methods(of_all, names, [b for b in baselines if b in table])}
    return [found[m, k] for m in table for k in metrics if (m, k) in found]


# --- strain, shifts, swapped inputs -----------------------------------------------------------------------------------


def strain_agreement(results: Sequence[CaseScore], engine: str, *, middle: bool) -> Agreement | None:
    """Mean circumferential strain of the wall at end systole (percent), a pair a slice; None without a true one."""
    pairs = np.array([
        (ours, truth)
        for _, one in read_by(results, engine)
        for ours, truth, mid in zip(one.e_cc_percent, one.true_e_cc_percent, one.middle, strict=True)
        if np.isfinite([ours, truth]).all() and (mid or not middle)
    ]).reshape(-1, 2)  # fmt: skip
    return agreement(pairs[:, 0], pairs[:, 1]) if len(pairs) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """By how many mm references were moved, over slices; n_not: those for which no place was found."""

    n: int
    n_not: int
    median_mm: float | None
    largest_mm: float | None


def shifts_of(results: Sequence[CaseScore], engine: str) -> Shifts:
    """How far an engine had to move the cine onto the T1 images."""
    mm = np.concatenate([one.shift_mm for _, one in read_by(results, engine)] or [np.zeros(0)])
    found = mm[np.isfinite(mm)]
    return Shifts(
        n=mm.size, n_not=mm.size - found.size, median_mm=float(np.median(found)) if found.size else None,
        largest_mm=float(found.max()) if found.size else None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapRow:
    """What gave swapped inputs away, beside what the same T1 images raise with their own cine. Intervals: Wilson's.

    told: refused, or flagged as different hearts. own_told: false alarms. any flag: whatever it is.
    uncertainty: swapped - own, in percent of the wall, paired; None where nothing was synthesised.
    """

    n: int
    n_refused: int
    n_told: int
    told_ci95: Interval | None
    n_own_told: int
    own_told_ci95: Interval | None
    n_flagged: int
    n_own_flagged: int
    mean_agreement: float | None
    own_mean_agreement: float | None
    uncertainty: Paired | None
    own_uncertainty_percent: float | None


def is_told(one: Swapped) -> bool:
    """Whether a swapped pair was refused or flagged as two different hearts."""
    return bool(one.refused) or any(code in DIFFERENT_HEARTS for code in one.flags)


def swap_row(swapped: Sequence[Swapped]) -> SwapRow | None:
    """None where nothing was swapped."""
    if not swapped:
        return None
    done = [s for s in swapped if np.isfinite([s.uncertainty_percent, s.own_uncertainty_percent]).all()]
    told, own = sum(map(is_told, swapped)), sum(any(c in DIFFERENT_HEARTS for c in s.own_flags) for s in swapped)
    return SwapRow(
        n=len(swapped), n_refused=sum(bool(s.refused) for s in swapped), n_told=told,
        told_ci95=wilson(told, len(swapped)), n_own_told=own, own_told_ci95=wilson(own, len(swapped)),
        n_flagged=sum(bool(s.refused or s.flags) for s in swapped),
        n_own_flagged=sum(bool(s.own_flags) for s in swapped),
        mean_agreement=_mean([s.agreement for s in swapped]),
        own_mean_agreement=_mean([s.own_agreement for s in swapped]),
        uncertainty=paired(
            [s.uncertainty_percent for s in done], [s.own_uncertainty_percent for s in done]
        ) if done else None,
        own_uncertainty_percent=_mean([s.own_uncertainty_percent for s in swapped]),
    )  # fmt: skip


def flag_counts(results: Sequence[CaseScore], engine: str) -> dict[str, int]:
    """Cases by flag, the most frequent first."""
    codes = [code for _, one in read_by(results, engine) for code in dict.fromkeys(one.flags)]
    return dict(sorted(((code, codes.count(code)) for code in set(codes)), key=lambda pair: (-pair[1], pair[0])))


def _mean(values: Sequence[float]) -> float | None:
    """Of those that are defined."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


# --- one row an engine ------------------------------------------------------------------------------------------------


def engine_rows(results: Sequence[CaseScore], engines: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of every method that papers print, by name: images moved onto the acquired reference, and scar."""
    scar = {row.method: row for row in scar_rows(results, engines)}
    rows = []
    for method in (*engines, *IMAGES, T1_THRESHOLD):
        row: dict[str, Any] = {"method": method}
        for metric in METRICS:
            if means := by_patient(results, method, MOVED, metric):
                row[metric] = float(np.mean(list(means.values())))
        if (one := scar.get(method)) is not None:
            told, volume = one.detection, one.agreement.get(VOLUME)
            found = {
                "sensitivity": told and told.sensitivity, "specificity": told and told.specificity,
                "AUC": told and told.auc, "r of scar": volume and volume.r, "Dice": one.overlap.moved,
                "kappa": one.transmurality.kappa,
            }  # fmt: skip
            row |= {name: value for name, value in found.items() if value is not None}
        if len(row) > 1:
            rows.append(row)
    return rows
