"""What there is to work on: the NIfTI files and DICOM series in files, folders and lists, in a stable order."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError
from cmrsr.io.candidate import Candidate as Candidate
from cmrsr.io.candidate import Refused as Refused
from cmrsr.io.dicom.read.candidates import UNUSABLE, DicomFound, find_dicom
from cmrsr.io.inputs import common_root, expand_lists, natural_key
from cmrsr.io.left_out import LeftOut
from cmrsr.io.nifti.header import TimeAxis
from cmrsr.io.nifti.series import nifti_stem, read_nifti
from cmrsr.io.printable import safe_name
from cmrsr.io.series import Series
from cmrsr.io.walk import FoundFiles, find_files

if TYPE_CHECKING:
    from cmrsr.io.dicom.read.time_axis import OnMissing

_MAX_LISTED = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All series in natural order, what had to be refused, the folder that names are relative to, what was left out."""

    candidates: tuple[Candidate, ...]
    refused: tuple[Refused, ...]
    root: Path
    left_out: tuple[LeftOut, ...]


def discover(
    inputs: Sequence[Path],
    *,
    time_axis: TimeAxis = None,
    on_missing: "OnMissing" = "fail",
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Candidate], list[Refused], Path]:
    """The candidates, the refused and the root of ``find_series``; the log says what was left out.

    UnreadableError: a named path is missing, or nothing is found. UnusableError: only images of no use (CT, colour).
    """
    found = find_series(inputs, time_axis=time_axis, on_missing=on_missing, progress=progress)
    log_left_out(found.left_out)
    return list(found.candidates), list(found.refused), found.root


def log_left_out(left_out: Sequence[LeftOut]) -> None:
    """One line for each rule that left out images."""
    for one in left_out:
        if one.notable:
            _log.warning("%s", one.message)


def find_series(
    inputs: Sequence[Path],
    *,
    time_axis: TimeAxis = None,
    on_missing: "OnMissing" = "fail",
    progress: Callable[[int], None] | None = None,
) -> Found:
    """All series in the inputs.

    An input is a file, a folder (searched through) or a ``.txt`` list of both. In folders, hidden files, earlier
    results, label maps and the truth of virtual patients are left out (see ``find_files``). A DICOM file named directly
    stands for itself alone: name the folder for the series around it.
    ``progress`` is called with the number of possible DICOM files that have been read so far.
    UnreadableError: a named path is missing, or nothing is found. UnusableError: only images of no use (CT, colour).
    """
    named, missing = expand_lists(inputs)
    refused = [
        Refused(
            name=safe_name(path.name), paths=(path,),
            error=UnreadableError(f"{path}: no such file or folder, named in a list: correct the list"),
        )
        for path in missing
    ]  # fmt: skip
    root = common_root(named or missing)
    files = find_files(named)
    candidates = [_nifti_candidate(path, root, time_axis) for path in files.nifti]
    if files.dicom:
        dicom = find_dicom(files, root, on_missing, progress)
        candidates += dicom.candidates
        refused += dicom.refused
        _warn_of_single(files, dicom)
    left_out = files.left_out.listed()
    if not candidates:
        _raise_nothing(inputs, refused, left_out)
    return Found(candidates=tuple(_unique(candidates)), refused=tuple(refused), root=root, left_out=left_out)


def _nifti_candidate(path: Path, root: Path, time_axis: TimeAxis) -> Candidate:
    stem = nifti_stem(path)
    read: Callable[[], Series] = functools.partial(read_nifti, path, time_axis=time_axis)
    safe = safe_name(stem)
    if safe != stem:
        read = functools.partial(_open_renamed, read, safe)
    name = str(Path(*map(safe_name, path.parent.relative_to(root).parts), safe))
    return Candidate(name=name, format="nifti", paths=(path,), open=read)


def _open_renamed(read: Callable[[], Series], name: str) -> Series:
    """The series with a note on the name that its results have."""
    series = read()
    note = f"its results are named {name}: its own name is too long, or holds what not every file system takes"
    return replace(series, source=replace(series.source, notes=(*series.source.notes, note)))


def _warn_of_single(files: FoundFiles, dicom: DicomFound) -> None:
    single = [path for path in files.dicom if path in files.explicit]
    if len(single) == 1 and dicom.n_instances == 1:
        _log.warning("%s: only this DICOM file is read; name its folder to read the whole series", single[0])


def _unique(candidates: list[Candidate]) -> list[Candidate]:
    """In natural order; a name that differs from an earlier one by case or file suffix only gets a number."""
    taken: set[str] = set()
    result = []
    for one in sorted(candidates, key=lambda c: (natural_key(Path(c.name)), natural_key(c.paths[0]))):
        name, number = one.name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{one.name}_{number}"
        taken.add(name.casefold())
        result.append(one if name == one.name else replace(one, name=name))
    return result


def _raise_nothing(inputs: Sequence[Path], refused: Sequence[Refused], left_out: Sequence[LeftOut]) -> None:
    where = ", ".join(map(str, inputs[:_MAX_LISTED]))
    where += f" and {len(inputs) - _MAX_LISTED} more" if len(inputs) > _MAX_LISTED else ""
    if refused:
        more = f" (and {len(refused) - 1} more of {where})" if len(refused) > 1 else ""
        raise type(refused[0].error)(f"{refused[0].error}{more}")
    images = [one for one in left_out if one.notable]
    if not images:
        listed = ", ".join(f"{one.count} x {one.rule}" for one in left_out)
        raise UnreadableError(f"no NIfTI or DICOM images in {where}: {listed or 'it is empty'}; name another folder")
    error: type[CmrsrError] = UnusableError if any(one.rule.startswith(UNUSABLE) for one in images) else UnreadableError
    raise error(f"no series to work on in {where}: all images were left out; " + "; ".join(o.message for o in images))
