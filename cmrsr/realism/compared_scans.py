"""Which scans are compared: real ones as they are found, and virtual ones of the same kinds."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmrsr.errors import CmrsrError, UnusableError
from cmrsr.io.discover import Candidate
from cmrsr.io.magnitude import refuse_maps
from cmrsr.io.series import Kind, Series
from cmrsr.phantom.examination import KINDS, Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scans import scan_patient
from cmrsr.realism.image_statistics import ImageStatistics, collect

# Of a virtual patient as many images as tell its scan: a whole beat and stack would only take longer.
PROTOCOLS: Mapping[Kind, Protocol] = {
    "perfusion": Protocol(kinds=("perfusion",), n_frames=40, n_slices=1),
    "cine": Protocol(kinds=("cine",), n_frames=8, n_slices=4),
    "t1": Protocol(kinds=("t1",), n_slices=1),
    "lge": Protocol(kinds=("lge",), n_slices=4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RealSeries:
    """A real scan to compare with: named so that ``patient_of`` finds its patient."""

    name: str
    kind: Kind
    open: Callable[[], Series]


def real_series(candidates: Sequence[Candidate], root: Path) -> tuple[list[RealSeries], list[CmrsrError]]:
    """The series of ``discover`` that can be compared, and why the others cannot.

    The kind is what the file says, otherwise what a folder on the way from ``root`` is named. Where every top folder
    has kinds of its own, the folders are data sets (all cines in one, all perfusion in the other), not patients.
    """
    found: list[RealSeries] = []
    failures: list[CmrsrError] = []
    for one in candidates:
        try:
            series = one.open()
            refuse_maps(series)
            kind = _named_kind(one.paths[0], root) if series.kind == "unknown" else series.kind
            if kind == "unknown":
                raise UnusableError(
                    f"{one.name}: neither header nor name says what was scanned; "
                    f"expected {', '.join(KINDS)} in the name of the file or of its folder"
                )
            found.append(RealSeries(name=one.name, kind=kind, open=one.open))
        except CmrsrError as error:
            failures.append(error)
    return _without_data_sets(found), failures


def _named_kind(path: Path, root: Path) -> Kind:
    """By the folders from the nearest one up to ``root``."""
    for folder in reversed(path.relative_to(root.parent).parts[:-1]):
        for kind in KINDS:
            if re.search(rf"(?<![a-z]){kind[:4]}(?!\d)", folder.lower()):
                return kind
    return "unknown"


def _without_data_sets(found: list[RealSeries]) -> list[RealSeries]:
    split = [_top_and_rest(one.name) for one in found]
    pairs = {(one.kind, top) for one, (top, _) in zip(found, split, strict=True)}
    if len({top for _, top in pairs}) < 2 or len({kind for kind, _ in pairs}) < len(pairs):
        return found
    return [replace(one, name=rest) for one, (_, rest) in zip(found, split, strict=True)]


def _top_and_rest(name: str) -> tuple[str, str]:
    top, slash, rest = name.partition("/")
    return (top, rest) if slash else ("", name)


def collect_virtual(seed: int, subject: int, kind: Kind) -> list[ImageStatistics]:
    """Statistics of the scans of one kind of a virtual patient, about the middle of its true labels.

    Perfusion has two, stress and rest. KeyError: no virtual scan is of this kind.
    """
    patient = draw_patient(seed, subject)
    found = []
    for scan in scan_patient(patient, PROTOCOLS[kind]):
        _, _, y, x = np.nonzero(scan.labels)
        centre = float(y.mean()), float(x.mean())
        found.append(collect(scan.series(), centre=centre, name=f"{patient.identity.name}_{scan.name}"))
    return found
