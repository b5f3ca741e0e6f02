"""From single DICOM images to series: what belongs together, and how it becomes an array ``(t, z, y, x)``."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.copies import without_copies
from cmrsr.io.dicom.read.geometry import acquired_fraction_of, check_one_grid, geometry_of, phase_axis_of, slices_of
from cmrsr.io.dicom.read.identity import identify
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.read.join import join
from cmrsr.io.dicom.read.kind import kind_of, text_kind
from cmrsr.io.dicom.read.missing import complete, without_last_volume
from cmrsr.io.dicom.read.pixels import read_pixels
from cmrsr.io.dicom.read.split import split
from cmrsr.io.dicom.read.time_axis import OnMissing, arrange
from cmrsr.io.outputs import sha256_file
from cmrsr.io.series import Series, Source

MAX_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomGroup:
    """Images that may form one series; ``name`` is fit for a file name and unique among the groups of one call."""

    name: str
    instances: tuple[DicomInstance, ...]
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, each once, sorted."""
        return tuple(sorted({i.path for i in self.instances}))


@dataclass(frozen=True, slots=True)
class DicomStack:
    """The header of a series from DICOM: the record of the image of every time point and slice, ``[t][z]``."""

    table: tuple[tuple[DicomInstance, ...], ...]

    def read(self, t: int) -> NDArray[np.float32]:
        """Pixels of one time point ``(z, y, x)``, rescaled. Raises UnreadableError."""
        return np.stack([read_pixels(instance) for instance in self.table[t]])

    def uids(self) -> list[str]:
        """What names all source images, time by time: SOP Instance UIDs, or digests of the files where these do not."""
        images = [i for row in self.table for i in row]
        named = {(i.sop_instance_uid, i.frame) for i in images}
        if len(named) == len(images) and all(uid for uid, _ in named):
            return [i.sop_instance_uid for i in images]
        return [f"{sha256_file(i.path)} {i.frame}" for i in images]


def group(instances: Sequence[DicomInstance]) -> list[DicomGroup]:
    """Candidates for a series, sorted by series number; the order of ``instances`` does not matter."""
    ordered = sorted(
        instances, key=lambda i: (i.series_uid, i.instance_number or 0.0, i.sop_instance_uid, i.frame, i.path)
    )
    stored: dict[tuple[str, str], list[DicomInstance]] = defaultdict(list)
    for i in identify(without_copies(ordered)):
        stored[i.identity.study, i.identity.series].append(i)
    parts = [(part, suffix) for images in stored.values() for part, suffix in split(images)]
    parts.sort(key=lambda p: (p[0][0].series_number or 0, p[0][0].series_uid, p[1]))
    groups = []
    for members, notes in join([part for part, _ in parts]):
        images = [image for k in members for image in parts[k][0]]
        groups.append(DicomGroup(name=_name(images, parts[members[0]][1]), instances=tuple(images), notes=notes))
    groups.sort(key=lambda g: (g.instances[0].series_number or 0, g.name, g.instances[0].series_uid))
    return _unique(groups)


def assemble(group: DicomGroup, *, on_missing: OnMissing = "fail") -> Series:
    """The series of a group; pixels are read when asked for, one time point at a time.

    Raises UnreadableError for cut-off pixel data and UnusableError, with what is missing, for images that do not make
    a full table of times and slices; ``on_missing`` drops the incomplete time points or slices instead.
    """
    images, cut_short = without_last_volume(group.instances)
    notes = [*group.notes, *_reading_notes(images), *cut_short]
    check_one_grid(images)
    broken = [i for i in images if i.damage]
    if broken and on_missing == "fail":
        raise UnreadableError(f"{broken[0].damage} in {broken[0].path}; copy the file again")
    slices, places = slices_of(images)
    if broken:
        notes += [f"{i.path.name} left out: {i.damage}" for i in broken]
        whole = [[i for i in one if not i.damage] for one in slices]
        if not any(whole) or (on_missing == "drop-frame" and not all(whole)):
            raise UnreadableError(f"{broken[0].damage} in {broken[0].path}, and nothing else at its slice position")
        places = [place for place, one in zip(places, whole, strict=True) if one]
        slices = [one for one in whole if one]
    kind = text_kind(images[0])
    slices, places, dropped = complete(slices, places, kind, on_missing)
    geometry = geometry_of(slices)
    arranged = arrange(slices, places, kind, on_missing)
    notes += [*dropped, *arranged.notes, *([geometry.note] if geometry.note else [])]
    first = arranged.table[0][0]
    if first.component != "magnitude":
        notes.append(f"{first.component} images, not magnitude")
    stack = DicomStack(arranged.table)
    return Series(
        shape=(len(arranged.table), len(slices), *first.matrix),
        affine=geometry.affine,
        origins_mm=geometry.origins_mm,
        reader=stack.read,
        times_ms=arranged.times_ms,
        kind=kind_of(arranged.table, arranged.times_ms, arranged.tag),
        phase_axis=phase_axis_of(first),
        acquired_fraction=acquired_fraction_of(first),
        source=Source(name=group.name, format="dicom", paths=group.paths, header=stack, notes=tuple(notes)),
    )


def _reading_notes(images: Sequence[DicomInstance]) -> list[str]:
    """What was assumed in reading the headers: each once, with a count where it is not true of all images."""
    counts = Counter(note for image in images for note in image.notes)
    return [note if n in (1, len(images)) else f"{note} ({n} of {len(images)} images)" for note, n in counts.items()]


def _name(images: Sequence[DicomInstance], suffix: str) -> str:
    numbers = sorted({i.series_number for i in images if i.series_number is not None})
    span = "" if not numbers else str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
    raw = "_".join(part for part in (span, images[0].description or "series") if part)
    cleaned = re.sub(r"[^A-Za-z0-9.+-]+", "_", raw)[:MAX_NAME] + re.sub(r"[^A-Za-z0-9.+-]+", "_", suffix)[:MAX_NAME]
    return cleaned.strip("._") or "series"


def _unique(groups: Sequence[DicomGroup]) -> list[DicomGroup]:
    seen: Counter[str] = Counter()
    unique = []
    for one in groups:
        seen[one.name] += 1
        name = one.name if seen[one.name] == 1 else f"{one.name}_{seen[one.name]}"
        unique.append(DicomGroup(name=name, instances=one.instances, notes=one.notes))
    return unique
