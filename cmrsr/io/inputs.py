"""What the user named: files, folders, and text files that list them."""

import codecs
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cmrsr.errors import UnreadableError

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def expand_lists(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files and folders named directly or in a ``.txt`` list, each once, and the listed ones that are missing.

    All are absolute. A list holds one path a line, relative to the list's own folder; ``#`` starts a comment line.
    UnreadableError: a directly named path does not exist, or a list cannot be read as text or is empty.
    """
    found: dict[Path, Path] = {}
    missing: list[Path] = []
    for path in inputs:
        if not _exists(path):
            raise UnreadableError(f"{path}: no such file or folder; check the path")
        is_list = path.suffix.lower() == ".txt" and is_file(path)
        for entry in _read_list(path) if is_list else [path]:
            if _exists(entry):
                found.setdefault(entry.resolve(), _without_dots(entry))
            else:
                missing.append(entry)
    return list(found.values()), missing


def is_file(path: Path) -> bool:
    """Whether a path is a file that can be asked about; False for names that are too long or unreachable."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _read_list(path: Path) -> list[Path]:
    """The entries of a list: UTF-8, or UTF-16 as some shells of Windows write it; other bytes belong to the names."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-16") if data.startswith(_UTF_16) else os.fsdecode(data.removeprefix(codecs.BOM_UTF8))
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: expected a text file of paths, one a line ({error})") from error
    if "\0" in text:
        raise UnreadableError(f"{path}: expected a text file of paths, one a line, found binary data")
    lines = [line.strip() for line in text.split("\n")]
    entries = [path.parent / _home(line) for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UnreadableError(f"{path}: the list names no file or folder, expected one path a line")
    return entries


def _home(line: str) -> Path:
    try:
        return Path(line).expanduser()
    except RuntimeError:  # "~name" of nobody: a file may be called so
        return Path(line)


def _without_dots(path: Path) -> Path:
    # ``a/link/..`` is not ``a``: only the file system knows what ``..`` leads to. Other links keep the user's names.
    return path.resolve() if ".." in path.parts else path.absolute()


def common_root(paths: Sequence[Path]) -> Path:
    """The folder that names are relative to: a single folder itself, otherwise the deepest one above all paths."""
    return Path(os.path.commonpath([path if path.is_dir() else path.parent for path in paths]))


def natural_key(path: Path) -> list[tuple[list[tuple[int, int, str]], str]]:
    """Sorts ``p2`` before ``p10``, folder by folder; equal for equal names only, whatever the file system's order."""
    return [(_natural_parts(part), part) for part in path.parts]


def _natural_parts(text: str) -> list[tuple[int, int, str]]:
    pieces = re.split(r"(\d+)", text.casefold())
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece]
