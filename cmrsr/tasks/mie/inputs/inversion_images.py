"""Inversion-recovery images stored as one NIfTI file for each inversion time, as BIDS does, joined into a T1 series."""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cmrsr.errors import CmrsrError
from cmrsr.io.discover import Candidate
from cmrsr.io.joined import joined, same_place
from cmrsr.io.nifti.series import nifti_stem, read_nifti
from cmrsr.io.nifti.sidecar import read_sidecar
from cmrsr.io.nifti.times import LEAST_INVERSION_TIMES
from cmrsr.io.series import Series

SAME_PLACE_MM = 0.1
LEAST_RANGE = 3.0  # longest to shortest inversion time: scans of late enhancement tried at several times span less


def join_inversions(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, with single volumes that are one T1 series joined in the order of their inversion times.

    Joined are NIfTI files of one folder with names that differ by numbers alone, of the same shape in the same place
    within ``SAME_PLACE_MM``, whose sidecars give each another ``InversionTime`` (one number, seconds). The series takes
    the place of its first file, and its name without the number of the inversion. Nothing but headers is read.
    """
    groups: dict[Hashable, list[tuple[float, Candidate]]] = defaultdict(list)
    for one in candidates:
        if one.format == "nifti" and (time_ms := _inversion_ms(one.paths[0])):
            stem = nifti_stem(one.paths[0])
            groups[one.paths[0].parent, stem.split("_")[0], re.sub(r"\d+", "#", stem)].append((time_ms, one))
    replaced: dict[str, Candidate | None] = {}
    for group in groups.values():
        group.sort(key=lambda pair: pair[0])
        times = [time_ms for time_ms, _ in group]
        if len(set(times)) < max(LEAST_INVERSION_TIMES, len(times)) or times[-1] < LEAST_RANGE * times[0]:
            continue
        if _one_place([one for _, one in group]):
            files = [one for one in candidates if any(one is member for _, member in group)]
            whole = _join(group)
            if any(whole.name.casefold() == one.name.casefold() for one in candidates):
                whole = replace(whole, name=files[0].name)
            replaced |= {one.name: None for one in files} | {files[0].name: whole}
    kept = [replaced.get(one.name, one) for one in candidates]
    return [one for one in kept if one is not None]


def _inversion_ms(path: Path) -> float | None:
    given = read_sidecar(path, nifti_stem(path)).get("InversionTime")
    return given * 1000 if isinstance(given, int | float) and np.isfinite(given) and given > 0 else None


def _one_place(files: Sequence[Candidate]) -> bool:
    try:
        volumes = [_volume(one) for one in files]
    except CmrsrError:
        return False
    return all(
        one.n_frames == 1 and one.kind in ("t1", "unknown") and same_place(volumes[0], one, SAME_PLACE_MM)
        for one in volumes
    )


def _volume(one: Candidate) -> Series:
    return read_nifti(one.paths[0], time_axis="none")


def _join(group: Sequence[tuple[float, Candidate]]) -> Candidate:
    first = group[0][1]
    stem = re.sub(r"[-_]?(inv|ti|t)?[-_]?\d+(?=[-_]|$)", _without_number(group), nifti_stem(first.paths[0]))
    name = str(Path(first.name).with_name(stem or nifti_stem(first.paths[0])))
    return replace(
        first,
        name=name,
        paths=tuple(path for _, one in group for path in one.paths),
        open=functools.partial(_open, [one for _, one in group], Path(name).name, [time_ms for time_ms, _ in group]),
    )


def _without_number(group: Sequence[tuple[float, Candidate]]) -> Callable[[re.Match[str]], str]:
    """Takes out the numbers that differ from file to file."""
    others = [nifti_stem(one.paths[0]) for _, one in group[1:]]
    return lambda match: match[0] if all(match[0] in other for other in others) else ""


def _open(files: Sequence[Candidate], name: str, times_ms: Sequence[float]) -> Series:
    note = f"{len(files)} files of one inversion time each joined, by the InversionTime of their sidecars"
    return joined([_volume(one) for one in files], name, note, kind="t1", times_ms=np.array(times_ms, np.float64))
