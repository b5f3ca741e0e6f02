"""Patients whose late enhancement is drawn, and a stand-in for ``mie`` whose errors are known."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.heart.window import READING_MM, WINDOW
from cmrsr.io.series import Series, Source
from cmrsr.physics.volumes import LV
from cmrsr.tasks.mie.evaluation.cases import Case, Enhancement
from cmrsr.tasks.mie.evaluation.protocol import CaseScore, Run, add_baselines, evaluate_case
from cmrsr.tasks.mie.grid import SliceGrid
from cmrsr.tasks.mie.measure import MieMeasured, measure
from cmrsr.tasks.mie.result import MieSlice
from tests.conftest import oblique_affine
from tests.mie_slices import MIDDLE, infarct, mie_slice, ventricles

Mask = NDArray[np.bool_]
ENGINE = "cpkdm-s"
GAP_MM, LEVELS = 10.0, (0.85, 0.5, 0.15)
AFFINE = oblique_affine((READING_MM, READING_MM, GAP_MM))
E_CC_BIAS = 3.0  # percent, by which the true strain lies above what the first slice has; 1 more in every other
SCAR, NONE = infarct(62, 118, 0.6), np.zeros((WINDOW, WINDOW), bool)


def enhancement(scar: Mask) -> NDArray[np.float32]:
    """Without noise: bright scar and blood, dark wall, around it a texture of its own."""
    y, x = np.indices((WINDOW, WINDOW))
    around = 0.35 + 0.15 * np.sin(x / 5) * np.cos(y / 7)
    labels = ventricles()
    return np.select([scar, labels == LV, labels > 0], [1.0, 0.8, 0.1], around).astype(np.float32)


def series(frames: NDArray[np.generic], kind: str, name: str) -> Series:
    return Series.from_array(
        np.asarray(frames, np.float32), affine=AFFINE, kind=kind, source=Source(name=name)  # type: ignore[arg-type]
    )  # fmt: skip


def made_case(name: str, scar: Mask = SCAR, *, moved: tuple[int, int] = (0, 0), noise: float = 0.02) -> Case:
    """A patient with one scar in all three slices; moved: pixels (y, x) by which the enhancement lies further along."""
    rng = np.random.default_rng(len(name) + moved[0])
    clean = np.stack([np.roll(enhancement(scar), moved, (0, 1))] * len(LEVELS))
    noisy = np.abs(clean + rng.normal(0, noise, clean.shape)) * 300
    truth = np.stack([np.roll(scar, moved, (0, 1))] * len(LEVELS))
    labels = np.stack([np.roll(ventricles(), moved, (0, 1))] * len(LEVELS))
    blank = np.ones((8, len(LEVELS), WINDOW, WINDOW))
    strain = [100 * s.kinematics.e_cc[s.es][s.labels_ed == 2].mean() + E_CC_BIAS + s.z for s in slices_of(scar)]
    return Case(
        name=name, group="infarct" if scar.any() else "normal", t1=series(blank, "t1", name),
        cine=series(blank[:, [0, 0, 1, 1, 2, 2]], "cine", name), e_cc_percent=np.repeat(strain, 2), scar_whole_g=10.0,
        late=Enhancement(
            series=series(noisy[None], "lge", f"{name} lge"), clean=clean * 300, scar=truth, labels=labels
        ),
    )  # fmt: skip


def slices_of(scar: Mask) -> list[MieSlice]:
    found = [mie_slice(z, level, scar) for z, level in enumerate(LEVELS)]
    # late enhancement is a weighted sum of these, but for its texture
    images = np.stack([enhancement(scar) ** (1 + k / 4) for k in range(8)])
    return [replace(one, image=enhancement(scar), inversions=images, cine_z=2 * one.z) for one in found]


@dataclass(frozen=True)
class FakeRun:
    slices: tuple[MieSlice, ...]
    grids: tuple[SliceGrid, ...]
    measured: MieMeasured


@dataclass
class FakeEngine:
    """Knows the cases. keeps: share of the scar that it finds, by image columns; blind: cases that it refuses.

    With the cine of another case both hearts agree less, and half of the wall is uncertain.
    """

    cases: Mapping[str, Case]
    keeps: float = 1.0
    blind: tuple[str, ...] = ()
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, t1: Series, cine: Series) -> Run:
        name = t1.source.name
        self.asked.append((name, cine.source.name))
        if name in self.blind:
            raise UnusableError(f"{name}: no left ventricle was found")
        scar = SCAR if self.cases[name].group == "infarct" else NONE
        columns = np.flatnonzero(scar.any(0))
        kept = scar.copy()
        kept[:, columns[round(self.keeps * len(columns)) :]] = False
        slices = [
            replace(one, scar=kept, scar_probability=kept.astype(np.float32)) for one in slices_of(scar)
        ]  # fmt: skip
        if cine.source.name not in (name, "cine"):
            slices = [
                replace(s, agreement=0.3, likeness=0.1, scar_probability=np.full_like(s.image, 0.5)) for s in slices
            ]
        grids = tuple(
            SliceGrid(centre=(MIDDLE, MIDDLE), t1=t1.affine, z=s.z, cine=cine.affine, cine_z=s.cine_z) for s in slices
        )
        return FakeRun(tuple(slices), grids, measure(slices, gap_mm=GAP_MM, n_inversions=8))


def cases() -> dict[str, Case]:
    """Two patients with scar, their enhancement moved, and two without."""
    return {
        c.name: c
        for c in (
            made_case("p1", moved=(2, -1)), made_case("p02", moved=(0, 2)), made_case("p003", NONE),
            made_case("p4", NONE),
        )
    }  # fmt: skip


def results_of(**engines: FakeEngine) -> list[CaseScore]:
    """Every case evaluated with the engines, by default a perfect one; baselines are there too."""
    known = cases()
    measures = {name: replace(e, cases=known) for name, e in engines.items()} or {ENGINE: FakeEngine(known)}
    results = [evaluate_case(case, measures) for case in known.values()]
    add_baselines(results)
    return results
