"""Masks as one DICOM Segmentation: a binary frame for each part, slice and time point."""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.objects.common import (
    copy_provenance,
    geometry,
    identity,
    number_in_time,
    places_of,
    refer_to_sources,
    slice_index,
    stand_in,
)
from cmrsr.io.dicom.objects.segments import HEART, Parts
from cmrsr.io.dicom.uid import root_of, uid_of
from cmrsr.io.dicom.write.image import Also, Result, plan_result
from cmrsr.io.dicom.write.source_tags import put
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.io.series import Series

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

# The masks are numbered apart from the images and the map of the same result (see put_series).
SERIES_OFFSET = 60
Frame = tuple[int, int, int]  # segment, slice, time point


@config.disable_value_validation()  # of the source's identifiers; what is ours is checked by ``put``
def write_segmentation(
    path: Path,
    like: Series,
    derivation: Derivation,
    labels: NDArray[np.uint8],
    *,
    affine: NDArray[np.float64],
    times_ms: NDArray[np.float64] | None = None,
    parts: Parts = HEART,
    also: Also = (),
    synthetic: bool = False,
) -> None:
    """Write ``labels`` (t, z, y, x) as one file; their codes are those of ``parts``, 0 is background.

    ``affine`` says where the labels lie: their matrix may be finer than that of ``like``, with as many slices.
    ``times_ms`` (t,) or (t, z), those of ``like`` by default. Of every time point and slice, only the parts that have
    a pixel there become frames, each naming the source images of that time and place; the segments keep their
    numbers. Labels without any pixel are written as empty frames of the first time point.
    ``also`` and ``synthetic``: as for ``dicom_writer``.
    ``labels`` may be mapped from a file: a slice is read at a time, and only the packed bits are held in memory.
    Raises OutputError when the file cannot be written.
    """
    if labels.ndim != 4 or any(frame.max(initial=0) > max(parts.segments) for frame in labels):
        raise ValueError(f"expected labels (t, z, y, x) of 0 to {max(parts.segments)}, got shape {labels.shape}")
    n, depth, rows, columns = labels.shape
    result = plan_result(
        like,
        derivation,
        shape=(n, depth, rows, columns),
        affine=affine,
        times_ms=times_ms,
        between=None,
        root=root_of(like, derivation),
        offset=SERIES_OFFSET,
        suffix=parts.title,
        also=also,
        synthetic=synthetic,
    )
    times = like.times_ms if times_ms is None and n == like.n_frames else times_ms
    image = _segmentation(labels, result, derivation, times, parts)
    with replacing(path) as partial, output_errors(path):
        image.save_as(partial, enforce_file_format=True)


def _segmentation(
    labels: NDArray[np.uint8],
    result: Result,
    derivation: Derivation,
    times_ms: NDArray[np.float64] | None,
    parts: Parts,
) -> "Segmentation":
    import highdicom as hd  # takes half a second

    template = stand_in(result)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=f"cmrsr {derivation.task}",
        family=codes.DCM.ArtificialIntelligence,
        version=derivation.software_version,
        source="cmrsr",
        parameters={
            "engine": derivation.engine,
            "engine version": derivation.engine_version,
            "engine sha256": derivation.engine_digest,
        },
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=segment.category,
            segmented_property_type=segment.type,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=uid_of(result.shared.SeriesInstanceUID, segment.label),
            tracking_id=segment.label,
            anatomic_regions=[segment.region] if segment.region else None,
            display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
        )
        for number, segment in parts.segments.items()
    ]
    image = hd.seg.Segmentation(
        source_images=[template],
        pixel_array=np.zeros(labels.shape[1:], dtype=np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        omit_empty_frames=False,
        **identity(result, parts.title),
        **geometry(result),
        content_label=parts.name,
        content_description=parts.description,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    copy_provenance(image, result, template)
    _fill(image, labels, places_of(result), times_ms, parts)
    refer_to_sources(image, result, codes.cid7203.SegmentationImageDerivation)
    return image


def _fill(
    image: Dataset,
    labels: NDArray[np.uint8],
    places: NDArray[np.float64],
    times_ms: NDArray[np.float64] | None,
    parts: Parts,
) -> None:
    """Put the frames of all time points in the place of the empty ones of a single time point.

    highdicom has no time: given a frame of each segment and slice, it says all that the frames of one place share.
    """
    shared: dict[tuple[int, int], Dataset] = {}  # by segment and slice, in the order of highdicom
    for groups in image.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
        of = (
            groups if "SegmentIdentificationSequence" in groups else image.SharedFunctionalGroupsSequence[0]
        )  # a single one
        number = of.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        shared[number, slice_index(groups, places)] = groups
    present = [{number: (frame == number).any(axis=(1, 2)) for number in parts.segments} for frame in labels]
    found = [(number, z, t) for number, z in shared for t, seen in enumerate(present) if seen[number][z]]
    frames: list[Frame] = found or [(number, z, 0) for number, z in shared]
    items = []
    for number, z, t in frames:
        item = deepcopy(shared[number, z])
        label = _name(parts.segments[number].label, z, t, len(labels), times_ms)
        put(item.FrameContentSequence[0], "FrameLabel", label)
        items.append(item)
    image.PerFrameFunctionalGroupsSequence = items
    image.NumberOfFrames = len(frames)
    image.PixelData = packed(labels[t, z] == number for number, z, t in frames)
    number_in_time(image, [t for _, _, t in frames])


def _name(label: str, z: int, t: int, n: int, times_ms: NDArray[np.float64] | None) -> str:
    """Such as "LV cavity, time point 3 of 25, 80 ms"."""
    words = [label, f"time point {t + 1} of {n}"]
    if times_ms is not None:
        words.append(f"{float(times_ms[t] if times_ms.ndim == 1 else times_ms[t, z]):.6g} ms")
    return ", ".join(words)


def packed(masks: Iterable[NDArray[np.bool_]]) -> bytes:
    """One bit a pixel, the first in the lowest bit, frame after frame without a gap, and an even number of bytes."""
    parts: list[bytes] = []
    rest = np.empty(0, dtype=np.bool_)
    for mask in masks:
        bits = np.concatenate([rest, mask.ravel()])
        whole = len(bits) // 8 * 8
        parts.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    data = b"".join([*parts, np.packbits(rest, bitorder="little").tobytes()])
    return data + b"\0" * (len(data) % 2)
