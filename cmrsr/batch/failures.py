"""Failures that are alike: the same message but for names, paths and numbers, counted together."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from cmrsr.io.printable import one_line

NAME, NUMBER = "…", "#"
_MOST_PATHS = 8  # of a case: messages name the first file, rarely another
# What differs from case to case though the failure is the same: paths, identifiers and numbers.
_PATH = re.compile(r"(?<![\w…])(?:[A-Za-z]:)?[\\/][^\s:;,'\"]+")
_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?")
_REPEATED = re.compile(r"([…#])(?:(?:,| and| to|x| x)? ?\1)+")


class Failure(Protocol):
    """A failed case, of a batch or of its report: ``pattern`` is equal for failures that are alike."""

    @property
    def message(self) -> str: ...
    @property
    def pattern(self) -> str: ...


F = TypeVar("F", bound=Failure)


def pattern_of(message: str, name: str, paths: Sequence[Path] = ()) -> str:
    """A message of one line without what belongs to its case alone: ``…`` for names and paths, ``#`` for numbers.

    name: of the case in the batch; paths: its files.
    """
    own = {name, Path(name).name}
    for path in paths[:_MOST_PATHS]:
        own |= {str(path), path.name, path.name.split(".")[0]}
    words = {one_line(word) for word in own}
    message = next((NAME + message[len(word) :] for word in words if message.startswith(f"{word}: ")), message)
    for word in sorted((word for word in words if len(word) > 1), key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", NAME, message)
    message = _NUMBER.sub(NUMBER, _PATH.sub(NAME, message))
    return _REPEATED.sub(r"\1", " ".join(message.split()))


def alike(failures: Iterable[F]) -> list[list[F]]:
    """Failures by their pattern, in the order of the first of each; those without a pattern by their message."""
    groups: dict[str, list[F]] = {}
    for one in failures:
        groups.setdefault(one.pattern or one.message, []).append(one)
    return list(groups.values())


def summary_line(group: Sequence[Failure]) -> str:
    """One line for all failures of a group: the message of the first, and how many there are."""
    first = group[0].message
    return first if len(group) == 1 else f"{len(group)} cases failed alike; the first: {first}"
