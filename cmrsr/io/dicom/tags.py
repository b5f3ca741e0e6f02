"""The values of DICOM tags as text, words and numbers, for headers that break the rules of their value representations.

A decimal string with a comma is read as with a point: the comma has no other use there (PS3.5 6.2). Everything else
that is no number counts as absent, except in a tag that changes pixel values (``scale``).
"""

import functools
import re
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?|[+-]?,\d+")
_MAX_QUOTED = 40


class MissingTagError(Exception):
    """A tag without which an image has no place in a series."""


@functools.cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def value_of(ds: Dataset, keyword: str) -> Any:
    """The value, None where absent: as ``ds.get``, in half the time, of which reading thousands of files takes much."""
    tag = _tag(keyword)
    return ds[tag].value if tag in ds else None


def text(ds: Dataset, keyword: str) -> str:
    """The value as text, "" where absent."""
    value = value_of(ds, keyword)
    return "" if value is None else str(value).strip().strip("\0")


def words(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a multi-valued text tag in capitals, () where absent."""
    value = value_of(ds, keyword)
    if value is None or value == "":
        return ()
    return tuple(str(v).strip().upper() for v in (value if isinstance(value, list | tuple | MultiValue) else [value]))


def numbers(ds: Dataset, keyword: str) -> tuple[float, ...] | None:
    """All values of a numeric tag, None where absent, empty or not finite numbers."""
    value = value_of(ds, keyword)
    if value is None or isinstance(value, bytes | bytearray):
        return None
    many = isinstance(value, list | tuple | MultiValue | np.ndarray)
    found = [_number(v) for v in (value if many else [value])]
    return tuple(found) if found and all(v is not None for v in found) else None  # type: ignore[arg-type]


def number(ds: Dataset, keyword: str) -> float | None:
    """The first value of a numeric tag."""
    values = numbers(ds, keyword)
    return None if values is None else values[0]


def required(ds: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Exactly ``count`` numbers. Raises MissingTagError."""
    values = numbers(ds, keyword)
    if values is None or len(values) != count:
        raise MissingTagError(f"{keyword}{_found(ds, keyword)}")
    return values


def scale(ds: Dataset, keyword: str, absent: float) -> float:
    """One number that changes the pixel values: ``absent`` without the tag; MissingTagError where it is garbled."""
    value = value_of(ds, keyword)
    if value is None or str(value).strip() == "":
        return absent
    return required(ds, keyword, 1)[0]


def comma_notes(ds: Dataset, keywords: tuple[str, ...]) -> tuple[str, ...]:
    """A note where one of these decimal strings is written with a comma."""
    with_comma = [k for k in keywords if _COMMA.search(_strings(value_of(ds, k)))]
    return (f"decimal comma in {', '.join(with_comma)}, read as a decimal point",) if with_comma else ()


def _strings(value: Any) -> str:
    """What of a value is no number: a string with a comma stays one when it is read."""
    values = value if isinstance(value, list | tuple | MultiValue) else [value]
    return " ".join(v for v in values if isinstance(v, str))


def _joined(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple | MultiValue) else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = value.strip().strip("\0")
        if _COMMA.fullmatch(value):
            value = value.replace(",", ".")
    try:
        result = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return result if np.isfinite(result) else None


def _found(ds: Dataset, keyword: str) -> str:
    """What stands there instead, to be quoted in a message; "" where nothing does."""
    value = value_of(ds, keyword)
    if value is None or _joined(value).strip() == "":
        return ""
    return f" (found {_joined(value)[:_MAX_QUOTED]!r})"


def clock_ms(ds: Dataset, event: Literal["Acquisition", "Content"]) -> float | None:
    """Date and time of an event in ms since an arbitrary midnight; the time alone where no date is given."""
    stamp = text(ds, "AcquisitionDateTime") if event == "Acquisition" else ""  # the standard has no ContentDateTime
    date, time = (stamp[:8], re.split(r"[+-]", stamp[8:])[0]) if len(stamp) > 8 else ("", "")
    date, time = date or text(ds, f"{event}Date"), (time or text(ds, f"{event}Time")).replace(":", "").replace(",", ".")
    if not (parts := re.fullmatch(r"(\d\d)(\d\d)(\d\d(?:\.\d*)?)", time)):
        return None
    hours, minutes, seconds = (float(part) for part in parts.groups())
    try:
        day = datetime.strptime(date.replace(".", ""), "%Y%m%d").toordinal() if date else 0
    except ValueError:
        day = 0
    return (((day * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000.0
