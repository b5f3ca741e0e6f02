"""What a person sees while a batch runs: a bar with the case's name and the time left, then one line a case."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cmrsr.batch.failures import summary_line
from cmrsr.errors import CmrsrWarning, debugging
from cmrsr.io.printable import printable

if TYPE_CHECKING:
    from cmrsr.batch.run import CaseResult, Status

SIGNS: "dict[Status, tuple[str, str]]" = {"ok": ("✓", "green"), "skipped": ("–", "dim"), "failed": ("✕", "red")}


def messages() -> Console:
    """Standard error, one line a message however long it is."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def line(*parts: str | tuple[str, str]) -> Text:
    """One line of text and (text, style): nothing in it is markup, an escape sequence or a line end."""
    return Text.assemble(*((printable(p[0]), p[1]) if isinstance(p, tuple) else printable(p) for p in parts))


@contextmanager
def library_warnings_hidden() -> Iterator[None]:
    """While cases are worked on: what numpy or pydicom warn of is not meant for the user, and shown with --debug only.

    How warnings are shown belongs to the process: enter it before threads start and leave it when they have ended.
    """
    show = warnings.showwarning

    def shown(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, CmrsrWarning) or debugging():
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = shown
    try:
        yield
    finally:
        warnings.showwarning = show


@contextmanager
def searching(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """While inputs are searched: a sign of life on a terminal, fed with the number of DICOM files read so far.

    ``quiet``: no word of what is left out either.
    """
    log = logging.getLogger("cmrsr")
    before = log.level
    log.setLevel(logging.ERROR if quiet else before)
    try:
        if quiet or not sys.stderr.isatty():
            yield lambda n: None
        else:
            with messages().status("searching for series") as status:
                yield lambda n: status.update(f"searching for series: {n} DICOM files read")
    finally:
        log.setLevel(before)


class AlikeFailures:
    """Failures in few lines: those that are alike and follow each other are one, later ones are counted at the end."""

    def __init__(self, write: Callable[[Text], None]) -> None:
        self._write = write
        self._held: list[CaseResult] = []
        self._first: dict[str, CaseResult] = {}
        self._more: dict[str, int] = {}

    def add(self, result: "CaseResult") -> None:
        """Hold a failure until another kind of result comes."""
        if self._held and _pattern(self._held[0]) != _pattern(result):
            self.flush()
        self._held.append(result)

    def flush(self) -> None:
        """Write what is held, unless the like of it was written before."""
        if not self._held:
            return
        pattern = _pattern(self._held[0])
        if pattern in self._first:
            self._more[pattern] = self._more.get(pattern, 0) + len(self._held)
        else:
            self._first[pattern] = self._held[0]
            self._write(line(SIGNS["failed"], " ", summary_line(self._held)))
        self._held = []

    def close(self) -> None:
        """Write the last failures, and how many more were like the first of their kind."""
        self.flush()
        for pattern, n in self._more.items():
            cases = "1 more case" if n == 1 else f"{n} more cases"
            self._write(line(SIGNS["failed"], f" {cases} failed like {self._first[pattern].name}"))
        self._more = {}


def _pattern(result: "CaseResult") -> str:
    return result.pattern or result.message


class CountedColumn(ProgressColumn):
    """``12/60 images, 492/2460 evaluations``."""

    def __init__(self, per_image: int) -> None:
        super().__init__()
        self._per_image = per_image

    def render(self, task: Task) -> Text:
        done, total = int(task.completed), int(task.total or 0)
        images = f"{done // self._per_image}/{total // self._per_image} images"
        return Text(images if self._per_image == 1 else f"{images}, {done}/{total} evaluations")


class BatchConsole:
    """Listens to a batch. The bar appears on a terminal only; ``quiet`` leaves errors alone, ``verbose`` adds notes.

    per_image: evaluations of the network that an image takes, to count images as well; None counts evaluations alone.
    """

    def __init__(self, n_cases: int, *, quiet: bool, verbose: bool, per_image: int | None = None) -> None:
        self.console = messages()
        self.quiet, self.verbose = quiet, verbose
        counted = MofNCompleteColumn() if per_image is None else CountedColumn(per_image)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), counted, TimeRemainingColumn(),
            console=self.console, transient=True, disable=quiet or not sys.stderr.isatty(),
        )  # fmt: skip
        self.n_cases, self.n_done = n_cases, 0
        self._task: TaskID | None = None
        self._failures = AlikeFailures(self.console.print)

    def __enter__(self) -> "BatchConsole":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()
        self._failures.close()

    def case_started(self, name: str, n_evaluations: int) -> None:
        description = f"{printable(name)} ({self.n_done + 1}/{self.n_cases})"
        self._task = self.progress.add_task(description, total=n_evaluations)

    def evaluated(self, n: int) -> None:
        if self._task is not None:
            self.progress.advance(self._task, n)

    def case_ended(self, result: "CaseResult") -> None:
        self.n_done += 1
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None
        if result.status == "failed":
            self._failures.add(result)
            return
        self._failures.flush()
        if not self.quiet:
            what = result.message or f"{result.seconds:.1f} s"
            where = str(result.outputs[0]) if result.outputs else ""
            self.console.print(line(SIGNS[result.status], f" {result.name} ", (what, "dim"), f" → {where}"))
            for note in result.notes if self.verbose else ():
                self.console.print(line("  ", (note, "dim")))
            for warning in result.warnings:
                self.console.print(line("  ", ("note", "yellow"), f" {warning}"))
