"""Disease of the left ventricle's wall: AHA segments, coronary territories, scar, lost function, ischaemia."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.ventricle import LeftVentricle
from cmrsr.physics.wall import SEGMENT_NAMES as MEASURED_SEGMENTS

Array = NDArray[np.float64]
Generator = np.random.Generator
N_SEGMENTS = 17
SEGMENT_NAMES = (*MEASURED_SEGMENTS, "apex")
# Cerqueira 2002: the territories of the three arteries.
TERRITORIES = {"LAD": (1, 2, 7, 8, 13, 14, 17), "RCA": (3, 4, 9, 10, 15), "LCX": (5, 6, 11, 12, 16)}
TERRITORY_ANGLE = {"LAD": np.deg2rad(60), "RCA": np.deg2rad(285), "LCX": np.deg2rad(180)}
_SIX = np.array([2, 1, 6, 5, 4, 3])  # by sixths from the anteroseptal insertion on
_FOUR = np.array([14, 13, 16, 15])  # by quarters about 0, 90, 180, 270 degrees


def aha_segment(lv: LeftVentricle, theta: Array, z: Array) -> NDArray[np.uint8]:
    """The AHA segment (1..17) of material points: thirds from endocardial apex to base, the cap below is 17.

    Source: Cerqueira et al. 2002.
    """
    turn = np.mod(theta, 2 * np.pi) / (2 * np.pi)
    six = _SIX[np.minimum((turn * 6).astype(int), 5)]
    four = _FOUR[np.mod(np.floor(turn * 4 + 0.5).astype(int), 4)]
    level = (z - lv.apex_wall) / (lv.base_z - lv.apex_wall)
    rings = [level < 0, level < 1 / 3, level < 2 / 3]
    return np.asarray(np.select(rings, [np.full_like(six, 17), four, six + 6], six), dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A region of the wall, round about a point: heights in mm, angles in rad."""

    angle: float
    width: float  # angular half-width
    z: float
    height: float  # half-height

    def scaled(self, by: float) -> "Patch":
        return replace(self, width=self.width * by, height=self.height * by)

    def distance(self, theta: Array, z: Array) -> Array:
        """0 in the middle, 1 at the edge, of material points."""
        turn = (1 - np.cos(theta - self.angle)) / (1 - np.cos(self.width))
        return np.asarray(np.sqrt(turn + ((z - self.z) / self.height) ** 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scar:
    """An infarct of one territory: from the endocardium outwards, with a ragged edge."""

    territory: str
    patch: Patch
    transmurality: float  # share of the wall in its middle, 0..1
    ragged: NDArray[np.float64]  # (n, 4): wave numbers along theta and z (1/mm), phase, amplitude

    def extent(self, theta: Array, z: Array) -> Array:
        """Share of the wall's thickness, from the endocardium, that is scar at material points; 0 outside."""
        edge = sum((a * np.cos(m * theta + k * z + p) for m, k, p, a in self.ragged), np.zeros_like(theta * z))
        inside = np.clip((1 - self.patch.distance(theta, z) + edge) / 0.35, 0, 1)
        return np.asarray(self.transmurality * inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """Wall that has lost a share of its squeeze: smooth, so that the motion is."""

    patch: Patch
    loss: float  # in its middle, 0..1

    def at(self, theta: Array, z: Array) -> Array:
        return np.asarray(self.loss / (1 + np.minimum(self.patch.distance(theta, z), 50.0) ** 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disease:
    """What is wrong with the wall; empty in health."""

    scars: tuple[Scar, ...] = ()
    weak: tuple[Weakness, ...] = ()
    ischaemic: str | None = None  # territory

    def scar_extent(self, theta: Array, z: Array) -> Array:
        """Share of the wall's thickness, from the endocardium, that is scar at material points."""
        nothing = np.zeros_like(theta * z)
        return np.asarray(np.maximum.reduce([nothing, *(scar.extent(theta, z) for scar in self.scars)]))

    def loss(self, theta: Array, z: Array) -> Array:
        """Share of its squeeze that the wall has lost at material points, 0..1."""
        kept = np.ones_like(theta * z)
        for weakness in self.weak:
            kept = kept * (1 - weakness.at(theta, z))
        return np.asarray(1 - kept)


def draw_scar(rng: Generator, lv: LeftVentricle, territory: str) -> tuple[Scar, Weakness]:
    """An infarct in a territory, subendocardial to transmural, and the wall around it that does not squeeze."""
    span = lv.base_z - lv.apex_wall
    waves = rng.normal(size=(5, 4)) * [2.5, 0.18, 3.0, 0.1]
    waves[:, 0] = np.round(waves[:, 0])  # a whole number of waves round the wall
    patch = Patch(
        angle=float(TERRITORY_ANGLE[territory] + rng.normal(0, 0.2)),
        width=float(rng.uniform(0.6, 1.25)),
        z=float(lv.apex_wall + span * rng.uniform(0.25, 0.65)),
        height=float(span * rng.uniform(0.28, 0.6)),
    )
    scar = Scar(territory=territory, patch=patch, transmurality=float(rng.uniform(0.4, 1.0)), ragged=waves)
    # even a thin subendocardial scar costs function, a transmural one nearly all, and its surroundings are stunned
    loss = 0.97 * (1 - (1 - scar.transmurality) ** 1.5)
    around = float(rng.uniform(1.3, 1.9))
    return scar, Weakness(patch=patch.scaled(around), loss=loss)


def draw_hibernation(rng: Generator, lv: LeftVentricle, territory: str) -> Weakness:
    """The mild loss of function of wall behind a tight stenosis."""
    span = lv.base_z - lv.apex_wall
    patch = Patch(
        angle=TERRITORY_ANGLE[territory], width=float(rng.uniform(0.6, 1.0)),
        z=float(lv.apex_wall + 0.5 * span), height=float(span * rng.uniform(0.3, 0.6)),
    )  # fmt: skip
    return Weakness(patch=patch, loss=float(rng.uniform(0.0, 0.45)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Perfusion:
    """Blood flow in mL/g/min, (17, 2) by AHA segment and layer (0 epicardial half, 1 endocardial half)."""

    rest: NDArray[np.float64]
    stress: NDArray[np.float64]


MBF_REST, MBF_STRESS = 1.0, 3.5  # mL/g/min (MRXCAT)
SCAR_FLOW = 0.4  # of scar relative to the wall it replaces


def draw_perfusion(rng: Generator, territory: str | None) -> Perfusion:
    """Flow at rest and under stress; behind a stenosis in ``territory`` it hardly rises, least at the endocardium."""
    share = rng.uniform(0.75, 1.25)
    rest = np.full((N_SEGMENTS, 2), MBF_REST * share)
    stress = np.full((N_SEGMENTS, 2), MBF_STRESS * share * rng.uniform(0.8, 1.15))
    stress *= 1 + 0.05 * rng.normal(size=(N_SEGMENTS, 1))
    if territory is not None:
        hit = [s for s in TERRITORIES[territory] if rng.random() < 0.85] or [TERRITORIES[territory][0]]
        rows = np.array(hit) - 1
        epicardial = rng.uniform(0.4, 0.8)
        stress[rows] *= [epicardial, epicardial * rng.uniform(0.5, 0.85)]
        rest[rows] *= rng.uniform(0.85, 1.0)
    return Perfusion(rest=rest, stress=stress)
