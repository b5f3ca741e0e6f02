"""The cases that function is evaluated on: series with references, and virtual patients, whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cmrsr.io import acdc
from cmrsr.io.discover import Candidate
from cmrsr.io.references.lookup import References
from cmrsr.io.references.reference import Labelled, Labels, Reference, reference_of_labels
from cmrsr.io.series import Series
from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.scans import scan_patient
from cmrsr.phantom.truth import heart_truth

SCAN = Protocol(kinds=("cine",), n_frames=12)  # a phase costs as much time as all else; slices and pixels as drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One series with its reference. clean: the same frames without noise; body: true values of the heart itself,

    which slices and pixels only sample. Both of virtual patients alone.
    """

    name: str
    patient: str
    series: Series
    reference: Reference
    clean: Series | None = None
    body: Reference | None = None


class NoReferenceError(Exception):
    """A series that nobody gave a reference for: no failure, but nothing to compare with."""


def real_case(candidate: Candidate, references: References) -> Case:
    """A series of a file with its reference. NoReferenceError without one, CmrsrError where either is unusable."""
    series = candidate.open()
    reference = references.of(candidate.name, series)
    if reference is None:
        raise NoReferenceError(candidate.name)
    return Case(name=candidate.name, patient=acdc.patient(candidate), series=series, reference=reference)


def virtual_case(seed: int, subject: int) -> Case:
    """The short-axis cine of a virtual patient (subject from 1), with the labels of every voxel as its reference."""
    patient = draw_patient(seed, subject)
    scan = next(scan_patient(patient, SCAN))
    name = patient.identity.name
    series = scan.series()
    series = replace(series, source=replace(series.source, name=name))
    labels = np.where(scan.labels == LABELS["scar"], LABELS["myocardium"], scan.labels).astype(np.uint8)
    return Case(
        name=name, patient=name, series=series, clean=series.with_frames(scan.clean),
        reference=reference_of_labels(
            "labels of the virtual scan", [Labelled(labels=one, frame=t) for t, one in enumerate(labels)],
            series.spacing_mm, n_frames=series.n_frames,
        ),
        body=_body(heart_truth(patient)),
    )  # fmt: skip


def _body(truth: dict[str, dict[str, float]]) -> Reference:
    lv, rv = truth["lv"], truth["rv"]
    return Reference(
        source="the virtual heart", edv_ml=lv["edv_ml"], esv_ml=lv["esv_ml"], ef_percent=lv["ef_percent"],
        mass_g=lv["mass_g"], rv_edv_ml=rv["edv_ml"], rv_esv_ml=rv["esv_ml"], rv_ef_percent=rv["ef_percent"],
    )  # fmt: skip


def shown_frame(reference: Reference, lv: int = LABELS["lv"]) -> tuple[int, int]:
    """Frame and slice to look at: the labelled frame with the largest LV, and the slice of its largest area."""
    areas = {t: (labels == lv).sum(axis=(1, 2)) for t, labels in reference.labels.items()}
    if not areas:
        return 0, -1
    t = max(areas, key=lambda t: int(areas[t].sum()))
    return t, int(np.argmax(areas[t]))


def heart_of(labels: Sequence[Labels]) -> tuple[float, float] | None:
    """Centre (y, x) of all labelled voxels; None where there are none."""
    hit = np.zeros(labels[0].shape[1:]) if labels else np.zeros((0, 0))
    for one in labels:
        hit += (one > 0).sum(axis=0)
    if not hit.any():
        return None
    rows, columns = np.indices(hit.shape)
    return float((rows * hit).sum() / hit.sum()), float((columns * hit).sum() / hit.sum())
