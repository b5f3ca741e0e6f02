"""Short-axis label stacks of virtual patients, as a perfect reader would draw them."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.examination import held_shift
from cmrsr.phantom.patient import Group, draw_patient
from cmrsr.phantom.plane import short_axis
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.truth import maps_at
from cmrsr.physics.volumes import LV, MYOCARDIUM

PIXEL_MM, MATRIX = 2.0, 88
ED, ES = 0.0, 1.0  # activations


@cache
def label_stack(subject: int, group: Group = "normal", gap_mm: float = 8.0) -> NDArray[np.uint8]:
    """ED and ES (2, z, y, x) of a whole ventricle, apex first, seen from the apex; breath-holds differ a little."""
    patient = draw_patient(77, subject, group)
    rng = np.random.default_rng(subject)
    planes, _ = short_axis(
        patient, 0, fov=MATRIX * PIXEL_MM, thickness=7.0, gap=gap_mm, spin=float(rng.normal(0, 0.5)),
        offset=float(rng.random()),
    )  # fmt: skip
    shifts = [held_shift(rng, plane.normal) for plane in planes]
    labels = np.stack([
        np.stack([maps_at(patient, p, MATRIX, a, s)["label"] for p, s in zip(planes, shifts, strict=True)])
        for a in (ED, ES)
    ])  # fmt: skip
    labels[labels == LABELS["scar"]] = MYOCARDIUM
    labels.setflags(write=False)
    return labels


def held(labels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The slices of a stack (2, z, y, x) that hold LV cavity at ED."""
    return np.flatnonzero((labels[0] == LV).any((1, 2)))
