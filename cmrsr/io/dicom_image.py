"""The complete header of one image of a derived series."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import MRImageStorage

from cmrsr.errors import UnreadableError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom_copy import PATIENT_AND_STUDY, SERIES_AND_EQUIPMENT, copy_header, mend_times, put
from cmrsr.io.dicom_derive import neighbours, put_derivation, put_plane, put_series, put_sources, put_times
from cmrsr.io.dicom_enhanced import classic_view
from cmrsr.io.dicom_group import DicomStack
from cmrsr.io.dicom_header import read_header
from cmrsr.io.dicom_invent import invented_header
from cmrsr.io.dicom_read import DicomInstance
from cmrsr.io.dicom_uid import uid_of
from cmrsr.io.series import Series, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is written: a series ``shape`` = (t, z, y, x) derived from ``like``; ``root`` names it (see dicom_uid)."""

    like: Series
    derivation: Derivation
    shape: Shape
    affine: NDArray[np.float64]
    times_ms: NDArray[np.float64] | None
    root: str
    offset: int
    suffix: str

    @property
    def series_uid(self) -> str:
        return uid_of(self.root, "series", str(self.offset), self.suffix)


@config.disable_value_validation()  # of what is read from the source; what is written is checked by ``put``
def image_header(result: Result, t: int, z: int) -> tuple[Dataset, list[str]]:
    """All tags but those of the pixels, and notes on what of the source's header was mended."""
    like, stack = result.like, result.like.source.header
    n = result.shape[0]
    times = result.times_ms if result.times_ms is not None or n != like.n_frames else like.times_ms
    if isinstance(stack, DicomStack):
        sources = contributing(result, stack, t, z)
        original = source_header(sources[0])
        ds, notes = copy_header(original)
        _share(ds, copy_header(source_header(stack.table[0][0]))[0])
        one_series = len({image.series_uid for row in stack.table for image in row}) == 1
        replace = not one_series or n != like.n_frames or result.times_ms is not None
        identity = [like.source.name]
    else:
        sources, notes, replace, identity = [], [], True, [like.source.name, result.root]
        ds = original = invented_header(like, result.derivation)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if keyword not in ds:
            put(ds, keyword, uid_of(keyword, *identity))
            notes.append(f"{keyword} was missing, a new one was made")
    put(ds, "SOPClassUID", MRImageStorage)
    put(ds, "SOPInstanceUID", uid_of(result.series_uid, str(t), str(z)))
    put(ds, "InstanceNumber", t * result.shape[1] + z + 1)
    put_series(ds, original, series_uid=result.series_uid, offset=result.offset, suffix=result.suffix)
    put_derivation(ds, result.derivation, sources[0] if sources else None, original)
    put_sources(ds, sources)
    put_plane(ds, result.affine, z, result.shape)
    put_times(ds, like, t, z, n, times, replace=replace)
    notes += mend_times(ds, like.kind)
    return ds, notes


def contributing(result: Result, stack: DicomStack, t: int, z: int) -> list[DicomInstance]:
    """The source images of image (t, z): the same slice, or all slices where their number has changed."""
    rows = [stack.table[s] for s in neighbours(result.like, t, result.times_ms, result.shape[0])]
    same_slices = result.shape[1] == result.like.shape[1]
    return [image for row in rows for image in ([row[z]] if same_slices else row)]


def source_header(instance: DicomInstance) -> Dataset:
    """All tags of a source image as a single-frame file would have them. Raises UnreadableError."""
    ds = _file_header(instance.path)
    return classic_view(ds, instance.frame) if "PerFrameFunctionalGroupsSequence" in ds else ds


@lru_cache(maxsize=4)
def _file_header(path: Path) -> FileDataset:
    try:
        return read_header(path, all_tags=True).dataset
    except UnreadableError as error:
        raise UnreadableError(f"{path}: {error}; it has changed since it was first read") from None


def _share(ds: Dataset, first: Dataset) -> None:
    """Patient, study, series and equipment are those of the first image, also where the source was several series."""
    keywords: Sequence[str] = (*PATIENT_AND_STUDY, *SERIES_AND_EQUIPMENT)
    for keyword in keywords:
        if keyword in first:
            ds[keyword] = first[keyword]
        elif keyword in ds:
            del ds[keyword]
