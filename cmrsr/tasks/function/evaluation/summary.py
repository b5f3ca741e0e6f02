"""What an evaluation of function found: agreement and detection by engine and input, and comparisons between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.metrics.agreement import Agreement, Detection, agreement, detection
from cmrsr.metrics.statistics import Comparison, compare_methods, per_patient
from cmrsr.tasks.function.evaluation.coarse import BASELINES, ZERO_FILLING
from cmrsr.tasks.function.evaluation.images import PSNR, SSIM, TCI
from cmrsr.tasks.function.evaluation.protocol import (
    FULL,
    MASKS,
    QUANTITIES,
    REGRESSION,
    RESTORED,
    STRUCTURES,
    ZERO_FILLED,
    CaseScore,
    Protocol,
    truths,
)

EF, LOW_EF = "EF", 50.0  # percent: below it function counts as abnormal
LARGE = 10.0  # points of EF: an error that should not pass without a flag
CERTAIN = 0.5  # probability of it from which a case is called abnormal
BY_PROBABILITY, BY_EF = "probability >= 0.5", "measured EF < 50 %"
UNITS = {q.name: q.unit for q in QUANTITIES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One engine on one kind of input, measured one way (masks or regression), over all cases.

    n_failed: cases that gave no EF, refused ones among them. agreement: by quantity, over the cases that have both.
    """

    engine: str
    condition: str
    source: str
    n_cases: int
    n_failed: int
    agreement: Mapping[str, Agreement]


def rows_of(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[Row]:
    """Agreement with the reference of every engine, condition and way of measuring."""
    found = []
    for engine in engines:
        for condition in protocol.conditions:
            for source in (MASKS, REGRESSION):
                lines = {}
                for q in QUANTITIES:
                    pairs = _pairs(results, engine, condition.name, source, q.name)
                    if pairs:
                        lines[q.name] = agreement([a for a, _ in pairs], [b for _, b in pairs])
                measured = sum(
                    bool(np.isfinite(r.readings[key].values[source][EF]))
                    for r in results
                    if (key := (engine, condition.name)) in r.readings
                )
                found.append(
                    Row(engine=engine, condition=condition.name, source=source, n_cases=len(results),
                        n_failed=len(results) - measured, agreement=lines)
                )  # fmt: skip
    return found


def _pairs(
    results: Sequence[CaseScore], engine: str, condition: str, source: str, quantity: str
) -> list[tuple[float, float]]:
    """(measured, reference) of the cases that have both."""
    pairs = []
    for r in results:
        reading, truth = r.readings.get((engine, condition)), truths(r.reference).get(quantity)
        value = None if reading is None else reading.values[source].get(quantity)
        if truth is not None and value is not None and np.isfinite(value):
            pairs.append((value, truth))
    return pairs


def pairs_of(
    results: Sequence[CaseScore], engine: str, condition: str, source: str, quantity: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measured and reference values (n,) of the cases that have both."""
    pairs = np.array(_pairs(results, engine, condition, source, quantity)).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def detections(
    results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol
) -> dict[tuple[str, str, str], Detection]:
    """How well an EF below 50 % is told, by (engine, condition, rule): the probability, and the EF of the masks."""
    found = {}
    for engine in engines:
        for condition in protocol.conditions:
            score: dict[str, list[tuple[float, bool, bool]]] = {BY_PROBABILITY: [], BY_EF: []}
            for r in results:
                reading, truth = r.readings.get((engine, condition.name)), truths(r.reference).get(EF)
                if reading is None or truth is None:
                    continue
                p, ef, low = reading.abnormal_probability, reading.values[MASKS][EF], truth < LOW_EF
                if np.isfinite(p):
                    score[BY_PROBABILITY].append((p, p >= CERTAIN, low))
                if np.isfinite(ef):
                    score[BY_EF].append((-ef, ef < LOW_EF, low))
            for rule, rows in score.items():
                if rows:
                    table = np.array(rows)
                    found[engine, condition.name, rule] = detection(table[:, 0], table[:, 1], table[:, 2])
    return found


# --- comparisons between methods --------------------------------------------------------------------------------------


def compare_images(results: Sequence[CaseScore], engines: Sequence[str]) -> list[Comparison]:
    """Baselines and engines against zero-filling, over the cases that every one of them restored; method by method."""
    methods = [m for m in (*BASELINES, *engines) if any(m in r.images for r in results)]
    complete = [r for r in results if all(m in r.images for m in methods)]
    if not methods or not complete:
        return []
    found: dict[tuple[str, str], Comparison] = {}
    metrics = list(dict.fromkeys(k for r in complete for k in r.images[methods[0]]))
    for metric in metrics:
        some = [r for r in complete if all(metric in r.images[m] for m in methods)]
        if not some:
            continue
        patients = [r.patient for r in some for _ in r.images[methods[0]][metric]]
        values = {
            method_name(m, engines): {metric: np.concatenate([r.images[m][metric] for r in some])} for m in methods
        }
        found |= {(c.method, metric): c for c in compare_methods(values, patients, [ZERO_FILLING])}
    return [found[name, k] for m in methods if (name := method_name(m, engines)) for k in metrics if (name, k) in found]


def compare_errors(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[Comparison]:
    """Absolute errors of the volumes and EF by every engine, condition and source, over the cases that all measured.

    Tested against the masks of zero-filled images (of full resolution without any) and, of several engines, against
    the masks of the first.
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    for engine in engines:
        for condition in protocol.conditions:
            for source in (MASKS, REGRESSION):
                name = input_name(engine, condition.name, source, engines)
                for quantity in (EF, "EDV", "ESV"):
                    errors = {
                        i: abs(reading.values[source][quantity] - truth[quantity])
                        for i, r in enumerate(results)
                        if (reading := r.readings.get((engine, condition.name)))
                        and quantity in (truth := truths(r.reference))
                    }
                    values.setdefault(name, {})[f"{quantity} error ({UNITS[quantity]})"] = _finite(errors)
    return _compare_complete(results, values, _baselines(engines, protocol, MASKS))


def compare_overlap(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[Comparison]:
    """Dice of every structure by every engine and condition, over the cases that all measured."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for engine in engines:
        for condition in protocol.conditions:
            for structure in STRUCTURES.values():
                overlap = {
                    i: reading.dice[structure]
                    for i, r in enumerate(results)
                    if (reading := r.readings.get((engine, condition.name))) and structure in reading.dice
                }
                values.setdefault(input_name(engine, condition.name, "", engines), {})[f"Dice {structure}"] = overlap
    return _compare_complete(results, values, _baselines(engines, protocol, ""))


def _compare_complete(
    results: Sequence[CaseScore], values: Mapping[str, Mapping[str, Mapping[int, float]]], baselines: Sequence[str]
) -> list[Comparison]:
    """Every method with a value, over the cases of which all of those have one; method by method."""
    metrics = list(next(iter(values.values()))) if values else []
    found: dict[tuple[str, str], Comparison] = {}
    methods = [m for m in values if any(values[m][k] for k in metrics)]
    for metric in metrics:
        cases = [i for i in range(len(results)) if all(i in values[m][metric] for m in methods)]
        if not cases:
            continue
        table = {m: {metric: np.array([values[m][metric][i] for i in cases])} for m in methods}
        present = [b for b in baselines if b in table]
        found |= {
            (c.method, metric): c for c in compare_methods(table, [results[i].patient for i in cases], present)
        }  # fmt: skip
    return [found[m, k] for m in methods for k in metrics if (m, k) in found]


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {i: value for i, value in values.items() if np.isfinite(value)}


def _baselines(engines: Sequence[str], protocol: Protocol, source: str) -> list[str]:
    first = engines[0]
    before = input_name(first, (ZERO_FILLED if ZERO_FILLED in protocol.conditions else FULL).name, source, engines)
    after = input_name(first, RESTORED.name, source, engines)
    return [before, after] if len(engines) > 1 and RESTORED in protocol.conditions else [before]


def method_name(method: str, engines: Sequence[str]) -> str:
    """What an image method is called where it is shown: a single engine needs no name."""
    return RESTORED.name if [method] == list(engines) else method


def input_name(engine: str, condition: str, source: str, engines: Sequence[str]) -> str:
    """What a measurement is called where it is shown: ``causal-s: super-resolved, masks``."""
    name = f"{condition}, {source}" if source else condition
    return name if len(engines) == 1 else f"{engine}: {name}"


# --- one row an engine ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """The figures of one engine that papers print, by name. condition: the input that it was measured on."""

    engine: str
    condition: str
    figures: Mapping[str, float]
    n_failed: int


PUBLISHED = {  # Niu, in print; UK Biobank, threshold of the AUC unstated
    PSNR: 34.2, SSIM: 0.941, TCI: 0.89, "EF error": 2.1, "EF r": 0.952, "EDV error": 8.3, "ESV error": 5.9,
    "AUC": 0.963, "sensitivity": 0.912, "specificity": 0.947,
}  # fmt: skip


def engine_rows(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[EngineRow]:
    """One row an engine on its super-resolved images; on what it was given where it restored nothing."""
    rows, found = rows_of(results, engines, protocol), detections(results, engines, protocol)
    order = (RESTORED, ZERO_FILLED, FULL) if protocol.scale > 1 else (FULL,)
    table = []
    for engine in engines:
        read = {condition for r in results for (e, condition) in r.readings if e == engine}
        condition = next((c.name for c in order if c.name in read), order[0].name)
        figures: dict[str, float] = {}
        for metric in (PSNR, SSIM, TCI):
            means = [r.images[engine][metric].mean() for r in results if metric in r.images.get(engine, {})]
            if means:
                figures[metric] = float(np.mean(means))
        masks, regressed = (
            next(row for row in rows if (row.engine, row.condition, row.source) == (engine, condition, source))
            for source in (MASKS, REGRESSION)
        )
        for quantity in (EF, "EDV", "ESV", "RV EF"):
            if one := masks.agreement.get(quantity):
                figures[f"{quantity} error"] = one.mae
        if (one := masks.agreement.get(EF)) and one.r is not None:
            figures["EF r"] = one.r
        if one := regressed.agreement.get(EF):
            figures["EF error by regression"] = one.mae
        if told := found.get((engine, condition, BY_PROBABILITY)):
            named = {"AUC": told.auc, "sensitivity": told.sensitivity, "specificity": told.specificity}
            figures |= {name: value for name, value in named.items() if value is not None}
        for structure in STRUCTURES.values():
            overlap = [
                reading.dice[structure]
                for r in results
                if (reading := r.readings.get((engine, condition))) and structure in reading.dice
            ]
            if overlap:
                figures[f"Dice {structure}"] = float(np.mean(overlap))
        table.append(EngineRow(engine=engine, condition=condition, figures=figures, n_failed=masks.n_failed))
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """What the doubts of an engine are worth on one kind of input: EF errors in points with and without a flag.

    n_large, n_large_flagged: cases that err by more than ``LARGE`` points, and those of them that were flagged.
    n_within: cases whose error lies within their own 90 % interval, None where the engine gives none.
    """

    engine: str
    condition: str
    n_cases: int
    n_flagged: int
    flagged_error: float | None
    unflagged_error: float | None
    n_large: int
    n_large_flagged: int
    n_within: int | None


def confidence_of(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[Confidence]:
    """Every engine and condition with a reference for the EF."""
    rows = []
    for engine in engines:
        for condition in protocol.conditions:
            errors, flagged, within = [], [], []
            for r in results:
                reading, truth = r.readings.get((engine, condition.name)), truths(r.reference).get(EF)
                if reading is None or truth is None or not np.isfinite(reading.values[MASKS][EF]):
                    continue
                errors.append(abs(reading.values[MASKS][EF] - truth))
                flagged.append(bool(reading.flags))
                within.append(None if reading.ef_within is None else errors[-1] <= reading.ef_within)
            if errors:
                rows.append(_confidence(engine, condition.name, np.array(errors), np.array(flagged), within))
    return rows


def _confidence(
    engine: str, condition: str, error: NDArray[np.float64], flagged: NDArray[np.bool_], within: Sequence[bool | None]
) -> Confidence:
    large = error > LARGE
    return Confidence(
        engine=engine, condition=condition, n_cases=len(error), n_flagged=int(flagged.sum()),
        flagged_error=float(error[flagged].mean()) if flagged.any() else None,
        unflagged_error=float(error[~flagged].mean()) if not flagged.all() else None,
        n_large=int(large.sum()), n_large_flagged=int((large & flagged).sum()),
        n_within=None if None in within else sum(map(bool, within)),
    )  # fmt: skip


def overlap_at_phases(
    results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol
) -> dict[tuple[str, str, str], tuple[float, float, int]]:
    """Mean Dice at ED and at ES by (engine, condition, structure), and over how many cases."""
    found = {}
    for engine in engines:
        for condition in protocol.conditions:
            for structure in STRUCTURES.values():
                pairs = [
                    reading.dice_at[structure]
                    for r in results
                    if (reading := r.readings.get((engine, condition.name))) and structure in reading.dice_at
                ]
                if pairs:
                    ed, es = np.nanmean(pairs, 0)
                    found[engine, condition.name, structure] = (float(ed), float(es), len(pairs))
    return found


def overlap_lines(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[str]:
    """A line for each engine and input: Dice of every structure at ED and ES."""
    lines: dict[str, list[str]] = {}
    for (engine, condition, structure), (ed, es, _) in overlap_at_phases(results, engines, protocol).items():
        lines.setdefault(input_name(engine, condition, "", engines), []).append(f"{structure} {ed:.3f} / {es:.3f}")
    return [f"Dice at ED / ES, {name}: {', '.join(found)}" for name, found in lines.items()]


def confidence_lines(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> list[str]:
    """A line for each engine and input: how many cases are flagged, and what that is worth."""
    lines = []
    for row in confidence_of(results, engines, protocol):
        name = input_name(row.engine, row.condition, "", engines)
        parts = [f"flagged {row.n_flagged} of {row.n_cases}"]
        if row.flagged_error is not None:
            parts.append(f"EF error {row.flagged_error:.1f} points")
        if row.unflagged_error is not None:
            parts.append(f"{row.unflagged_error:.1f} of the others")
        parts.append(f"{row.n_large_flagged} of {row.n_large} errors above {LARGE:g} points flagged")
        if row.n_within is not None:
            parts.append(f"{row.n_within} of {row.n_cases} within their 90 % interval")
        lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def by_patient(results: Sequence[CaseScore], method: str, metric: str) -> NDArray[np.float64]:
    """Means of one metric of one image method, a value a patient."""
    some = [r for r in results if metric in r.images.get(method, {})]
    patients = [r.patient for r in some for _ in r.images[method][metric]]
    return np.array(list(per_patient(np.concatenate([r.images[method][metric] for r in some]), patients).values()))
