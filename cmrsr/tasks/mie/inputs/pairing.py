"""Which cine belongs to which T1 series: by the place on the command line, or within a study."""

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cmrsr.errors import CmrsrError, UnreadableError, UnusableError, UsageError
from cmrsr.io.discover import Candidate, Refused
from cmrsr.io.nifti.file import read_header
from cmrsr.io.nifti.header import TimeAxis, file_shape
from cmrsr.io.nifti.series import read_nifti
from cmrsr.io.planes import distances_mm, tilt_deg
from cmrsr.io.series import Series
from cmrsr.tasks.mie.inputs.case import MieCase
from cmrsr.tasks.mie.inputs.inversion_images import join_inversions
from cmrsr.tasks.mie.inputs.inversion_times import has_inversion_times
from cmrsr.tasks.mie.inputs.series_role import MAX_INVERSIONS, StudySeries, look_at

PARALLEL_DEG = 12.0  # planes that cross at more show other parts of the heart
NEAR_MM = 6.0  # about half a slice and its gap
SAME_PLACE_MM = 1.0
SAME_TIME_MS = 1.0
WHOLE_BEAT = 8  # phases: fewer do not show how the heart moves
LISTED = 4
BOTH = "name the cine first and the T1 images second: cmrsr mie CINE T1"


@dataclass(slots=True, kw_only=True)
class Pairs:
    """T1 series with their cines.

    refused: T1 series without a cine, and broken ones. notes: what everybody should read; those about one pair are also
    in the notes of its T1 series, once it is opened.
    """

    cases: list[MieCase] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, t1: StudySeries, cine: StudySeries, notes: Sequence[str]) -> None:
        """A case of its own."""
        one = t1.candidate
        opened = functools.partial(_open_noted, one.open, tuple(notes)) if notes else one.open
        self.cases.append(MieCase(name=one.name, format=one.format, paths=one.paths, open=opened, cine=cine.candidate))
        self.notes += [f"{t1.name}: {note}" for note in notes]


def pair_studies(candidates: Sequence[Candidate], *, inputs: Sequence[Path], time_axis: TimeAxis = None) -> Pairs:
    """Find the T1 series among the candidates, and the cine of each.

    Two inputs, neither a list, are the cine and the T1 images, in this order, whatever their names and headers say;
    unless one of them holds a cine and T1 images: it is a study. In studies, a T1 series is one of magnitude images
    with inversion times (see ``join_inversions`` too), or named so; its cine is, of those in the same DICOM study or
    patient's folder, the one whose slices lie at the T1 series'. Everything else is left alone.
    time_axis: as the files were read with; here 1, 2 and "none" are for files of three axes alone, as the cine of a
    slice has three and its T1 images four or the other way round.
    UsageError: the two inputs are swapped, or one holds several series that may be meant. UnreadableError: nothing to
    read in one. UnusableError: no T1 images anywhere, nor any that had to be refused.
    """
    seen = [look_at(_with_own_axes(one, time_axis)) for one in join_inversions(candidates)]
    sides = _sides(seen, inputs)
    pairs = Pairs()
    if sides is not None:
        _pair_named(*sides, [_shown(path) for path in inputs], pairs)
    else:
        _pair_found(seen, pairs)
    return pairs


def _with_own_axes(one: Candidate, time_axis: TimeAxis) -> Candidate:
    if one.format == "dicom" or time_axis in (None, 0, 3):
        return one
    try:
        n_axes = len(file_shape(read_header(one.paths[0])))
    except CmrsrError:
        return one
    return replace(one, open=functools.partial(read_nifti, one.paths[0])) if n_axes == 4 else one


def _open_noted(opened: Callable[[], Series], notes: tuple[str, ...]) -> Series:
    series = opened()
    return replace(series, source=replace(series.source, notes=(*series.source.notes, *notes)))


# --- two inputs: cine and T1 ------------------------------------------------------------------------------------------


def _sides(seen: Sequence[StudySeries], inputs: Sequence[Path]) -> tuple[list[StudySeries], list[StudySeries]] | None:
    """What lies in the first and in the second input; None where they are not one series each."""
    places = [path.resolve() for path in inputs]
    if len(places) != 2 or places[0] == places[1]:
        return None
    if any(path.is_file() and path.suffix.lower() == ".txt" for path in places):
        return None
    sides: tuple[list[StudySeries], list[StudySeries]] = ([], [])
    for one in seen:
        paths = [path.resolve() for path in one.candidate.paths]
        holding = [k for k, place in enumerate(places) if all(path.is_relative_to(place) for path in paths)]
        if not holding:
            return None
        sides[max(holding, key=lambda k: len(places[k].parts))].append(one)  # of two nested folders the inner one
    if any({"cine", "t1"} <= {one.role for one in side} for side in sides):
        return None
    return sides


def _pair_named(first: list[StudySeries], second: list[StudySeries], named: list[str], pairs: Pairs) -> None:
    for side, name in ((first, named[0]), (second, named[1])):
        if not side:
            raise UnreadableError(f"{name}: no series in it that could be read; {BOTH}")
    cines, series = _meant(first, "cine", named[0]), _meant(second, "t1", named[1])
    swapped = any(one.role == "cine" for one in series)
    if all(has_inversion_times(one.read) or (one.role == "t1" and swapped) for one in cines):
        raise UsageError(
            f"{named[0]}: T1 images ({_described(cines[0])}) where the cine is expected"
            f"{', and the cine where the T1 images are' if swapped else ''}; {BOTH}"
        )
    for one in series:
        if not has_inversion_times(one.read) and one.role == "cine" and one.read.n_frames > MAX_INVERSIONS:
            raise UsageError(f"{named[1]}: a cine ({_described(one)}) where the T1 images are expected; {BOTH}")
    for t1, left in _without_copies(series):
        cine, more = _best(t1, cines)
        pairs.add(t1, cine, [*left, *more, *_apart(t1, cine)])


def _meant(side: list[StudySeries], role: str, named: str) -> list[StudySeries]:
    """The series of an input that its place on the command line is for; several only of the role itself."""
    if len(side) == 1:
        side[0].read  # noqa: B018  the error of a series that cannot be read is the user's answer
        return side
    readable = [one for one in side if one.series is not None]
    for found in (
        [one for one in readable if one.role == role],
        [one for one in readable if one.role == "unclear"],
        [one for one in readable if one.role != "apart"],
        readable,
        side,
    ):
        if len(found) == 1 or (found and found[0].role == role):
            return [one for one in found if one.read]
        if found:
            what = "the cine" if role == "cine" else "the T1 images"
            if all(one.role == "apart" for one in found):
                raise UnusableError(f"{named}: none of its {len(found)} series are {what} ({_listed(found)}); {BOTH}")
            raise UsageError(f"{named}: {len(found)} series that may be {what} ({_listed(found)}); name one of them")
    raise AssertionError(named)


# --- studies ----------------------------------------------------------------------------------------------------------


def _pair_found(seen: Sequence[StudySeries], pairs: Pairs) -> None:
    studies: dict[tuple[str, ...], list[StudySeries]] = defaultdict(list)
    for one in seen:
        studies[one.study].append(one)
    for study in studies.values():
        _pair_study(study, pairs)
    if not pairs.cases and not pairs.refused:
        cines = [one for one in seen if one.role == "cine"]
        beside = f" beside the cine {_listed(cines)}" if cines else f" among {len(seen)} series ({_listed(seen)})"
        raise UnusableError(
            f"no T1 images{beside}: expected a series of one slice or more with several inversion times each; if it "
            f"is there, {BOTH}"
        )


def _pair_study(study: Sequence[StudySeries], pairs: Pairs) -> None:
    broken = [one for one in study if one.series is None]
    t1s = [one for one in study if one.role == "t1" and one.series is not None]
    cines = [one for one in study if one.role == "cine" and one.series is not None]
    for one in broken:
        if one.role == "t1":
            assert one.error is not None
            pairs.refused.append(Refused(name=one.name, paths=one.candidate.paths, error=one.error))
    for t1, left in _without_copies(t1s):
        own = _of_person(t1, cines, t1s)
        if own:
            cine, more = _best(t1, own)
            pairs.add(t1, cine, [*left, *more, *_apart(t1, cine)])
        else:
            pairs.refused.append(
                Refused(name=t1.name, paths=t1.candidate.paths, error=_alone(t1, cines, _of_person(t1, broken, t1s)))
            )
    if cines and not any(one.role == "t1" for one in study):
        pairs.notes.append(f"left alone, a cine without T1 images: {_listed(cines)}")


def _of_person(t1: StudySeries, others: Sequence[StudySeries], t1s: Sequence[StudySeries]) -> list[StudySeries]:
    """Those of a folder that are of the same patient, as far as the first words of their names tell."""
    same = [one for one in others if one.person == t1.person]
    if same:
        return same
    # A word that a T1 series and another series share is a patient's. Without any, numbers are those of the series,
    # and so are the names of files in a folder for each kind of series.
    first_words = [{one.person for one in some} for some in (t1s, others)]
    shared = first_words[0] & first_words[1] - {""}
    of_one = len(t1.study) > 1 or all(len(words) == 1 for words in first_words)  # a patient's folder, or one of each

    def may_differ(one: StudySeries) -> bool:
        return not one.person or (not shared and (one.person.isdigit() or (of_one and one.filed)))

    loose = [one for one in others if not one.person or not t1.person or (may_differ(one) and may_differ(t1))]
    return loose if len({one.person for one in loose if not may_differ(one)}) <= 1 else []


def _alone(t1: StudySeries, cines: Sequence[StudySeries], broken: Sequence[StudySeries]) -> CmrsrError:
    for one in broken:
        if one.role == "cine" and one.error is not None:
            return type(one.error)(f"{t1.name}: its cine cannot be used: {one.error}")
    where = "its DICOM study" if t1.candidate.format == "dicom" else "its folder"
    others = f" that is clearly its own ({_listed(cines)})" if cines else ""
    return UnusableError(f"{t1.name}: T1 images, but no cine in {where}{others}; {BOTH}")


# --- which of several -------------------------------------------------------------------------------------------------


def _best(t1: StudySeries, cines: Sequence[StudySeries]) -> tuple[StudySeries, list[str]]:
    """The cine that shows most slices of a T1 series, and a note where there was a choice."""

    def worth(cine: StudySeries) -> tuple[object, ...]:
        series = cine.read
        apart = distances_mm(t1.read, series)
        shown = int((apart <= NEAR_MM).sum()) if tilt_deg(t1.read, series) <= PARALLEL_DEG else 0
        return (
            shown, series.kind == "cine", series.n_frames >= WHOLE_BEAT, not cine.second_choice,
            not _frames_differ(t1, cine), -round(float(np.median(apart)), 1), series.n_frames,
        )  # fmt: skip

    best = max(cines, key=worth)  # the first of equals: candidates come in natural order
    if len(cines) == 1:
        return best, []
    return best, [f"its cine is {_last(best)}, of {len(cines)} the one that lies best"]


def _without_copies(series: Sequence[StudySeries]) -> list[tuple[StudySeries, list[str]]]:
    """One of each acquisition: scanners also store T1 images moved onto each other. With a note on those left out."""
    kept: list[list[StudySeries]] = []
    for one in series:
        same = next((group for group in kept if _one_acquisition(group[0], one)), None)
        if same is None:
            kept.append([one])
        else:
            same.append(one)
    result = []
    for group in kept:
        first, *rest = sorted(group, key=lambda one: one.moved)  # stable: the first of equals
        note = f"left alone, the same images moved or derived: {_listed(rest)}"
        result.append((first, [note] if rest else []))
    return result


def _one_acquisition(one: StudySeries, other: StudySeries) -> bool:
    a, b = one.read, other.read
    if one.moved == other.moved or one.study != other.study or a.shape[:2] != b.shape[:2]:
        return False
    if tilt_deg(a, b) > 1 or distances_mm(a, b).max() > SAME_PLACE_MM:
        return False
    if not (has_inversion_times(a) and has_inversion_times(b)):
        return not (has_inversion_times(a) or has_inversion_times(b))
    x, y = (np.asarray(s.times_ms, np.float64).reshape(s.n_frames, -1) for s in (a, b))
    return bool(np.abs(np.sort(x, 0) - np.sort(y, 0)).max() <= SAME_TIME_MS)


def _apart(t1: StudySeries, cine: StudySeries) -> list[str]:
    """What a reader should know about a pair."""
    if t1.image is None or cine.image is None:
        return []
    if t1.image.identity.study != cine.image.identity.study:
        return [
            f"T1 images and cine ({_last(cine)}) belong to different studies: make sure that they are of one patient"
        ]
    if _frames_differ(t1, cine):
        return [
            f"T1 images and cine ({_last(cine)}) have different frames of reference: the patient may have moved between"
        ]
    return []


def _frames_differ(a: StudySeries, b: StudySeries) -> bool:
    """Whether both name a frame of reference that can be believed, and not the same."""
    if a.image is None or b.image is None:
        return False
    places = {a.image.identity.frame_of_reference, b.image.identity.frame_of_reference}
    return len(places) > 1 and "" not in places


# --- words ------------------------------------------------------------------------------------------------------------


def _described(one: StudySeries) -> str:
    series = one.read
    if series.kind == "t1" and series.times_ms is not None:
        return f"{series.n_frames} inversion times from {series.times_ms.min():.0f} to {series.times_ms.max():.0f} ms"
    return f"{series.n_frames} images a slice"


def _listed(some: Sequence[StudySeries]) -> str:
    more = f" and {len(some) - LISTED} more" if len(some) > LISTED else ""
    return ", ".join(_last(one) for one in some[:LISTED]) + more


def _last(one: StudySeries) -> str:
    return Path(one.name).name


def _shown(path: Path) -> str:
    return path.name or str(path)
