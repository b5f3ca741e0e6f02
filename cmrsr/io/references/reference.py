"""What is known of a heart that is measured: reference volumes, and labels of some of its frames."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.physics.volumes import (
    DENSITY_G_ML,
    LV,
    MYOCARDIUM,
    RV,
    STRUCTURES,
    disc_areas,
    find_phases,
    ventricle,
    volumes_ml,
)

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Reference values of one case; None where unknown. ``edv_ml`` to ``mass_g`` are of the LV.

    labels: by frame of the series (from 0), (z, y, x) on its matrix: 1 RV cavity, 2 LV myocardium, 3 LV cavity.
    structures: those that the labels show anywhere; a structure that is not among them was not drawn.
    source, paths: what it was read from. notes: what was decided in reading.
    """

    source: str
    edv_ml: float | None = None
    esv_ml: float | None = None
    ef_percent: float | None = None
    mass_g: float | None = None
    rv_edv_ml: float | None = None
    rv_esv_ml: float | None = None
    rv_ef_percent: float | None = None
    labels: Mapping[int, Labels] = field(default_factory=dict, repr=False)
    structures: tuple[int, ...] = ()
    paths: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One labelled time point: (z, y, x) codes on the series' matrix.

    frame: of the series, from 0, None where nobody says. phase: "ED" or "ES" where somebody says.
    """

    labels: Labels
    frame: int | None
    phase: str = ""


def reference_of_labels(
    source: str,
    found: list[Labelled],
    spacing_mm: tuple[float, float, float],
    *,
    n_frames: int,
    paths: tuple[Path, ...] = (),
    notes: tuple[str, ...] = (),
) -> Reference:
    """Volumes by summation of discs over labelled frames with the spacing (z, y, x) of the labels.

    ED and ES are the frames said to be them; otherwise, of two frames or more, those of the largest and the smallest LV
    (of a whole beat as ``find_phases`` has it). What was not drawn in a frame stays unknown: RV and mass of labels of
    the LV alone. UnusableError where no label shows the LV.
    """
    gap, y, x = spacing_mm
    volumes = np.array([volumes_ml(disc_areas(one.labels, y * x), gap) for one in found]).reshape(-1, len(STRUCTURES))
    by_structure = {s: volumes[:, STRUCTURES.index(s)] for s in STRUCTURES}
    lv = by_structure[LV]
    if not lv.any():
        raise UnusableError(f"{source}: no voxel has the label {LV}, the LV cavity; expected labels of the heart")
    ed, es = _phases(found, lv, n_frames)

    def at(values: NDArray[np.float64], place: int | None) -> float | None:
        """The volume in a frame, None where the structure was not drawn in it."""
        return float(values[place]) if place is not None and values[place] > 0 else None

    def ef(values: NDArray[np.float64]) -> float | None:
        if at(values, ed) is None or at(values, es) is None:
            return None
        assert ed is not None
        assert es is not None
        return ventricle(values, ed, es).ef_percent

    wall = at(by_structure[MYOCARDIUM], ed)
    return Reference(
        source=source, edv_ml=at(lv, ed), esv_ml=at(lv, es), ef_percent=ef(lv),
        mass_g=None if wall is None else wall * DENSITY_G_ML,
        rv_edv_ml=at(by_structure[RV], ed), rv_esv_ml=at(by_structure[RV], es), rv_ef_percent=ef(by_structure[RV]),
        labels={one.frame: one.labels for one in found if one.frame is not None},
        structures=tuple(s for s in STRUCTURES if by_structure[s].any()), paths=paths, notes=notes,
    )  # fmt: skip


def _phases(found: list[Labelled], lv_ml: NDArray[np.float64], n_frames: int) -> tuple[int | None, int | None]:
    """Places of ED and ES among the labelled time points; None where there is no telling."""
    said = {one.phase: i for i, one in enumerate(found) if one.phase}
    if said:
        return said.get("ED"), said.get("ES")
    drawn = np.flatnonzero(lv_ml)
    if len(drawn) < 2:
        return None, None
    if len(drawn) == n_frames:
        return find_phases(lv_ml)
    return int(drawn[np.argmax(lv_ml[drawn])]), int(drawn[np.argmin(lv_ml[drawn])])
