"""One series to work on, and what had to be refused: what a search for series gives."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import CmrsrError, UnreadableError, debugging
from cmrsr.io.series import FrameReader, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One series to work on. ``open`` reads its header and raises a CmrsrError if it is not usable after all.

    name: unique in the batch, and a relative path for its outputs: a NIfTI file's own path below the root without its
    suffix ("sub/p01_rest"), or the folder of a DICOM series below the root and the series' name; odd characters
    replaced and very long names shortened (see ``safe_name``).
    open: whatever a damaged file makes a library raise, here and when frames are read, is an UnreadableError.
    """

    name: str
    format: Literal["nifti", "dicom"]
    paths: tuple[Path, ...]
    open: Callable[[], Series]

    def __post_init__(self) -> None:
        if not isinstance(self.open, _Opener):
            where = str(self.paths[0]) if len(self.paths) == 1 else self.name
            object.__setattr__(self, "open", _Opener(self.open, where))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Something that claims to be an image and certainly is not usable: a failed case of the batch."""

    name: str
    paths: tuple[Path, ...]
    error: CmrsrError


def unreadable(where: str, error: Exception) -> UnreadableError:
    """The error of a file that makes a library raise something that is no error of ours."""
    reason = " ".join(str(error).split()) or "no reason given"
    return UnreadableError(
        f"{where}: cannot be read ({type(error).__name__}: {reason}), expected an MR series in NIfTI or DICOM: copy it "
        "anew, or convert it with another program"
    )


@dataclass(frozen=True, slots=True)
class _Opener:
    """Reading in one place: of a damaged file, pydicom, nibabel, numpy and the decoders raise nearly anything."""

    read: Callable[[], Series]
    where: str

    def __call__(self) -> Series:
        try:
            series = self.read()
        except (CmrsrError, MemoryError):
            raise
        except Exception as error:
            if debugging():
                raise
            raise unreadable(self.where, error) from error
        if isinstance(series.reader, _Frames):
            return series
        return replace(series, reader=_Frames(series.reader, self.where))


@dataclass(frozen=True, slots=True)
class _Frames:
    read: FrameReader
    where: str

    def __call__(self, t: int) -> NDArray[np.float32]:
        try:
            return self.read(t)
        except (CmrsrError, MemoryError, IndexError):
            raise
        except Exception as error:
            if debugging():
                raise
            raise unreadable(f"{self.where}, frame {t + 1}", error) from error
