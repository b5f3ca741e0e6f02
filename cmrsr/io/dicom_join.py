"""Which images belong together: split what one series mixes, join what was stored as one series per slice."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from cmrsr.io.dicom_geometry import normal_of, same_spacing, slices_of, stackable
from cmrsr.io.dicom_kind import text_kind
from cmrsr.io.dicom_read import DicomInstance
from cmrsr.io.dicom_time import DAY_MS, MIN_INVERSION_TIMES

Images = list[DicomInstance]
K = TypeVar("K", bound=Hashable)
COSINE_TOLERANCE = 1e-3
# A slice with fewer images than this share of its neighbours is another scan; with more, it has a hole.
SAME_SCAN_SHARE = 0.8
LEVEL = re.compile(r"(?<![a-z])(bas(e|al|is)|mid(dle|cavity|ventricular)?|apex|apical)(?![a-z])")


def split(images: Sequence[DicomInstance]) -> list[tuple[Images, str]]:
    """Parts of one stored series that are scans of their own, each with a suffix for its name ("" for the whole).

    Split by plane, by part of the complex signal, by echo and inversion time where they separate scans, and maps by
    their comment. Not by matrix and spacing: mixed in one series, they are an error.
    """
    rules: list[Callable[[Images], list[tuple[Images, str]]]] = [
        _by_plane, _by_component, _by_echo, _by_inversion, _by_comment,
    ]  # fmt: skip
    parts: list[tuple[Images, str]] = [(list(images), "")]
    for rule in rules:
        parts = [(part, name + suffix) for whole, name in parts for part, suffix in rule(whole)]
    return parts


def _by_plane(images: Images) -> list[tuple[Images, str]]:
    planes: list[Images] = []
    for image in images:
        plane = next((p for p in planes if _same_plane(p[0], image)), None)
        if plane is None:
            planes.append([image])
        else:
            plane.append(image)
    return [(plane, f"_plane{k + 1}" if len(planes) > 1 else "") for k, plane in enumerate(planes)]


def _same_plane(a: DicomInstance, b: DicomInstance) -> bool:
    return bool(np.allclose(a.orientation, b.orientation, rtol=0, atol=COSINE_TOLERANCE))


def _by_component(images: Images) -> list[tuple[Images, str]]:
    parts = _parts(images, lambda i: (i.component, i.derived))
    mixed = len({derived for _, derived in parts}) > 1
    return [
        (part, ("" if component == "magnitude" else f"_{component}") + ("_derived" if derived and mixed else ""))
        for (component, derived), part in parts.items()
    ]


def _by_echo(images: Images) -> list[tuple[Images, str]]:
    """Echo times separate scans where a slice has several; slices with an echo time each are one scan."""
    parts = _parts(images, lambda i: None if i.echo_time_ms is None else round(i.echo_time_ms, 2))
    places = [{round(p, 1) for p in slices_of(part)[1]} for part in parts.values()]
    if len(parts) == 1 or len(set.union(*places)) == sum(len(p) for p in places):
        return [(images, "")]
    return [(part, f"_te{echo:g}" if echo is not None else "") for echo, part in parts.items()]


def _by_inversion(images: Images) -> list[tuple[Images, str]]:
    """A few inversion times with many images each are several scans; one image for each is a T1 series."""
    parts = _parts(images, lambda i: None if i.inversion_time_ms is None else round(i.inversion_time_ms, 1))
    n_slices = len(slices_of(images)[0])
    if len(parts) == 1 or None in parts or min(len(p) for p in parts.values()) < max(2, len(parts)) * n_slices:
        return [(images, "")]
    return [(part, f"_ti{inversion:g}") for inversion, part in parts.items()]


def _by_comment(images: Images) -> list[tuple[Images, str]]:
    """Parameter maps of one fit are stored as one series; their comments tell them apart."""
    if images[0].component != "map":
        return [(images, "")]
    parts = _parts(images, lambda i: i.comment)
    return [(part, f"_{comment}" if len(parts) > 1 else "") for comment, part in parts.items()]


def _parts(images: Iterable[DicomInstance], key: Callable[[DicomInstance], K]) -> dict[K, Images]:
    parts: dict[K, Images] = defaultdict(list)
    for image in images:
        parts[key(image)].append(image)
    return parts


def join(parts: Sequence[Images]) -> list[tuple[list[int], str]]:
    """Indices of the parts that are the slices of one stack, each list with a note; a part on its own has none.

    Joined are one-slice parts of equal plane, grid, frame of reference, component, echo and description, at different
    places. A second series at the same place is another stack; so is a perfusion at another time.
    """
    alone = [k for k, part in enumerate(parts) if len(slices_of(part)[0]) > 1]
    stacks: list[tuple[list[int], str]] = [([k], "") for k in alone]
    for bucket in _buckets(parts, [k for k in range(len(parts)) if k not in alone]):
        for members in _runs(parts, bucket):
            stacks.extend(_stack(parts, members))
    return stacks


def _buckets(parts: Sequence[Images], candidates: Sequence[int]) -> list[list[int]]:
    buckets: list[list[int]] = []
    for k in candidates:
        match = next((b for b in buckets if _alike(parts[b[0]], parts[k])), None)
        if match is None:
            buckets.append([k])
        else:
            match.append(k)
    return buckets


def _alike(one: Images, other: Images) -> bool:
    a, b = one[0], other[0]
    if (text_kind(a) == "perfusion" or text_kind(b) == "perfusion") and not _overlap(one, other):
        return False
    fewer, more = sorted((len(one), len(other)))
    return (
        _identity(one) == _identity(other)
        and fewer >= SAME_SCAN_SHARE * more
        and _same_plane(a, b)
        and same_spacing(a, b)
        and (a.echo_time_ms == b.echo_time_ms or abs((a.echo_time_ms or 0.0) - (b.echo_time_ms or 0.0)) < 0.1)
    )


def _identity(part: Images) -> tuple[object, ...]:
    """What all slices of a stack share; a number at the end of the description counts the slices.

    T1 images are often taken at three levels with a description each.
    """
    image = part[0]
    description = image.description.lower()
    if len({i.inversion_time_ms for i in part} - {None}) >= MIN_INVERSION_TIMES:
        description = LEVEL.sub(" ", description)
    description = re.sub(r"[\W_\d]+$", "", description)
    comment = image.comment if image.component == "map" else ""
    return image.study_uid, image.frame_of_reference_uid, image.component, image.derived, description, comment


def _overlap(one: Images, other: Images) -> bool:
    """Whether two series were acquired at the same time: slices of one perfusion are, stress and rest are not."""
    times = [[i.acquired_at_ms for i in part if i.acquired_at_ms is not None] for part in (one, other)]
    if not all(times):
        return False
    (a, b), (c, d) = [(min(t), max(t)) for t in times]
    return max(b, d) - min(a, c) < DAY_MS / 2 and a <= d and c <= b


def _runs(parts: Sequence[Images], bucket: Sequence[int]) -> list[list[int]]:
    """The first series at each place, then the second at each place, and so on."""
    normal = normal_of(parts[bucket[0]][0])
    runs: list[list[int]] = []
    taken: list[list[float]] = []
    for k in bucket:
        place = float(np.dot(parts[k][0].position_mm, normal))
        free = next((r for r, places in enumerate(taken) if all(abs(place - p) > 0.1 for p in places)), None)
        if free is None:
            runs.append([k])
            taken.append([place])
        else:
            runs[free].append(k)
            taken[free].append(place)
    return runs


def _stack(parts: Sequence[Images], members: list[int]) -> list[tuple[list[int], str]]:
    numbers = ", ".join(str(parts[k][0].series_number) for k in members)
    if len(members) == 1:
        return [(members, "")]
    if not stackable([parts[k][0] for k in members]):
        return [([k], f"not joined with the alike series {numbers}: their places do not make a stack") for k in members]
    return [(members, f"{len(members)} series of one slice each joined into a stack: series {numbers}")]
