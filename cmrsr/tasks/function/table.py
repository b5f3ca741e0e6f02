"""One table of the numbers of a whole batch of ``cmrsr function``."""

from collections.abc import Sequence
from pathlib import Path

from cmrsr.batch.run import CaseResult
from cmrsr.report.batch_table import write_batch_table
from cmrsr.tasks.function.measure import CSV_COLUMNS, csv_row

TABLE = "function.csv"


def write_table(out: Path, results: Sequence[CaseResult], shard: tuple[int, int] | None) -> None:
    """Write ``function.csv``, see ``write_batch_table``."""
    write_batch_table(out, results, shard, "function", CSV_COLUMNS, csv_row)
