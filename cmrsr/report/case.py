"""One series as the page of a batch has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cmrsr.batch.run import Status
from cmrsr.report.facts import Fact
from cmrsr.report.page import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class FactTable:
    """A small table of a case: its heads, rows whose first cell is what the row is about, and how to read it."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCase:
    """What is shown of one series. None or empty: unknown, and left out of the page.

    pattern: of a failure, equal for those that are alike. columns: its cells in the table of cases, under the headings
    that its task gives them. cautions: what speaks against its result. headline: the few values that matter most, as
    (what, value). facts: what its section lists.
    tables_below: the tables that come after the pictures. n_images: how many the task computed. notes: what was decided
    on the way, folded away. compared: (measured, reference) by (quantity, unit), for pictures of the whole batch.
    """

    name: str
    status: Status
    message: str = ""
    pattern: str = ""
    columns: tuple[Fact, ...] = ()
    cautions: tuple[str, ...] = ()
    headline: tuple[Fact, ...] = ()
    tables: tuple[FactTable, ...] = ()
    tables_below: tuple[FactTable, ...] = ()
    facts: tuple[Fact, ...] = ()
    n_images: int | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    compared: Mapping[Fact, tuple[float, float]] = field(default_factory=dict)
