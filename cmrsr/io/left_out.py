"""What a search for series left out: by which rule, how many, for instance which, and how to use it nevertheless."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_EXAMPLES = 3
NAME_FILE = "name the file itself to use it"
NAME_FOLDER = "name the folder itself to use it"
NO_WAY = "cmrsr takes greyscale MR images"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One rule. ``notable``: about images, so that everybody should read it; else about other files."""

    rule: str
    count: int
    examples: tuple[Path, ...]
    way_out: str
    notable: bool

    @property
    def message(self) -> str:
        """One line for people."""
        return f"left out: {self.count} x {self.rule}, such as {shown(self.examples[0])}; {self.way_out}"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rule": self.rule, "count": self.count, "examples": [str(path) for path in self.examples],
            "way_out": self.way_out,
        }  # fmt: skip


@dataclass(slots=True)
class LeftOutFiles:
    """Counts files by the rule that left them out, in the order in which the rules were first met."""

    _rules: dict[str, list[Path]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _ways: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def add(self, rule: str, path: Path, way_out: str, *, notable: bool = True) -> None:
        self._ways[rule] = (way_out, notable)
        self._counts[rule] = self._counts.get(rule, 0) + 1
        examples = self._rules.setdefault(rule, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(path)

    def listed(self) -> tuple[LeftOut, ...]:
        """Rules about images first, then by count."""
        return tuple(
            LeftOut(
                rule=rule, count=self._counts[rule], examples=tuple(examples), way_out=self._ways[rule][0],
                notable=self._ways[rule][1],
            )
            for rule, examples in sorted(
                self._rules.items(), key=lambda item: (not self._ways[item[0]][1], -self._counts[item[0]])
            )
        )  # fmt: skip

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts


def shown(path: Path) -> str:
    """A path as a person would type it: from the current folder where it is inside."""
    try:
        here = Path.cwd()
    except OSError:  # the current folder is gone
        return str(path)
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
