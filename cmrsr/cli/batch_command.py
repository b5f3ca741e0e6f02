"""What every command shares that works through a batch of series with an engine: find, process, record, report."""

import logging
import os
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from cmrsr.cli.console import BatchConsole, library_warnings_hidden, line, searching
from cmrsr.cli.options import (
    BackendOption,
    BatchSize,
    Device,
    Engine,
    Force,
    FormatOption,
    Inputs,
    NoReport,
    OnMissingOption,
    Out,
    PrecisionOption,
    Quiet,
    Seed,
    Shard,
    Strict,
    Threads,
    TimeAxisOption,
    Verbose,
)
from cmrsr.errors import UsageError, debugging

if TYPE_CHECKING:
    from types import TracebackType

    from cmrsr.batch.case import CaseFiles, Format
    from cmrsr.batch.run import CaseResult
    from cmrsr.io.discover import Candidate, Refused
    from cmrsr.io.nifti.header import TimeAxis
    from cmrsr.report.case import ReportCase
    from cmrsr.report.page import Picture
    from cmrsr.runtime.bundle import Bundle, Task
    from cmrsr.runtime.choice import DeviceChoice

Options = TypeVar("Options")
REPORT_THREAD = "report"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What these commands have in common on the command line; ``arguments`` as they were typed."""

    arguments: list[str]
    inputs: Inputs
    out: Out = None
    seed: Seed = 0
    engine: Engine
    batch_size: BatchSize = 8
    format: FormatOption = "same"
    time_axis: TimeAxisOption = None
    on_missing: OnMissingOption = "fail"
    device: Device = "auto"
    backend: BackendOption = "auto"
    precision: PrecisionOption = "auto"
    threads: Threads = None
    strict_device: Strict = False
    force: Force = False
    shard: Shard = None
    no_report: NoReport = False
    quiet: Quiet = False
    verbose: Verbose = False

    @property
    def choice(self) -> "DeviceChoice":
        """UsageError: the device options contradict each other."""
        from cmrsr.runtime.choice import DeviceChoice

        return DeviceChoice(
            device=self.device, backend=self.backend, precision=self.precision,
            threads=self.threads, strict=self.strict_device,
        )  # fmt: skip


class MakeReportCase(Protocol):
    """A case as the report shows it; without pictures unless ``illustrated``."""

    def __call__(self, result: "CaseResult", bundle: "Bundle", options: Any, *, illustrated: bool) -> "ReportCase": ...


class MakeFiles(Protocol):
    """What is done with the files of each case, for what all tasks have in common on the command line."""

    def __call__(
        self,
        *,
        bundle: "Bundle",
        options: Any,
        choice: "DeviceChoice",
        out: Path,
        format: "Format",
        force: bool,
        command: str,
    ) -> "CaseFiles[Any, Any]": ...


# A file of a task about the whole batch: of the output folder, all cases, the shard.
WriteTable = Callable[[Path, "Sequence[CaseResult]", tuple[int, int] | None], None]
DrawBatch = Callable[["Sequence[ReportCase]"], "Sequence[Picture]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTask(Generic[Options]):
    """What is done to each series; ``name`` of the task as engines name it.

    files: makes the settings of the run. report_case: gives the function that makes a case of the report.
    arrange: what becomes of the series found before they are worked on; some may turn out to be of no use.
    per_image: gives the evaluations of the network that an image takes, for the progress bar to count images too.
    opening: gives a line to print before the first case; an empty one is left out.
    write_table: called once all cases have ended. draw_batch: gives what draws the pictures above them in the report.
    """

    title: str
    name: "Task"
    files: MakeFiles
    options: Options
    report_case: Callable[[], MakeReportCase]
    arrange: "Callable[[Sequence[Candidate]], Sequence[Candidate | Refused]] | None" = None
    per_image: "Callable[[Bundle], int] | None" = None
    opening: "Callable[[Bundle], str] | None" = None
    write_table: WriteTable | None = None
    draw_batch: Callable[[], DrawBatch] | None = None


def run_batch_command(request: BatchRequest, task: BatchTask[Any]) -> int:
    """Find the series, process each, write ``run.json`` and ``report.html``; the exit code of the batch."""
    from cmrsr.batch.run import exit_code, mine, output_folder, parse_shard, run_batch, shard_file
    from cmrsr.io.discover import Candidate, Refused, find_series, log_left_out
    from cmrsr.io.outputs import refuse_overwriting
    from cmrsr.tasks.rooms import load_engine
    from cmrsr.version import __version__

    started, clock = datetime.now(UTC), time.monotonic()
    choice = request.choice
    shard = parse_shard(request.shard, os.environ)
    time_axis = parse_time_axis(request.time_axis)
    bundle = load_engine(request.engine, task.name)
    with searching(quiet=request.quiet) as progress:
        search = find_series(request.inputs, time_axis=time_axis, on_missing=request.on_missing, progress=progress)
        log_left_out(search.left_out)
    candidates, refused = list(search.candidates), list(search.refused)
    found: list[Candidate | Refused] = [*candidates, *refused]
    sources = [path for one in found for path in one.paths]
    if task.arrange:
        arranged = task.arrange(candidates)
        candidates = [one for one in arranged if isinstance(one, Candidate)]
        refused = [*refused, *(one for one in arranged if isinstance(one, Refused))]
    cases: list[Candidate | Refused] = [*candidates, *refused]
    n_mine = sum(mine(case.name, shard) for case in cases)
    command = shlex.join(["cmrsr", *request.arguments])
    with output_folder(request.inputs, request.out) as out:
        files = task.files(
            bundle=bundle, options=task.options, choice=choice, out=out, format=request.format,
            force=request.force, command=command,
        )  # fmt: skip
        outputs = [path for one in candidates for path in files.planned(one)]
        refuse_overwriting(outputs, sources)
        record = {
            "software": f"cmrsr {__version__}", "task": files.task, "command": command, "started": started.isoformat(),
            "engine": {"name": bundle.manifest.name, "digest": bundle.digest}, "parameters": files.parameters(),
            "shard": shard, "left_out": [one.record() for one in search.left_out],
        }  # fmt: skip
        pages = None if request.no_report else Pages(bundle, task)
        per_image = task.per_image(bundle) if task.per_image else None
        shown = ReportingConsole(n_mine, pages, quiet=request.quiet, verbose=request.verbose, per_image=per_image)
        with library_warnings_hidden(), shown as console:
            if task.opening and not request.quiet and (opening := task.opening(bundle)):
                console.console.print(line(opening))
            if shard and shard[1] > 1 and not request.quiet:
                part = f"shard {shard[0]} of {shard[1]}: {n_mine} of {len(cases)} series"
                console.console.print(f"{part} (--shard 1/1 takes all)")
            results = run_batch(candidates, refused, files.process, out, console, record, shard=shard)
        if task.write_table:
            task.write_table(out, results, shard)
    page = out / shard_file("report.html", shard)
    # A run that found everything done leaves the report of the run that did it.
    if pages and (any(r.status != "skipped" for r in results) or not page.exists()):
        from cmrsr.report.report import ReportRun, write_report

        run = ReportRun(
            title=task.title, command=command, version=__version__, started=started,
            seconds=time.monotonic() - clock, engine=bundle.manifest.name, engine_digest=bundle.digest,
            left_out=tuple(one.message for one in search.left_out if one.notable),
        )  # fmt: skip
        write_report(page, pages.cases, run, pages.drawn())
        if not request.quiet:
            console.console.print(f"report: {page}")
    return exit_code(results)


class Pages:
    """The report's cases, each made as it ends: what is held of hundreds of series are a few pictures."""

    def __init__(self, bundle: "Bundle", task: BatchTask[Any]) -> None:
        self.cases: list[ReportCase] = []
        self._bundle, self._task = bundle, task
        self._preparing: threading.Thread | None = None

    def prepare(self) -> None:
        """Import what draws, which takes long, while the first case is computed."""
        if self._preparing is None:
            self._preparing = threading.Thread(target=self._load, name=REPORT_THREAD)
            self._preparing.start()

    def _load(self) -> None:
        with suppress(Exception):  # what fails here fails again where it is needed, with a message
            self._task.report_case()

    def settle(self) -> None:
        """Wait for that: nothing may still be imported when the process ends."""
        if self._preparing:
            self._preparing.join()

    def add(self, result: "CaseResult") -> None:
        from cmrsr.report.report import MAX_ILLUSTRATED, plain_case

        illustrated = sum(bool(case.pictures) for case in self.cases) < MAX_ILLUSTRATED
        try:
            case = self._task.report_case()(result, self._bundle, self._task.options, illustrated=illustrated)
        except Exception as error:  # a defect in reporting costs this case its section, not the others theirs
            if debugging():
                raise
            said = f"its section could not be made ({type(error).__name__}: {error}); report this"
            case = plain_case(replace(result, warnings=(*result.warnings, said)))
        self.cases.append(case)

    def drawn(self) -> "Sequence[Picture]":
        """The pictures of the whole batch; none where a defect keeps them from being drawn."""
        if not self._task.draw_batch:
            return ()
        try:
            return self._task.draw_batch()(self.cases)
        except Exception as error:
            if debugging():
                raise
            _log.warning(
                "the pictures of the batch could not be drawn (%s: %s); report this", type(error).__name__, error
            )
            return ()


class ReportingConsole(BatchConsole):
    """The batch's console, which also feeds the report."""

    def __init__(
        self, n_cases: int, pages: Pages | None, *, quiet: bool, verbose: bool, per_image: int | None = None
    ) -> None:
        super().__init__(n_cases, quiet=quiet, verbose=verbose, per_image=per_image)
        self._pages = pages

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        super().__exit__(kind, error, traceback)
        if self._pages:
            self._pages.settle()

    def case_started(self, name: str, n_evaluations: int) -> None:
        super().case_started(name, n_evaluations)
        if self._pages:
            self._pages.prepare()

    def case_ended(self, result: "CaseResult") -> None:
        super().case_ended(result)
        if self._pages:
            self._pages.add(result)


def parse_time_axis(text: str | None) -> "TimeAxis":
    """None (not given), ``none`` (a single volume) or an array axis."""
    if text is None or text == "none":
        return cast("TimeAxis", text)
    if text not in ("0", "1", "2", "3"):
        raise UsageError(f"--time-axis {text}: expected 0, 1, 2, 3 or none")
    return int(text)
