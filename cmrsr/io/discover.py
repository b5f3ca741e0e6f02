"""What there is to work on: the NIfTI files and DICOM series in files, folders and lists, in a stable order."""

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError
from cmrsr.io.inputs import common_root, expand_lists, natural_key
from cmrsr.io.nifti import nifti_stem, read_nifti
from cmrsr.io.nifti_file import is_nifti_name, is_pair, is_pair_name, pair_header
from cmrsr.io.nifti_header import TimeAxis
from cmrsr.io.series import Series

if TYPE_CHECKING:
    from cmrsr.io.dicom_read import DicomInstance, Skipped
    from cmrsr.io.dicom_time import OnMissing

_LABEL = re.compile(r"(^|[_\-. ])(label|mask|seg|gt$)", re.IGNORECASE)
# "truth": everything that is known of a virtual patient, of which much looks like a scan.
LABEL_FOLDER = re.compile(r"^truth$|(^|[_\-. ])(labels?|masks?|segmentations?)(Tr|Ts)?$", re.IGNORECASE)
_TASKS = ("sr", "interp4d", "mie", "function")
_RESULT = re.compile(r"(?P<case>.+)_(sr|interp4d|mie|function|masks|scar|scar_probability|t1map|strain|std)$")
_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
# What a folder of studies holds besides images, in the DICOM reader's words; other unreadable files are reported.
_HARMLESS = re.compile(r"not a DICOM file|a DICOMDIR|no image in it \((?!\?)")  # "(?)": cut off before its modality
_CHUNK = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One series to work on. ``open`` reads its header and raises a CmrsrError if it is not usable after all.

    name: unique in the batch, and a relative path for its outputs: a NIfTI file's own path below the root without its
    suffix ("sub/p01_rest"), or the folder of a DICOM series below the root and the series' name.
    """

    name: str
    format: Literal["nifti", "dicom"]
    paths: tuple[Path, ...]
    open: Callable[[], Series]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Something that claims to be an image and certainly is not usable: a failed case of the batch."""

    name: str
    paths: tuple[Path, ...]
    error: CmrsrError


@dataclass(slots=True)
class _Found:
    """Files by what their names and first bytes say. ``explicit``: named by the user, so that no rule leaves it out."""

    nifti: list[Path] = field(default_factory=list)
    dicom: list[Path] = field(default_factory=list)
    explicit: set[Path] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)


def discover(
    inputs: Sequence[Path],
    *,
    time_axis: TimeAxis = None,
    on_missing: "OnMissing" = "fail",
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Candidate], list[Refused], Path]:
    """All series in the inputs in natural order, what had to be refused, and the folder that names are relative to.

    An input is a file, a folder (searched through) or a ``.txt`` list of both. In folders, hidden files, earlier
    results, label or mask files and those in a folder ``truth`` are left out, which is logged; a file named directly is
    always taken. A DICOM file named directly stands for itself alone: name the folder for the series around it.
    ``progress`` is told how many possible DICOM files have been looked at so far.
    UnreadableError: a named path is missing, or nothing is found. UnusableError: only images of no use (CT, colour).
    """
    named, missing = expand_lists(inputs)
    refused = [_refuse(path, UnreadableError(f"{path}: no such file or folder, named in a list")) for path in missing]
    root = common_root(named or missing)
    found = _search(named)
    candidates = [
        Candidate(
            name=str(path.parent.relative_to(root) / nifti_stem(path)),
            format="nifti",
            paths=(path,),
            open=functools.partial(read_nifti, path, time_axis=time_axis),
        )
        for path in found.nifti
    ]
    unusable: Counter[str] = Counter()
    if found.dicom:
        from cmrsr.io.dicom_localiser import without_localisers

        instances, skipped = _read_dicom(found.dicom, progress)
        instances, localisers = without_localisers(instances, found.explicit)
        skipped += localisers
        for skip in skipped:
            if error := damage(skip, skip.path in found.explicit):
                refused.append(_refuse(skip.path, error))
            elif skip.unreadable:
                found.left_out[f"file that is {skip.reason}"] += 1
            else:
                unusable[f"DICOM file that is of no use: {skip.reason}"] += 1
        candidates += _dicom_candidates(instances, root, on_missing)
        single = [path for path in found.dicom if path in found.explicit]
        if len(single) == 1 and len(instances) == 1:
            _log.warning("%s: only this DICOM file is read; name its folder to read the whole series", single[0])
    if not candidates:
        _raise_nothing(inputs, refused, unusable, found.left_out)
    if left_out := unusable + Counter({k: n for k, n in found.left_out.items() if "label" in k or "folder" in k}):
        _log.warning("left out: %s", _listed(left_out))
    return _unique(candidates), refused, root


def _refuse(path: Path, error: CmrsrError) -> Refused:
    return Refused(name=path.name, paths=(path,), error=error)


# --- files ------------------------------------------------------------------------------------------------------------


def _search(named: Sequence[Path]) -> _Found:
    found, seen = _Found(), set[Path]()
    for entry in map(pair_header, named):
        for path in map(pair_header, [entry] if entry.is_file() else _walk(entry, found.left_out)):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if path == entry:
                found.explicit.add(path)
            in_labels = any(LABEL_FOLDER.search(part) for part in path.relative_to(entry).parts[:-1])
            kind = file_kind(path, explicit=path == entry, in_labels=in_labels)
            if kind == "nifti":
                found.nifti.append(path)
            elif kind == "dicom":
                found.dicom.append(path)
            else:
                found.left_out[kind] += 1
    return found


def _walk(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """All files below ``folder`` that are not in hidden folders or in folders of results, through symbolic links."""

    def unopened(error: OSError) -> None:
        left_out[f"folder that cannot be opened ({error.strerror})"] += 1

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unopened):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        results = [name for name in folders if name.endswith("_cmrsr")]
        left_out["folder of earlier results (*_cmrsr)"] += len(results)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in results)
        for name in sorted(files):
            path = Path(parent, name)
            if path.is_file():  # not a dangling link or a pipe
                yield path


def file_kind(path: Path, *, explicit: bool, in_labels: bool) -> str:
    """ "nifti", "dicom" (possibly), or in words what it is that is left out."""
    suffix = path.suffix.lower()
    is_nifti = is_nifti_name(path) or is_pair(path)
    half = is_pair_name(path) and not _has_preamble(path)
    if explicit:
        return "nifti" if is_nifti or half else "dicom"
    if path.name.startswith("."):
        return "hidden file"
    if is_nifti:
        if _is_result(path):
            return "earlier result"
        return "label or mask file" if _LABEL.search(nifti_stem(path)) or in_labels else "nifti"
    if half:
        return f"{suffix} file that is no NIfTI image with its header (.hdr)"
    # No suffix, and a number for a suffix (the end of a UID), are what scanners and archives write.
    if suffix in _DICOM_SUFFIXES or not suffix or suffix[1:].isdigit() or _has_preamble(path):
        return "dicom"
    return f"{suffix} file"


def _is_result(path: Path) -> bool:
    match = _RESULT.match(nifti_stem(path))
    if match is None:
        return False
    stems = [nifti_stem(path), match["case"], *(f"{match['case']}_{task}" for task in _TASKS)]
    return any(path.with_name(f"{stem}.json").exists() for stem in stems)


def _has_preamble(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return True  # the DICOM reader says why it cannot be opened


# --- DICOM ------------------------------------------------------------------------------------------------------------


def _read_dicom(
    paths: list[Path], progress: Callable[[int], None] | None
) -> tuple[list["DicomInstance"], list["Skipped"]]:
    from cmrsr.io.dicom_read import read_headers

    instances: list[DicomInstance] = []
    skipped: list[Skipped] = []
    for start in range(0, len(paths), _CHUNK):
        some = read_headers(paths[start : start + _CHUNK])
        instances += some[0]
        skipped += some[1]
        if progress is not None:
            progress(min(start + _CHUNK, len(paths)))
    return instances, skipped


def damage(skip: "Skipped", explicit: bool) -> CmrsrError | None:
    """The error of a file that should have been an image, None for one that is rightly left out of a batch."""
    harmless = not skip.unreadable or _HARMLESS.match(skip.reason) is not None
    pretends = skip.reason.startswith("not a DICOM") and skip.path.suffix.lower() in _DICOM_SUFFIXES
    if harmless and not pretends and not explicit:
        return None
    kind = UnreadableError if skip.unreadable else UnusableError
    return kind(f"{skip.path}: {skip.reason}; expected an MR image in NIfTI or DICOM: copy it anew, or leave it out")


def _dicom_candidates(instances: list["DicomInstance"], root: Path, on_missing: "OnMissing") -> list[Candidate]:
    from cmrsr.io.dicom_group import assemble, group

    candidates = []
    for found in group(instances):
        folder = Path(os.path.commonpath([path.parent for path in found.paths])).relative_to(root)
        candidates.append(
            Candidate(
                name=str(folder / found.name),
                format="dicom",
                paths=tuple(found.paths),
                open=functools.partial(assemble, found, on_missing=on_missing),
            )
        )
    return candidates


# --- the batch --------------------------------------------------------------------------------------------------------


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
        result.append(Candidate(name=name, format=one.format, paths=one.paths, open=one.open))
    return result


def _raise_nothing(
    inputs: Sequence[Path], refused: list[Refused], unusable: Counter[str], left_out: Counter[str]
) -> None:
    where = ", ".join(map(str, inputs[:3])) + (f" and {len(inputs) - 3} more" if len(inputs) > 3 else "")
    if refused:
        more = f" (and {len(refused) - 1} more of {where})" if len(refused) > 1 else ""
        raise type(refused[0].error)(f"{refused[0].error}{more}")
    if unusable:
        raise UnusableError(f"no MR image series in {where}: {_listed(unusable)}")
    raise UnreadableError(f"no NIfTI or DICOM images in {where}: {_listed(left_out) or 'it is empty'}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n} x {what}" for what, n in counts.most_common() if n)
