"""A batch of series: each a case of its own, so that one bad series never stops the others and a re-run resumes."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from cmrsr.batch.failures import alike, pattern_of
from cmrsr.errors import CmrsrError, DeviceError, UsageError, debugging
from cmrsr.io.discover import Candidate, Refused
from cmrsr.io.outputs import (
    append_audit,
    output_errors,
    remove_partials,
    resolve_output,
    sha256_file,
    write_json_atomic,
)
from cmrsr.io.printable import one_line
from cmrsr.io.series import Series
from cmrsr.user_warnings import user_warnings

Status = Literal["ok", "skipped", "failed"]
EXIT_PARTLY = 8
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of one series.

    notes: what was decided on the way, for who asks; warnings: what everybody should read.
    pattern: of a failure, the message without names and numbers, equal for failures that are alike.
    details: what the case's page in the report is made of, None without one; a batch does not keep it.
    """

    name: str
    status: Status
    outputs: tuple[Path, ...] = ()
    seconds: float = 0.0
    message: str = ""
    pattern: str = ""
    exit_code: int = 0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    details: Any = None


class Listener(Protocol):
    """What a batch tells whoever watches; the command line draws it."""

    def case_started(self, name: str, n_evaluations: int) -> None: ...
    def evaluated(self, n: int) -> None: ...
    def case_ended(self, result: CaseResult) -> None: ...


ProcessCase = Callable[[Candidate, Series, Listener], CaseResult]


@contextmanager
def output_folder(inputs: Sequence[Path], out: Path | None) -> Iterator[Path]:
    """The output folder of a run, ready to write to; on an error, what the run made and left empty goes again."""
    made: list[Path] = []
    try:
        if out is not None:
            with output_errors(out):
                made = [one for one in (out.absolute(), *out.absolute().parents) if not one.exists()]
        folder = resolve_output(inputs, out)
        if out is None:
            made = [folder]  # nobody misses a folder of our own naming while it is empty
        remove_partials(folder)
        yield folder
    except BaseException:
        below = [Path(parent) for parent, _, _ in os.walk(made[0], topdown=False)] if made else []
        for one in (*below, *made[1:]):
            with suppress(OSError):
                one.rmdir()
        raise


def run_batch(
    candidates: Sequence[Candidate],
    refused: Sequence[Refused],
    process: ProcessCase,
    out: Path,
    listener: Listener,
    run_record: Mapping[str, Any],
    *,
    shard: tuple[int, int] | None = None,
) -> list[CaseResult]:
    """Process every candidate of this shard in order, and write ``run.json`` and ``audit.jsonl`` in ``out`` after each.

    An error fails its case alone: a CmrsrError with its own exit code, anything else, a defect, with 1; also where it
    is the listener's. Only where the whole batch is one series is the error raised and nothing written.
    KeyboardInterrupt goes through, with ``run.json`` saying what was done until then.
    """
    alone = len(candidates) + len(refused) == 1
    results = [_heard(_refused(one), listener) for one in _alike_together(refused) if mine(one.name, shard)]
    started = time.monotonic()

    def record(state: Literal["running", "complete", "interrupted"]) -> None:
        write_json_atomic(
            out / shard_file("run.json", shard),
            {
                **run_record,
                "state": state,
                "seconds": round(time.monotonic() - started, 3),
                "exit_code": {"running": None, "complete": exit_code(results), "interrupted": EXIT_INTERRUPTED}[state],
                "cases": _cases(results),
            },
        )

    try:
        for candidate in candidates:
            if not mine(candidate.name, shard):
                continue
            result = _heard(_one(candidate, process, listener, alone), listener)
            results.append(replace(result, details=None))
            append_audit(out / "audit.jsonl", {"case": result.name, **_summary(result)})
            record("running")
    except KeyboardInterrupt:
        if not alone:
            record("interrupted")
        raise
    record("complete")
    return results


def _alike_together(refused: Sequence[Refused]) -> list[Refused]:
    """What had to be refused, equal failures after each other, so that they are one line."""
    order: dict[str, int] = {}
    keys = [order.setdefault(_refused(one).pattern, len(order)) for one in refused]
    return [one for _, one in sorted(zip(keys, refused, strict=True), key=lambda pair: pair[0])]


def _heard(result: CaseResult, listener: Listener) -> CaseResult:
    """The result, once the listener has it; a failure where a defect keeps the listener from recording it."""
    try:
        listener.case_ended(result)
    except CmrsrError:
        raise
    except Exception as error:
        if debugging():
            raise
        message = f"{result.name}: could not be reported, {_unexpected(error)}"
        return _failed(replace(result, exit_code=1), message)
    return result


def _one(candidate: Candidate, process: ProcessCase, listener: Listener, alone: bool) -> CaseResult:
    started = time.monotonic()
    with user_warnings() as texts:
        try:
            result = process(candidate, candidate.open(), listener)
        except CmrsrError as error:
            message = _named(candidate, str(error))
            if alone:
                raise type(error)(message) from error
            result = _failed_case(candidate, message, error.exit_code)
        except MemoryError as error:
            message = f"{candidate.name}: out of memory; use a smaller --batch-size, or --roi heart"
            if alone:
                raise DeviceError(message) from error
            result = _failed_case(candidate, message, DeviceError.exit_code)
        except Exception as error:
            if alone or debugging():
                raise
            result = _failed_case(candidate, _named(candidate, _unexpected(error)), 1)
    once = dict.fromkeys([*result.warnings, *texts])
    return replace(result, seconds=time.monotonic() - started, warnings=tuple(once))


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}: {error}; run again with --debug, report it"


def _failed_case(candidate: Candidate, message: str, code: int) -> CaseResult:
    return _failed(CaseResult(name=candidate.name, status="failed", exit_code=code), message, candidate.paths)


def _failed(result: CaseResult, message: str, paths: Sequence[Path] = ()) -> CaseResult:
    message = one_line(message)
    return replace(result, status="failed", message=message, pattern=pattern_of(message, result.name, paths))


def _named(candidate: Candidate, message: str) -> str:
    """The message in one line, which tells the reader of a long list what it is about."""
    message = one_line(message)
    words = map(one_line, (Path(candidate.name).name, *(path.name for path in candidate.paths)))
    said = any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message) for word in words)
    return message if said else f"{candidate.name}: {message}"


def _refused(one: Refused) -> CaseResult:
    result = CaseResult(name=one.name, status="failed", exit_code=one.error.exit_code)
    return _failed(result, str(one.error), one.paths)


def _cases(results: Sequence[CaseResult]) -> list[dict[str, Any]]:
    """Every case in its order; failures that are alike are one entry, with the names of all others in it."""
    groups = {id(group[0]): group for group in alike(r for r in results if r.status == "failed")}
    cases = []
    for one in results:
        entry: dict[str, Any] = {"case": one.name, **_summary(one)}
        if one.status == "failed":
            if id(one) not in groups:
                continue
            others = groups[id(one)][1:]
            if others:
                entry |= {"failed_alike": len(others) + 1, "others": [other.name for other in others]}
        cases.append(entry)
    return cases


def _summary(result: CaseResult) -> dict[str, Any]:
    return {
        "status": result.status,
        "outputs": [str(path) for path in result.outputs],
        "seconds": round(result.seconds, 3),
        "message": result.message,
        "exit_code": result.exit_code,
        "warnings": list(result.warnings),
    }


def exit_code(results: Sequence[CaseResult]) -> int:
    """0 if all went well, 8 if some did, else the exit code that the failures share (the smallest if they differ)."""
    failures = [r.exit_code for r in results if r.status == "failed"]
    if not failures:
        return 0
    return EXIT_PARTLY if len(failures) < len(results) else min(failures)


def mine(name: str, shard: tuple[int, int] | None) -> bool:
    """Whether a case belongs to shard (i, n), i from 1 to n: by a hash of its name, stable over machines and runs."""
    if shard is None:
        return True
    return (
        int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") % shard[1]
        == shard[0] - 1
    )


def parse_shard(text: str | None, environment: Mapping[str, str]) -> tuple[int, int] | None:
    """``--shard I/N`` (I from 1), else the shard of a Slurm array or a Kubernetes indexed job, else None.

    Slurm: SLURM_ARRAY_TASK_ID, _MIN, _STEP and _COUNT. Kubernetes sets JOB_COMPLETION_INDEX (from 0) but not the number
    of completions: set JOB_COMPLETIONS in the pod template.
    """
    if text is not None:
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--shard {text}: expected I/N with I from 1 to N, for instance 1/4")
        return int(match[1]), int(match[2])
    try:
        if "SLURM_ARRAY_TASK_ID" in environment and "SLURM_ARRAY_TASK_COUNT" in environment:
            offset = int(environment["SLURM_ARRAY_TASK_ID"]) - int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
            index, rest = divmod(offset, int(environment.get("SLURM_ARRAY_TASK_STEP", 1)))
            count = int(environment["SLURM_ARRAY_TASK_COUNT"])
        elif "JOB_COMPLETION_INDEX" in environment and "JOB_COMPLETIONS" in environment:
            index, rest = int(environment["JOB_COMPLETION_INDEX"]), 0
            count = int(environment["JOB_COMPLETIONS"])
        else:
            return None
    except (ValueError, ZeroDivisionError):
        raise UsageError("the environment's array job is not numbered with integers: give --shard I/N") from None
    if rest or not 0 <= index < count:
        raise UsageError("the tasks of the array job are not numbered evenly: give --shard I/N (1/1 for everything)")
    return index + 1, count


def shard_file(name: str, shard: tuple[int, int] | None) -> str:
    """``run.json``, or ``run-2-of-4.json`` for a shard: shards share one output folder."""
    if shard is None:
        return name
    path = Path(name)
    return f"{path.stem}-{shard[0]}-of-{shard[1]}{path.suffix}"


def case_key(input_digest: str, engine_digest: str, version: str, parameters: Mapping[str, Any]) -> str:
    """What a result depends on, in one digest: equal keys mean that a case need not be done again."""
    record = json.dumps([input_digest, engine_digest, version, dict(sorted(parameters.items()))])
    return hashlib.sha256(record.encode()).hexdigest()


def already_done(sidecar: Path, key: str) -> list[Path] | None:
    """The outputs of an earlier run with the same key, if all are there with the digests that its sidecar states."""
    found, outputs = _earlier(sidecar)
    if found != key or not outputs:
        return None
    return list(outputs) if all(_unchanged(path, digest) for path, digest in outputs.items()) else None


def remove_stale(sidecar: Path, outputs: Sequence[Path]) -> None:
    """Remove what an earlier run of the same case wrote and this one did not, unless somebody changed it since.

    An uncertainty or another format left beside the new result would be taken for a part of it.
    """
    for path, digest in _earlier(sidecar)[1].items():
        if path not in outputs and _unchanged(path, digest):
            with output_errors(path):
                path.unlink()
            if path.parent != sidecar.parent:
                with suppress(OSError):  # not empty
                    path.parent.rmdir()


def _earlier(sidecar: Path) -> tuple[str | None, dict[Path, str]]:
    """Key and outputs (with digests) that a sidecar states; None and nothing where it is absent or not ours."""
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        return record["key"], {sidecar.parent / name: digest for name, digest in record["outputs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}


def _unchanged(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest
