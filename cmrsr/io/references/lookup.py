"""References of a batch: a table of values, or a folder of labels, looked up by the name of each case."""

from pathlib import Path
from typing import Protocol

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.references.labels import LabelReferences
from cmrsr.io.references.reference import Reference
from cmrsr.io.references.values_table import CsvReferences
from cmrsr.io.series import Series

__all__ = ["Reference", "References", "open_references"]

_TABLES = (".csv", ".tsv")
_IMAGES = (".nii", ".nii.gz")


class References(Protocol):
    """Where the references of cases come from."""

    def of(self, case_name: str, series: Series) -> Reference | None:
        """The reference of a case by its name in the batch; None without one, UnusableError for one that fits not."""
        ...


def open_references(path: Path) -> References:
    """The references at a path: a CSV table with a column ``case``, a folder of NIfTI labels, or one label file.

    UnreadableError: nothing there, or nothing that can be read. UnusableError: another kind of file.
    """
    if not path.exists():
        raise UnreadableError(f"{path}: no such file or folder; expected a CSV table or a folder of labels")
    if path.is_dir() or path.name.lower().endswith(_IMAGES):
        return LabelReferences(path)
    if path.suffix.lower() in _TABLES:
        return CsvReferences(path)
    raise UnusableError(f"{path}: expected a CSV table (.csv) of reference values, or a folder of NIfTI labels")
