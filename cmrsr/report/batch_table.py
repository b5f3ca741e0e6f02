"""One table of the numbers of a whole batch: a line a case."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmrsr.batch.run import CaseResult, shard_file
from cmrsr.io.outputs import output_errors, replacing

FAILED = "failed"  # in the place of the flags
Row = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


def write_batch_table(
    out: Path, results: Sequence[CaseResult], shard: tuple[int, int] | None, task: str, columns: Sequence[str], row: Row
) -> None:
    """Write ``<task>.csv``: a line a case, also of those that were done before; of failed ones the name alone.

    row: of a case's name and its record, the values of ``columns``. OutputError: it cannot be written.
    """

    def line(result: CaseResult) -> Mapping[str, Any]:
        sidecar = next((path for path in result.outputs if path.name.endswith(f"_{task}.json")), None)
        if sidecar is None:
            return {"case": result.name, "flags": FAILED}
        return row(result.name, json.loads(sidecar.read_text(encoding="utf-8")))

    path = out / shard_file(f"{task}.csv", shard)
    with replacing(path) as partial, output_errors(path), partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(line(result) for result in results)
