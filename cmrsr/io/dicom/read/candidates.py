"""From DICOM files to candidates: headers are read in small groups, and one file that fails is its own failure."""

import functools
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError, debugging
from cmrsr.io.candidate import Candidate, Refused, unreadable
from cmrsr.io.left_out import NAME_FILE, NO_WAY, LeftOutFiles
from cmrsr.io.printable import safe_name
from cmrsr.io.series import Series
from cmrsr.io.walk import DICOM_SUFFIXES, FoundFiles

if TYPE_CHECKING:
    from cmrsr.io.dicom.read.group import DicomGroup
    from cmrsr.io.dicom.read.instance import DicomInstance, Skipped
    from cmrsr.io.dicom.read.time_axis import OnMissing

# What a folder of studies holds besides images, in the DICOM reader's words; other unreadable files are reported.
_HARMLESS = re.compile(r"not a DICOM file|a DICOMDIR|no image in it \((?!\?)")  # "(?)": cut off before its modality
_CHUNK = 32
UNUSABLE = "DICOM image of no use here"  # how the rules begin that leave out images


@dataclass(slots=True)
class DicomFound:
    """candidates: series. n_instances: images among the files, a frame each."""

    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    n_instances: int = 0


def find_dicom(
    files: FoundFiles, root: Path, on_missing: "OnMissing", progress: Callable[[int], None] | None
) -> DicomFound:
    """The series that the possible DICOM files are; what is rightly left out is added to ``files.left_out``.

    ``progress`` is called with the number of files whose headers have been read so far.
    """
    from cmrsr.io.dicom.read.localiser import without_localisers

    found = DicomFound()
    instances, skipped = _read(files.dicom, found.refused, progress)
    instances, localisers = without_localisers(instances, files.explicit)
    found.n_instances = len(instances)
    for skip in skipped:
        if error := damage(skip, skip.path in files.explicit):
            found.refused.append(Refused(name=safe_name(skip.path.name), paths=(skip.path,), error=error))
        else:
            _leave_out(skip, files.left_out)
    for skip in localisers:
        files.left_out.add(skip.reason, skip.path, NAME_FILE)
    for one in _grouped(instances, found.refused):
        folder = Path(os.path.commonpath([path.parent for path in one.paths])).relative_to(root)
        found.candidates.append(
            Candidate(
                name=str(Path(*map(safe_name, folder.parts), safe_name(one.name))),
                format="dicom",
                paths=tuple(one.paths),
                open=functools.partial(_assemble, one, on_missing),
            )
        )
    return found


def _read(
    paths: Sequence[Path], refused: list[Refused], progress: Callable[[int], None] | None
) -> tuple[list["DicomInstance"], list["Skipped"]]:
    from cmrsr.io.dicom.read.instance import read_headers

    instances: list[DicomInstance] = []
    skipped: list[Skipped] = []
    for start in range(0, len(paths), _CHUNK):
        for path in paths[start : start + _CHUNK]:
            try:
                some = read_headers([path])
            except Exception as error:  # a damaged header makes pydicom raise nearly anything: it fails its file alone
                if debugging():
                    raise
                refused.append(Refused(name=safe_name(path.name), paths=(path,), error=unreadable(str(path), error)))
                continue
            instances += some[0]
            skipped += some[1]
        if progress is not None:
            progress(min(start + _CHUNK, len(paths)))
    return instances, skipped


def _grouped(instances: Sequence["DicomInstance"], refused: list[Refused]) -> list["DicomGroup"]:
    """Groups of images that may form one series; where that fails, of each series of the headers on its own."""
    from cmrsr.io.dicom.read.group import group

    try:
        return group(instances)
    except CmrsrError:
        raise
    except Exception:
        if debugging():
            raise
    stored: dict[str, list[DicomInstance]] = defaultdict(list)
    for one in instances:
        stored[one.series_uid].append(one)
    groups: list[DicomGroup] = []
    for images in stored.values():
        try:
            groups += group(images)
        except Exception as error:
            path = images[0].path
            refused.append(
                Refused(
                    name=safe_name(path.name), paths=tuple(dict.fromkeys(i.path for i in images)),
                    error=unreadable(f"{path} and what belongs with it", error),
                )
            )  # fmt: skip
    return groups


def _assemble(found: "DicomGroup", on_missing: "OnMissing") -> Series:
    from cmrsr.io.dicom.read.group import assemble

    return assemble(found, on_missing=on_missing)


def damage(skip: "Skipped", explicit: bool) -> CmrsrError | None:
    """The error of a file that should have been an image, None for one that is rightly left out of a batch."""
    harmless = not skip.unreadable or _HARMLESS.match(skip.reason) is not None
    pretends = skip.reason.startswith("not a DICOM") and skip.path.suffix.lower() in DICOM_SUFFIXES
    if harmless and not pretends and not explicit:
        return None
    if not skip.unreadable:
        return UnusableError(f"{skip.path}: {skip.reason}; expected a greyscale MR image: leave it out")
    return UnreadableError(
        f"{skip.path}: {skip.reason}; expected an MR image in NIfTI or DICOM: copy it anew, or leave it out"
    )


def _leave_out(skip: "Skipped", left_out: LeftOutFiles) -> None:
    if skip.unreadable:
        left_out.add(f"file that is {skip.reason}", skip.path, NO_WAY, notable=False)
    else:
        left_out.add(f"{UNUSABLE} ({skip.reason})", skip.path, NO_WAY)
