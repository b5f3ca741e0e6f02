"""Late enhancement that belongs to the T1 images of a study, among all series that were found."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cmrsr.errors import CmrsrError, UnusableError
from cmrsr.io.discover import Candidate
from cmrsr.io.nifti.file import read_header
from cmrsr.io.nifti.header import file_shape
from cmrsr.io.nifti.series import read_nifti
from cmrsr.tasks.mie.evaluation.cases import LABEL_ENDINGS, Case, with_labels
from cmrsr.tasks.mie.inputs.series_role import StudySeries, look_at


class NoReferenceError(Exception):
    """T1 images without late enhancement beside them: no failure, but nothing to compare with."""


def late_series(candidates: Sequence[Candidate]) -> list[StudySeries]:
    """Those that are late enhancement by their header or name."""
    seen = [look_at(_still(one)) for one in candidates]
    late = [one for one in seen if one.series is not None and one.series.kind == "lge"]
    masks = {f"{one.name}{ending}" for one in late for ending in LABEL_ENDINGS if ending}
    return [one for one in late if one.name not in masks]


def _still(candidate: Candidate) -> Candidate:
    """The third axis of a NIfTI file of three is that of slices: enhancement has no time."""
    if candidate.format == "dicom":
        return candidate
    path = candidate.paths[0]
    try:
        n_axes = len(file_shape(read_header(path)))
    except CmrsrError:
        return candidate
    return replace(candidate, open=partial(read_nifti, path, time_axis="none")) if n_axes == 3 else candidate


def real_case(t1: Candidate, cine: Candidate, late: Sequence[StudySeries], labels: Path | None) -> Case:
    """T1 images, their cine and the enhancement of the same study.

    NoReferenceError without one, CmrsrError where something is unusable.
    """
    return Case(name=t1.name, t1=t1.open(), cine=cine.open(), late=with_labels(late_of(t1, late).read, labels))


def late_of(t1: Candidate, late: Sequence[StudySeries]) -> StudySeries:
    """Of the same DICOM study or folder; of several those of the same person, if any are.

    NoReferenceError: there is none. UnusableError: several may be meant.
    """
    own = look_at(t1)
    found = [one for one in late if one.study == own.study]
    found = [one for one in found if one.person == own.person] or found
    if not found:
        raise NoReferenceError(t1.name)
    if len(found) > 1:
        names = ", ".join(one.name for one in found[:3])
        raise UnusableError(f"{t1.name}: several series of late enhancement ({names}); expected one in its study")
    return found[0]
