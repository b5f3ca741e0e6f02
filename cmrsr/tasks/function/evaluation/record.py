"""The results of an evaluation of function as plain values for JSON, and as a table of cases."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cmrsr.metrics.agreement import agreement
from cmrsr.metrics.statistics import Comparison
from cmrsr.tasks.function.evaluation.coarse import ZERO_FILLING
from cmrsr.tasks.function.evaluation.protocol import (
    MASKS,
    QUANTITIES,
    REGRESSION,
    RESTORED,
    STRUCTURES,
    ZERO_FILLED,
    CaseScore,
    Protocol,
    Reading,
    failures_of,
    truths,
)
from cmrsr.tasks.function.evaluation.summary import (
    LOW_EF,
    PUBLISHED,
    compare_errors,
    compare_images,
    compare_overlap,
    detections,
    engine_rows,
    rows_of,
)


def summary(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> dict[str, Any]:
    """All figures as plain values: agreement, detection, tests by patient, engines, and every case."""
    groups = {
        "images": compare_images(results, engines),
        "function": compare_errors(results, engines, protocol),
        "overlap": compare_overlap(results, engines, protocol),
    }
    return {
        "protocol": asdict(protocol), "n_cases": len(results), "n_patients": len({r.patient for r in results}),
        "engines": [asdict(row) for row in engine_rows(results, engines, protocol)],
        "published_on_uk_biobank": PUBLISHED,
        "agreement": [asdict(row) for row in rows_of(results, engines, protocol)],
        "abnormal_below_ef_percent": LOW_EF,
        "detection": [
            {"engine": engine, "condition": condition, "rule": rule, **asdict(one)}
            for (engine, condition, rule), one in detections(results, engines, protocol).items()
        ],
        "comparisons": {name: [_comparison(c) for c in found] for name, found in groups.items()},
        "labels_against_body": labels_against_body(results),
        "cases": [_case(r) for r in results],
        "failures": list(failures_of(results)),
    }  # fmt: skip


def labels_against_body(results: Sequence[CaseScore]) -> dict[str, Any] | None:
    """Agreement of a perfect reading of the scan with the virtual heart itself, by quantity; None of real scans."""
    found = {}
    for q in QUANTITIES:
        pairs = [
            (truths(r.reference)[q.name], truths(r.body)[q.name])
            for r in results
            if r.body and q.name in truths(r.reference) and q.name in truths(r.body)
        ]
        pairs = [pair for pair in pairs if np.isfinite(pair).all()]
        if pairs:
            found[q.name] = asdict(agreement([a for a, _ in pairs], [b for _, b in pairs]))
    return found or None


def _comparison(c: Comparison) -> dict[str, Any]:
    return {
        "method": c.method, "metric": c.metric, "n": c.per_image.n, "mean": c.per_image.mean, "sd": c.per_image.sd,
        "n_patients": c.per_patient.n, "per_patient": {"mean": c.per_patient.mean, "sd": c.per_patient.sd},
        "tests_per_patient": {name: asdict(test) for name, test in c.patient_tests.items()},
    }  # fmt: skip


def _case(r: CaseScore) -> dict[str, Any]:
    return {
        "case": r.name, "patient": r.patient, "reference": truths(r.reference), "reference_source": r.reference.source,
        "notes": r.reference.notes, "body": None if r.body is None else truths(r.body),
        "readings": [
            {"engine": engine, "condition": condition, **asdict(reading)}
            for (engine, condition), reading in r.readings.items()
        ],
        "images": {m: {k: float(v.mean()) for k, v in scores.items()} for m, scores in r.images.items()},
        "failures": [
            {"engine": engine, "condition": condition, "message": str(error)}
            for (engine, condition), error in r.failures.items()
        ],
    }  # fmt: skip


def as_csv(results: Sequence[CaseScore], engines: Sequence[str], protocol: Protocol) -> str:
    """One line a case, engine and condition; refused ones too, with their message."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    metrics = list(dict.fromkeys(k for r in results for scores in r.images.values() for k in scores))
    names = [q.name for q in QUANTITIES]
    writer.writerow([
        "case", "patient", "engine", "condition", "status", "message",
        *(f"reference {n}" for n in names), *names, *(f"regressed {q.name}" for q in QUANTITIES if q.regressed),
        "abnormal probability", *(f"Dice {s}" for s in STRUCTURES.values()), *metrics,
        *(f"Dice {s} at {phase}" for s in STRUCTURES.values() for phase in ("ED", "ES")),
        "ed frame", "es frame", "EF within", "flags", "seconds",
    ])  # fmt: skip
    for r in results:
        for engine in engines:
            for condition in protocol.conditions:
                writer.writerow(_line(r, engine, condition.name, names, metrics))
    return stream.getvalue()


def _line(r: CaseScore, engine: str, condition: str, names: Sequence[str], metrics: Sequence[str]) -> Iterator[str]:
    reading, error = r.readings.get((engine, condition)), r.failures.get((engine, condition))
    yield from (r.name, r.patient, engine, condition, "failed" if error else "ok", str(error or ""))
    truth = truths(r.reference)
    yield from (_cell(truth.get(name)) for name in names)
    yield from _reading_cells(reading, names)
    images = r.images.get({ZERO_FILLED.name: ZERO_FILLING, RESTORED.name: engine}.get(condition, ""), {})
    yield from (_cell(float(images[k].mean()) if k in images else None) for k in metrics)
    if reading is None:
        yield from [""] * (5 + 2 * len(STRUCTURES))
    else:
        yield from (_cell(v) for s in STRUCTURES.values() for v in reading.dice_at.get(s, (None, None)))
        yield from (str(reading.ed + 1), str(reading.es + 1), _cell(reading.ef_within))
        yield from (";".join(reading.flags), f"{reading.seconds:.2f}")


def _reading_cells(reading: Reading | None, names: Sequence[str]) -> Iterator[str]:
    regressed = [q.name for q in QUANTITIES if q.regressed]
    if reading is None:
        yield from [""] * (len(names) + len(regressed) + 1 + len(STRUCTURES))
        return
    yield from (_cell(reading.values[MASKS].get(name)) for name in names)
    yield from (_cell(reading.values[REGRESSION].get(name)) for name in regressed)
    yield _cell(reading.abnormal_probability)
    yield from (_cell(reading.dice.get(structure)) for structure in STRUCTURES.values())


def _cell(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.6g}"
