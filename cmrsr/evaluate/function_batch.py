"""What ``cmrsr function`` says of a whole batch: one table of numbers, and agreement with references where given."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from cmrsr.evaluate import style
from cmrsr.evaluate.agreement_figures import LEAST_PAIRS, agreement_sheet
from cmrsr.evaluate.page import Picture
from cmrsr.io.outputs import replacing
from cmrsr.tasks.batch import CaseResult, shard_file
from cmrsr.tasks.function_details import FunctionDetails
from cmrsr.tasks.function_measure import CSV_COLUMNS
from cmrsr.tasks.function_record import values_of

TABLE = "function.csv"
FAILED = "failed"
Quantity = tuple[str, str]


class FunctionBatch:
    """Collects the cases of a batch as they end."""

    def __init__(self) -> None:
        self._compared: dict[Quantity, list[tuple[float, float]]] = {}

    def add(self, result: CaseResult) -> None:
        """Keep what a case measured where its reference knows it too."""
        details = result.details
        if not isinstance(details, FunctionDetails) or details.reference is None:
            return
        ours, truth = details.measured.lv, details.reference
        for name, unit, measured, reference in (
            ("LV EF", "points", ours.ef_percent, truth.ef_percent),
            ("LV EDV", "mL", ours.edv_ml, truth.edv_ml),
            ("LV ESV", "mL", ours.esv_ml, truth.esv_ml),
        ):
            if reference is not None:
                self._compared.setdefault((name, unit), []).append((measured, reference))

    def write(self, out: Path, results: Sequence[CaseResult], shard: tuple[int, int] | None) -> list[Picture]:
        """Write ``function.csv``, of cases done before too; pictures for the top of the report."""
        with replacing(out / shard_file(TABLE, shard)) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, CSV_COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(_row(result) for result in results)
        enough = {key: tuple(zip(*pairs, strict=True)) for key, pairs in self._compared.items()
                  if len(pairs) >= LEAST_PAIRS}  # fmt: skip
        if not enough:
            return []
        return [
            Picture(
                title="Agreement with the references",
                caption="Difference between measured and reference values of every case that has a reference, against "
                "their mean; lines are the mean difference and the limits of agreement (1.96 standard deviations).",
                data=style.png(agreement_sheet(enough)),
            )
        ]


def _row(result: CaseResult) -> dict[str, object]:
    sidecar = next((path for path in result.outputs if path.name.endswith("_function.json")), None)
    if sidecar is None:
        return {"case": result.name, "flags": FAILED}
    case, *values = CSV_COLUMNS
    return {case: result.name, **values_of(json.loads(sidecar.read_text(encoding="utf-8")), values)}
