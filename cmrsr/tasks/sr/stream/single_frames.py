"""One file as one frame of a series that is not there as a whole yet: a DICOM image, or a NIfTI file of one frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError
from cmrsr.io.candidate import unreadable
from cmrsr.io.dicom.read.candidates import damage
from cmrsr.io.dicom.read.geometry import SPACING_TOLERANCE
from cmrsr.io.dicom.read.split import COSINE_TOLERANCE
from cmrsr.io.nifti.file import is_nifti_name, read_header
from cmrsr.io.nifti.header import file_shape
from cmrsr.io.nifti.label_maps import holds_labels, named_label
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.outputs import sha256_file
from cmrsr.io.printable import storable
from cmrsr.io.series import Series
from cmrsr.io.walk import LABEL_MAP

WHOLE_SERIES = "a stream takes one frame a file: leave out --stream"


class LeftOutError(Exception):
    """An image that is rightly of no use here, or, as long as it has not changed for a while, no image at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFrame:
    """series: of one frame, in memory. digest: of the file's bytes.

    uid: what names the frame: its SOP Instance UID, else the file's name.
    scope: what names the series: its UID and what one series may mix besides planes and grids, or the folder.
    """

    series: Series
    digest: str
    uid: str
    scope: str

    def belongs_with(self, other: "SingleFrame") -> bool:
        """Whether both are of one series: the same scope, matrix, pixel size and plane."""
        a, b = self.series, other.series
        return (
            self.scope == other.scope
            and a.shape == b.shape
            and bool(np.allclose(a.spacing_mm, b.spacing_mm, rtol=SPACING_TOLERANCE, atol=0))
            and bool(np.allclose(_directions(a), _directions(b), rtol=0, atol=COSINE_TOLERANCE))
        )

    def grid(self) -> str:
        """Matrix and plane in words that stay the same when last digits differ."""
        numbers = np.round(_directions(self.series), 1) + 0.0  # minus zero is zero
        return f"{self.series.shape} {numbers.ravel().tolist()}"


def _directions(series: Series) -> NDArray[np.float64]:
    columns = series.affine[:3, :3]
    return np.asarray(columns / np.linalg.norm(columns, axis=0))


def read_single_frame(path: Path, name: Path, *, explicit: bool) -> SingleFrame:
    """The frame in a file, ``name`` below what is followed.

    UnreadableError: not a whole image, or not yet. UnusableError: an image that cannot be used. LeftOutError: of no use
    and not ``explicit``, named by the user; where only part of it may be there, from an UnreadableError.
    """
    if path.is_dir():
        raise UnusableError(f"{path}: a folder, expected a file; follow it with `cmrsr sr FOLDER --stream`")
    with _opening(path):
        before = _state(path)
        digest = sha256_file(path)
    try:
        series, uid, scope = _read(path, name, explicit=explicit)
        series = series.with_frames(series.array())
    except (CmrsrError, LeftOutError, MemoryError):
        raise
    except Exception as error:  # of a damaged file, a library raises nearly anything
        raise unreadable(str(path), error) from error
    with _opening(path):
        if _state(path) != before:
            raise UnreadableError(f"{path}: is being written")
    return SingleFrame(series=series, digest=digest, uid=uid, scope=scope)


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be opened ({error.strerror})") from error


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _read(path: Path, name: Path, *, explicit: bool) -> tuple[Series, str, str]:
    """The series, its frame's name and its scope."""
    if not is_nifti_name(path):
        return _read_dicom(path, explicit=explicit)
    series = _read_nifti(path)
    if not explicit and named_label(path, name.parts[:-1]) and holds_labels(path):
        raise LeftOutError(LABEL_MAP)
    return series, storable(name.name), storable(str(name.parent))


def _read_nifti(path: Path) -> Series:
    shape = file_shape(read_header(path))
    if len(shape) > 3 and shape[3] > 1:
        raise UnusableError(f"{path}: {shape[3]} frames; {WHOLE_SERIES}")
    return read_nifti(path, time_axis="none")


def _read_dicom(path: Path, *, explicit: bool) -> tuple[Series, str, str]:
    from cmrsr.io.dicom.read.group import assemble, group
    from cmrsr.io.dicom.read.instance import read_headers

    instances, skipped = read_headers([path])
    for skip in skipped:
        error = damage(skip, explicit)
        if error:
            raise error
        left_out = LeftOutError(f"DICOM file that is of no use: {skip.reason}")
        raise left_out from UnreadableError(skip.reason) if skip.unreadable else None
    if len(instances) != 1:
        raise UnusableError(f"{path}: {len(instances)} frames; {WHOLE_SERIES}")
    (one,) = instances
    if one.scout and not explicit:
        raise LeftOutError("DICOM file that is of no use: a localiser")
    series = assemble(group(instances)[0])
    kind = "derived " * one.derived + one.component
    return series, one.sop_instance_uid or storable(path.name), f"{one.study_uid} {one.series_uid} {kind}"
