"""Single values of a case's JSON, by the names that tables and DICOM reports have for them."""

from collections.abc import Iterable, Mapping
from typing import Any

SIDES = ("lv", "rv")
FLAGS = "flags"


def values_of(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``lv_edv_ml`` is ``edv_ml`` of ``lv``; ``flags`` are their codes; see ``function_measure.as_record``."""
    return {name: _value(record, name) for name in names}


def _value(record: Mapping[str, Any], name: str) -> Any:
    side, _, rest = name.partition("_")
    if side in SIDES:
        return record[side][rest]
    if name == FLAGS:
        return ";".join(dict.fromkeys(flag["code"] for flag in record[FLAGS]))
    return record[name]
