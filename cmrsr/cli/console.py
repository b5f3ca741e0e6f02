"""What a person sees while a batch runs: a bar with the case's name and the time left, then one line a case."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cmrsr.tasks.batch import CaseResult

SIGNS = {"ok": "[green]✓[/]", "skipped": "[dim]–[/]", "failed": "[red]✕[/]"}


def messages() -> Console:
    """Standard error, one line a message however long it is."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def searching(*, quiet: bool) -> Iterator[None]:
    """While inputs are looked through: a sign of life on a terminal; ``quiet``: no word of what is left out either."""
    log = logging.getLogger("cmrsr")
    before = log.level
    log.setLevel(logging.ERROR if quiet else before)
    try:
        if quiet or not sys.stderr.isatty():
            yield
        else:
            with messages().status("looking for series"):
                yield
    finally:
        log.setLevel(before)


class BatchConsole:
    """Listens to a batch. The bar appears on a terminal only; ``quiet`` leaves errors alone, ``verbose`` adds notes."""

    def __init__(self, n_cases: int, *, quiet: bool, verbose: bool) -> None:
        self.console = messages()
        self.quiet, self.verbose = quiet, verbose
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=self.console, transient=True, disable=quiet or not sys.stderr.isatty(),
        )  # fmt: skip
        self.n_cases, self.n_done = n_cases, 0
        self._task: TaskID | None = None

    def __enter__(self) -> "BatchConsole":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()

    def case_started(self, name: str, n_evaluations: int) -> None:
        description = f"{escape(name)} ({self.n_done + 1}/{self.n_cases})"
        self._task = self.progress.add_task(description, total=n_evaluations)

    def evaluated(self, n: int) -> None:
        if self._task is not None:
            self.progress.advance(self._task, n)

    def case_ended(self, result: CaseResult) -> None:
        self.n_done += 1
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None
        if result.status == "failed":
            self.console.print(f"{SIGNS['failed']} {escape(result.message)}")
        elif not self.quiet:
            what = result.message or f"{result.seconds:.1f} s"
            where = escape(str(result.outputs[0])) if result.outputs else ""
            self.console.print(f"{SIGNS[result.status]} {escape(result.name)} [dim]{what}[/] → {where}")
            for note in result.notes if self.verbose else ():
                self.console.print(f"  [dim]{escape(note)}[/]")
            for warning in result.warnings:
                self.console.print(f"  [yellow]note[/] {escape(warning)}")
