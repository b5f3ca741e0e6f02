"""Where results go: a folder that is never the input, files that appear whole or not at all."""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cmrsr.errors import OutputError
from cmrsr.io.inputs import expand_lists
from cmrsr.io.own_results import RESULTS
from cmrsr.io.printable import short_name, storable

_SUFFIXES = (".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img", ".dcm", ".ima", ".txt")
# Shards share one folder, and a live partial file may rest for long on a slow engine: only an old one is left over.
_STALE_S = 24 * 3600.0
_UNESCAPED = re.compile("[\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")  # what ``json`` leaves as it is


def resolve_output(inputs: Sequence[Path], out: Path | None) -> Path:
    """The output folder, created and proven writable; by default ``<first input>_cmrsr`` next to the first input.

    OutputError if it cannot be written, or if it is an input or lies inside one, seen through symbolic links.
    A parent of the input is fine: results have names of their own (see ``refuse_overwriting``).
    """
    folder = (_default_output(inputs[0]) if out is None else out).absolute()
    with output_errors(folder):
        real = folder.resolve()
    for path in expand_lists(inputs)[0]:
        source = path.resolve()
        if real == source or (source in real.parents and source.is_dir()):
            where = "is" if real == source else "is inside"
            raise OutputError(f"{folder}: the output {where} the input {path}; name a folder outside it with -o")
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits do not stop root, and say nothing of a read-only mount or a full disk: only writing does.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".cmrsr-", suffix=".partial") as probe:
            probe.write(b"cmrsr")
            probe.flush()
    return folder


def _default_output(source: Path) -> Path:
    path = source if source.name not in ("", "..") else source.resolve()
    if not path.name:
        raise OutputError(f"{path}: no folder can be made next to this input; name the output folder with -o")
    stem = next((path.name[: -len(s)] for s in _SUFFIXES if path.name.lower().endswith(s) and not path.is_dir()), "")
    return path.with_name(f"{short_name(stem or path.name)}{RESULTS}")


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """OutputError if a planned output file is one of the input files (``x_sr.nii.gz`` may be an input of the batch)."""
    sources = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in sources:
            raise OutputError(f"{path}: the output would overwrite an input; name another folder with -o")


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an operating system error met while writing ``path`` into an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free it, or name another folder with -o"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of ``path``: it takes the name on a clean exit and is removed on any exception.

    The name is the same in every run, so a re-run writes over what a killed run left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        with output_errors(path):
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file that appears whole or not at all; line ends stay as they are."""
    with replacing(path) as partial, output_errors(path):
        partial.write_text(text, encoding="utf-8", newline="")


def write_json_atomic(path: Path, obj: object) -> None:
    """Write JSON; numpy values and paths become plain ones, NaN and infinity (not valid JSON) become null."""
    write_text_atomic(path, _json(obj, indent=2) + "\n")


def append_audit(path: Path, record: dict[str, Any]) -> None:
    """Append one line of JSON with the UTC time in front; whole lines even when shards write to the same file."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = _json({"time": now, **record}) + "\n"
    with output_errors(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())  # one call: appends of different processes do not mix
        finally:
            os.close(handle)


def _json(obj: object, *, indent: int | None = None) -> str:
    """JSON text that any reader splits into the same lines: control characters beyond ASCII escaped too."""
    text = json.dumps(plain_json(obj), indent=indent, ensure_ascii=False, allow_nan=False)
    return _UNESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain_json(value: Any) -> Any:
    """A value as JSON holds it: numpy values and paths become plain ones, NaN and infinity null, all text UTF-8."""
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(str(k)): plain_json(v) for k, v in value.items()}
        case list() | tuple():
            return [plain_json(v) for v in value]
        case np.ndarray() | np.generic():
            return plain_json(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return storable(str(value))
        case _:
            return value


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_partials(folder: Path, *, older_than_s: float = _STALE_S) -> list[Path]:
    """Remove what killed runs left (``.<name>.partial``, files and folders, at any depth); returns what was removed."""
    limit = time.time() - older_than_s
    removed = []
    for path in sorted(folder.rglob(".*.partial")):
        with output_errors(path):
            if path.lstat().st_mtime > limit:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed
