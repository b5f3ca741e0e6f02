"""The table of a batch of ``function``."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cmrsr.batch.run import CaseResult
from cmrsr.errors import OutputError
from cmrsr.tasks.function.measure import CSV_COLUMNS, as_record
from cmrsr.tasks.function.table import TABLE, write_table
from tests.tasks.function.function_results import details


def case(folder: Path, name: str, status: Any = "ok", **measured: Any) -> CaseResult:
    """With its record in a file; of a failed one there is none."""
    if status == "failed":
        return CaseResult(name=name, status="failed", message="no heart", exit_code=4)
    path = folder / f"{name}_function.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"task": "function", **as_record(details(**measured).measured)}), encoding="utf-8")
    return CaseResult(name=name, status=status, outputs=(path.with_suffix(".nii.gz"), path))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_case_has_a_line(tmp_path: Path) -> None:
    """Done now, done before, failed; in the order of the batch, whatever their names."""
    results = [
        case(tmp_path, "b, Ä/sa", flags=("one", "two")), case(tmp_path, "c", "failed"), case(tmp_path, "a", "skipped"),
    ]  # fmt: skip
    write_table(tmp_path, results, None)
    rows = table(tmp_path / TABLE)
    assert list(rows[0]) == list(CSV_COLUMNS)
    assert [row["case"] for row in rows] == ["b, Ä/sa", "c", "a"]
    assert [row["flags"] for row in rows] == ["made_up", "failed", ""]
    assert [row["lv_edv_ml"] == "" for row in rows] == [False, True, False]
    measured = details().measured
    assert float(rows[2]["lv_edv_ml"]) == pytest.approx(measured.lv.edv_ml, abs=0.0051)
    assert float(rows[2]["lv_mass_g"]) == pytest.approx(measured.mass_g, abs=0.0051)
    assert (rows[2]["ed_frame"], rows[2]["es_frame"]) == (str(measured.ed + 1), str(measured.es + 1))


def test_what_is_unknown_is_empty(tmp_path: Path) -> None:
    write_table(tmp_path, [case(tmp_path, "a", times=False, rv=False)], None)
    (row,) = table(tmp_path / TABLE)
    assert (row["cardiac_output_l_min"], row["rv_ef_percent"], row["rv_edv_ml"]) == ("", "", "0.0")


def test_shards_write_tables_of_their_own(tmp_path: Path) -> None:
    for i in (1, 2):
        write_table(tmp_path, [case(tmp_path, str(i))], (i, 2))
    tables = sorted(path for path in tmp_path.iterdir() if path.suffix == ".csv")
    assert [table(path)[0]["case"] for path in tables] == ["1", "2"]


def test_a_table_that_cannot_be_written(tmp_path: Path) -> None:
    """An error of its own, and the old table stays."""
    (tmp_path / TABLE).mkdir()
    with pytest.raises(OutputError, match=r"function\.csv"):
        write_table(tmp_path, [], None)
    assert [path.name for path in tmp_path.iterdir()] == [TABLE]
