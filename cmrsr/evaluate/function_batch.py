"""One table of the numbers of a whole batch of ``cmrsr function``."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from cmrsr.io.outputs import output_errors, replacing
from cmrsr.tasks.batch import CaseResult, shard_file
from cmrsr.tasks.function_measure import CSV_COLUMNS, csv_row

TABLE = "function.csv"
FAILED = "failed"  # in the place of the flags


def write_table(out: Path, results: Sequence[CaseResult], shard: tuple[int, int] | None) -> None:
    """Write ``function.csv``: a line a case, also of those that were done before; of failed ones the name alone.

    OutputError: it cannot be written.
    """
    path = out / shard_file(TABLE, shard)
    with replacing(path) as partial, output_errors(path), partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(_row(result) for result in results)


def _row(result: CaseResult) -> dict[str, object]:
    sidecar = next((path for path in result.outputs if path.name.endswith("_function.json")), None)
    if sidecar is None:
        return {"case": result.name, "flags": FAILED}
    return csv_row(result.name, json.loads(sidecar.read_text(encoding="utf-8")))
