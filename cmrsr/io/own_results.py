"""Which files are results of ours: those that a JSON file of ours next to them, or above them, lists as its outputs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = "cmrsr "  # how "software" begins in every JSON file of ours
RESULTS = "_cmrsr"  # how the names of our own output folders end
TRUTH = "truth"  # a virtual patient's folder of images free of noise, next to its ``truth.json``
_MAX_BYTES = 2**24  # a sidecar of ten thousand DICOM images is a tenth of it


@dataclass(slots=True)
class OwnResults:
    """Learns folder by folder, from the outermost, what is ours."""

    _outputs: set[str] = field(default_factory=set)

    def learn(self, folder: Path, files: list[str]) -> None:
        """Take note of the outputs that the JSON files among ``files`` of a folder list."""
        for name in files:
            if name.endswith(".json"):
                record = _record(folder / name)
                outputs = record.get("outputs") if record else None
                if isinstance(outputs, dict):
                    self._outputs |= {str(folder / str(output)) for output in outputs}
            elif name == "stream.jsonl":
                self._outputs |= {str(folder / output) for output in _streamed(folder / name)}

    def __contains__(self, path: Path) -> bool:
        return str(path) in self._outputs


def is_result_folder(folder: Path) -> bool:
    """Whether a folder is one of results: its name ends as ours do, and it holds the record of a run of ours."""
    if not folder.name.endswith(RESULTS):
        return False
    if any(True for _ in _streamed(folder / "stream.jsonl")):
        return True
    return any(_record(path) is not None for path in _runs(folder))


def is_truth_folder(folder: Path) -> bool:
    """Whether a folder holds what is known of a virtual patient, much of which looks like a scan."""
    return folder.name == TRUTH and _record(folder.parent / "truth.json") is not None


def _runs(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("run*.json"))
    except OSError:
        return []


def _record(path: Path) -> dict[str, Any] | None:
    """A JSON file of ours; None for any other."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        data = path.read_bytes()
        if b'"cmrsr ' not in data:  # most JSON files are somebody else's: no need to parse them
            return None
        record = json.loads(data)
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(record, dict) and str(record.get("software", "")).startswith(OURS)
    return record if ours else None


def _streamed(path: Path) -> Iterator[str]:
    """Outputs that the log of a stream lists."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            record = json.loads(line)
            yield from dict(record["outputs"]) if "frame" in record and "key" in record else ()
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            continue
