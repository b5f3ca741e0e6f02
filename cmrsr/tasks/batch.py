"""A batch of series: each a case of its own, so that one bad series never stops the others and a re-run resumes."""

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from cmrsr.errors import CmrsrError, UsageError
from cmrsr.io.discover import Candidate, Refused
from cmrsr.io.outputs import append_audit, sha256_file, write_json_atomic
from cmrsr.io.series import Series

Status = Literal["ok", "skipped", "failed"]
EXIT_PARTLY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of one series. ``details`` is what the case's page in the report shows, None without one."""

    name: str
    status: Status
    outputs: tuple[Path, ...] = ()
    seconds: float = 0.0
    message: str = ""
    exit_code: int = 0
    warnings: tuple[str, ...] = ()
    details: Any = None


class Listener(Protocol):
    """What a batch tells whoever watches; the command line draws it."""

    def case_started(self, name: str, n_evaluations: int) -> None: ...
    def evaluated(self, n: int) -> None: ...
    def case_ended(self, result: CaseResult) -> None: ...


ProcessCase = Callable[[Candidate, Series, Listener], CaseResult]


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
    """Process every candidate of this shard in order and keep ``run.json`` and ``audit.jsonl`` in ``out`` up to date.

    A CmrsrError fails its case alone; anything else is a defect and fails its case with exit code 1.
    KeyboardInterrupt goes through, with ``run.json`` saying what was done until then.
    """
    results = [_refused(one) for one in refused if mine(one.name, shard)]
    for result in results:
        listener.case_ended(result)
    record_path = out / ("run.json" if shard is None else f"run-{shard[0]}-of-{shard[1]}.json")
    started = time.monotonic()
    try:
        for candidate in candidates:
            if not mine(candidate.name, shard):
                continue
            result = _one(candidate, process, listener)
            results.append(result)
            listener.case_ended(result)
            append_audit(out / "audit.jsonl", {"case": result.name, **_summary(result)})
    finally:
        write_json_atomic(
            record_path,
            {
                **run_record,
                "seconds": round(time.monotonic() - started, 3),
                "exit_code": exit_code(results),
                "cases": [{"case": r.name, **_summary(r)} for r in results],
            },
        )
    return results


def _one(candidate: Candidate, process: ProcessCase, listener: Listener) -> CaseResult:
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = process(candidate, candidate.open(), listener)
        except CmrsrError as error:
            result = CaseResult(name=candidate.name, status="failed", message=str(error), exit_code=error.exit_code)
        except MemoryError:
            message = f"{candidate.name}: out of memory; use a smaller --batch-size or --roi heart"
            result = CaseResult(name=candidate.name, status="failed", message=message, exit_code=6)
        except Exception as error:
            if os.environ.get("CMRSR_DEBUG"):
                raise
            message = f"{candidate.name}: unexpected {type(error).__name__}: {error}; run again with --debug and report it"
            result = CaseResult(name=candidate.name, status="failed", message=message, exit_code=1)
    said = tuple(dict.fromkeys([*result.warnings, *(str(w.message) for w in caught)]))
    return replace(result, seconds=time.monotonic() - started, warnings=said)


def _refused(one: Refused) -> CaseResult:
    return CaseResult(name=one.name, status="failed", message=str(one.error), exit_code=one.error.exit_code)


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
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % shard[1] == shard[0] - 1


def parse_shard(text: str | None, environment: Mapping[str, str]) -> tuple[int, int] | None:
    """``--shard I/N`` (I from 1), else the shard of a Slurm array or a Kubernetes indexed job, else None.

    Slurm: SLURM_ARRAY_TASK_ID, _MIN and _COUNT.  Kubernetes sets JOB_COMPLETION_INDEX (from 0) but not the number of
    completions: set JOB_COMPLETIONS in the pod template.
    """
    if text is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--shard {text}: expected I/N with I from 1 to N, for instance 1/4")
        return int(match[1]), int(match[2])
    if "SLURM_ARRAY_TASK_ID" in environment and "SLURM_ARRAY_TASK_COUNT" in environment:
        first = int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
        return int(environment["SLURM_ARRAY_TASK_ID"]) - first + 1, int(environment["SLURM_ARRAY_TASK_COUNT"])
    if "JOB_COMPLETION_INDEX" in environment and "JOB_COMPLETIONS" in environment:
        return int(environment["JOB_COMPLETION_INDEX"]) + 1, int(environment["JOB_COMPLETIONS"])
    return None


def case_key(input_digest: str, engine_digest: str, version: str, parameters: Mapping[str, Any]) -> str:
    """What a result depends on, in one digest: equal keys mean that a case need not be done again."""
    record = json.dumps([input_digest, engine_digest, version, dict(sorted(parameters.items()))])
    return hashlib.sha256(record.encode()).hexdigest()


def already_done(sidecar: Path, key: str) -> list[Path] | None:
    """The outputs of an earlier run with the same key, if all are there with the digests that its sidecar states."""
    try:
        record = json.loads(sidecar.read_text())
        outputs = {sidecar.parent / name: digest for name, digest in record["outputs"].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if record.get("key") != key or not outputs:
        return None
    if all(path.is_file() and sha256_file(path) == digest for path, digest in outputs.items()):
        return sorted({path if path.suffix != ".dcm" else path.parent for path in outputs})
    return None
