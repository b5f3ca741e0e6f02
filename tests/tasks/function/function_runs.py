"""Beating hearts with labels, and a stand-in for ``function`` whose errors are known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.references.reference import Labelled, reference_of_labels
from cmrsr.io.series import Series, Source
from cmrsr.physics.volumes import disc_areas, find_phases, ventricle, volumes_ml
from cmrsr.tasks.function.evaluation.cases import Case
from cmrsr.tasks.function.evaluation.coarse import zero_filling
from cmrsr.tasks.function.evaluation.protocol import FULL, RESTORED, CaseScore, Condition, Protocol, Run, evaluate_case
from cmrsr.tasks.function.measure import Measured

N_T, N_Z, N_Y, N_X = 4, 2, 72, 66
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])
ENGINE = "causal-s"


def labels_of(low: float, ef: float) -> NDArray[np.uint8]:
    """(t, z, y, x): an LV of ``low`` pixels at ED that loses ``ef`` of its area, in its wall, beside an RV."""
    y, x = np.indices((N_Y, N_X))
    out = np.zeros((N_T, N_Z, N_Y, N_X), np.uint8)
    for t in range(N_T):
        radius = low * np.sqrt(1 - ef * np.sin(np.pi * t / N_T) ** 2)
        out[t, :, np.hypot(y - 36, x - 16) < 8] = 1
        out[t, :, np.hypot(y - 36, x - 36) < low + 4] = 2
        out[t, :, np.hypot(y - 36, x - 36) < radius] = 3
    return out


def heart_case(number: int, ef: float, *, columns: int = N_X) -> Case:
    """A patient: images of brightness by label with texture, all labels as reference."""
    labels = labels_of(10 + 0.3 * number, ef)[..., :columns]
    rng = np.random.default_rng(number)
    texture = rng.normal(0, 20, labels.shape)
    images = np.array([100.0, 500, 200, 600])[labels] + texture
    series = Series.from_array(np.abs(images), affine=AFFINE, kind="cine", source=Source(name=f"p{number}/sa"))
    reference = reference_of_labels(
        "labels", [Labelled(labels=one, frame=t) for t, one in enumerate(labels)], series.spacing_mm, n_frames=N_T
    )
    return Case(name=f"p{number}/sa", patient=f"p{number}", series=series, reference=reference)


def measured(labels: NDArray[np.uint8], pixel_mm2: float, *, bias: float = 0.0) -> Measured:
    """What masks say; the direct estimate is off by ``bias`` points of EF."""
    areas = np.stack([disc_areas(one, pixel_mm2) for one in labels])
    rv, wall, lv = volumes_ml(areas, 8.0).T
    ed, es = find_phases(lv)
    direct = lv.copy()
    direct[es] -= bias / 100 * lv[ed]
    ef = ventricle(direct, ed, es).ef_percent
    return Measured(
        areas_mm2=areas, regressed_mm2=areas, gap_mm=8.0, lv_ml=lv, rv_ml=rv, myocardium_ml=wall,
        regressed_lv_ml=direct, ed=ed, es=es, lv=ventricle(lv, ed, es), rv=ventricle(rv, ed, es),
        regressed=ventricle(direct, ed, es), mass_g=1.05 * float(wall[ed]), heart_rate_bpm=None,
        cardiac_output_l_min=None, abnormal_probability=1 / (1 + np.exp((ef - 50) / 5)), base_first=True, wall=None,
        flags=(),
    )  # fmt: skip


@dataclass(frozen=True)
class FakeRun:
    frames: NDArray[np.float32]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    measured: Measured


@dataclass
class FakeEngine:
    """Knows the cases. Masks are the truth at full resolution, without their last column of LV otherwise; restoring

    gives the mean of the truth and of zero-filling. blind: cases in which it finds no heart. restores: whether it can.
    """

    cases: Mapping[str, Case]
    bias: float = 3.0
    blind: tuple[str, ...] = ()
    restores: bool = True

    def __call__(self, series: Series, condition: Condition) -> Run:
        case = self.cases[series.source.name]
        if case.name in self.blind:
            raise UnusableError(f"{case.name}: no left ventricle was found")
        if condition is RESTORED and not self.restores:
            raise UnusableError(f"{case.name}: this engine restores nothing")
        labels = np.stack([case.reference.labels[t] for t in range(N_T)])
        rows, columns = series.shape[2:]
        if condition is FULL:
            frames, affine = series.array(), series.affine
        else:
            frames = np.stack([zero_filling(volume) for volume in series])
            labels = labels.copy()
            labels[..., 36][labels[..., 36] == 3] = 2
            affine = np.diag([*(series.affine.diagonal()[:2] / 2), 8.0, 1.0])
            affine[:2, 3] = case.series.affine[:2, 3]
            rows, columns = 2 * rows, 2 * columns
            if condition is RESTORED:
                frames = (frames + case.series.array()[..., :rows, :columns]) / 2
        labels = labels[..., :rows, :columns]
        return FakeRun(frames, labels, affine, measured(labels, 2.25, bias=self.bias))


def results_of(
    efs: tuple[float, ...] = (0.7, 0.6, 0.4, 0.3), protocol: Protocol | None = None, **engines: FakeEngine
) -> list[CaseScore]:
    """Every case evaluated with the engines, by default one."""
    cases = {case.name: case for case in (heart_case(i + 1, ef) for i, ef in enumerate(efs))}
    measures = {name: FakeEngine(cases, e.bias, e.blind, e.restores) for name, e in engines.items()}
    chosen = measures or {ENGINE: FakeEngine(cases)}
    return [evaluate_case(case, chosen, protocol or Protocol(crop=48)) for case in cases.values()]
