"""The results of an evaluation of ``mie`` as plain values for JSON, and as tables of cases and of slices."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cmrsr.metrics.statistics import Comparison
from cmrsr.tasks.mie.evaluation.images import METRICS
from cmrsr.tasks.mie.evaluation.protocol import REFERENCES, CaseScore, Reading, Swapped, failures_of
from cmrsr.tasks.mie.evaluation.summary import (
    DETECTED_G,
    PUBLISHED,
    by_patient,
    compare_images,
    compare_scar,
    engine_rows,
    flag_counts,
    image_methods,
    is_told,
    scar_methods,
    scar_rows,
    shifts_of,
    strain_agreement,
    swap_row,
)


def summary(results: Sequence[CaseScore], engines: Sequence[str], swapped: Sequence[Swapped]) -> dict[str, Any]:
    """All figures as plain values; what is not known is null."""
    record = {
        "n_cases": len(results), "n_slices": sum(len(r.slices) for r in results),
        "n_with_scar": sum(bool(r.has_scar) for r in results), "detected_from_g": DETECTED_G,
        "methods": engine_rows(results, engines), "published_elsewhere": PUBLISHED,
        "scar": [asdict(row) for row in scar_rows(results, engines)],
        "images": {
            reference: [_comparison(c) for c in compare_images(results, engines, reference)] for reference in REFERENCES
        },
        "scar_comparisons": [_comparison(c) for c in compare_scar(results, engines)],
        "engines": {
            name: {
                "strain_middle": _or_none(strain_agreement(results, name, middle=True)),
                "strain_all": _or_none(strain_agreement(results, name, middle=False)),
                "reference_moved": asdict(shifts_of(results, name)), "flags": flag_counts(results, name),
            }
            for name in engines
        },
        "swapped": _or_none(swap_row(swapped)),
        "swapped_pairs": [{**asdict(s), "told": is_told(s)} for s in swapped],
        "cases": [_case(r) for r in results],
        "failures": list(failures_of(results)),
    }  # fmt: skip
    return dict(_plain(record))


def as_csv(results: Sequence[CaseScore], engines: Sequence[str]) -> str:
    """A line for every case and method: scar beside its reference, and means of its images."""
    columns = [f"{k} ({reference})" for reference in REFERENCES for k in METRICS]
    head = [
        "case", "group", "method", "status", "message", "reference scar_g", "scar_g", "reference scar_percent",
        "scar_percent", "dice", "dice_unmoved", "uncertainty_percent", "agreement", "flags", "seconds", *columns,
    ]  # fmt: skip
    methods = list(dict.fromkeys((*scar_methods(results, engines), *image_methods(results, engines), *engines)))
    return _table(head, (_line(r, m) for r in results for m in methods if _has(r, m)))


def slices_as_csv(results: Sequence[CaseScore], engines: Sequence[str]) -> str:
    """A line for every slice, method and reference: its metrics."""
    return _table(
        ["case", "group", "slice", "method", "reference", *METRICS],
        (
            [r.name, r.group, str(z + 1), method, reference, *(_cell(row.get(k)) for k in METRICS)]
            for r in results
            for method in image_methods(results, engines)
            for reference in REFERENCES
            for z, row in zip(r.slices, r.images.get((method, reference), []), strict=False)
        ),
    )


def _has(r: CaseScore, method: str) -> bool:
    return method in r.readings or method in r.failures or any(m == method for m, _ in r.images)


def _line(r: CaseScore, method: str) -> list[str]:
    one, error = r.readings.get(method), r.failures.get(method)
    means = [
        _cell(by_patient([r], method, reference, k).get(r.name)) for reference in REFERENCES for k in METRICS
    ]  # fmt: skip
    return [
        r.name, r.group, method, "failed" if error else "ok", str(error or ""), _cell(r.scar_g),
        *(_cell(None if one is None else value(one)) for value in _NUMBERS), ";".join(one.flags if one else ()),
        _cell(one.seconds if one else None), *means,
    ]  # fmt: skip


_NUMBERS: tuple[Callable[[Reading], float], ...] = (
    lambda one: one.scar_g, lambda one: one.true_scar_percent, lambda one: one.scar_percent, lambda one: one.dice,
    lambda one: one.dice_unmoved, lambda one: one.uncertainty_percent, lambda one: one.agreement,
)  # fmt: skip


def _case(r: CaseScore) -> dict[str, Any]:
    return {
        "case": r.name, "group": r.group, "scar_g": r.scar_g, "scar_whole_g": r.scar_whole_g, "slices": r.slices,
        "readings": {method: asdict(one) for method, one in r.readings.items()},
        "images": [
            {"method": method, "reference": reference, "slices": rows}
            for (method, reference), rows in r.images.items()
        ],
        "failures": {method: str(error) for method, error in r.failures.items()},
    }  # fmt: skip


def _comparison(c: Comparison) -> dict[str, Any]:
    return {
        "method": c.method, "metric": c.metric, "n": c.per_image.n, "mean": c.per_image.mean, "sd": c.per_image.sd,
        "n_patients": c.per_patient.n, "per_patient": {"mean": c.per_patient.mean, "sd": c.per_patient.sd},
        "tests_per_patient": {name: asdict(test) for name, test in c.patient_tests.items()},
    }  # fmt: skip


def _or_none(found: Any) -> Any:
    return None if found is None else asdict(found)


def _plain(value: Any) -> Any:
    """As JSON has it: lists, and null for what is not finite."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return stream.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"
