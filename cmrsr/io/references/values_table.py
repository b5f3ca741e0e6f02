"""Reference values from a table: one row a case, any of the columns that ``function.csv`` has."""

import csv
import re
from pathlib import Path, PurePosixPath
from typing import Any, cast

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.patient import patient_of
from cmrsr.io.references.names import parse_name
from cmrsr.io.references.reference import Reference
from cmrsr.io.series import Series

_CASE = ("case", "name", "subject", "patient", "id")
# lv_edv_ml as in function.csv, and as others write it: LVEDV, EDV (mL), RV_EF
_VALUE = re.compile(r"^(lv|rv)?_?(edv|esv|ef|mass)(?:_(?:ml|percent|g))?$")
_LIMITS = {"edv": 2000.0, "esv": 2000.0, "ef": 100.0, "mass": 2000.0}
_FIELDS = {
    ("lv", "edv"): "edv_ml", ("lv", "esv"): "esv_ml", ("lv", "ef"): "ef_percent", ("lv", "mass"): "mass_g",
    ("rv", "edv"): "rv_edv_ml", ("rv", "esv"): "rv_esv_ml", ("rv", "ef"): "rv_ef_percent",
}  # fmt: skip


class CsvReferences:
    """The rows of one table by case. UnreadableError: no table; UnusableError: one without cases or values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows, decimal_comma = _read(path)
        heads = [_plain(head) for head in rows[0]]
        case = next((heads.index(name) for name in _CASE if name in heads), None)
        columns = {i: field for i, head in enumerate(heads) if (field := _field(head))}
        if case is None or not columns:
            raise UnusableError(
                f"{path}: columns {', '.join(rows[0]) or 'none'}; expected case and any of lv_edv_ml, lv_esv_ml, "
                "lv_ef_percent, lv_mass_g, rv_edv_ml, rv_esv_ml, rv_ef_percent"
            )
        self._rows: dict[str, Reference] = {}
        for line, row in enumerate(rows[1:], start=2):
            if not any(cell.strip() for cell in row):
                continue
            name = row[case].strip() if case < len(row) else ""
            values = {
                field: number
                for i, field in columns.items()
                if i < len(row) and (number := _number(path, line, field, row[i], decimal_comma)) is not None
            }
            if not name:
                raise UnusableError(f"{path}, line {line}: no case in the column {rows[0][case]}; name it")
            if name.casefold() in self._rows:
                raise UnusableError(f"{path}, line {line}: the case {name} is there twice; expected a row a case")
            self._rows[name.casefold()] = _reference(path, values)
        if not self._rows:
            raise UnusableError(f"{path}: no row under the heads; expected one for each case")

    def of(self, case_name: str, series: Series) -> Reference | None:
        """The row of the case's name: whole, of its last part, without words of a phase, or of its patient."""
        last = PurePosixPath(case_name).name
        for name in (case_name, last, parse_name(last).base, patient_of(case_name)):
            if found := self._rows.get(name.casefold()):
                return found
        return None


def _read(path: Path) -> tuple[list[list[str]], bool]:
    """The rows of the table, and whether its numbers have decimal commas (a table between semicolons)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: expected a CSV table of reference values ({error})") from error
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    except csv.Error as error:
        raise UnreadableError(f"{path}: expected a CSV table of reference values ({error})") from error
    if not rows:
        raise UnreadableError(f"{path}: an empty file, expected a CSV table of reference values")
    return rows, delimiter != ","


def _plain(head: str) -> str:
    return re.sub(r"\W+", "_", head.strip().casefold().replace("%", "percent")).strip("_")


def _field(head: str) -> str | None:
    match = _VALUE.match(head)
    return None if match is None else _FIELDS.get((match[1] or "lv", match[2]))


def _number(path: Path, line: int, field: str, text: str, decimal_comma: bool) -> float | None:
    """None for an empty cell; UnusableError for what no heart has."""
    text = text.strip()
    if not text or text.casefold() in ("nan", "na", "n/a", "none"):
        return None
    quantity = next(word for word in _LIMITS if word in field)
    try:
        value = float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        raise UnusableError(f"{path}, line {line}: {field} is {text!r}, expected a number") from None
    if not -_LIMITS[quantity] <= value <= _LIMITS[quantity] or (value < 0 and quantity != "ef"):
        raise UnusableError(f"{path}, line {line}: {field} is {text}, expected 0 to {_LIMITS[quantity]:g}")
    if quantity == "ef" and 0 < value <= 1:
        raise UnusableError(f"{path}, line {line}: {field} is {text}, which looks like a fraction; expected percent")
    return value


def _reference(path: Path, values: dict[str, float]) -> Reference:
    """With the ejection fractions that follow from the volumes, where the table has none."""
    for side in ("", "rv_"):
        edv, esv = values.get(f"{side}edv_ml"), values.get(f"{side}esv_ml")
        if edv and esv is not None:
            values.setdefault(f"{side}ef_percent", 100 * (edv - esv) / edv)
    return Reference(source=path.name, paths=(path,), **cast(dict[str, Any], values))
