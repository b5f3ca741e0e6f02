"""What the user named: files, folders, and text files that list them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cmrsr.errors import UnreadableError


def expand_lists(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files and folders named directly or in a ``.txt`` list, each once, and the listed ones that are missing.

    All are absolute. A list holds one path a line, relative to the list's own folder; ``#`` starts a comment line.
    UnreadableError: a directly named path does not exist, or a list cannot be read as text or is empty.
    """
    found: dict[Path, Path] = {}
    missing: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise UnreadableError(f"{path}: no such file or folder")
        is_list = path.suffix.lower() == ".txt" and path.is_file()
        for entry in _read_list(path) if is_list else [path]:
            if entry.exists():
                found.setdefault(entry.resolve(), _without_dots(entry))
            else:
                missing.append(entry)
    return list(found.values()), missing


def _read_list(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: expected a text file of paths, one a line ({error})") from error
    entries = [path.parent / Path(line).expanduser() for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UnreadableError(f"{path}: the list names no file or folder, expected one path a line")
    return entries


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
