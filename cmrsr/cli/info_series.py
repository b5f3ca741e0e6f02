"""``cmrsr info PATH``: which series there are, what they are, and what each command would do with them."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cmrsr.cli.console import messages, searching
from cmrsr.cli.info_table import Seen, print_series
from cmrsr.cli.tables import tables
from cmrsr.errors import CmrsrError
from cmrsr.io.printable import one_line

if TYPE_CHECKING:
    from cmrsr.io.candidate import Candidate, Refused
    from cmrsr.io.left_out import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRequest:
    """The command line of ``cmrsr info PATH``."""

    inputs: list[Path]
    time_axis: str | None
    on_missing: str
    deep: bool
    as_json: bool


def run_info_series_command(request: SeriesRequest) -> int:
    """Print what is in the inputs; nothing is written.

    The exit code: 0, or where series cannot be opened the one they share, 8 where others can be. CmrsrError: there is
    nothing to read at all.
    """
    from cmrsr.batch.run import EXIT_PARTLY
    from cmrsr.batch.verdict import Look
    from cmrsr.cli.batch_command import parse_time_axis
    from cmrsr.diagnostics.verdicts import judge_all, load_bundles
    from cmrsr.io.discover import find_series

    time_axis = parse_time_axis(request.time_axis)
    with searching(quiet=False) as progress:
        found = find_series(
            request.inputs, time_axis=time_axis, on_missing=cast(Any, request.on_missing), progress=progress
        )
    with _bar(len(found.candidates)) as advance:
        opened = [_open(one, advance) for one in found.candidates]
    with _bar(len(found.candidates) if request.deep else 0) as advance:
        look = Look(inputs=request.inputs, time_axis=time_axis, deep=request.deep, on_survey=advance)
        verdicts = judge_all(found.candidates, load_bundles(), look)
    seen = [replace(one, verdicts=verdicts[one.name]) for one in opened] + [_refused(one) for one in found.refused]
    if request.as_json:
        print(json.dumps(_record(seen, found.left_out, found.root, request), indent=2))
    else:
        print_series(seen, found.left_out, request.inputs, tables(), deep=request.deep)
    codes = [one.exit_code for one in seen if not one.usable]
    return 0 if not codes else EXIT_PARTLY if len(codes) < len(seen) else min(codes)


@contextmanager
def _bar(n: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, from a hundred series on or where there is much to read."""
    progress = Progress(
        TextColumn("reading"), BarColumn(), MofNCompleteColumn(), console=messages(), transient=True,
        disable=n == 0 or not sys.stderr.isatty(),
    )  # fmt: skip
    with progress:
        task = progress.add_task("", total=n)
        yield lambda: progress.advance(task)


def _open(one: "Candidate", advance: Callable[[], None]) -> Seen:
    from cmrsr.batch.failures import pattern_of
    from cmrsr.diagnostics.series_facts import facts_of, size_bytes

    facts, message, code = None, "", 0
    try:
        facts = facts_of(one.open())
    except CmrsrError as error:
        message, code = one_line(str(error)), error.exit_code
    advance()
    return Seen(
        name=one.name, format=one.format, n_files=len(one.paths), n_bytes=size_bytes(one), paths=one.paths, facts=facts,
        message=message, pattern=pattern_of(message, one.name, one.paths), exit_code=code,
    )  # fmt: skip


def _refused(one: "Refused") -> Seen:
    from cmrsr.batch.failures import pattern_of

    message = one_line(str(one.error))
    return Seen(
        name=one.name, format="", n_files=len(one.paths), n_bytes=0, paths=one.paths, message=message,
        pattern=pattern_of(message, one.name, one.paths), exit_code=one.error.exit_code,
    )  # fmt: skip


def _record(seen: Sequence[Seen], left_out: "Sequence[LeftOut]", root: Path, request: SeriesRequest) -> dict[str, Any]:
    from cmrsr.diagnostics.series_facts import record_of
    from cmrsr.io.outputs import plain_json
    from cmrsr.version import __version__

    series = []
    for one in seen:
        entry: dict[str, Any] = {
            "name": one.name, "format": one.format, "files": one.n_files, "bytes": one.n_bytes,
            "first_file": one.paths[0] if one.paths else None,
        }  # fmt: skip
        if one.facts:
            entry |= record_of(one.facts)
        else:
            entry |= {"error": one.message, "exit_code": one.exit_code}
        entry["commands"] = {command: asdict(verdict) for command, verdict in one.verdicts.items()}
        series.append(entry)
    record = {
        "software": f"cmrsr {__version__}", "inputs": request.inputs, "root": root, "voxels_read": request.deep,
        "series": series, "left_out": [one.record() for one in left_out],
    }  # fmt: skip
    plain: dict[str, Any] = plain_json(record)
    return plain
