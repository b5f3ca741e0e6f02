"""The JSON file of a NIfTI file (BIDS): its sidecar."""

import json
from pathlib import Path
from typing import Any

from cmrsr.io.nifti.file import reason


def read_sidecar(path: Path, stem: str, notes: list[str] | None = None) -> dict[str, Any]:
    """The sidecar ``<stem>.json`` of the NIfTI file ``path``; empty, with a note, where it cannot be used."""
    file = path.with_name(f"{stem}.json")
    try:
        if not file.is_file():
            return {}
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        if notes is not None:
            notes.append(f"{file.name} was not used: {reason(error)}")
        return {}
    return content if isinstance(content, dict) else {}
