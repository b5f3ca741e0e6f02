"""Tissues: relaxation times and proton density of what the body is made of, and how contrast agent reaches it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class Supply(IntEnum):
    """Where a region's contrast agent comes from."""

    NONE = 0
    RV_BLOOD = 1
    LV_BLOOD = 2
    MYOCARDIUM = 3  # by AHA segment and layer, through the Fermi response
    LUNG = 4
    SLOW = 5  # organs and muscle: late, weak


Kind = Literal[
    "air", "fat", "muscle", "lung", "liver", "bone", "vessel", "rv_blood", "lv_blood", "myocardium", "scar",
    "pericardium", "organ",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tissue:
    """Ranges a region is drawn from: relative proton density, native T1 and T2 in ms at 1.5 T and 3 T, T1 15 minutes
    after contrast relative to native (about 0.2 mmol/kg left), texture (share of rho).
    """

    rho: tuple[float, float]
    t1_ms: tuple[tuple[float, float], tuple[float, float]]
    t2_ms: tuple[tuple[float, float], tuple[float, float]]
    late_t1: tuple[float, float]
    texture: tuple[float, float]
    supply: Supply


# T1, T2: MRXCAT (Wissmann 2014) and Stanisz 2005; native T1: Dabir 2014, Granitz 2019; late T1: Klein, JCMR 15:11.
TISSUES: dict[Kind, Tissue] = {
    "air": Tissue(
        rho=(0, 0), t1_ms=((1000, 1000), (1000, 1000)), t2_ms=((50, 50), (50, 50)),
        late_t1=(1, 1), texture=(0, 0), supply=Supply.NONE,
    ),
    "fat": Tissue(
        rho=(0.7, 1), t1_ms=((250, 350), (300, 400)), t2_ms=((40, 70), (40, 70)),
        late_t1=(0.9, 1), texture=(0.05, 0.25), supply=Supply.NONE,
    ),
    "muscle": Tissue(
        rho=(0.6, 0.9), t1_ms=((850, 1050), (1000, 1350)), t2_ms=((32, 45), (29, 42)),
        late_t1=(0.5, 0.7), texture=(0.05, 0.3), supply=Supply.SLOW,
    ),
    "lung": Tissue(
        rho=(0.02, 0.2), t1_ms=((1000, 1300), (1100, 1400)), t2_ms=((25, 50), (20, 40)),
        late_t1=(0.4, 0.7), texture=(0.2, 0.8), supply=Supply.LUNG,
    ),
    "liver": Tissue(
        rho=(0.6, 0.95), t1_ms=((550, 680), (660, 850)), t2_ms=((42, 52), (32, 45)),
        late_t1=(0.45, 0.65), texture=(0.05, 0.3), supply=Supply.SLOW,
    ),
    "bone": Tissue(
        rho=(0.05, 0.3), t1_ms=((300, 700), (350, 900)), t2_ms=((30, 60), (30, 60)),
        late_t1=(0.6, 0.9), texture=(0.1, 0.4), supply=Supply.NONE,
    ),
    "vessel": Tissue(
        rho=(0.7, 1), t1_ms=((1350, 1600), (1650, 1950)), t2_ms=((120, 260), (80, 200)),
        late_t1=(0.2, 0.3), texture=(0, 0.1), supply=Supply.LUNG,
    ),
    "rv_blood": Tissue(
        rho=(0.85, 1), t1_ms=((1400, 1650), (1750, 1950)), t2_ms=((140, 240), (90, 180)),
        late_t1=(0.26, 0.33), texture=(0.02, 0.15), supply=Supply.RV_BLOOD,
    ),
    "lv_blood": Tissue(
        rho=(0.85, 1), t1_ms=((1400, 1600), (1750, 1950)), t2_ms=((180, 280), (120, 220)),
        late_t1=(0.26, 0.33), texture=(0.02, 0.12), supply=Supply.LV_BLOOD,
    ),
    "myocardium": Tissue(
        rho=(0.7, 0.9), t1_ms=((950, 1000), (1050, 1185)), t2_ms=((43, 50), (40, 47)),
        late_t1=(0.47, 0.6), texture=(0.02, 0.15), supply=Supply.MYOCARDIUM,
    ),
    # native T1 and late T1 of scar are drawn relative to the same patient's myocardium, see ``draw_materials``
    "scar": Tissue(
        rho=(0.7, 0.9), t1_ms=((950, 1000), (1050, 1185)), t2_ms=((48, 62), (45, 58)),
        late_t1=(1, 1), texture=(0.02, 0.15), supply=Supply.MYOCARDIUM,
    ),
    "pericardium": Tissue(
        rho=(0.05, 0.3), t1_ms=((900, 1100), (1000, 1200)), t2_ms=((20, 40), (20, 40)),
        late_t1=(0.7, 0.9), texture=(0, 0.1), supply=Supply.NONE,
    ),
    "organ": Tissue(
        rho=(0.1, 1), t1_ms=((300, 1500), (350, 1800)), t2_ms=((25, 150), (25, 120)),
        late_t1=(0.35, 0.8), texture=(0.02, 0.5), supply=Supply.SLOW,
    ),
}  # fmt: skip
KINDS: tuple[Kind, ...] = tuple(TISSUES)
SCAR_T1_RISE_MS = (150.0, 400.0)  # above the patient's myocardium, chronic infarct without contrast
SCAR_COUPLING = 0.75  # of the late T1 that follows the native one: both go with the extracellular volume
SCAR_LATE_T1 = (0.6, 0.82)  # of the remote myocardium's T1 late after contrast: 425 of 541 ms
BLOOD_LATE_T1 = (0.68, 0.86)  # likewise: 450 of 541 ms


@dataclass(frozen=True, slots=True)
class Materials:
    """One row a label: what it is made of in one patient. All arrays (n_labels,), times in ms."""

    rho: NDArray[np.float64]
    t1_ms: NDArray[np.float64]
    t2_ms: NDArray[np.float64]
    late_t1_ms: NDArray[np.float64]  # about 15 min after contrast agent
    texture: NDArray[np.float64]
    supply: NDArray[np.int64]
    kind: NDArray[np.int64]  # index into ``KINDS``
    segment: NDArray[np.int64]  # AHA 1..17 in the LV's wall, 0 elsewhere
    layer: NDArray[np.int64]  # 0 epicardial half, 1 endocardial half
    uptake: NDArray[np.float64]  # relative uptake of a slowly supplied region

    def take(self, labels: NDArray[np.integer]) -> "Materials":
        """The rows of some labels."""
        return Materials(*(getattr(self, name)[labels] for name in self.__slots__))

    @property
    def scar(self) -> NDArray[np.bool_]:
        return np.asarray(self.kind == KINDS.index("scar"))


def draw_materials(
    rng: np.random.Generator,
    kinds: NDArray[np.int64],
    field_t: float,
    *,
    segment: NDArray[np.int64],
    layer: NDArray[np.int64],
) -> Materials:
    """Draw what every label is made of from its tissue's ranges at 1.5 or 3 T; ``kinds`` are indices into ``KINDS``.

    Blood and myocardium of one patient are one material each; everything else varies from place to place.
    """
    table = list(TISSUES.values())
    strong = int(field_t > 2)
    low = np.array([[t.rho[0], t.t1_ms[strong][0], t.t2_ms[strong][0], t.late_t1[0], t.texture[0]] for t in table])
    high = np.array([[t.rho[1], t.t1_ms[strong][1], t.t2_ms[strong][1], t.late_t1[1], t.texture[1]] for t in table])
    u = rng.random((len(kinds), 5))
    shared = rng.random((len(KINDS), 5))
    shared[KINDS.index("scar")] = shared[KINDS.index("myocardium")]
    blood_late = rng.uniform(*BLOOD_LATE_T1)
    one = np.isin(kinds, [KINDS.index(k) for k in ("rv_blood", "lv_blood", "myocardium", "scar")])
    u[one] = shared[kinds[one]]
    rho, t1, t2, late, texture = (low[kinds] + u * (high - low)[kinds]).T
    late = late * t1
    scar = kinds == KINDS.index("scar")
    # fibrosis widens the space outside the cells, which lengthens native T1 and takes up contrast agent: mostly as one
    share, other = rng.uniform(), rng.uniform()
    rise = np.interp(share, (0, 1), SCAR_T1_RISE_MS)
    enhanced = np.interp(SCAR_COUPLING * share + (1 - SCAR_COUPLING) * other, (0, 1), SCAR_LATE_T1[::-1])
    muscle = kinds == KINDS.index("myocardium")
    if muscle.any():
        t1[scar] = t1[muscle][0] + rise
        late[scar] = late[muscle][0] * enhanced
        late[np.isin(kinds, [KINDS.index("rv_blood"), KINDS.index("lv_blood")])] = late[muscle][0] * blood_late
    supply = np.array([int(t.supply) for t in table])[kinds]
    return Materials(rho, t1, t2, late, texture, supply, kinds, segment, layer, rng.uniform(0.2, 2.2, len(kinds)))


def redraw_materials(rng: np.random.Generator, materials: Materials, field_t: float) -> Materials:
    """The same labels made of other tissue of the same kinds."""
    return draw_materials(rng, materials.kind, field_t, segment=materials.segment, layer=materials.layer)
