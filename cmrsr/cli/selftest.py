"""``cmrsr info --selftest``: does everything here agree with what was released?"""

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmrsr.cli.console import SIGNS, line, messages

if TYPE_CHECKING:
    from cmrsr.diagnostics.selftest import Check


def run_selftest(
    engines: list[str], device: str, backend: str, threads: int | None, console: Console | None
) -> tuple[dict[str, Any], int]:
    """Test engines (default all that are shipped); the record, and the exit code: 0 only if all passed.

    console: where the table goes; None for none.
    """
    from cmrsr.diagnostics.selftest import SelfTest, run_checks
    from cmrsr.runtime.bundle import shipped
    from cmrsr.runtime.choice import BackendName

    names = engines or [str(folder) for folder in shipped()]
    test = SelfTest(engines=names, device=device, backend=cast(BackendName, backend), threads=threads)
    start = time.perf_counter()
    waiting = messages()
    with waiting.status("self-test") as status:  # on a terminal only
        checks = list(run_checks(test, lambda what: status.update(f"self-test: {escape(what)}")))
    seconds = time.perf_counter() - start
    failed = [check for check in checks if not check.passed]
    # an engine that fails outweighs a device: the lesser code
    code = min((check.exit_code for check in failed), default=0 if checks else 5)
    if console:
        console.print(table_of(checks))
        console.print(last_line(checks, failed, seconds))
    rows = [{**asdict(check), "passed": check.passed} for check in checks]
    return {"passed": code == 0, "exit_code": code, "seconds": seconds, "checks": rows}, code


def table_of(checks: "Iterable[Check]") -> Table:
    """A line a check; the engine's name stands before its first one."""
    table = Table(box=None, header_style="dim", padding=(0, 1), pad_edge=False)
    table.add_column("")
    table.add_column("engine", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("found")
    table.add_column("s", justify="right", no_wrap=True, style="dim")
    before = None
    for check in checks:
        name = "" if check.engine == before else check.engine
        before = check.engine
        table.add_row(
            line(SIGNS["ok" if check.passed else "failed"]), escape(name), escape(check.what), escape(check.found),
            f"{check.seconds:.1f}",
        )  # fmt: skip
    return table


def last_line(checks: "list[Check]", failed: "list[Check]", seconds: float) -> str:
    """What the self-test found, in one line."""
    if not checks:
        return "No engine is installed: nothing was tested."
    if not failed:
        return f"All {len(checks)} checks passed in {seconds:.0f} s: everything here agrees with what was released."
    return f"{len(failed)} of {len(checks)} checks FAILED: do not rely on results from this machine before they pass."
