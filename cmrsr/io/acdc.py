"""The layout of the ACDC challenge: a folder a patient with the beat, single phases of it, and ``Info.cfg``."""

import re
from collections.abc import Sequence
from pathlib import Path

from cmrsr.io.discover import Candidate
from cmrsr.io.nifti.series import nifti_stem
from cmrsr.io.patient import patient_of

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


def beats_alone(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without the single phases of patients whose whole beat (``*_4d``) is there too."""
    whole = {one.paths[0].parent for one in candidates if _is_beat(one)}
    return [one for one in candidates if one.paths[0].parent not in whole or _is_beat(one)]


def _is_beat(one: Candidate) -> bool:
    path = one.paths[0]
    return one.format == "nifti" and nifti_stem(path).endswith("_4d") and (path.parent / INFO).is_file()


def patient(one: Candidate) -> str:
    """The patient of a series: the folder in this layout, else by the series' name."""
    return one.paths[0].parent.name if _is_beat(one) else patient_of(one.name)
