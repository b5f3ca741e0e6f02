"""The complete header of one image of a derived series."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import MRImageStorage

from cmrsr.errors import UnreadableError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.read.component import Component
from cmrsr.io.dicom.read.enhanced import classic_view
from cmrsr.io.dicom.read.group import DicomStack
from cmrsr.io.dicom.read.header import read_header
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.tags import text
from cmrsr.io.dicom.uid import uid_of
from cmrsr.io.dicom.write.derived_tags import (
    put_between,
    put_derivation,
    put_plane,
    put_series,
    put_times,
    source_items,
)
from cmrsr.io.dicom.write.invented_tags import invented_header
from cmrsr.io.dicom.write.source_tags import (
    IMAGE,
    PATIENT_AND_STUDY,
    REFERENCES,
    SERIES_AND_EQUIPMENT,
    copy_tags,
    fill_required,
    mend_times,
    put,
)
from cmrsr.io.dicom.write.synthetic import KEPT, mark_synthetic
from cmrsr.io.planes import slice_affine
from cmrsr.io.series import Series, Shape

Between = Sequence[Sequence[int]]  # of each frame the source frames it lies between, one for an acquired frame itself
Also = Sequence[Sequence[DicomInstance]]  # of each slice, images of another series that it was made from as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is written: a series ``shape`` = (t, z, y, x) derived from ``like``.

    ``shared`` holds the tags that all its images have in common: patient to equipment, and how it was derived.
    ``times_ms`` is None where the images keep the times of their sources. ``notes`` says what of them was mended.
    ``between`` is None where no frames are new; ``also`` is empty where there is one source series only.
    """

    like: Series
    shape: Shape
    affine: NDArray[np.float64]
    times_ms: NDArray[np.float64] | None
    between: Between | None
    shared: Dataset
    notes: tuple[str, ...]
    also: Also = ()
    synthetic: bool = False
    last_file: dict[Path, FileDataset] = field(default_factory=dict, repr=False)


@config.disable_value_validation()  # of what is read from the source; what is written is checked by ``put``
def plan_result(
    like: Series,
    derivation: Derivation,
    *,
    shape: Shape,
    affine: NDArray[np.float64],
    times_ms: NDArray[np.float64] | None,
    between: Between | None,
    root: str,
    offset: int,
    suffix: str,
    also: Also = (),
    synthetic: bool = False,
) -> Result:
    """Decide everything that is equal for all images; ``root`` is what the identifiers follow from (see dicom_uid).

    synthetic: made up by a model, and marked so (see dicom_synthetic).
    """
    stack = like.source.header
    component: Component = "magnitude"
    times = like.times_ms if times_ms is None and shape[0] == like.n_frames else times_ms
    if isinstance(stack, DicomStack):
        # Series tags of the first image, also where the source was stored as one series per slice.
        original = source_header(stack.table[0][0], {})
        component = stack.table[0][0].component
        tags = (*PATIENT_AND_STUDY, *SERIES_AND_EQUIPMENT, "ContributingEquipmentSequence")
        shared, notes = copy_tags(original, tags)
        one_series = len({image.identity.series for row in stack.table for image in row}) == 1
        if one_series and shape[0] == like.n_frames and times_ms is None and between is None:
            times = None
    else:
        original = shared = invented_header(like, derivation, root)
        notes = []
    for keyword in REFERENCES:
        if keyword not in shared:
            put(shared, keyword, uid_of(keyword, root))
            notes.append(f"{keyword} was missing, a new one was made")
    series_uid = uid_of(root, "series", str(offset), suffix)
    number_offset = offset + derivation.number
    put_series(shared, original, series_uid=series_uid, offset=number_offset, suffix=suffix)
    put_derivation(shared, derivation, component, original)
    if synthetic:
        mark_synthetic(shared, f"{suffix}: {text(original, 'SeriesDescription')}")
    inverted = text(original, "PhotometricInterpretation") == "MONOCHROME1"
    put(shared, "PhotometricInterpretation", "MONOCHROME1" if inverted else "MONOCHROME2")
    return Result(
        like=like, shape=shape, affine=affine, times_ms=times, between=between, shared=shared, notes=tuple(notes),
        also=also, synthetic=synthetic,
    )  # fmt: skip


@config.disable_value_validation()
def image_header(result: Result, t: int, z: int) -> tuple[Dataset, list[str]]:
    """All tags but those of the pixels, and notes on what of the source image's tags was mended."""
    stack = result.like.source.header
    sources = contributing(result, stack, t, z) if isinstance(stack, DicomStack) else []
    tags = KEPT if result.synthetic else IMAGE
    ds, notes = copy_tags(source_header(sources[0], result.last_file), tags) if sources else (Dataset(), [])
    ds.update(result.shared)
    put(ds, "SOPClassUID", MRImageStorage)
    put(ds, "SOPInstanceUID", uid_of(ds.SeriesInstanceUID, str(t), str(z)))
    put(ds, "InstanceNumber", t * result.shape[1] + z + 1)
    if items := source_items(sources):
        put(ds, "SourceImageSequence", items)
    put_plane(ds, affine_at(result, z), z, result.shape)
    if result.like.origins_mm is not None:
        ds.pop("SpacingBetweenSlices", None)  # there is not one
    if result.between is not None:
        put_between(ds, result.between[t], z, result.like.times_ms)
    put_times(ds, result.like.kind, t, z, result.shape[0], result.times_ms)
    fill_required(ds)
    return ds, notes + mend_times(ds, result.like.kind)


def affine_at(result: Result, z: int) -> NDArray[np.float64]:
    """The affine of the result that puts its slice ``z`` where that slice of the source is."""
    same_slices = result.shape[1] == result.like.shape[1]
    return slice_affine(result.like, z, result.affine) if same_slices else result.affine


def contributing(result: Result, stack: DicomStack, t: int, z: int) -> list[DicomInstance]:
    """The source images of image (t, z): its own time points and slice, or all where their number has changed.

    Those of another series come last.
    """
    if result.between is not None:
        rows = [stack.table[s] for s in result.between[t]]
    else:
        rows = [stack.table[t]] if result.shape[0] == result.like.n_frames else list(stack.table)
    same_slices = result.shape[1] == result.like.shape[1]
    own = [image for row in rows for image in ([row[z]] if same_slices else row)]
    return [*own, *result.also[z]] if result.also else own


def source_header(instance: DicomInstance, last_file: dict[Path, FileDataset]) -> Dataset:
    """All tags of a source image as a single-frame file would have them; ``last_file`` keeps one file between calls.

    Raises UnreadableError when the file is gone or holds another image than when it was first read.
    """
    if instance.path not in last_file:
        last_file.clear()
        try:
            last_file[instance.path] = read_header(instance.path, all_tags=True).dataset
        except UnreadableError as error:
            raise UnreadableError(f"{instance.path}: {error}; it was there when first read") from None
    ds = last_file[instance.path]
    if text(ds, "SOPInstanceUID") != instance.sop_instance_uid:
        raise UnreadableError(f"{instance.path} holds another image than when it was first read; run again")
    return classic_view(ds, instance.frame) if "PerFrameFunctionalGroupsSequence" in ds else ds
