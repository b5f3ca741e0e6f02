"""How ``cmrsr info PATH`` looks on a terminal: a paragraph for each series, then reasons and notes, each once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cmrsr.cli.console import line
from cmrsr.io.printable import one_line

if TYPE_CHECKING:
    from cmrsr.batch.verdict import Verdict
    from cmrsr.diagnostics.series_facts import SeriesFacts, Times
    from cmrsr.io.left_out import LeftOut
    from cmrsr.runtime.bundle import Task

TAKEN, REMARKED, REFUSED = SIGNS = (("✓", "green"), ("~", "yellow"), ("✕", "red"))
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
MAX_INPUTS = 3
MAX_NAMES = 12  # of series that are alike but for their names
BETWEEN = 2  # spaces between columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One series: its facts and the commands' verdicts, or the failure that keeps it from being opened."""

    name: str
    format: str
    n_files: int
    n_bytes: int
    paths: tuple[Path, ...]
    facts: "SeriesFacts | None" = None
    verdicts: "Mapping[Task, Verdict]" = field(default_factory=dict)
    message: str = ""
    pattern: str = ""
    exit_code: int = 0

    @property
    def usable(self) -> bool:
        """Whether it can be opened, or a command knows how: single phases are joined by ``function``."""
        return self.facts is not None or any(verdict.works for verdict in self.verdicts.values())


def print_series(
    seen: Sequence[Seen], left_out: "Sequence[LeftOut]", inputs: Sequence[Path], console: Console, *, deep: bool
) -> None:
    """Series with what they are and which commands take them, then reasons, notes, failures and what was left out."""
    rows = [one for one in seen if one.usable]
    scanners = {one.facts.scanner for one in rows if one.facts}
    _print_head(seen, rows, inputs, scanners, console)
    _print_rows(rows, console, with_scanner=len(scanners) > 1)
    _print_failures([one for one in seen if not one.usable], console)
    _print_reasons(rows, console)
    _print_notes(rows, console)
    _print_left_out(left_out, console)
    if rows and not deep:
        console.print(line(("From the headers alone; --deep also reads the voxels, as the commands do.", "dim")))


def _print_head(
    seen: Sequence[Seen], rows: Sequence[Seen], inputs: Sequence[Path], scanners: set[str], console: Console
) -> None:
    where = ", ".join(map(str, inputs[:MAX_INPUTS])) + (" ..." if len(inputs) > MAX_INPUTS else "")
    n_files = sum(one.n_files for one in seen)
    parts = [f"{len(rows)} series", _counted(n_files, "file"), size_in_words(sum(one.n_bytes for one in seen))]
    if len(rows) < len(seen):
        parts.append(f"{len(seen) - len(rows)} unusable")
    if len(scanners) == 1:
        parts += filter(None, scanners)
    console.print(line((where, "bold"), "   " + ", ".join(parts)))
    console.print()


# --- the series -------------------------------------------------------------------------------------------------------


def _print_rows(rows: Sequence[Seen], console: Console, *, with_scanner: bool) -> None:
    """The name in bold, facts in columns, then a line of commands, which neighbours share that differ in neither.

    Such neighbours have their facts next to their names where both fit, and share these too where they are equal.
    """
    cells = [_cells(one.facts) for one in rows]
    widths = [max((len(row[n]) for row in cells), default=0) for n in range(4)]
    indent = " " * (len(str(len(rows))) + 2)
    narrow = len(indent) + sum(widths) + 3 * BETWEEN > console.width  # the times go to the line below
    if narrow:
        widths = widths[:3]
    longest = max((len(one.name) for one in rows), default=0)
    fit = len(indent) + longest + sum(widths) + len(widths) * BETWEEN <= console.width
    numbered = list(enumerate(rows, 1))
    for _, neighbours in groupby(numbered, key=lambda pair: _commands_alike(pair[1], narrow=narrow)):
        block = list(neighbours)
        columns = fit and len({_cells(one.facts) for _, one in block}) > 1
        for _, equal in groupby(block, key=lambda pair: _cells(pair[1].facts)):
            same = list(equal)
            for number, one in same if columns else same[:MAX_NAMES]:
                gap = " " * (longest - len(one.name))
                _print_name(number, one, indent, gap + _columns(one, widths) if columns else "", console)
            if not columns:
                if len(same) > MAX_NAMES:
                    more = f"and {len(same) - MAX_NAMES} more like these, to number {same[-1][0]}"
                    console.print(line(indent, (more, "dim")))
                if same[0][1].facts:
                    console.print(line(indent, _columns(same[0][1], widths).strip()))
        first = block[0][1]
        details = [_files([one for _, one in block])]
        if first.facts:
            details += _details(first.facts, with_scanner=with_scanner, with_times=narrow)
        last = Text.assemble(_commands(first.verdicts), line((" · ".join(details), "dim")))
        console.print(Padding(last, (0, 0, 0, len(indent))))
    if rows:
        console.print()


def _print_name(number: int, one: Seen, indent: str, facts: str, console: Console) -> None:
    folder, name = str(Path(one.name).parent), Path(one.name).name
    if facts:
        folder, name = ".", one.name  # whole, in a column
    below = f"  in {folder}" if folder != "." else ""
    head = (f"{number:>{len(indent) - 2}}  ", "dim")
    console.print(line(head, (name, "bold"), (below, "dim"), facts), overflow="fold")


def _columns(one: Seen, widths: Sequence[int]) -> str:
    padded = [" " * BETWEEN + cell.ljust(width) for cell, width in zip(_cells(one.facts), widths, strict=False)]
    return "".join(padded).rstrip()


def _commands_alike(one: Seen, *, narrow: bool) -> object:
    """Equal for series that commands treat alike, and of which the line with these says the same."""
    verdicts = tuple((command, verdict.works, bool(verdict.remarks)) for command, verdict in one.verdicts.items())
    if one.facts is None:
        return one.pattern, verdicts
    return one.format, verdicts, *_details(one.facts, with_scanner=True, with_times=narrow)


def _cells(facts: "SeriesFacts | None") -> tuple[str, str, str, str]:
    """Kind and plane, shape, spacing, times."""
    if facts is None:
        return ("", "", "", "")
    spacing = " × ".join(f"{mm:.3g}" for mm in facts.spacing_mm_zyx) + " mm"
    what = ", ".join(filter(None, (facts.component or facts.kind, facts.plane)))
    return what, " × ".join(map(str, facts.shape_tzyx)), spacing, _span(facts.times, facts.shape_tzyx[0])


def _span(times: "Times | None", n_frames: int) -> str:
    if times is None:
        return "" if n_frames < 2 else "times unknown"
    if times.source == "InversionTime":
        return f"TI {times.first_ms:.0f} to {times.last_ms:.0f} ms"
    span = times.last_ms - times.first_ms
    covered = f"{span / 1000:.3g} s" if span >= 10_000 else f"{span:.0f} ms"
    return f"{covered}, steps of {'' if times.even else 'about '}{times.step_ms:.3g} ms"


def _details(facts: "SeriesFacts", *, with_scanner: bool, with_times: bool) -> list[str]:
    parts = [_span(facts.times, facts.shape_tzyx[0])] if with_times else []
    if facts.times and facts.times.source:
        parts.append(f"from {facts.times.source}")
    if facts.slice_gap_mm:
        what = "gaps" if facts.slice_gap_mm > 0 else "slices overlap by"
        parts.append(f"{what} {abs(facts.slice_gap_mm):.3g} mm")
    if facts.phase_axis:
        parts.append(f"phase {facts.phase_axis}")
    if with_scanner:
        parts.append(facts.scanner)
    return [part for part in parts if part]


def _commands(verdicts: "Mapping[Task, Verdict]") -> Text:
    """All commands: taken, taken with a remark, refused."""
    parts: list[tuple[str, str]] = []
    for command, verdict in verdicts.items():
        sign = REFUSED if not verdict.works else REMARKED if verdict.remarks else TAKEN
        parts += [sign, (f" {command}   ", "" if verdict.works else "dim")]
    return Text.assemble(*parts)


def _files(same: Sequence[Seen]) -> str:
    n_files, n_bytes = sum(one.n_files for one in same), sum(one.n_bytes for one in same)
    return f"{'DICOM' if same[0].format == 'dicom' else 'NIfTI'}, {_counted(n_files, 'file')}, {size_in_words(n_bytes)}"


def _counted(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def size_in_words(n_bytes: int) -> str:
    """Three digits and the largest fitting unit."""
    if n_bytes < UNITS[-1][0]:
        return _counted(n_bytes, "byte")
    unit, name = next((unit, name) for unit, name in UNITS if n_bytes >= 0.9995 * unit or unit == UNITS[-1][0])
    value = n_bytes / unit
    return f"{value:.0f} {name}" if value >= 99.95 else f"{value:.3g} {name}"


# --- what is said about them ------------------------------------------------------------------------------------------


def _print_failures(failed: Sequence[Seen], console: Console) -> None:
    from cmrsr.batch.failures import alike, summary_line

    for group in alike(failed):
        text = group[0].message if len(group) == 1 else summary_line(group)
        console.print(line(("✕ ", "red"), text))
    if failed:
        console.print()


def _print_reasons(rows: Sequence[Seen], console: Console) -> None:
    """Why commands would refuse series, or what they remark on them; the same reason once."""
    groups: dict[tuple[tuple[str, str], str], tuple[dict[str, None], dict[int, None]]] = {}
    for number, one in enumerate(rows, 1):
        for command, verdict in one.verdicts.items():
            reasons = [(TAKEN if verdict.works else REFUSED, verdict.message)]
            for sign, reason in reasons + [(REMARKED, remark) for remark in verdict.remarks]:
                if reason:
                    commands, numbers = groups.setdefault((sign, _without_name(reason, one)), ({}, {}))
                    commands[command] = None
                    numbers[number] = None
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    for (sign, reason), (commands, numbers) in sorted(groups.items(), key=lambda item: -SIGNS.index(item[0][0])):
        table.add_row(line(sign), line(", ".join(commands)), line(*_whose(list(numbers), rows), reason))
    if groups:
        console.print(table)
        console.print()


def _whose(numbers: Sequence[int], rows: Sequence[Seen]) -> list[tuple[str, str]]:
    """The numbers of the series that something is about, where there are several."""
    if len(rows) == 1:
        return []
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    listed = ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in spans)
    return [("all: " if len(numbers) == len(rows) else f"{listed}: ", "dim")]


def _without_name(message: str, one: Seen) -> str:
    """A message without the name of its series in front: the table says whose it is."""
    text = one_line(message)
    for word in sorted({one.name, Path(one.name).name, *(str(p) for p in one.paths[:1])}, key=len, reverse=True):
        text = text.removeprefix(f"{one_line(word)}: ")
    return text


def _print_notes(rows: Sequence[Seen], console: Console) -> None:
    """What the reader decided, the same note once."""
    groups: dict[str, list[int]] = {}
    for number, one in enumerate(rows, 1):
        for note in one.facts.notes if one.facts else ():
            groups.setdefault(_without_name(note, one), []).append(number)
    if not groups:
        return
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    for note, numbers in groups.items():
        table.add_row(line(("note", "dim")), line(*_whose(numbers, rows), note))
    console.print(table)
    console.print()


def _print_left_out(left_out: "Sequence[LeftOut]", console: Console) -> None:
    for one in left_out:
        if one.notable:
            console.print(line(("– ", "dim"), one.message))
    others: Iterable[LeftOut] = [one for one in left_out if not one.notable]
    listed = ", ".join(f"{one.count} x {one.rule}" for one in others)
    if listed:
        console.print(line((f"– other files: {listed}", "dim")))
    if left_out:
        console.print()
