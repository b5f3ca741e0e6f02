"""Which parts belong together: a cine is often stored as one series per slice."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cmrsr.io.dicom.read.geometry import normal_of, same_spacing, slices_of, stackable
from cmrsr.io.dicom.read.kind import text_kind
from cmrsr.io.dicom.read.order import DAY_MS
from cmrsr.io.dicom.read.split import Images, same_plane
from cmrsr.io.dicom.read.time_axis import MIN_INVERSION_TIMES

# A slice with fewer images than this share of its neighbours is another scan; with more, it has a hole.
SAME_SCAN_SHARE = 0.8
LEVEL = re.compile(r"(?<![a-z])(bas(e|al|is)|mid(dle|cavity|ventricular)?|apex|apical)(?![a-z])")


def join(parts: Sequence[Images]) -> list[tuple[list[int], tuple[str, ...]]]:
    """Indices of the parts that are the slices of one stack, each list with notes; a part on its own has none.

    Joined are one-slice parts of equal plane, grid, component, echo and description, at different places, of one study
    and frame of reference as far as these identifiers can be believed. A second series at the same place is another
    stack; so is a perfusion at another time.
    """
    alone = [k for k, part in enumerate(parts) if len(slices_of(part)[0]) > 1]
    stacks: list[tuple[list[int], tuple[str, ...]]] = [([k], ()) for k in alone]
    for bucket in _buckets(parts, [k for k in range(len(parts)) if k not in alone]):
        for members, notes in _believed(parts, bucket):
            for run in _runs(parts, members):
                stacks.extend(_stack(parts, run, notes))
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
        _described(one) == _described(other)
        and fewer >= SAME_SCAN_SHARE * more
        and same_plane(a, b)
        and same_spacing(a, b)
        and (a.echo_time_ms == b.echo_time_ms or abs((a.echo_time_ms or 0.0) - (b.echo_time_ms or 0.0)) < 0.1)
    )


def _described(part: Images) -> tuple[object, ...]:
    """What all slices of a stack share besides identifiers; a number at the end of the description counts the slices.

    T1 images are often taken at three levels with a description each.
    """
    image = part[0]
    description = image.description.lower()
    if len({i.inversion_time_ms for i in part} - {None}) >= MIN_INVERSION_TIMES:
        description = LEVEL.sub(" ", description)
    description = re.sub(r"[\W_\d]+$", "", description)
    comment = image.comment if image.component == "map" else ""
    return image.patient_id, image.study_date, image.component, image.derived, description, comment


def _believed(parts: Sequence[Images], bucket: Sequence[int]) -> list[tuple[list[int], tuple[str, ...]]]:
    """The bucket by study and frame of reference, unless these differ from part to part and so say nothing."""
    notes = []
    keys: dict[int, tuple[str, ...]] = dict.fromkeys(bucket, ())
    places = {parts[k][0].identity.frame_of_reference for k in bucket}
    named = parts[bucket[0]][0].patient_id != "" or (len(places) == 1 and "" not in places)  # surely one patient
    for name, values, believable in (
        ("StudyInstanceUID", {k: parts[k][0].identity.study for k in bucket}, named),
        ("FrameOfReferenceUID", {k: parts[k][0].identity.frame_of_reference for k in bucket}, True),
    ):
        if believable and 1 < len(bucket) == len(set(values.values())) and stackable([parts[k][0] for k in bucket]):
            notes.append(f"{name} differs from slice to slice and was not used")
        else:
            keys = {k: (*keys[k], values[k]) for k in bucket}
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for k in bucket:
        groups[keys[k]].append(k)
    return [(members, tuple(notes)) for members in groups.values()]


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


def _stack(
    parts: Sequence[Images], members: list[int], notes: tuple[str, ...]
) -> list[tuple[list[int], tuple[str, ...]]]:
    numbers = ", ".join(str(parts[k][0].series_number) for k in members)
    if len(members) == 1:
        return [(members, ())]
    if not stackable([parts[k][0] for k in members]):
        apart = f"not joined with the alike series {numbers}: their places do not make a stack"
        return [([k], (apart,)) for k in members]
    return [(members, (f"{len(members)} series of one slice each joined into a stack: series {numbers}", *notes))]
