"""Results of ``cmrsr mie``, made up: drawn slices of one ventricle, with signals that recover by their T1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.heart.window import READING_MM, WINDOW
from cmrsr.tasks.mie.details import MieDetails
from cmrsr.tasks.mie.measure import measure
from cmrsr.tasks.mie.plan import MiePlan, SlicePair
from cmrsr.tasks.mie.result import MieFrame, MieSlice
from tests.mie_slices import infarct, mie_slice

GAP_MM = 10.0
LEVELS = (0.15, 0.5, 0.85)  # the apex first
ANTERIOR = infarct(62, 118, 0.6)  # segments 7 and 13
TIMES_MS = np.array([100.0, 180, 900, 1000, 1700, 1900, 2600, 3400])


def recovering(z: int = 0, level: float | None = 0.5, scar: NDArray[np.bool_] | None = None, **more: Any) -> MieSlice:
    """A slice whose T1 images are those of its T1 map."""
    t1 = mie_slice(z, level, scar).t1_ms
    images = np.abs(1 - 2 * np.exp(-TIMES_MS[:, None, None] / t1)).astype(np.float32)
    spread = np.full(t1.shape, 0.05, np.float32)
    return mie_slice(
        z, level, scar, **{"inversions": images, "inversion_ms": TIMES_MS, "image_std": spread, **more}
    )  # fmt: skip


def three(scar: NDArray[np.bool_] | None = ANTERIOR, **more: Any) -> tuple[MieSlice, ...]:
    """From the apex on, scar in the lower two."""
    return tuple(recovering(z, level, scar if z < 2 else None, **more) for z, level in enumerate(LEVELS))


def details(slices: tuple[MieSlice, ...]) -> MieDetails:
    zero = np.zeros((len(slices), WINDOW, WINDOW), np.float32)
    return MieDetails(
        slices=slices, measured=measure(slices, gap_mm=GAP_MM, n_inversions=len(slices[0].inversions)),
        plan=MiePlan(
            slices=tuple(SlicePair(z=s.z, cine_z=s.cine_z, distance_mm=s.distance_mm) for s in slices),
            inversion_ms=np.stack([s.inversion_ms for s in slices], 1), used=np.ones((8, len(slices)), bool), digest="",
            notes=(),
        ),
        frame=MieFrame(
            output=zero, std=None, scar_probability=zero, scar_std=None, scar=zero.astype(np.uint8), t1_ms=zero,
            e_cc=zero, e_rr=zero,
        ),
        device="openvino cpu f32", affine=np.diag([READING_MM, READING_MM, GAP_MM, 1.0]),
    )  # fmt: skip
