"""Doubts about a case, and numbers as files hold them."""

import math
from dataclasses import dataclass

DIGITS = 2  # after the point, of mL, g, mm and percent in files: far below what a pixel more or less changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A doubt about a case: a code for scripts, and one plain sentence with the numbers.

    doubt: False for a note that a reader should have seen but that does not speak against the numbers.
    """

    code: str
    message: str
    doubt: bool = True


def plain_number(value: float | None, digits: int = DIGITS) -> float | None:
    """A number for a file: rounded, None where it is not one."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)
