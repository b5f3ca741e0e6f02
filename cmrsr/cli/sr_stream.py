"""``cmrsr sr --stream``."""

import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.live import Live

from cmrsr.cli.console import SIGNS, library_warnings_hidden, line, messages
from cmrsr.cli.sr_request import SrRequest, opening, sr_options
from cmrsr.errors import UnreadableError, UsageError

if TYPE_CHECKING:
    from cmrsr.tasks.sr.stream.log import FrameResult, StreamLog

STANDARD_INPUT = Path("-")
REDRAW_S = 0.5


def run_sr_stream_command(request: SrRequest) -> int:
    """Follow a folder, or the names on standard input, until the end; the exit code.

    The end: of standard input, ``--idle`` seconds without a new file, or SIGINT or SIGTERM, which let the frame in hand
    be finished. To a followed folder that is an end like any other; names that are left unread make it 130.
    """
    from cmrsr.batch.run import output_folder
    from cmrsr.tasks.rooms import load_engine
    from cmrsr.tasks.sr.stream.arrivals import Arrivals, FolderArrivals
    from cmrsr.tasks.sr.stream.arrivals_listed import ListedArrivals
    from cmrsr.tasks.sr.stream.files import StreamFiles
    from cmrsr.tasks.sr.stream.run import SrStream
    from cmrsr.version import __version__

    source = _check(request, request.idle)
    options = sr_options(request)
    choice = request.choice
    bundle = load_engine(request.engine, "sr")
    listed = source == STANDARD_INPUT
    command = shlex.join(["cmrsr", *request.arguments])
    with output_folder([] if listed else [source], request.out) as out, stopping() as stop:
        files = StreamFiles(
            bundle=bundle, options=options, choice=choice, out=out, format=request.format,
            force=request.force, command=command,
        )  # fmt: skip
        record = {
            "software": f"cmrsr {__version__}", "task": files.task, "notice": files.notice, "command": command,
            "started": datetime.now(UTC).isoformat(), "input": source,
            "engine": {"name": bundle.manifest.name, "digest": bundle.digest}, "parameters": files.stream_parameters(),
        }  # fmt: skip
        arrivals: Arrivals = ListedArrivals(sys.stdin.fileno()) if listed else FolderArrivals(source)
        with library_warnings_hidden(), StreamConsole(quiet=request.quiet, verbose=request.verbose) as console:
            console.opened(opening(options, bundle))
            stream = SrStream(files, arrivals, console, record, stop=stop, idle_s=request.idle, endless=not listed)
            code = stream.run()
            console.summary(stream.log, out)
    return code


def _check(request: SrRequest, idle_s: float | None) -> Path:
    """What to follow; UsageError for what makes no sense in a stream."""
    without = {
        "--shard": request.shard is not None,
        "--time-axis": request.time_axis is not None,
        "--on-missing": request.on_missing != "fail",
        "--save-samples": request.save_samples,
    }
    for flag, given in without.items():
        if given:
            raise UsageError(f"{flag} with --stream: a stream takes one frame a file, as it comes; leave out {flag}")
    if request.roi == "heart":
        raise UsageError("--roi heart with --stream: the heart is found in a whole series; name a window X,Y,W,H")
    if idle_s is not None and not idle_s > 0:
        raise UsageError(f"--idle {idle_s:g}: expected more than 0 seconds")
    if len(request.inputs) != 1:
        raise UsageError(f"--stream: expected one folder, or - for names on standard input, got {len(request.inputs)}")
    (source,) = request.inputs
    if source == STANDARD_INPUT:
        if request.out is None:
            raise UsageError("--stream from standard input: name the output folder with -o")
    elif not source.exists():
        raise UnreadableError(f"{source}: no such folder; --stream follows a folder that is there")
    elif not source.is_dir():
        raise UsageError(f"--stream {source}: a file, expected a folder, or - for names on standard input")
    return source


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one interrupts at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StreamConsole:
    """Listens to a stream: a line for each frame if ``verbose``; on a terminal the running latency, drawn in pauses."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self.console = messages()
        self.quiet, self.verbose = quiet, verbose
        # redrawn by hand: a thread that draws would take time from a frame
        shown = not quiet and self.console.is_terminal
        self._live = Live(console=self.console, auto_refresh=False, transient=True) if shown else None
        self._drawn_at, self._drawn = 0.0, -1
        self._failed: Counter[str] = Counter()  # by pattern

    def __enter__(self) -> "StreamConsole":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def opened(self, text: str) -> None:
        """Print what is about to be computed; nothing for an empty text."""
        if text and not self.quiet:
            self.console.print(line(text))

    def frame_ended(self, result: "FrameResult") -> None:
        if result.status == "failed":
            self._failed[result.pattern] += 1
            if self._failed[result.pattern] == 1:  # at once; those alike are counted at the end
                self.console.print(line(SIGNS["failed"], f" {result.message}"))
        elif self.verbose and not self.quiet:
            what = "done before"
            if timing := result.timing:
                parts = ("waiting", "reading", "computing", "writing")
                spent = ", ".join(f"{part} {getattr(timing, f'{part}_ms'):.0f}" for part in parts)
                what = f"{timing.latency_ms:.0f} ms ({spent})"
            self.console.print(line(SIGNS[result.status], f" {result.name} ", (what, "dim")))

    def noted(self, text: str) -> None:
        if not self.quiet:
            self.console.print(line("  ", ("note", "yellow"), f" {text}"))

    def at_rest(self, log: "StreamLog") -> None:
        n = log.counts.total() + len(log.failed)
        if not self._live or n == self._drawn or time.monotonic() - self._drawn_at < REDRAW_S:
            return
        self._drawn_at, self._drawn = time.monotonic(), n
        running = log.latencies.running()
        late = f", latency {running[0]:.0f} ms (median), {running[1]:.0f} ms (95 %)" if running else ""
        self._live.update(f"[dim]{n} frames{late}[/]", refresh=True)

    def summary(self, log: "StreamLog", out: Path) -> None:
        for pattern, n in self._failed.items():
            if n > 1:
                self.console.print(line(SIGNS["failed"], f" {n} frames failed alike: {pattern}"))
        if self.quiet:
            return
        running = log.latencies.summary()
        late = (
            f", latency {running['median']:.0f} ms (median), {running['p95']:.0f} ms (95 %)"
            if log.latencies.total
            else ""
        )
        skipped = f", {log.counts['skipped']} done before" if log.counts["skipped"] else ""
        failed = f", {len(log.failed)} failed" if log.failed else ""
        self.console.print(line(f"{log.counts['ok']} frames{skipped}{failed}{late} → {out}"))
