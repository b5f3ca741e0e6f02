"""Results of ``cmrsr function``, made up: a ring that contracts, with a crescent for the RV."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.batch.flags import Flag
from cmrsr.io.references.reference import Reference
from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV, disc_areas, find_phases, ventricle, volumes_ml
from cmrsr.physics.wall import SegmentWall
from cmrsr.tasks.function.details import FunctionDetails
from cmrsr.tasks.function.measure import Measured
from cmrsr.tasks.function.plan import FunctionPlan

N, PIXEL_MM, GAP_MM = 48, 1.5, 10.0  # pixels of the window and their size, distance of slices


def beating_labels(n_t: int, n_z: int, *, rv: bool = True) -> NDArray[np.uint8]:
    """(t, z, y, x): largest in frame 0, smallest half a beat later; smaller towards the last slice."""
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    labels = np.zeros((n_t, n_z, N, N), np.uint8)
    for t in range(n_t):
        for z in range(n_z):
            inner = (10 - 4 * z / max(n_z, 2)) * (0.8 + 0.2 * np.cos(2 * np.pi * t / n_t))
            radius = np.hypot(y, x)
            if rv:
                labels[t, z][np.hypot(y, x + inner + 6) < inner] = RV
            labels[t, z][radius < inner + 5] = MYOCARDIUM
            labels[t, z][radius < inner] = LV
    return labels


def details(
    n_t: int = 8, n_z: int = 3, *, rv: bool = True, times: bool = True, wall: NDArray[np.float64] | None = None,
    flags: tuple[str, ...] = (), reference: Reference | None = None, **changes: Any,
) -> FunctionDetails:  # fmt: skip
    """wall: ED thickness (16,); ES is half as much again. changes: of ``Measured``."""
    labels = beating_labels(n_t, n_z, rv=rv)
    images = (40 + 60 * labels.astype(np.uint8)).astype(np.uint8)
    series = Series.from_array(
        images.astype(np.float32), affine=np.diag([PIXEL_MM, PIXEL_MM, GAP_MM, 1]),
        times_ms=100.0 * np.arange(n_t) if times else None,
    )  # fmt: skip
    areas = np.stack([disc_areas(frame, PIXEL_MM**2) for frame in labels])
    rv_ml, wall_ml, lv_ml = volumes_ml(areas, GAP_MM).T
    ed, es = find_phases(lv_ml)
    lv = ventricle(lv_ml, ed, es)
    thick = np.full(16, 8.0) if wall is None else wall
    measured = Measured(
        areas_mm2=areas, regressed_mm2=areas, gap_mm=GAP_MM, lv_ml=lv_ml, rv_ml=rv_ml, myocardium_ml=wall_ml,
        regressed_lv_ml=1.1 * lv_ml, ed=ed, es=es, lv=lv, rv=ventricle(rv_ml, ed, es),
        regressed=ventricle(1.1 * lv_ml, ed, es), mass_g=1.05 * float(wall_ml[ed]),
        heart_rate_bpm=60.0 if times else None, cardiac_output_l_min=0.06 * lv.sv_ml if times else None,
        abnormal_probability=0.25, base_first=True,
        wall=SegmentWall(ed_mm=thick, es_mm=1.5 * thick, thickening_percent=50 * thick / thick),
        flags=tuple(Flag(code="made_up", message=text) for text in flags),
    )  # fmt: skip
    plan = FunctionPlan(
        scale=2, super_resolved=True, matrix=(2 * N, 2 * N), padded=(2 * N, 2 * N), acquired=(0.5, 0.5),
        affine=series.affine, position=np.arange(n_t) / n_t, heart_rate_bpm=60.0, digest="", notes=(),
    )  # fmt: skip
    return FunctionDetails(
        series=series, plan=plan, measured=replace(measured, **changes), alpha=np.full((n_t, n_t), 1 / n_t),
        images=images, labels=labels, pixel_mm=PIXEL_MM, device="openvino cpu f32", reference=reference,
    )  # fmt: skip
