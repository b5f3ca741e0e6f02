"""End-diastole and end-systole stored as two volumes of one time point each: joined into one series of two."""

import functools
import itertools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmrsr.errors import CmrsrError
from cmrsr.io import acdc
from cmrsr.io.discover import Candidate
from cmrsr.io.joined import joined, same_place
from cmrsr.io.nifti.header import TimeAxis
from cmrsr.io.nifti.series import nifti_stem, read_nifti
from cmrsr.io.series import Series

if TYPE_CHECKING:
    from cmrsr.io.dicom.read.instance import DicomInstance

SAME_PLACE_MM = 0.1  # at every corner of the volume: writers round, and a heart that lies elsewhere is another scan
STRAIGHT = 1e-3  # a direction cosine below it belongs to a plane along the axes
PHASES_APART_MS = 20.0  # two phases that anyone tells apart; trigger times of one phase jitter by a few ms
_PHASE = re.compile(
    r"(?<![^\W_])(?:(?P<ED>ed|(?:end[-_ ]?)?dias(?:t(?:ole|olic)?)?)|(?P<ES>es|(?:end[-_ ]?)?sys(?:t(?:ole|olic)?)?)"
    r"|(?:frame|phase)[-_ ]?(?P<number>\d+))(?![^\W_])",
    re.IGNORECASE,
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Volume:
    """A candidate of one time point; ``open`` reads it without asking for the time axis.

    role: "ED", "ES", a frame number, or "" where the name says none of these; word: the role as the name has it.
    scan: what the two volumes of a pair share besides their geometry.
    """

    index: int
    candidate: Candidate
    open: Callable[[], Series]
    series: Series
    role: str
    word: str
    scan: Hashable

    @property
    def called(self) -> str:
        """The name as it was stored: a batch adds numbers to names that it has twice."""
        one = self.candidate
        return nifti_stem(one.paths[0]) if one.format == "nifti" else Path(one.name).name


Pair = tuple[_Volume, _Volume]


def pair_phases(candidates: Sequence[Candidate], *, time_axis: TimeAxis = None) -> list[Candidate]:
    """The candidates, with every two single volumes that are two phases of one heart joined into one of two frames.

    Two volumes are joined where they have the same shape, lie in the same place within ``SAME_PLACE_MM``, and

    - NIfTI: lie in one folder under names that differ by the phase alone (ED and ES, words such as diastole and
      systole, frame or phase and a number); a 3-D file of such a name is one volume, without ``time_axis`` saying so.
      Or are the only two volumes of the folder that are alike, in an oblique plane, which two patients never share.
    - DICOM: are series of one study and frame of reference with the same kind of image, and with descriptions that
      differ by the phase alone; or by numbers alone, where the trigger times show two phases of magnitude images.

    End-diastole comes first by the words, or by the ``Info.cfg`` of the ACDC challenge; else the frame number, the
    trigger time (DICOM) and the order of the names decide. A pair is called after what the names share and both phases
    (``sa_ED`` and ``sa_ES``: ``sa_ED_ES``; ``p1_frame01`` and ``p1_frame12``: ``p1_frame01_frame12``) and takes
    the place of its first volume. Nothing but headers is read. Volumes that could be phases and are not joined stay as
    they are, and the log says why.
    """
    groups: dict[Hashable, list[_Volume]] = defaultdict(list)
    for index, one in enumerate(candidates):
        if (volume := _volume_of(index, one, time_axis)) is not None:
            groups[volume.scan].append(volume)
    pairs = [pair for group in groups.values() for pair in (_named_pair if group[0].role else _alike_pairs)(group)]
    second = {max(a.index, b.index) for a, b in pairs}
    joined = {min(a.index, b.index): (a, b) for a, b in pairs}
    taken = {one.name.casefold() for k, one in enumerate(candidates) if k not in joined and k not in second}
    return [
        _join(joined[k], taken) if k in joined else one for k, one in enumerate(candidates) if k not in second
    ]  # fmt: skip


# --- which volumes there are ------------------------------------------------------------------------------------------


def _volume_of(index: int, one: Candidate, time_axis: TimeAxis) -> _Volume | None:
    """None for a series of several time points, one that cannot be read, and where time is an axis of 3-D files."""
    try:
        volume = _dicom_volume(index, one) if one.format == "dicom" else _nifti_volume(index, one, time_axis)
    except CmrsrError:
        return None  # the batch says why, when it comes to it
    return volume if volume is not None and volume.series.n_frames == 1 else None


def _nifti_volume(index: int, one: Candidate, time_axis: TimeAxis) -> _Volume | None:
    if isinstance(time_axis, int):
        return None
    path = one.paths[0]
    stem, role, word = _split_name(nifti_stem(path))
    read = functools.partial(read_nifti, path, time_axis="none") if role else one.open
    scan = ("nifti", path.parent, stem.casefold() if role else None)
    return _Volume(index=index, candidate=one, open=read, series=read(), role=role, word=word, scan=scan)


def _dicom_volume(index: int, one: Candidate) -> _Volume:
    series = one.open()
    image: DicomInstance = series.source.header.table[0][0]
    stem, role, word = _split_name(image.description)
    scan = (
        "dicom", image.identity.study, image.identity.frame_of_reference, image.component, image.derived,
        image.echo_time_ms, re.sub(r"[\W_\d]+", " ", stem.casefold()), bool(role),
    )  # fmt: skip
    return _Volume(index=index, candidate=one, open=one.open, series=series, role=role, word=word, scan=scan)


def _split_name(name: str) -> tuple[str, str, str]:
    """A name without the words of a phase, the role they give, and the word that gives it; both "" where none does."""
    found = list(_PHASE.finditer(name))
    stem = re.sub(r"[\s_.-]*_[\s_.-]*", "_", _PHASE.sub("_", name)).strip("_ ")
    for match in sorted(found, key=lambda m: m.lastgroup == "number"):  # ED_frame01: the words are clearer
        role = match["number"].lstrip("0") or "0" if match["number"] else str(match.lastgroup)
        return stem, role, match[0]
    return name, "", ""


# --- which of them are a pair -----------------------------------------------------------------------------------------


def _named_pair(group: Sequence[_Volume]) -> list[Pair]:
    """Volumes whose names say that they are phases of one scan: a pair if they are two, in one place."""
    names = ", ".join(volume.called for volume in group[:4]) + (", ..." if len(group) > 4 else "")
    roles = {volume.role for volume in group}
    if len(group) != 2 or not (roles == {"ED", "ES"} or (len(roles) == 2 and not roles & {"ED", "ES"})):
        found = "a single phase" if len(group) == 1 else f"{len(group)} volumes"
        _log.warning("%s: %s, expected one of end-diastole and one of end-systole; not joined", names, found)
        return []
    a, b = group
    if not same_place(a.series, b.series, SAME_PLACE_MM):
        _log.warning("%s: not joined into one series, their shapes or places differ", names)
        return []
    return [_ordered(a, b)]


def _alike_pairs(group: Sequence[_Volume]) -> list[Pair]:
    """Volumes whose names say nothing: a pair where exactly two lie in one place that no other patient has."""
    alike: list[list[_Volume]] = []
    for volume in group:
        if not _may_be_cine(volume):
            continue
        same = next((one for one in alike if same_place(one[0].series, volume.series, SAME_PLACE_MM)), None)
        if same is None:
            alike.append([volume])
        else:
            same.append(volume)
    pairs = []
    for one in alike:
        if len(one) == 2 and _one_heart(*one):
            pairs.append(_ordered(*one))
        elif len(one) > 1:
            why = "nothing says that they are one heart" if len(one) == 2 else "a pair of phases would be two"
            names = f"{one[0].called} to {one[-1].called}"
            _log.warning("%s: %d volumes alike are not joined, %s; add _ED and _ES to the names", names, len(one), why)
    return pairs


def _may_be_cine(one: _Volume) -> bool:
    if one.series.kind not in ("cine", "unknown"):
        return False
    return one.candidate.format == "nifti" or (
        _first_image(one).component == "magnitude" and _first_image(one).inversion_time_ms is None
    )


def _one_heart(a: _Volume, b: _Volume) -> bool:
    """Whether two volumes in one place are phases of one heart, whose names do not say so."""
    if a.candidate.format == "nifti":
        return _oblique(a.series)
    first, second = _first_image(a), _first_image(b)
    if first.series_uid == second.series_uid or first.trigger_time_ms is None or second.trigger_time_ms is None:
        return False
    return abs(first.trigger_time_ms - second.trigger_time_ms) >= PHASES_APART_MS


def _first_image(one: _Volume) -> "DicomInstance":
    image: DicomInstance = one.series.source.header.table[0][0]
    return image


def _oblique(series: Series) -> bool:
    cosines = np.abs(series.affine[:3, :3]) / np.linalg.norm(series.affine[:3, :3], axis=0)
    return int((cosines > STRAIGHT).sum()) > 3


def _ordered(a: _Volume, b: _Volume) -> Pair:
    """End-diastole first, as far as names and headers tell."""
    if a.role in ("ED", "ES"):
        return (a, b) if a.role == "ED" else (b, a)
    if a.candidate.format == "dicom":
        at = [-1.0 if (time := _first_image(one).trigger_time_ms) is None else time for one in (a, b)]
        return (b, a) if -1.0 < at[1] < at[0] else (a, b)
    if not a.role:
        return a, b
    known = acdc.phases(a.candidate.paths[0])
    if known is not None and {int(a.role), int(b.role)} == {frame + 1 for frame in known}:
        return (a, b) if int(a.role) == known[0] + 1 else (b, a)
    return (a, b) if int(a.role) < int(b.role) else (b, a)


# --- two volumes as one series ----------------------------------------------------------------------------------------


def _join(pair: Pair, taken: set[str]) -> Candidate:
    first, second = pair
    name = _unique(_pair_name(first, second), taken)
    notes = tuple(f"{one.called} ({word})" for one, word in zip(pair, ("first", "second"), strict=True))
    return Candidate(
        name=name,
        format=first.candidate.format,
        paths=(*first.candidate.paths, *second.candidate.paths),
        open=functools.partial(
            _open_pair, Path(name).name, first.open, second.open,
            f"two volumes of one time point joined into one series: {' and '.join(notes)}",
        ),
    )  # fmt: skip


def _pair_name(first: _Volume, second: _Volume) -> str:
    folder = Path(os.path.commonpath([Path(one.candidate.name).parent for one in (first, second)]))
    if first.role:
        stem = _split_name(first.called)[0]
        return str(folder / "_".join(part for part in (stem, first.word, second.word) if part))
    a, b = first.called, second.called
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    rest = re.split(r"[\W_]", b[:same])[-1] + b[same:]  # of the second name, from the last whole word that both have
    return str(folder / f"{a}_{rest}")


def _unique(name: str, taken: set[str]) -> str:
    numbered = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
    found = next(one for one in numbered if one.casefold() not in taken)
    taken.add(found.casefold())
    return found


def _open_pair(name: str, first: Callable[[], Series], second: Callable[[], Series], note: str) -> Series:
    a, b = first(), second()
    # Two chosen phases are no time axis: their own times stay with their own headers.
    return joined((a, b), name, note, kind="cine" if a.kind == "unknown" else a.kind, times_ms=None)
