"""One table of the numbers of a whole batch of ``cmrsr mie``."""

from collections.abc import Sequence
from pathlib import Path

from cmrsr.batch.run import CaseResult
from cmrsr.report.batch_table import write_batch_table
from cmrsr.tasks.mie.measure import CSV_COLUMNS, csv_row

TABLE = "mie.csv"


def write_table(out: Path, results: Sequence[CaseResult], shard: tuple[int, int] | None) -> None:
    """Write ``mie.csv``, see ``write_batch_table``."""
    write_batch_table(out, results, shard, "mie", CSV_COLUMNS, csv_row)
