"""Scans that one stored series mixes: each part of the signal, each echo, each repetition is a series of its own.

Whatever separates images at equal place and equal time separates series; a second dimension never becomes time.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from cmrsr.io.dicom.read.geometry import slices_of
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.read.kind import MIN_PHASES
from cmrsr.io.dicom.read.order import ORDER, distinct, values

Images = list[DicomInstance]
Parts = list[tuple[Images, str]]
K = TypeVar("K", bound=Hashable)
COSINE_TOLERANCE = 1e-3
MAX_REPETITIONS = 16  # scans in one series; more values of a tag than that are a count of the images
# Tags that say the time of an image, in which images of several scans repeat.
_REPEATING = ("TemporalPositionIdentifier", "DimensionIndexValues", "TriggerTime")
# Numbers that grow from scan to scan, also where each slice has values of its own.
_GROWING = ("TemporalPositionIdentifier", "AcquisitionTime", "ContentTime")
_SHORT = {
    "AcquisitionNumber": "acq", "EchoNumbers": "echo", "DiffusionBValue": "b", "b-value": "b", "FlipAngle": "fa",
    "velocity encoding": "venc", "StackID": "stack", "TemporalPositionIdentifier": "dynamic",
}  # fmt: skip


def split(images: Sequence[DicomInstance]) -> Parts:
    """Parts of one stored series that are scans of their own, each with a suffix for its name ("" for the whole).

    Split by series number, patient and folder where one identifier was given to several series, by plane, by part of
    the complex signal, by echo and inversion time where they separate scans, maps by their comment, and by whatever
    else tells images of equal place and equal time apart. Not by matrix and spacing: mixed in one series, they are an
    error.
    """
    rules: list[Callable[[Images], Parts]] = [
        _by_label, _by_folder, _by_plane, _by_word, _by_component, _by_echo, _by_inversion, _by_comment, _by_repetition,
    ]  # fmt: skip
    parts: Parts = [(list(images), "")]
    for rule in rules:
        parts = [(part, name + suffix) for whole, name in parts for part, suffix in rule(whole)]
    return parts


def _by_label(images: Images) -> Parts:
    """Several series that an anonymiser gave one identifier, or none: by patient, number and description."""

    def label(i: DicomInstance) -> tuple[str, int | None, str]:
        unnamed = not i.identity.series or i.series_number is None
        return i.patient_id, i.series_number, i.description if unnamed else ""

    parts = _grouped(images, label)
    if len(parts) == 1:
        return [(images, "")]
    note = "SeriesInstanceUID is the same for several series, which were told apart by number and description"
    shared = bool(images[0].identity.series)
    return [(_noted(part, note) if shared else part, "") for part in parts.values()]


def _by_folder(images: Images) -> Parts:
    """Series of several patients that an anonymiser gave one identifier: in each folder the same numbers and places."""
    folders = _grouped(images, lambda i: i.path.parent)
    if len(folders) == 1 or any(i.instance_number is None for i in images):
        return [(images, "")]
    keys = [
        [(i.instance_number, i.frame, *(round(v, 1) for v in i.position_mm)) for i in part] for part in folders.values()
    ]
    everywhere = Counter(key for part in keys for key in set(part))
    repeated = [sum(everywhere[key] > 1 for key in part) > len(part) / 2 for part in keys]
    in_time = [len(part) >= 2 * len({key[2:] for key in part}) for part in keys]  # not a folder for every time point
    if not all(repeated) or not all(in_time) or any(len(set(part)) < len(part) for part in keys):
        return [(images, "")]
    note = f"{len(folders)} folders hold images of the same series, numbers and places: told apart by folder"
    return [(_noted(part, note), "") for part in folders.values()]


def _by_plane(images: Images) -> Parts:
    planes: list[Images] = []
    for image in images:
        plane = next((p for p in planes if same_plane(p[0], image)), None)
        if plane is None:
            planes.append([image])
        else:
            plane.append(image)
    return [(plane, f"_plane{k + 1}" if len(planes) > 1 else "") for k, plane in enumerate(planes)]


def same_plane(a: DicomInstance, b: DicomInstance) -> bool:
    """Whether both images have the same direction cosines."""
    return bool(np.allclose(a.orientation, b.orientation, rtol=0, atol=COSINE_TOLERANCE))


def _by_word(images: Images) -> Parts:
    """A series that a word of its description calls a map is none where it runs through time as a scan does."""
    words = [i for i in images if i.component != i.signal]
    slices, _ = slices_of(words) if words else ([], [])
    in_time = [any(distinct(values(one, tag)) for tag in ("TriggerTime", "AcquisitionTime")) for one in slices]
    if slices and all(in_time) and min(map(len, slices)) >= MIN_PHASES and len({i.comment for i in words}) == 1:
        return [([replace(i, component=i.signal) for i in images], "")]
    return [(images, "")]


def _by_component(images: Images) -> Parts:
    parts = _grouped(images, lambda i: (i.component, i.derived))
    mixed = len({derived for _, derived in parts}) > 1
    return [
        (part, ("" if component == "magnitude" else f"_{component}") + ("_derived" if derived and mixed else ""))
        for (component, derived), part in parts.items()
    ]


def _by_echo(images: Images) -> Parts:
    """Echo times separate scans where a slice has several; slices with an echo time each are one scan."""
    parts = _grouped(images, lambda i: None if i.echo_time_ms is None else round(i.echo_time_ms, 2))
    places = [{round(p, 1) for p in slices_of(part)[1]} for part in parts.values()]
    if len(parts) == 1 or len(set.union(*places)) == sum(len(p) for p in places):
        return [(images, "")]
    return [(part, f"_te{echo:g}" if echo is not None else "") for echo, part in parts.items()]


def _by_inversion(images: Images) -> Parts:
    """A few inversion times with many images each are several scans; one image for each is a T1 series."""
    parts = _grouped(images, lambda i: None if i.inversion_time_ms is None else round(i.inversion_time_ms, 1))
    n_slices = len(slices_of(images)[0])
    if len(parts) == 1 or None in parts or min(len(p) for p in parts.values()) < max(2, len(parts)) * n_slices:
        return [(images, "")]
    return [(part, f"_ti{inversion:g}") for inversion, part in parts.items()]


def _by_comment(images: Images) -> Parts:
    """Parameter maps of one fit are stored as one series; their comments tell them apart."""
    if images[0].component != "map":
        return [(images, "")]
    parts = _grouped(images, lambda i: i.comment)
    return [(part, f"_{comment}" if len(parts) > 1 else "") for comment, part in parts.items()]


def _by_repetition(images: Images) -> Parts:
    """Scans whose images repeat the places and times of each other, by the first tag that tells them apart."""
    if all(i.inversion_time_ms is not None for i in images) and len({i.inversion_time_ms for i in images}) > 2:
        return [(images, "")]
    slices, _ = slices_of(images)
    for tag in _REPEATING:
        if not _repeats(slices, tag):
            continue
        for name, key in _keys(images, slices, tag):
            parts = _grouped(images, key)
            if 1 < len(parts) <= MAX_REPETITIONS and all(_in_order(part, tag) for part in parts.values()):
                note = f"{len(parts)} scans of the same places and times in one series, told apart by {name}"
                named = [f"_{_SHORT.get(name, '')}{value}" for value in parts]
                return [(_noted(part, note), suffix) for part, suffix in zip(parts.values(), named, strict=True)]
    return [(images, "")]


def _repeats(slices: Sequence[Images], tag: str) -> bool:
    """Whether a slice has several images of most of its time points."""
    found = [values(one, tag) for one in slices]
    counts = [np.unique(v, return_counts=True)[1] for v in found if v is not None]
    return len(counts) == len(found) and any(len(n) > 1 and np.median(n) > 1 for n in counts)


def _in_order(images: Images, tag: str) -> bool:
    """Whether a part is a scan: several images at every place, all of different times."""
    return all(len(one) > 1 and distinct(values(one, tag)) for one in slices_of(images)[0])


def _keys(images: Images, slices: Sequence[Images], tag: str) -> Iterable[tuple[str, Callable[[DicomInstance], str]]]:
    """Names of tags that may tell scans apart, each with its value of an image; the most telling first."""
    names = dict.fromkeys(name for image in images for name, _ in image.separating)
    for name in names:
        yield name, functools.partial(_separating, name)
    yield "FrameOfReferenceUID", _counted(images, lambda i: i.frame_of_reference_uid)
    for name in ("AcquisitionNumber", *_GROWING):
        if name == tag:
            continue
        rank = _ranks(slices, name)
        if rank is not None:
            yield name, functools.partial(_ranked, rank)


def _separating(name: str, image: DicomInstance) -> str:
    return dict(image.separating).get(name, "")


def _ranked(ranks: Mapping[Hashable, int], image: DicomInstance) -> str:
    return str(ranks.get((image.path, image.frame), ""))


def _counted(images: Images, key: Callable[[DicomInstance], str]) -> Callable[[DicomInstance], str]:
    numbers = {value: str(k + 1) for k, value in enumerate(dict.fromkeys(map(key, images)))}
    return lambda i: numbers[key(i)]


def _ranks(slices: Sequence[Images], name: str) -> dict[Hashable, int] | None:
    """Rank (from 1) of each image's value within its slice; None where a slice lacks values or has another number."""
    ranks: dict[Hashable, int] = {}
    counts = set()
    for one in slices:
        found = _acquisition_numbers(one) if name == "AcquisitionNumber" else [ORDER[name](i) for i in one]
        if any(v is None for v in found):
            return None
        levels = sorted({v for v in found if v is not None})
        counts.add(len(levels))
        ranks |= {(i.path, i.frame): levels.index(v) + 1 for i, v in zip(one, found, strict=True) if v is not None}
    return ranks if len(counts) == 1 else None


def _acquisition_numbers(images: Images) -> list[float | None]:
    found = [dict(i.separating).get("AcquisitionNumber", "") for i in images]
    return [float(v) if v.isdigit() else None for v in found]


def _noted(images: Images, note: str) -> Images:
    return [replace(i, notes=(*i.notes, note)) for i in images]


def _grouped(images: Iterable[DicomInstance], key: Callable[[DicomInstance], K]) -> dict[K, Images]:
    parts: dict[K, Images] = defaultdict(list)
    for image in images:
        parts[key(image)].append(image)
    return parts
