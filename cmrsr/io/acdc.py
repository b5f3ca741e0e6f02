"""The file ``Info.cfg`` of the ACDC challenge, which lies beside a patient's images and names the two phases."""

import re
from pathlib import Path

INFO = "Info.cfg"
_PHASE = re.compile(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", re.MULTILINE)


def phases(path: Path) -> tuple[int, int] | None:
    """Frames of end-diastole and end-systole, from 0, by the ``Info.cfg`` beside a file; None where it has none."""
    try:
        text = (path.parent / INFO).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = {name: int(frame) - 1 for name, frame in _PHASE.findall(text)}
    return (found["ED"], found["ES"]) if len(found) == 2 else None
