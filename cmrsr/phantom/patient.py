"""One virtual patient, drawn from a seed: who it is, the heart, its disease, where it lies. Every scan is of it."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.phantom.heart import Heart, RightVentricle, Surroundings, shape_rv
from cmrsr.phantom.infarct import (
    TERRITORIES,
    Disease,
    Perfusion,
    draw_hibernation,
    draw_perfusion,
    draw_scar,
)
from cmrsr.phantom.motion import Cycle, Motion, contraction_for
from cmrsr.phantom.scan import Identity
from cmrsr.phantom.ventricle import LeftVentricle, quadrature, shape_to
from cmrsr.physics.volumes import DENSITY_G_ML

Generator = np.random.Generator
# The groups of the ACDC challenge (Bernard et al. 2018).
Group = Literal["normal", "infarct", "dilated", "hypertrophic", "rv"]
GROUPS: tuple[Group, ...] = get_args(Group)
SHARES = (0.3, 0.3, 0.15, 0.15, 0.1)  # of the groups, where none is asked for
# Mean and SD of EDV (mL), mass (g) by sex, and of the ejection fraction: Kawel-Boehm et al. 2015.
NORMAL_EDV = {"M": (160.0, 27.0), "F": (132.0, 23.0)}
NORMAL_MASS = {"M": (134.0, 21.0), "F": (98.0, 21.0)}
NORMAL_EF = (0.67, 0.05)
MOST_TRIES = 1000  # of what is drawn until it fits: seldom more than a few
LARGEST_NORMAL = {"M": 90.0, "F": 80.0}  # mL/m2: larger ventricles are not normal in ACDC
EF_LIMITS = (0.05, 0.85)
_SHAPE, _TARGET, _SCAN = range(3)  # streams of random numbers that do not disturb each other


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualPatient:
    """Everything a scan depends on but the scanner and the rest of the chest."""

    identity: Identity
    group: Group
    field_t: float
    heart: Heart
    cycle: Cycle
    beat_sd: float  # of the interval between beats, relative
    perfusion: Perfusion
    turn: NDArray[np.float64]  # (3, 3) columns: the heart's axes in RAS
    apex_mm: NDArray[np.float64]  # (3,) where the heart's frame begins, RAS

    def to_heart(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """RAS points (n, 3) in the heart's frame."""
        return np.asarray((points_mm - self.apex_mm) @ self.turn)

    def rng(self, *stream: int) -> Generator:
        """Random numbers for one purpose: the same however many other purposes there are."""
        return np.random.default_rng((self.identity.seed, self.identity.subject, _SCAN, *stream))


def draw_patient(seed: int, subject: int, group: Group | None = None, ef: float | None = None) -> VirtualPatient:
    """Virtual patient number ``subject`` (from 1) of a seed; the others do not matter.

    group: of disease, drawn where None. ef: left-ventricular ejection fraction (0..1), drawn where None.
    Raises UsageError for an ejection fraction outside ``EF_LIMITS``.
    """
    if ef is not None and not EF_LIMITS[0] <= ef <= EF_LIMITS[1]:
        raise UsageError(
            f"ejection fraction {100 * ef:g} %: expected {100 * EF_LIMITS[0]:g} to {100 * EF_LIMITS[1]:g} %"
        )
    rng = np.random.default_rng((seed, subject, _SHAPE))
    target = np.random.default_rng((seed, subject, _TARGET))
    drawn = GROUPS[int(target.choice(len(GROUPS), p=SHARES))]
    group = group or drawn
    sex: Literal["M", "F"] = "M" if target.random() < 0.5 else "F"
    size = float(target.normal())  # body size in SD: large people have large hearts
    height = (177 if sex == "M" else 165) + 7 * size
    weight = float((84 if sex == "M" else 71) * np.exp(0.15 * (0.8 * size + 0.6 * target.normal())))
    identity = Identity(
        seed=seed, subject=subject, sex=sex, age_years=int(target.integers(20, 85)), height_cm=height, weight_kg=weight
    )
    lv, wanted = _draw_ventricle(target, rng, group, identity, size)
    wanted = wanted if ef is None else ef
    motion, disease = _draw_motion(rng, lv, group, wanted)
    q = quadrature(lv)
    stroke_ml = wanted * q.cavity_ml
    heart = Heart(
        lv=lv, quadrature=q, motion=motion, disease=disease, surroundings=_draw_surroundings(rng, lv),
        rv=_draw_rv(rng, lv, motion, group, stroke_ml, identity),
    )  # fmt: skip
    beat = float(np.clip(rng.normal(900, 150), 550, 1350))
    turn, apex = _draw_place(rng, lv)
    return VirtualPatient(
        identity=identity,
        group=group,
        field_t=float(rng.choice([1.5, 3.0])),
        heart=heart,
        cycle=Cycle(
            beat_ms=beat, systole_ms=330 * (beat / 900) ** 0.5, atrial_share=float(rng.uniform(0.12, 0.35))
        ),
        beat_sd=float(rng.choice([0.02, 0.04, 0.12], p=[0.5, 0.4, 0.1])),
        perfusion=draw_perfusion(rng, disease.ischaemic),
        turn=turn,
        apex_mm=apex,
    )  # fmt: skip


def _draw_ventricle(
    target: Generator, rng: Generator, group: Group, identity: Identity, size: float
) -> tuple[LeftVentricle, float]:
    """The ventricle at end diastole and the ejection fraction, as the group has them."""
    sex, bsa = identity.sex, identity.bsa_m2

    def normal(mean: float, sd: float) -> float:
        return mean + sd * float(np.clip(0.85 * size + 0.53 * target.normal(), -2.6, 2.6))

    edv, mass = normal(*NORMAL_EDV[sex]), normal(*NORMAL_MASS[sex])
    for _ in range(MOST_TRIES):
        if group != "normal" or edv / bsa <= LARGEST_NORMAL[sex]:
            break
        edv = normal(*NORMAL_EDV[sex])
    else:
        raise RuntimeError(f"no normal volume below {LARGEST_NORMAL[sex]} mL/m2 was drawn")
    ef = NORMAL_EF[0] + NORMAL_EF[1] * float(np.clip(target.normal(), -2.2, 2.2))
    roundness = rng.uniform(1.65, 2.0)  # inner length / diameter
    septum = 0.0
    if group == "infarct":
        ef, edv = float(target.uniform(0.2, 0.395)), edv * float(target.uniform(1.1, 1.6))
        mass *= float(target.uniform(1.0, 1.3))
    elif group == "dilated":
        ef, edv = float(target.uniform(0.10, 0.38)), min(bsa * float(target.uniform(108, 185)), 350.0)
        roundness = rng.uniform(1.35, 1.65)
    elif group == "hypertrophic":
        ef, edv = float(target.uniform(0.58, 0.78)), edv * float(target.uniform(0.75, 1.0))
        mass, septum = bsa * float(target.uniform(112, 170)), rng.uniform(0.2, 0.7)
    lv = LeftVentricle(
        radius=25.0, length=0.0, power=float(rng.uniform(2.0, 3.0)), wall=8.0, base=float(rng.uniform(0.3, 0.5)),
        tilt=float(rng.uniform(0.2, 0.38)), tilt_angle=float(np.pi / 3 + rng.normal(0, 0.4)),
        ripple=np.stack([
            np.arange(2, 6), rng.normal(0, 1, 4) * [0.04, 0.02, 0.012, 0.008], rng.uniform(0, 2 * np.pi, 4),
        ], 1),
        thickening=np.array([
            [0.12 + septum, rng.normal(0.2, 0.3), rng.uniform(0.7, 1.1), rng.uniform(-0.2, 0.3), rng.uniform(0.5, 1.2)],
            [rng.uniform(-0.15, 0.1), rng.uniform(0, 2 * np.pi), 0.9, 0.0, 1.0],
        ]),
    )  # fmt: skip
    lv = replace(lv, length=2 * lv.radius * roundness / (1 + lv.base))
    if group == "dilated":  # a thin wall, whatever it weighs
        thin = _shaped(lv, edv, wall=float(target.uniform(5.5, 9.0)))
        mass = quadrature(thin).wall_ml * DENSITY_G_ML
    lv = shape_to(lv, edv, mass)
    if group == "hypertrophic":  # by definition a segment of more than 15 mm
        for _ in range(MOST_TRIES):
            if _thickest(lv) >= 16.5:
                break
            lv = shape_to(lv, edv, 1.05 * quadrature(lv).wall_ml * DENSITY_G_ML)
        else:
            raise RuntimeError("no mass makes a wall of 16.5 mm")
    return lv, ef


def _shaped(lv: LeftVentricle, edv_ml: float, wall: float) -> LeftVentricle:
    scale = (edv_ml / quadrature(lv).cavity_ml) ** (1 / 3)
    return replace(lv, radius=lv.radius * scale, length=lv.length * scale, wall=wall)


def _thickest(lv: LeftVentricle) -> float:
    theta, z = (
        np.linspace(0, 2 * np.pi, 72, endpoint=False)[:, None],
        np.linspace(lv.equator - 0.3 * lv.length, lv.base_z, 8),
    )
    return float((lv.epi(theta, z) - lv.endo(theta, z)).max())


def _draw_motion(rng: Generator, lv: LeftVentricle, group: Group, ef: float) -> tuple[Motion, Disease]:
    """Disease of the wall, and the contraction that gives the ejection fraction in spite of it."""
    share = ef / NORMAL_EF[0]
    shortening = float(0.19 * share**0.9 * rng.normal(1, 0.06))
    apex, base = np.deg2rad([-10.0, 3.0]) * share * rng.normal(1, 0.15, 2)
    territories = [str(t) for t in rng.permutation(list(TERRITORIES))]
    n_scars = 1 + int(rng.random() < 0.4) if group == "infarct" else 0
    infarcts = [draw_scar(rng, lv, t) for t in territories[:n_scars]]
    ischaemic = territories[0] if rng.random() < {"infarct": 0.6, "normal": 0.0}.get(group, 0.25) else None
    weak = [weakness for _, weakness in infarcts]
    if ischaemic:
        weak.append(draw_hibernation(rng, lv, ischaemic))
    scars = [scar for scar, _ in infarcts]
    q = quadrature(lv)
    for _ in range(MOST_TRIES):
        disease = Disease(scars=tuple(scars), weak=tuple(weak), ischaemic=ischaemic)
        contraction = contraction_for(
            ef, q, disease.loss, shortening=shortening, apex_twist=float(apex), base_twist=float(base)
        )  # fmt: skip
        if contraction is not None:
            return Motion(lv=lv, contraction=contraction), disease
        # too little healthy wall for this ejection fraction: the disease must be smaller
        scars = [replace(scar, patch=scar.patch.scaled(0.85)) for scar in scars]
        weak = [replace(weakness, patch=weakness.patch.scaled(0.85)) for weakness in weak]
    raise RuntimeError(f"no contraction gives an ejection fraction of {ef:.0%}, not even with hardly any disease")


def _draw_rv(
    rng: Generator, lv: LeftVentricle, motion: Motion, group: Group, stroke_ml: float, identity: Identity
) -> RightVentricle:
    """A right ventricle that pumps what the left one does; large or weak in its own disease."""
    ef = float(np.clip(rng.normal(0.62, 0.035), 0.54, 0.72))
    if group in ("infarct", "dilated"):  # weaker with the left one, but seldom as much
        ef = float(np.clip(rng.normal(0.5, 0.06), 0.42, 0.65))
    # no larger and no smaller than such hearts are; what it pumps is what the left ventricle pumps
    edv = float(np.clip(stroke_ml / ef, 42.0 * identity.bsa_m2, 98.0 * identity.bsa_m2))
    if group == "rv":
        limit = 110.0 if identity.sex == "M" else 100.0
        edv = identity.bsa_m2 * limit * float(rng.uniform(1.05, 1.5))
    rv = RightVentricle(
        reach=30.0, angle=float(rng.normal(0.1, 0.12)), half_angle=float(rng.uniform(1.0, 1.25)),
        apex_z=lv.apex_wall + float(rng.uniform(-2, 12)), base_z=lv.base_z + float(rng.uniform(-6, 2)),
        outflow=float(rng.uniform(3, 8)), shortening=0.3,
    )  # fmt: skip
    return shape_rv(rv, motion, quadrature(lv), edv, float(np.clip(stroke_ml / edv, 0.08, 0.78)))


def _draw_surroundings(rng: Generator, lv: LeftVentricle) -> Surroundings:
    span, base, wide = lv.base_z - lv.apex_wall, lv.base_z, lv.radius / 25
    left = np.array([[-6, -10, base + 21], [27, 23, 27]]) + rng.normal(0, 2.0, (2, 3))
    right = np.array([[45 * wide, -18, base + 16], [23, 22, 26]]) + rng.normal(0, 2.0, (2, 3))
    root = np.array([10.0 * wide, 11.0 * wide, base - 2])
    outflow = np.array([lv.radius + lv.wall + 2, lv.radius + lv.wall - 6, base + 4])
    aorta = [*root, *(root + rng.normal([4, 30, 42], 4)), rng.uniform(11, 16)]
    pulmonary = [*outflow, *(outflow + rng.normal([-16, 16, 42], 4)), rng.uniform(10, 14)]
    papillary = []
    for angle in (2.35, 4.2, *rng.uniform(0, 2 * np.pi, rng.integers(0, 2))):
        low = lv.apex_wall + span * rng.uniform(0.15, 0.28)
        size = rng.uniform(2.6, 4.6)
        papillary.append([
            angle + rng.normal(0, 0.2), rng.uniform(0.55, 0.78), size, low, low + span * rng.uniform(0.33, 0.48),
        ])  # fmt: skip
    return Surroundings(
        left_atrium=left,
        right_atrium=right,
        vessels=np.array([aorta, pulmonary]),
        papillary=np.array(papillary),
        trabeculae=(
            float(rng.uniform(0.3, 1.8)), int(rng.integers(9, 24)), float(rng.uniform(0, 6)),
            float(rng.normal(0, 0.05)),
        ),
        fat=float(rng.uniform(0.5, 6.0)),
        pericardium=float(rng.uniform(0.3, 2.0)),
    )  # fmt: skip


def _draw_place(rng: Generator, lv: LeftVentricle) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The heart's axes in RAS (its apex points left, forward and down; the RV lies right and in front) and its apex.

    The origin of RAS is the middle of the left ventricle.
    """
    axis = np.array([0.62, -0.56, 0.55]) + rng.normal(0, 0.09, 3)
    axis /= np.linalg.norm(axis)
    septum = np.array([0.62, 0.76, 0.05]) + rng.normal(0, 0.1, 3)
    septum -= axis * (septum @ axis)
    septum /= np.linalg.norm(septum)
    turn = np.stack([septum, np.cross(axis, septum), axis], 1)
    return turn, -axis * lv.base_z / 2
