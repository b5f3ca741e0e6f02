"""The files in what the user named, sorted by what names and first bytes say: NIfTI, perhaps DICOM, or left out."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cmrsr.io.inputs import is_file
from cmrsr.io.left_out import NAME_FILE, NAME_FOLDER, LeftOutFiles
from cmrsr.io.nifti.file import is_nifti_name, is_pair, is_pair_name, pair_header
from cmrsr.io.nifti.label_maps import holds_labels, label_folder, named_label
from cmrsr.io.own_results import OwnResults, is_result_folder, is_truth_folder

DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
LABEL_MAP = "label map"
_NO_IMAGE = "cmrsr reads NIfTI and DICOM"


@dataclass(slots=True)
class FoundFiles:
    """``explicit``: named by the user, so that no rule leaves them out."""

    nifti: list[Path] = field(default_factory=list)
    dicom: list[Path] = field(default_factory=list)
    explicit: set[Path] = field(default_factory=set)
    left_out: LeftOutFiles = field(default_factory=LeftOutFiles)


def find_files(named: Sequence[Path]) -> FoundFiles:
    """All files in the named files and folders, each once, links followed, in the order of their names.

    In folders, hidden files, results of ours, the truth of virtual patients and label maps are left out. A file that is
    named itself is taken whatever it is, and so is all of a folder that a rule is about: labels, results, truth.
    """
    found, seen = FoundFiles(), set[str]()
    for entry in map(_whole_pair, named):
        if is_file(entry):
            if _is_new(entry, seen):
                found.explicit.add(entry)
                _sort(entry, found, explicit=True)
            continue
        everything = is_result_folder(entry) or is_truth_folder(entry) or label_folder(entry.name)
        own = OwnResults()
        for path in map(_whole_pair, _walk(entry, found.left_out, own, everything=everything)):
            if not _is_new(path, seen):
                continue
            if path.name.startswith("."):
                found.left_out.add("hidden file", path, NAME_FILE, notable=False)
            elif not everything and path in own:
                found.left_out.add("earlier result of cmrsr", path, NAME_FILE)
            else:
                folders = () if everything else path.relative_to(entry).parts[:-1]
                _sort(path, found, labels=not everything and is_nifti(path) and named_label(path, folders))
    return found


def _is_new(path: Path, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    new = real not in seen
    seen.add(real)
    return new


def _sort(path: Path, found: FoundFiles, *, explicit: bool = False, labels: bool = False) -> None:
    kind = file_kind(path, explicit=explicit)
    if kind == "nifti" and labels and holds_labels(path):
        found.left_out.add(LABEL_MAP, path, NAME_FILE)
    elif kind == "nifti":
        found.nifti.append(path)
    elif kind == "dicom":
        found.dicom.append(path)
    else:
        found.left_out.add(kind, path, _NO_IMAGE, notable=False)


def _walk(folder: Path, left_out: LeftOutFiles, own: OwnResults, *, everything: bool) -> Iterator[Path]:
    """All files below ``folder`` but those in hidden folders and, unless ``everything``, in folders of results."""

    def unopened(error: OSError) -> None:
        rule = f"folder that cannot be opened ({error.strerror})"
        left_out.add(rule, Path(error.filename or folder), "allow reading it, or copy it elsewhere")

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unopened):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if not everything:
            folders[:] = [name for name in folders if not _is_set_apart(Path(parent, name), left_out)]
            own.learn(Path(parent), files)
        for name in sorted(files):
            path = Path(parent, name)
            if is_file(path):  # not a dangling link or a pipe
                yield path


def _is_set_apart(folder: Path, left_out: LeftOutFiles) -> bool:
    for is_one, rule in (
        (is_result_folder, "folder of earlier results of cmrsr"),
        (is_truth_folder, "folder of a virtual patient's truth"),
    ):
        if is_one(folder):
            left_out.add(rule, folder, NAME_FOLDER)
            return True
    return False


def is_nifti(path: Path) -> bool:
    """Whether a file is one of NIfTI by its name, or the header of a pair (``.hdr``) by its first bytes."""
    return is_nifti_name(path) or is_pair(path)


def file_kind(path: Path, *, explicit: bool) -> str:
    """Whether nifti, possibly dicom, or in words what it is that is no image. ``explicit``: named by the user."""
    if is_nifti(path):
        return "nifti"
    suffix = path.suffix.lower()
    half = is_pair_name(path) and not _has_preamble(path)
    if explicit:
        return "nifti" if half else "dicom"
    if half:
        return f"{suffix} file that is no NIfTI image with its header (.hdr)"
    # No suffix, and a number for a suffix (the end of a UID), are what scanners and archives write.
    if suffix in DICOM_SUFFIXES or not suffix or suffix[1:].isdigit() or _has_preamble(path):
        return "dicom"
    return f"{suffix} file"


def _whole_pair(path: Path) -> Path:
    """The header of a pair, by which it is named; any other path itself."""
    try:
        return pair_header(path)
    except OSError:  # a name so long that there is none for the header
        return path


def _has_preamble(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return True  # the DICOM reader says why it cannot be opened
