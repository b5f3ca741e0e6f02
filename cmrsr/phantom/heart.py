"""Everything of the heart but the left ventricle's own shape: which structure a moved point belongs to.

The right ventricle is a crescent on the LV's moved epicardium; atria and great vessels hang on the moved valve plane;
papillary muscles and trabeculae ride on the moved endocardium.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from cmrsr.phantom.infarct import N_SEGMENTS, Disease, aha_segment
from cmrsr.phantom.motion import Material, Motion
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.tissue import Kind
from cmrsr.phantom.ventricle import LeftVentricle, Quadrature

Array = NDArray[np.float64]
RV_WALL_MM = 3.0
REACH_MM = 135.0  # of everything of the heart, from the middle of the left ventricle
# The first labels of every patient, in this order; the LV's wall follows with ``N_WALL`` labels.
STRUCTURES: tuple[tuple[str, Kind], ...] = (
    ("lv_cavity", "lv_blood"), ("papillary", "myocardium"), ("rv_cavity", "rv_blood"), ("rv_wall", "myocardium"),
    ("rv_trabecula", "myocardium"),
    ("left_atrium", "lv_blood"), ("right_atrium", "rv_blood"), ("aorta", "lv_blood"), ("pulmonary_artery", "rv_blood"),
    ("atrial_wall", "myocardium"), ("fat", "fat"), ("pericardium", "pericardium"),
)  # fmt: skip
(LV_CAVITY, PAPILLARY, RV_CAVITY, RV_WALL, RV_TRABECULA, LEFT_ATRIUM, RIGHT_ATRIUM, AORTA, PULMONARY, ATRIAL_WALL, FAT,
 PERICARDIUM) = range(len(STRUCTURES))  # fmt: skip
WALL = len(STRUCTURES)
N_WALL = N_SEGMENTS * 4  # segment, layer, scar
N_HEART = WALL + N_WALL
OUTSIDE = -1


def wall_label(segment: NDArray[np.integer], layer: NDArray[np.integer], scar: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The label of LV wall: AHA segment 1..17, layer 0 epi- or 1 endocardial, scar or not."""
    return np.asarray(WALL + ((segment.astype(np.int64) - 1) * 2 + layer) * 2 + scar)


def wall_parts() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Segment, layer and scar of the labels from ``WALL`` on."""
    i = np.arange(N_WALL)
    return i // 4 + 1, i // 2 % 2, (i % 2).astype(bool)


def truth_of_labels(n_labels: int) -> NDArray[np.uint8]:
    """What a reader would draw (``LABELS``) for each label: papillary muscles and trabeculae are cavity."""
    table = np.zeros(n_labels, np.uint8)
    table[[LV_CAVITY, PAPILLARY]] = LABELS["lv"]
    table[[RV_CAVITY, RV_TRABECULA]] = LABELS["rv"]
    _, _, scar = wall_parts()
    table[WALL : WALL + N_WALL] = np.where(scar, LABELS["scar"], LABELS["myocardium"])
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class RightVentricle:
    """A crescent: its cavity reaches ``depth(theta, z)`` beyond the LV's epicardium, less when it contracts."""

    reach: float  # mm, in the middle at the base
    angle: float  # of its middle
    half_angle: float
    apex_z: float
    base_z: float
    outflow: float  # mm that the cavity rises higher on its anterior side
    shortening: float  # share of the depth lost at end systole

    def depth(self, theta: Array, z: Array, a: float) -> Array:
        """How far the cavity reaches beyond the epicardium, of material angles and heights; 0 where there is none."""
        off = np.abs(np.mod(theta - self.angle + np.pi, 2 * np.pi) - np.pi) / self.half_angle
        round_ = np.cos(np.pi / 2 * np.minimum(off, 1)) ** 0.8
        fall = (self.base_z - z) / (self.base_z - self.apex_z)
        along = np.sqrt(np.clip(1 - np.maximum(fall, 0) ** 2, 0, 1))
        top = self.base_z + self.outflow * np.cos(theta - self.angle - 1.0)
        return np.asarray(np.where((z < top) & (off < 1), self.reach * (1 - self.shortening * a) * round_ * along, 0.0))


def rv_volume_ml(rv: RightVentricle, motion: Motion, q: Quadrature, a: float) -> float:
    """The cavity's volume by quadrature over the LV's surface: half of (r + depth)^2 - r^2 along angle and height."""
    zeta = motion.stretch(a)
    k = motion.squeezed(q.theta, q.z, a)
    endo2, epi2 = (r**2 for r in motion.lv.surfaces(q.theta, q.z))
    epi = np.sqrt(np.maximum(epi2 - k * endo2, 0) / zeta)
    depth = rv.depth(q.theta, q.z, a)
    cell = (q.z[1] - q.z[0]) * (2 * np.pi / len(q.theta)) * zeta
    return float((((epi + depth) ** 2 - epi**2) / 2).sum() * cell) / 1000


def shape_rv(rv: RightVentricle, motion: Motion, q: Quadrature, edv_ml: float, ef: float) -> RightVentricle:
    """The right ventricle of the same outline with this end-diastolic volume and ejection fraction."""
    reach = brentq(lambda x: rv_volume_ml(replace(rv, reach=x), motion, q, 0.0) - edv_ml, 1.0, 200.0, xtol=1e-4)
    rv = replace(rv, reach=float(reach))

    def excess(shortening: float) -> float:
        return rv_volume_ml(replace(rv, shortening=shortening), motion, q, 1.0) - (1 - ef) * edv_ml

    return replace(rv, shortening=float(brentq(excess, -0.3, 0.95, xtol=1e-5)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Atria, great vessels, papillary muscles, trabeculae, fat: lengths in mm, in the heart's frame at end diastole."""

    left_atrium: NDArray[np.float64]  # (2, 3): centre and half-axes; it fills while the ventricle empties
    right_atrium: NDArray[np.float64]
    vessels: NDArray[np.float64]  # (2, 7): aorta and pulmonary artery, from, to, radius
    papillary: NDArray[np.float64]  # (n, 5): angle, share of the endocardial radius, radius, z from, z to
    trabeculae: tuple[float, int, float, float]  # height, number round the wall, phase, winding (rad/mm)
    fat: float
    pericardium: float


@dataclass(frozen=True, slots=True)
class Located:
    """Labels of points, the material they are, and how far outside the heart's sac they lie (mm, < 0 inside)."""

    labels: NDArray[np.int64]
    material: Material
    outside: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heart:
    """One patient's heart."""

    lv: LeftVentricle
    quadrature: Quadrature
    motion: Motion
    disease: Disease
    rv: RightVentricle
    surroundings: Surroundings

    def locate(self, points: NDArray[np.float64], a: float) -> Located:
        """What lies at ``points`` (n, 3), in the heart's frame, at activation ``a``."""
        x, y, z = points.T
        r, theta = np.hypot(x, y), np.arctan2(y, x)
        m = self.motion.backward(r, theta, z, a)
        lv, s = self.lv, self.surroundings
        labels = np.full(len(points), OUTSIDE, np.int64)
        depth = self.rv.depth(m.theta, m.z, a)
        sac = depth + RV_WALL_MM * np.minimum(depth / RV_WALL_MM, 1)
        beyond = np.where(m.z < 0, np.hypot(r, m.z), r - m.epi - sac)
        girdle = (m.z > -s.fat - 6) & (m.z < lv.base_z + 12)
        groove = s.fat * (0.35 + 0.65 * np.clip(m.z / lv.base_z, 0, 1) ** 2)
        labels[girdle & (beyond < groove + s.pericardium)] = PERICARDIUM
        labels[girdle & (beyond < groove)] = FAT
        self._label_upper(labels, np.stack([r * np.cos(m.theta), r * np.sin(m.theta), m.z], 1), a)
        over = r - m.epi
        labels[(depth > 0) & (over >= 0) & (over < sac)] = RV_WALL
        bumps = 2.2 * np.maximum(np.cos(9 * m.theta + 0.05 * m.z) * np.cos(0.35 * m.z), 0) * (depth > 6)
        labels[(over >= 0) & (over < depth)] = RV_TRABECULA
        labels[(over >= 0) & (over < depth - bumps)] = RV_CAVITY
        below = lv.below_valve(m.theta, m.z, m.r)
        cavity = below & (r < m.endo)
        labels[cavity] = LV_CAVITY
        inside = np.flatnonzero(cavity)
        labels[inside[self._ridges(m.take(inside), theta[inside])]] = PAPILLARY
        wall = below & (r >= m.endo) & (r < m.epi)
        if wall.any():
            t, h, r0 = m.theta[wall], m.z[wall], m.r[wall]
            depth_in_wall = lv.depth(t, h, r0)
            scar = depth_in_wall < self.disease.scar_extent(t, h)
            labels[wall] = wall_label(aha_segment(lv, t, h), (depth_in_wall < 0.5).astype(int), scar)
        return Located(labels, m, beyond)

    def _ridges(self, m: Material, theta: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Papillary muscles and trabeculae in the cavity, fixed to the moved endocardium."""
        s = self.surroundings
        height, count, phase, winding = s.trabeculae
        towards_apex = np.clip((self.lv.base_z - m.z) / self.lv.length, 0.2, 1.5)
        ridge = height * towards_apex * np.maximum(np.cos(count * m.theta + winding * m.z + phase), 0) ** 2
        found = m.now_r > m.endo - ridge
        twist = theta - m.theta
        for angle, share, size, low, high in s.papillary:
            middle = (low + high) / 2
            taper = np.sqrt(np.clip(1 - ((m.z - middle) / ((high - low) / 2)) ** 2, 0, 1))
            py = share * m.endo * np.sin(angle + twist)
            px = share * m.endo * np.cos(angle + twist)
            far = np.hypot(m.now_r * np.cos(theta) - px, m.now_r * np.sin(theta) - py)
            found |= far < size * taper
        return np.asarray(found)

    def _label_upper(self, labels: NDArray[np.int64], p: NDArray[np.float64], a: float) -> None:
        """Atria and great vessels; they end where the ventricles begin, which are labelled after them."""
        s, upper = self.surroundings, p[:, 2] > self.lv.base_z - 25
        q = p[upper]
        if not len(q):
            return
        part = labels[upper]
        for (centre, axes), label, gain in (
            (s.left_atrium, LEFT_ATRIUM, 0.12), (s.right_atrium, RIGHT_ATRIUM, 0.10),
        ):  # fmt: skip
            d = np.sqrt((((q - centre) / (axes * (1 + gain * a))) ** 2).sum(1))
            shell = 2.0 / axes.min()
            part[(d >= 1) & (d < 1 + shell)] = ATRIAL_WALL
            part[d < 1] = label
        for (*ends, radius), label in zip(s.vessels, (AORTA, PULMONARY), strict=True):
            start, end = np.array(ends[:3]), np.array(ends[3:])
            along = np.clip(((q - start) @ (end - start)) / ((end - start) @ (end - start)), 0, 1)
            far = np.linalg.norm(q - start - along[:, None] * (end - start), axis=1)
            part[(far >= radius) & (far < radius + 1.8)] = ATRIAL_WALL
            part[far < radius] = label
        labels[upper] = part
