"""What a stream keeps of its frames: a line for each in ``stream.jsonl``, how late they were, and what is done."""

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cmrsr.batch.failures import alike
from cmrsr.io.outputs import append_audit, sha256_file
from cmrsr.io.printable import storable

LOG = "stream.jsonl"
SHOWN_LAST = 200  # frames that the running percentiles are of
MAX_FAILURES = 100  # kinds of them that run.json lists
Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds from the file complete to the result under its name, and the parts they were spent in.

    waiting: until the reading began that found the file whole. reading: also the plan. early: the file was complete
    before the stream began to look, so that it says nothing of the latency.
    """

    waiting_ms: float
    reading_ms: float
    computing_ms: float
    writing_ms: float
    early: bool

    @property
    def latency_ms(self) -> float:
        return self.waiting_ms + self.reading_ms + self.computing_ms + self.writing_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """What became of one file."""

    name: Path
    status: Status
    outputs: tuple[Path, ...] = ()
    timing: Timing | None = None
    series: int | None = None
    scale: float | None = None
    message: str = ""
    pattern: str = ""
    exit_code: int = 0


@dataclass(slots=True)
class Latencies:
    """Latencies of the frames that arrived while the stream was running, in ms; in total, and by parts."""

    total: "array[float]" = field(default_factory=lambda: array("d"))
    parts: dict[str, "array[float]"] = field(default_factory=dict)

    def add(self, timing: Timing) -> None:
        if timing.early:
            return
        self.total.append(timing.latency_ms)
        for name, value in asdict(timing).items():
            if name != "early":
                self.parts.setdefault(name, array("d")).append(value)

    def running(self) -> tuple[float, float] | None:
        """Median and 95th percentile of the last frames."""
        last = self.total[-SHOWN_LAST:]
        return (float(np.median(last)), float(np.percentile(last, 95))) if last else None

    def summary(self) -> dict[str, Any]:
        if not self.total:
            return {"frames": 0}
        return {
            "frames": len(self.total), **_quantiles(self.total), "max": round(max(self.total), 3),
            "parts": {name: _quantiles(values) for name, values in self.parts.items()},
        }  # fmt: skip


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    median, high = np.percentile(values, [50, 95])
    return {"median": round(float(median), 3), "p95": round(float(high), 3)}


class StreamLog:
    """``OUT/stream.jsonl``, and the results that earlier runs have written there."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out / LOG
        self.latencies = Latencies()
        self.counts: Counter[Status] = Counter()
        self.failed: dict[Path, FrameResult] = {}
        self._done = _read(self._path)
        self._seen: set[Path] = set()

    def outputs_of(self, name: Path, key: str) -> list[Path] | None:
        """The results of a frame with the same key, if they are there as they were written."""
        found, outputs = self._done.get(storable(name.as_posix()), (None, {}))
        paths = [self._out / path for path in outputs]
        if found != key or not all(
            path.is_file() and sha256_file(path) == digest
            for path, digest in zip(paths, outputs.values(), strict=True)
        ):  # fmt: skip
            return None
        return paths

    def add(self, result: FrameResult, key: str | None = None) -> None:
        """Count a result and write its line; of a skipped one the earlier line stands. OutputError."""
        self.failed.pop(result.name, None)
        if result.status == "skipped":
            self.counts["skipped"] += result.name not in self._seen  # else touched since this run did it
            self._seen.add(result.name)
            return
        if result.status == "failed":
            self.failed[result.name] = result
        else:
            self.counts["ok"] += 1
            self._seen.add(result.name)
        name = result.name.as_posix()
        outputs = {path.relative_to(self._out).as_posix(): sha256_file(path) for path in result.outputs}
        if key is not None:
            self._done[storable(name)] = (key, outputs)
        line: dict[str, Any] = {"frame": name, "status": result.status}
        if timing := result.timing:
            self.latencies.add(timing)
            times = {"latency_ms": timing.latency_ms, **asdict(timing)}
            line |= {k: round(v, 3) if k.endswith("_ms") else v for k, v in times.items()}
        line |= {"series": result.series, "scale": result.scale, "key": key, "outputs": outputs}
        if result.message:
            line |= {"message": result.message, "exit_code": result.exit_code}
        append_audit(self._path, line)

    def failures(self) -> list[dict[str, Any]]:
        """For run.json."""
        entries = []
        for first, *others in alike(self.failed.values())[:MAX_FAILURES]:
            entry: dict[str, Any] = {
                "frame": first.name.as_posix(), "message": first.message, "exit_code": first.exit_code,
            }  # fmt: skip
            if others:
                entry |= {"failed_alike": len(others) + 1, "others": [other.name.as_posix() for other in others]}
            entries.append(entry)
        return entries


def _read(path: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Key and outputs (with digests) by frame, of what an earlier run has done; the last line of a frame counts."""
    done: dict[str, tuple[str, dict[str, str]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return done
    for line in lines:
        try:
            record = json.loads(line)
            if record["status"] == "ok":
                done[record["frame"]] = (record["key"], dict(record["outputs"]))
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            continue
    return done
