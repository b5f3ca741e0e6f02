"""What ``mie`` found in one slice, on the window of the T1 image that the model sees."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.physics.kinematics import Kinematics

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class MieSlice:
    """One T1 slice. Arrays (y, x) are windows of WINDOW x WINDOW pixels of READING_MM in the plane of the T1 image.

    z, cine_z: the slice of the T1 series and of the cine that was taken for it, ``distance_mm`` apart along the normal.
    level: where it lies, 0 at the apex, 1 at the base; None where that cannot be told. septum: angle of the septum's
    middle, see ``physics.scar``; NaN where no RV was found.
    image: the synthetic enhancement, bright signal 1; scar_probability 0..1; ``*_std``: over the samples, None for a
    single one. scar: the mask. labels: 1 RV, 2 myocardium, 3 LV as the cine has them at the phase of the T1 images,
    moved onto those; labels_ed: at end diastole, where strain is drawn; labels_t1: as the model reads them from the T1
    images. segments: AHA 1..16 of the myocardium, 0 elsewhere. agreement: Dice (0..1) of both kinds of labels, LV with
    its wall. likeness: of the edges of cine and T1 images, -1 to 1, see ``mie_anatomy``.
    inversions (n, y, x) at inversion_ms (n,), motion corrected; shift_mm (n, 2): by how much (y, x); registered (n,).
    t1_ms: NaN where there is no fit. clusters: 0.., by rising T1.
    cine (t, y, x) from end diastole on, es: its frame of end systole, kinematics likewise, about ``centre`` (y, x).
    """

    z: int
    cine_z: int
    distance_mm: float
    level: float | None
    septum: float
    image: Array
    image_std: Array | None
    scar_probability: Array
    scar_std: Array | None
    scar: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    labels_ed: NDArray[np.uint8]
    labels_t1: NDArray[np.uint8]
    segments: NDArray[np.uint8]
    agreement: float
    likeness: float
    inversions: Array
    inversion_ms: NDArray[np.float64]
    shift_mm: NDArray[np.float64]
    registered: NDArray[np.bool_]
    t1_ms: NDArray[np.floating[Any]]
    clusters: NDArray[np.uint8]
    cine: Array
    es: int
    centre: tuple[float, float]
    kinematics: Kinematics


@dataclass(frozen=True, slots=True, kw_only=True)
class MieFrame:
    """The result on the grid of the T1 series, (z, y, x) each; 0 outside the window, and where there is no slice.

    output: the synthetic enhancement, in thousandths of its bright signal; std over the samples, None for one.
    e_cc, e_rr: strain at end systole, a fraction. t1_ms: 0 where there is no fit.
    """

    output: Array
    std: Array | None
    scar_probability: Array
    scar_std: Array | None
    scar: NDArray[np.uint8]
    t1_ms: Array
    e_cc: Array
    e_rr: Array
