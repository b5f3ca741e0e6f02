"""Slices as ``mie`` leaves them, drawn: a round ventricle, the septum on the left, seen from the apex."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.heart.window import READING_MM, WINDOW
from cmrsr.physics.kinematics import Kinematics
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from cmrsr.tasks.mie.features.scar import segment_map
from cmrsr.tasks.mie.result import MieSlice

CAVITY_MM, EPICARDIUM_MM = 22.0, 33.0
WALL_MS, BLOOD_MS, SCAR_MS = 1000.0, 1600.0, 1300.0
E_CC, E_CC_SCAR, E_RR = -0.2, -0.05, 0.35
N_FRAMES, ES = 4, 2
MIDDLE = (WINDOW - 1) / 2


def polar() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radius in mm and angle in degrees, counter-clockwise on the screen from the right, 0..360."""
    y, x = (np.indices((WINDOW, WINDOW)) - MIDDLE) * READING_MM
    return np.hypot(y, x), np.mod(np.rad2deg(np.arctan2(-y, x)), 360)


def ventricles() -> NDArray[np.uint8]:
    """Labels (y, x)."""
    r, angle = polar()
    labels = np.where((r < 55) & (np.abs(angle - 180) < 50), RV, 0)
    labels = np.where(r < EPICARDIUM_MM, MYOCARDIUM, labels)
    return np.where(r < CAVITY_MM, LV, labels).astype(np.uint8)


def infarct(first: float, last: float, depth: float) -> NDArray[np.bool_]:
    """Scar between two angles, from the endocardium through a share ``depth`` of the wall."""
    r, angle = polar()
    return (r >= CAVITY_MM) & (r < CAVITY_MM + depth * (EPICARDIUM_MM - CAVITY_MM)) & (angle >= first) & (angle < last)


def mie_slice(z: int = 0, level: float | None = 0.5, scar: NDArray[np.bool_] | None = None, **changes: Any) -> MieSlice:
    """One slice; its scar has a longer T1, moves less, is bright, and is certain."""
    labels = ventricles()
    scar = np.zeros(labels.shape, bool) if scar is None else scar
    segments, septum = segment_map(labels, READING_MM, level, True)
    t1 = np.select([scar, labels == MYOCARDIUM, labels > 0], [SCAR_MS, WALL_MS, BLOOD_MS], 400.0)
    beat = (np.arange(N_FRAMES) == ES)[:, None, None]
    shape = (N_FRAMES, WINDOW, WINDOW)
    zero = np.zeros(shape, np.float32)
    made = MieSlice(
        z=z, cine_z=2 * z, distance_mm=0.0, level=level, septum=septum,
        image=np.where(scar | (labels == LV), 0.9, 0.1).astype(np.float32), image_std=None,
        scar_probability=scar.astype(np.float32), scar_std=None, scar=scar, labels=labels, labels_ed=labels,
        labels_t1=labels, segments=segments, agreement=0.9, likeness=0.7,
        inversions=np.ones((8, WINDOW, WINDOW), np.float32),
        inversion_ms=np.linspace(100, 3500, 8), shift_mm=np.zeros((8, 2)), registered=np.ones(8, bool), t1_ms=t1,
        clusters=(t1 // 300).astype(np.uint8), cine=np.ones(shape, np.float32), es=ES, centre=(MIDDLE, MIDDLE),
        kinematics=Kinematics(
            u_r=zero, u_c=zero, e_rr=np.where(beat, E_RR, zero).astype(np.float32),
            e_cc=np.where(beat, np.where(scar, E_CC_SCAR, E_CC), zero).astype(np.float32),
        ),
    )  # fmt: skip
    return replace(made, **changes)
