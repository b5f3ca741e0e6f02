"""``cmrsr sr`` beside the scanner: frame after frame as the files come, each result written as soon as it is done."""

import gc
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from cmrsr.batch.failures import pattern_of
from cmrsr.batch.run import EXIT_INTERRUPTED, EXIT_PARTLY
from cmrsr.errors import CmrsrError, OutputError, UnreadableError, UnusableError, debugging
from cmrsr.io.outputs import write_json_atomic
from cmrsr.io.printable import one_line
from cmrsr.tasks.sr.run import run_sr
from cmrsr.tasks.sr.stream.arrivals import Arrival, Arrivals
from cmrsr.tasks.sr.stream.engines import WarmEngines
from cmrsr.tasks.sr.stream.files import StreamFiles
from cmrsr.tasks.sr.stream.log import FrameResult, StreamLog, Timing
from cmrsr.tasks.sr.stream.plan import SeriesSoFar, StreamSeries
from cmrsr.tasks.sr.stream.single_frames import LeftOutError, SingleFrame, read_single_frame
from cmrsr.user_warnings import user_warnings

BUSY_S, AT_EASE_S = 0.005, 0.05  # between two looks: when something has happened lately, and when not
LATELY_S = 2.0
AT_REST_S = 5.0  # a file that is no whole image and has not changed for so long has failed, until it changes
State = Literal["running", "complete", "stopped", "interrupted", "failed"]


class StreamListener(Protocol):
    """What a stream tells whoever watches; the command line draws it."""

    def frame_ended(self, result: FrameResult) -> None: ...
    def noted(self, text: str) -> None: ...
    def at_rest(self, log: StreamLog) -> None:
        """Nothing to do at the moment."""
        ...


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """A file that is no whole image yet; seen_at: ``time.monotonic()`` when it was found so."""

    arrival: Arrival
    error: CmrsrError | LeftOutError
    seen_at: float


class SrStream:
    """Takes files as they arrive until no more do, or until ``stop`` is set: the frame in hand is finished first.

    endless: the arrivals have no end of their own, so that stopping is how they are meant to end.
    """

    def __init__(
        self, files: StreamFiles, arrivals: Arrivals, listener: StreamListener, run_record: Mapping[str, Any], *,
        stop: threading.Event, idle_s: float | None = None, endless: bool = False,
    ) -> None:  # fmt: skip
        self._files, self._arrivals, self._listener, self._run_record = files, arrivals, listener, run_record
        self._stop, self._idle_s, self._endless = stop, idle_s, endless
        self.log = StreamLog(files.out)
        self._series = SeriesSoFar()
        self._engines = WarmEngines(files.bundle, files.options, files.choice)
        self._queue: dict[Path, Arrival] = {}
        self._unfinished: dict[Path, _Unfinished] = {}
        self._said: dict[str, None] = {}  # in order
        self._started = time.monotonic()

    def run(self) -> int:
        """Work until the end; the exit code. Writes ``run.json``, also on KeyboardInterrupt, which goes through."""
        self._record("running", None)
        try:
            with user_warnings() as texts:
                state = self._work(texts)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            with suppress(OutputError):
                code = EXIT_INTERRUPTED if stopped else getattr(error, "exit_code", 1)
                self._record("interrupted" if stopped else "failed", code)
            raise
        finally:
            self._engines.close()
            gc.unfreeze()
        self._record(state, self._exit_code(state))
        return self._exit_code(state)

    def _work(self, texts: list[str]) -> State:
        self._take_in()
        if not self._queue:
            self._engines.prepare()
        gc.freeze()  # what is there by now stays: not looked through again and again while a frame waits
        last = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if self._take_in():
                last = now
            if self._queue:
                arrival = self._queue.pop(next(iter(self._queue)))
                if self._one(arrival):
                    last = time.monotonic()
                self._tell(texts)
                continue
            self._give_up(now)
            if not self._unfinished and (
                self._arrivals.ended or (self._idle_s is not None and now - last > self._idle_s)
            ):
                return "complete"
            self._listener.at_rest(self.log)
            self._stop.wait(BUSY_S if self._unfinished or now - last < LATELY_S else AT_EASE_S)
        return "stopped" if self._endless else "interrupted"

    def _take_in(self) -> bool:
        """Put what is new in the queue; a file that has changed again keeps its place."""
        new = self._arrivals.poll()
        for arrival in new:
            self._unfinished.pop(arrival.path, None)
            self._queue[arrival.path] = arrival
        return bool(new)

    def _one(self, arrival: Arrival) -> bool:
        """Whether a file has come to an end, good or bad: it is not to be waited for."""
        key: str | None = None
        try:
            begun, clock = time.time(), time.perf_counter()
            frame = read_single_frame(arrival.path, arrival.name, explicit=arrival.explicit)
            key = self._files.key(frame)
            done = None if self._files.force else self.log.outputs_of(arrival.name, key)
            if done is not None:
                self._end(arrival, FrameResult(name=arrival.name, status="skipped", outputs=tuple(done)), key)
                return True
            result = self._restore(arrival, frame, begun, clock)
        except LeftOutError as error:
            if error.__cause__ is not None:
                self._unfinished[arrival.path] = _Unfinished(arrival, error, time.monotonic())
                return False
            self._arrivals.left_out[str(error)] += 1
            self._arrivals.release(arrival.path)
            return True
        except (UnreadableError, UnusableError) as error:
            # A writer that reserves the whole size first leaves zeros at the end, which are no sign of a bad image.
            if isinstance(error, UnreadableError) or time.time() - arrival.version[1] / 1e9 < AT_REST_S:
                self._unfinished[arrival.path] = _Unfinished(arrival, error, time.monotonic())
                return False
            result = _failed(arrival, str(error), error.exit_code)
        except CmrsrError as error:
            result = _failed(arrival, str(error), error.exit_code)
        except MemoryError:
            result = _failed(arrival, f"{arrival.path}: out of memory; use --batch-size 1, or --roi X,Y,W,H", 6)
        except Exception as error:
            if debugging():
                raise
            text = f"unexpected {type(error).__name__}: {error}; run again with --debug, report it"
            result = _failed(arrival, f"{arrival.path}: {text}", 1)
        self._end(arrival, result, key if result.status == "ok" else None)
        return True

    def _restore(self, arrival: Arrival, frame: SingleFrame, begun: float, clock: float) -> FrameResult:
        files = self._files
        series = self._series.of(frame)
        plan = series.plan_for(frame, files.bundle, files.options)
        read = time.perf_counter()
        batch = self._engines.batch_of(frame.series.shape[1])
        engine = self._engines.get(batch, plan.padded)
        (restored,) = run_sr(frame.series, plan, files.bundle, engine, replace(files.options, batch_size=batch))
        computed = time.perf_counter()
        outputs = files.write(arrival, frame, series, plan, restored, engine.precision)
        written = time.perf_counter()
        timing = Timing(
            waiting_ms=1000 * max(begun - arrival.changed_at, 0.0), reading_ms=1000 * (read - clock),
            computing_ms=1000 * (computed - read), writing_ms=1000 * (written - computed), early=arrival.early,
        )  # fmt: skip
        self._say_of(series)
        return FrameResult(
            name=arrival.name, status="ok", outputs=tuple(outputs), timing=timing, series=series.number,
            scale=plan.scale,
        )  # fmt: skip

    def _end(self, arrival: Arrival, result: FrameResult, key: str | None) -> None:
        self._arrivals.release(arrival.path)
        self.log.add(result, key)
        self._listener.frame_ended(result)

    def _give_up(self, now: float) -> None:
        for path, one in list(self._unfinished.items()):
            if now - one.seen_at < AT_REST_S:
                continue
            del self._unfinished[path]
            if isinstance(one.error, LeftOutError):
                self._arrivals.left_out[str(one.error)] += 1
            elif one.arrival.explicit or path.exists():
                result = _failed(one.arrival, f"{one.error}; unchanged for {AT_REST_S:g} s", one.error.exit_code)
                self.log.add(result)
                self._listener.frame_ended(result)

    def _say_of(self, series: StreamSeries) -> None:
        if series.settled and series.plan and (f"#{series.number}" not in self._said):
            self._said[f"#{series.number}"] = None
            plan, name = series.plan, series.first.series.source.name
            lines = f"{plan.band.lines} of {plan.band.size} lines acquired"
            for text in (f"phase encoding along {plan.axis} ({plan.axis_source}), {lines}", *plan.notes):
                self._listener.noted(f"{name}: {text}")

    def _tell(self, texts: list[str]) -> None:
        """Pass warnings on, each once, and forget them."""
        for text in dict.fromkeys(texts):
            if text not in self._said:
                self._said[text] = None
                self._listener.noted(text)
        texts.clear()

    def _exit_code(self, state: State) -> int:
        """As of a batch: 8 where some frames failed, the code of the failures where all did."""
        if state == "interrupted":
            return EXIT_INTERRUPTED
        codes = [result.exit_code for result in self.log.failed.values()]
        if not codes:
            return 0
        return EXIT_PARTLY if self.log.counts.total() else min(codes)

    def _record(self, state: State, code: int | None) -> None:
        record = {
            **self._run_record, "state": state, "seconds": round(time.monotonic() - self._started, 3),
            "exit_code": code,
            "frames": {
                "ok": self.log.counts["ok"], "skipped": self.log.counts["skipped"], "failed": len(self.log.failed),
                "waiting": len(self._queue) + len(self._unfinished),
            },
            "latency_ms": self.log.latencies.summary(),
            "series": [_described(one, self._files) for one in self._series.known],
            "failures": self.log.failures(),
            "left_out": dict(self._arrivals.left_out),
            "warnings": [text for text in self._said if not text.startswith("#")],
        }  # fmt: skip
        write_json_atomic(self._files.out / "run.json", record)


def _failed(arrival: Arrival, message: str, exit_code: int) -> FrameResult:
    said = arrival.path.name in message
    text = one_line(message if said else f"{arrival.path}: {message}")
    pattern = pattern_of(text, str(arrival.name), [arrival.path])
    return FrameResult(name=arrival.name, status="failed", message=text, pattern=pattern, exit_code=exit_code)


def _described(series: StreamSeries, files: StreamFiles) -> dict[str, Any]:
    first, plan = series.first.series, series.plan
    found: dict[str, Any] = {
        "number": series.number, "name": first.source.name, "shape_zyx": first.shape[1:],
        "spacing_mm_zyx": first.spacing_mm, "kind": first.kind,
    }  # fmt: skip
    if plan:
        found |= {
            "phase_axis": plan.axis, "phase_axis_from": plan.axis_source, "acquired_lines": plan.band.lines,
            "matrix_lines": plan.band.size, "window_xywh": plan.window, "consistency": plan.consistency,
            "warnings": plan.notes, "notes": [*first.source.notes, *files.notes(series)],
        }  # fmt: skip
    return found
