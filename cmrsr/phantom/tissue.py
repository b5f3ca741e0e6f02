"""Tissues of the chest: what each region of a virtual slice is made of, and how contrast agent reaches it."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Supply(IntEnum):
    """Where a region's contrast agent comes from."""

    NONE = 0
    RV_BLOOD = 1
    LV_BLOOD = 2
    MYOCARDIUM = 3  # by segment, through the Fermi response
    LUNG = 4
    SLOW = 5  # organs and muscle: late, weak


@dataclass(frozen=True, slots=True)
class Tissue:
    """Ranges a region is drawn from: relative proton density, native T1 in ms (1.5 to 3 T), texture (share of rho)."""

    rho: tuple[float, float]
    t1_ms: tuple[float, float]
    texture: tuple[float, float]
    supply: Supply


TISSUES: dict[str, Tissue] = {
    "air": Tissue((0.0, 0.0), (1000, 1000), (0.0, 0.0), Supply.NONE),
    "fat": Tissue((0.7, 1.0), (250, 350), (0.05, 0.25), Supply.NONE),
    "muscle": Tissue((0.6, 0.9), (850, 1150), (0.05, 0.3), Supply.SLOW),
    "lung": Tissue((0.02, 0.2), (1000, 1400), (0.2, 0.8), Supply.LUNG),
    "liver": Tissue((0.6, 0.95), (550, 800), (0.05, 0.3), Supply.SLOW),
    "bone": Tissue((0.05, 0.3), (300, 900), (0.1, 0.4), Supply.NONE),
    "vessel": Tissue((0.7, 1.0), (1400, 1900), (0.0, 0.1), Supply.LUNG),
    "rv_blood": Tissue((0.85, 1.0), (1400, 1900), (0.02, 0.15), Supply.RV_BLOOD),
    "lv_blood": Tissue((0.85, 1.0), (1400, 1900), (0.02, 0.12), Supply.LV_BLOOD),
    "myocardium": Tissue((0.7, 0.9), (950, 1185), (0.02, 0.15), Supply.MYOCARDIUM),
    "pericardium": Tissue((0.05, 0.3), (900, 1100), (0.0, 0.1), Supply.NONE),
    "organ": Tissue((0.1, 1.0), (300, 1500), (0.02, 0.5), Supply.SLOW),
}
KINDS = tuple(TISSUES)


@dataclass(frozen=True, slots=True)
class Regions:
    """One row a label of the rendered slice: what the label is made of. All arrays (n_labels,)."""

    rho: NDArray[np.float64]
    t1_ms: NDArray[np.float64]
    texture: NDArray[np.float64]
    supply: NDArray[np.int64]
    segment: NDArray[np.int64]  # 0..5 in myocardium, -1 elsewhere
    uptake: NDArray[np.float64]  # relative uptake of a slowly supplied region


def draw_regions(rng: np.random.Generator, kinds: list[str], segments: NDArray[np.int64]) -> Regions:
    """Draw the properties of every label from its tissue's ranges; myocardium shares one tissue over its segments."""
    table = [TISSUES[k] for k in kinds]
    low = np.array([[t.rho[0], t.t1_ms[0], t.texture[0]] for t in table])
    high = np.array([[t.rho[1], t.t1_ms[1], t.texture[1]] for t in table])
    # blood and myocardium of one patient are one material; everything else varies from place to place
    u = rng.random((len(kinds), 3))
    shared = dict(zip(KINDS, rng.random((len(KINDS), 3)), strict=True))
    one_material = np.array([k in ("rv_blood", "lv_blood", "myocardium") for k in kinds])
    u[one_material] = [shared[k] for k, same in zip(kinds, one_material, strict=True) if same]
    rho, t1, texture = (low + u * (high - low)).T
    supply = np.array([int(t.supply) for t in table])
    return Regions(rho, t1, texture, supply, segments, rng.uniform(0.0, 1.5, len(kinds)))
