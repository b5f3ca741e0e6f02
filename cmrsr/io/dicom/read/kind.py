"""What kind of cardiac series it is, from the words of the header and from the pattern of its times."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.series import Kind

WORDS: tuple[tuple[Kind, str], ...] = (
    ("perfusion", r"perf|first ?-?pass|dynamic contrast|\bdce\b"),
    ("lge", r"\blge\b|late ?gad|late ?enh|delayed ?enh|\bpsir\b|viability"),
    ("cine", r"\bcine|cine\b"),
)
MAX_BEAT_MS = 2500.0
MAX_PHASE_STEP_MS = 150.0
MIN_PHASES = 8


def text_kind(instance: DicomInstance) -> Kind:
    """The kind that description, protocol, sequence name, comment or image type name; "unknown" if none does."""
    return next((kind for kind, pattern in WORDS if re.search(pattern, instance.text)), "unknown")


def kind_of(table: Sequence[Sequence[DicomInstance]], times_ms: NDArray[np.float64] | None, tag: str) -> Kind:
    """The kind of arranged images ``[t][z]``: inversion times make a T1 series, then words, then times in one beat."""
    if tag == "InversionTime":
        return "t1"
    named = text_kind(table[0][0])
    if named != "unknown" or times_ms is None or len(table) < MIN_PHASES:
        return named
    span, step = float(np.ptp(times_ms, axis=0).max()), float(np.median(np.diff(times_ms, axis=0)))
    return "cine" if span <= MAX_BEAT_MS and step <= MAX_PHASE_STEP_MS else "unknown"
