"""A virtual chest slice in short-axis view: where everything is, on a grid finer than any scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.clutter import draw_leaves, paint, smooth_field
from cmrsr.phantom.tissue import Regions, draw_regions

Generator = np.random.Generator
LABELS = {"myocardium": 1, "lv_blood": 2, "rv_blood": 3}  # of the truth that is written out: of the LV and RV alone
N_SEGMENTS = 6
DEPTHS = (-0.7, 0.0, 0.7)  # positions of the sub-slices that a thick slice averages
FINE = 320  # pixels of the rendering grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Heart:
    """One patient's heart at one slice, lengths in mm about the LV centre, angles in radians."""

    centre_mm: tuple[float, float]  # y, x from the centre of the field of view
    lv_radius: float
    wall: float
    squash: float  # ratio of the half-axes
    angle: float  # of the septum, where the RV sits
    rv_reach: float
    rv_width: float
    wobble: NDArray[np.float64]  # (2, 4) amplitudes of the outline's harmonics 2..5, endo- and epicardial
    phase: NDArray[np.float64]  # (2, 4)
    n_papillary: int
    pericardium: float
    fat: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """Labels (depth, FINE, FINE) with the table of what they are, textures, truth masks and the grid's spacing."""

    labels: NDArray[np.int32]
    kinds: list[str]  # the tissue of each label
    regions: Regions
    textures: NDArray[np.float32]  # (k, FINE, FINE), sd 1
    truth: NDArray[np.uint8]  # (FINE, FINE), LABELS, of the central depth
    segment: NDArray[np.int8]  # (FINE, FINE), -1 outside the myocardium
    spacing_mm: float
    heart: Heart
    near_heart: NDArray[np.float32]  # (FINE, FINE) 1 at the heart, falling to 0: what breathing moves


def draw_heart(rng: Generator) -> Heart:
    """A heart from healthy to dilated or thick-walled, at the phase of the cycle that triggering happens to hit."""
    return Heart(
        centre_mm=(float(rng.normal(0, 12)), float(rng.normal(0, 12))),
        lv_radius=float(rng.uniform(11, 30)),
        wall=float(np.clip(rng.normal(10, 2.5), 5, 20)),
        squash=float(rng.uniform(0.82, 1.0)),
        angle=float(rng.uniform(0, 2 * np.pi)),
        rv_reach=float(rng.uniform(22, 48)),
        rv_width=float(rng.uniform(24, 42)),
        wobble=rng.normal(0, 1, (2, 4)) * [[0.05, 0.035, 0.025, 0.02], [0.03, 0.02, 0.012, 0.01]],
        phase=rng.uniform(0, 2 * np.pi, (2, 4)),
        n_papillary=int(rng.integers(0, 5)),
        pericardium=float(rng.uniform(0.0, 2.0)),
        fat=float(rng.uniform(0.0, 9.0)),
    )


def at_level(heart: Heart, level: float) -> Heart:
    """The same heart at another slice: level -1 is the base, 0 mid-ventricular, 1 the apex."""
    narrow = float(np.sqrt(np.clip(1 - 0.55 * max(level, 0.0) ** 1.5, 0.2, 1.0)))
    scale = narrow * (1 + 0.06 * max(-level, 0.0))
    return Heart(
        centre_mm=(heart.centre_mm[0] + 4 * level, heart.centre_mm[1] - 3 * level),
        lv_radius=heart.lv_radius * scale, wall=heart.wall * (1 - 0.15 * max(level, 0.0)), squash=heart.squash,
        angle=heart.angle + 0.1 * level, rv_reach=heart.rv_reach * scale, rv_width=heart.rv_width * scale,
        wobble=heart.wobble, phase=heart.phase + 0.3 * level, n_papillary=heart.n_papillary if level > -0.8 else 0,
        pericardium=heart.pericardium, fat=heart.fat,
    )  # fmt: skip


def draw_chest(rng: Generator, fov_mm: float, heart: Heart | None = None, n_leaves: int = 3600) -> Chest:
    """Draw one slice through a chest: body wall, lungs with vessels, liver, clutter, and the heart with its blood."""
    heart = heart or draw_heart(rng)
    step = fov_mm / FINE
    warp = np.stack([smooth_field(rng, FINE, 1.6, 0.12), smooth_field(rng, FINE, 1.6, 0.12)]) * rng.uniform(1, 6)
    painter = _Painter(rng, heart, fov_mm, warp, n_leaves)
    labels = np.stack([painter.slice(depth) for depth in DEPTHS])
    regions = draw_regions(rng, painter.kinds, np.array(painter.segments))
    textures = np.stack([smooth_field(rng, FINE, e, c) for e, c in ((1.8, 1), (1.3, 1), (1.0, 0.7), (0.6, 0.5))])
    middle = labels[len(DEPTHS) // 2]
    truth = np.zeros(middle.shape, np.uint8)
    # by label, not by tissue: the aorta holds LV blood too, and the wall of the RV is muscle
    truth[np.isin(middle, painter.muscles)] = LABELS["myocardium"]
    truth[middle == painter.lv_blood] = LABELS["lv_blood"]
    truth[middle == painter.rv_blood] = LABELS["rv_blood"]
    d = painter.distance
    return Chest(
        labels=labels,
        kinds=painter.kinds,
        regions=regions,
        textures=textures.astype(np.float32),
        truth=truth,
        segment=np.where(truth == LABELS["myocardium"], regions.segment[middle], -1).astype(np.int8),
        spacing_mm=step,
        heart=heart,
        near_heart=(1 / (1 + np.exp((d - 65) / 12))).astype(np.float32),
    )


class _Painter:
    """Draws the shapes once and paints them at each depth, so that all sub-slices show the same chest."""

    def __init__(self, rng: Generator, heart: Heart, fov_mm: float, warp: NDArray[np.float64], n_leaves: int) -> None:
        self.heart, self.warp = heart, warp
        self.kinds: list[str] = []
        self.segments: list[int] = []
        step = fov_mm / FINE
        axis = (np.arange(FINE) - FINE / 2) * step
        self.y = axis[:, None] + warp[0] * step
        self.x = axis[None, :] + warp[1] * step
        self.distance = np.hypot(self.y - heart.centre_mm[0], self.x - heart.centre_mm[1])
        self.tilt = rng.normal(0, 2.0, 2)  # how the heart's axis leans through the slice, mm over half the thickness
        self.cone = rng.normal(0.0, 1.2)  # mm of radius over half the thickness
        # body wall
        self.body = (
            rng.uniform(-25, 25), rng.uniform(-25, 25), rng.uniform(0.36, 0.62) * fov_mm, rng.uniform(0.75, 1.1),
        )  # fmt: skip
        self.layers = np.cumsum(rng.uniform([1, 3, 2, 3, 1], [4, 28, 12, 14, 5]))
        ribs = str(rng.choice(["bone", "muscle"]))
        self.layer_labels = [self.label(k) for k in ("muscle", "fat", "muscle", ribs, "fat")]
        self.air = self.label("air")
        self.lung = self.label("lung")
        self.liver = self.label("liver")
        self.lung_side = rng.uniform(0, 2 * np.pi)
        self.lung_width = rng.uniform(0.5, 2.2)
        self.liver_side = rng.uniform(0, 2 * np.pi)
        self.liver_from = rng.uniform(45, 90)
        self.dense = rng.random() < 0.5  # clutter everywhere, also in place of lung
        # clutter
        size = float(FINE)
        self.clutter = draw_leaves(rng, n_leaves, FINE, (rng.uniform(1.1, 2.2), size * rng.uniform(0.1, 0.25)), 2.0)
        kinds = ["organ", "fat", "muscle", "vessel", "lung", "bone"]
        pool = rng.choice(kinds, n_leaves, p=[0.5, 0.14, 0.14, 0.1, 0.08, 0.04])
        self.first_leaf = len(self.kinds)
        for k in pool:
            self.label(str(k))
        n_vessels = int(rng.integers(30, 400))
        self.vessels = draw_leaves(rng, n_vessels, FINE, (1.0, 7.0), 3.0, 1.6)
        self.first_vessel = len(self.kinds)
        for _ in range(n_vessels):
            self.label("vessel")
        n_bumps = 60
        self.bumps = draw_leaves(rng, n_bumps, FINE, (1.5, 6.0), 1.0)
        spread = rng.normal(0, 1, (n_bumps, 2)) * 1.0
        self.bumps.centre[:] = spread * 0.35 * heart.rv_reach / step + FINE / 2 + np.array(heart.centre_mm) / step
        self.bumps.centre[:] += 0.8 * heart.rv_reach / step * np.array([np.sin(heart.angle), np.cos(heart.angle)])
        # heart
        self.pericardium = self.label("pericardium")
        self.epicardial_fat = self.label("fat")
        self.rv_wall = self.label("myocardium", 0)
        self.rv_blood = self.label("rv_blood")
        self.lv_blood = self.label("lv_blood")
        self.muscles = [self.label("myocardium", s) for s in range(N_SEGMENTS)]
        angles = heart.angle + np.pi + rng.normal(0, 0.9, heart.n_papillary)
        self.papillary = [(a, rng.uniform(0.45, 0.95), rng.uniform(1.5, 5.0)) for a in angles]
        self.trabeculae = rng.uniform(0, 2.0), rng.integers(9, 26), rng.uniform(0, 6)
        self.aorta = self.label("lv_blood"), rng.uniform(0, 2 * np.pi), rng.uniform(55, 90), rng.uniform(8, 13)

    def label(self, kind: str, segment: int = -1) -> int:
        self.kinds.append(kind)
        self.segments.append(segment)
        return len(self.kinds) - 1

    def slice(self, depth: float) -> NDArray[np.int32]:
        """Paint everything at one depth, -1..1 over the slice thickness."""
        y, x, heart = self.y, self.x, self.heart
        out = np.full((FINE, FINE), self.air, np.int32)
        by, bx, radius, squash = self.body
        inside = radius - np.hypot((y - by) / squash, x - bx)  # mm below the skin
        deep = inside > self.layers[-1]
        out[deep] = self.lung
        angle = np.arctan2(y - heart.centre_mm[0], x - heart.centre_mm[1])
        leafy = deep if self.dense else deep & (np.abs(_wrap(angle - self.lung_side)) > self.lung_width)
        paint(out, self.clutter, self.first_leaf, leafy, self.warp, depth)
        lung = deep & ~leafy
        paint(out, self.vessels, self.first_vessel, lung, self.warp, depth)
        side, (cy, cx) = self.liver_side, heart.centre_mm
        liver = deep & (np.cos(side) * (y - cy) + np.sin(side) * (x - cx) > self.liver_from + 3 * depth)
        out[liver & (out != self.air)] = self.liver
        paint(out, self.vessels, self.first_vessel, liver, self.warp, depth)
        for top, bottom, label in zip([0.0, *self.layers[:-1]], self.layers, self.layer_labels, strict=True):
            out[(inside > top) & (inside <= bottom)] = label
        self._paint_heart(out, depth)
        return out

    def _paint_heart(self, out: NDArray[np.int32], depth: float) -> None:
        heart = self.heart
        y = self.y - heart.centre_mm[0] - self.tilt[0] * depth
        x = self.x - heart.centre_mm[1] - self.tilt[1] * depth
        along = np.cos(heart.angle) * x + np.sin(heart.angle) * y  # towards the RV
        across = np.cos(heart.angle) * y - np.sin(heart.angle) * x
        r = np.hypot(along, across / heart.squash)
        theta = np.arctan2(across, along)
        n = np.arange(2, 6)[:, None, None]
        ripple = [
            (heart.wobble[i][:, None, None] * np.cos(n * theta + heart.phase[i][:, None, None])).sum(0) for i in (0, 1)
        ]
        endo = (heart.lv_radius + self.cone * depth) * (1 + ripple[0])
        height, count, shift = self.trabeculae
        endo = endo + height * np.maximum(np.cos(count * theta + shift + depth), 0) ** 2
        epi = (heart.lv_radius + self.cone * depth + heart.wall) * (1 + ripple[1])
        rv = np.hypot((along - 0.55 * heart.rv_reach) / heart.rv_reach, across / heart.rv_width) + 0.5 * ripple[0]
        wall = 3.0 / heart.rv_reach
        sac = np.minimum(r - epi, (rv - 1 - wall) * heart.rv_reach)
        out[sac < heart.fat + heart.pericardium] = self.pericardium
        out[sac < heart.fat] = self.epicardial_fat
        out[rv < 1 + wall] = self.rv_wall
        cavity = rv < 1
        out[cavity] = self.rv_blood
        bumps = np.zeros_like(out)
        paint(bumps, self.bumps, 1, cavity & (r > epi), self.warp, depth)
        out[bumps > 0] = self.rv_wall
        segment = ((theta + np.pi) / (2 * np.pi) * N_SEGMENTS).astype(int) % N_SEGMENTS
        muscle = (r < epi) & (r >= endo)
        out[muscle] = np.array(self.muscles, np.int32)[segment][muscle]
        out[r < endo] = self.lv_blood
        for a, share, size in self.papillary:
            py, px = share * heart.lv_radius * np.sin(a), share * heart.lv_radius * np.cos(a)
            blob = np.hypot(across - py, along - px) < size + 0.5 * depth
            blob &= r < endo
            out[blob] = np.array(self.muscles, np.int32)[segment][blob]
        label, side, far, size = self.aorta
        ay, ax = far * np.sin(side), far * np.cos(side)
        out[np.hypot(y - ay, x - ax) < size] = label


def _wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return (angle + np.pi) % (2 * np.pi) - np.pi
