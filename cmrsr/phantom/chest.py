"""The chest around the heart: body wall, lungs, diaphragm with liver and bowel, spine, great vessels, clutter.

Organs are simple solids in the patient's space (RAS, mm, the middle of the left ventricle at 0); a smooth warp bends
them, and dead leaves fill them with detail at every scale. Any plane cuts the same chest, though it bends leaves only
within itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.clutter import Leaves, Warp, cut, draw_leaves, draw_warp, paint, smooth_field
from cmrsr.phantom.heart import N_HEART, STRUCTURES, wall_parts
from cmrsr.phantom.patient import VirtualPatient
from cmrsr.phantom.plane import DEPTHS, FINE, Plane
from cmrsr.phantom.tissue import KINDS, Kind, Materials, draw_materials

Generator = np.random.Generator
HALF_WIDTH_MM = 215.0  # of the cube that holds leaves
N_ORGANS, N_LEAVES, N_BRANCHES = 60, 3600, 500  # in a cut
TEXTURE_SIZE, TEXTURE_MM = 80, 1.5  # of the periodic texture volumes
TEXTURES = ((1.9, 1.0), (1.5, 1.0), (1.2, 0.8), (0.8, 0.6))  # exponent of the amplitude's fall, share of Nyquist
BODY: tuple[Kind, ...] = ("air", "muscle", "fat", "muscle", "bone", "fat", "lung", "liver", "bone", "lv_blood", "fat")
(AIR, SKIN, FAT_LAYER, MUSCLE_LAYER, RIBS, INNER_FAT, LUNG, LIVER, SPINE, AORTA, MEDIASTINUM) = range(len(BODY))
LEAF_KINDS: tuple[tuple[Kind, float], ...] = (
    ("organ", 0.5), ("fat", 0.14), ("muscle", 0.14), ("vessel", 0.1), ("lung", 0.08), ("bone", 0.04),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """The solids, lengths in mm. Labels: the heart's ``N_HEART``, then ``BODY``, organs, leaves, branches."""

    middle: NDArray[np.float64]  # (2,) x, y of the torso's axis
    half_axes: NDArray[np.float64]  # (2,) of the torso along x, y
    layers: NDArray[np.float64]  # (5,) depth below the skin where each layer ends
    diaphragm: tuple[float, float, float]  # height under the heart, rise of the right dome, curvature (1/mm)
    mediastinum: float  # half-width
    cushion: float  # radius of the fat and vessels about the heart
    filled: float  # share of the lungs that other tissue takes (0 lungs, 1 clutter everywhere)
    fill_wave: NDArray[np.float64]  # (3,) rad/mm and phase by the warp: where
    spine: tuple[float, float]  # y of its middle, radius
    aorta: tuple[float, float, float]  # x, y, radius of the descending aorta
    liver_edge: float  # how far the liver reaches to the left of the middle
    organs: Leaves  # stomach, spleen, bowel: large bodies under the diaphragm and between the lungs
    leaves: Leaves
    branches: Leaves
    warp: Warp
    textures: NDArray[np.float32]  # (k, n, n, n) sd 1, periodic
    materials: Materials

    @property
    def sample(self) -> Materials:
        """The materials of the heart, the body and some of the clutter: what the chest is typically made of."""
        return self.materials.take(np.r_[0 : self.first_leaf, self.first_leaf : self.materials.rho.size : 50])

    @property
    def first_organ(self) -> int:
        return N_HEART + len(BODY)

    @property
    def first_leaf(self) -> int:
        return self.first_organ + len(self.organs.reach)

    @property
    def first_branch(self) -> int:
        return self.first_leaf + len(self.leaves.reach)


def draw_chest(patient: VirtualPatient, n_leaves: int = N_LEAVES) -> Chest:
    """The chest of a patient: another one for every patient, the same for all its scans."""
    rng = patient.rng(0)
    identity = patient.identity
    stout = np.sqrt(identity.weight_kg / (75 if identity.sex == "M" else 62)) * 176 / identity.height_cm
    pixel = 1.1  # of a typical rendering grid
    low, high = rng.uniform(1.2, 2.4), rng.uniform(35, 85)
    organs = draw_leaves(rng, N_ORGANS, HALF_WIDTH_MM, (18.0, 60.0))
    leaves = draw_leaves(rng, n_leaves, HALF_WIDTH_MM, (low, high))
    branches = draw_leaves(
        rng, round(N_BRANCHES * rng.uniform(0.2, 1.4) * n_leaves / N_LEAVES), HALF_WIDTH_MM, (pixel, 7.0), 2.2
    )
    textures = np.stack([smooth_field(rng, TEXTURE_SIZE, e, c, 3) for e, c in TEXTURES]).astype(np.float32)
    kinds, segment, layer = _labels(rng, len(organs.reach), len(leaves.reach), len(branches.reach))
    middle = np.array([rng.uniform(15, 45), rng.uniform(-60, -30)])
    half_axes = np.array([rng.uniform(145, 185), rng.uniform(105, 135)]) * stout
    return Chest(
        middle=middle,
        half_axes=half_axes,
        layers=np.cumsum(rng.uniform([1, 3, 2, 3, 1], [4, 28, 12, 14, 5])),
        diaphragm=(float(rng.uniform(-75, -42)), float(rng.uniform(5, 30)), float(rng.uniform(1, 5) / 1000)),
        mediastinum=float(rng.uniform(22, 40)),
        cushion=float(rng.uniform(30, 58)),
        filled=float(rng.choice([0.0, rng.uniform(0, 1), 1.0], p=[0.1, 0.4, 0.5])),
        fill_wave=rng.normal(0, 1, 3) * 0.02,
        spine=(float(middle[1] - rng.uniform(0.5, 0.62) * half_axes[1]), float(rng.uniform(17, 24))),
        aorta=(float(rng.uniform(-5, 20)), float(rng.uniform(-95, -70)), float(rng.uniform(9, 14))),
        liver_edge=float(rng.uniform(-40, 70)),
        organs=organs,
        leaves=leaves,
        branches=branches,
        warp=draw_warp(rng, float(rng.uniform(1.5, 6.0))),
        textures=textures,
        materials=draw_materials(rng, kinds, patient.field_t, segment=segment, layer=layer),
    )  # fmt: skip


def _labels(
    rng: Generator, n_organs: int, n_leaves: int, n_branches: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Tissue, AHA segment and layer of every label of a patient."""
    segments, layers, scar = wall_parts()
    index = {kind: i for i, kind in enumerate(KINDS)}
    names, shares = zip(*LEAF_KINDS, strict=True)
    kinds = np.concatenate([
        [index[kind] for _, kind in STRUCTURES],
        np.where(scar, index["scar"], index["myocardium"]),
        [index[kind] for kind in BODY],
        rng.choice([index["organ"], index["muscle"], index["fat"]], n_organs, p=[0.7, 0.15, 0.15]),
        rng.choice([index[kind] for kind in names], n_leaves, p=shares),
        np.full(n_branches, index["vessel"]),
    ])  # fmt: skip
    segment, layer = np.zeros(len(kinds), np.int64), np.zeros(len(kinds), np.int64)
    wall = slice(len(STRUCTURES), N_HEART)
    segment[wall], layer[wall] = segments, layers
    return kinds, segment, layer


def draw_background(chest: Chest, plane: Plane) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels of the chest without the heart, and their texture (sd 1), both (depth, FINE, FINE)."""
    labels = np.stack([_slice(chest, plane, depth) for depth in DEPTHS])
    rows, columns = (g.ravel() for g in np.indices((FINE, FINE)))
    texture = np.stack([
        texture_at(chest, plane.points(rows, columns, depth), one.ravel()).reshape(FINE, FINE)
        for depth, one in zip(DEPTHS, labels, strict=True)
    ])  # fmt: skip
    return labels, texture


def texture_at(chest: Chest, points: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """The texture (n,) of the tissue ``labels`` (n,) at points (n, 3): one of the periodic volumes for each label."""
    i = np.floor(points * (1 / TEXTURE_MM)).astype(np.int64) % TEXTURE_SIZE
    flat = ((labels % len(TEXTURES) * TEXTURE_SIZE + i[:, 2]) * TEXTURE_SIZE + i[:, 1]) * TEXTURE_SIZE + i[:, 0]
    return np.asarray(chest.textures.reshape(-1)[flat])


def _slice(chest: Chest, plane: Plane, depth: float) -> NDArray[np.int32]:
    """Paint everything in one sub-slice, from the back to the front."""
    rows, columns = (g.ravel() for g in np.indices((FINE, FINE)))
    points = plane.points(rows, columns, depth)
    bend = chest.warp.at(points)
    bent = points + bend
    x, y, z = bent.T
    out = np.full(FINE * FINE, N_HEART + AIR, np.int32)
    # depth below the skin, taken as the level of the ellipse times its shorter half-axis
    level = np.hypot((x - chest.middle[0]) / chest.half_axes[0], (y - chest.middle[1]) / chest.half_axes[1])
    below_skin = (1 - level) * chest.half_axes.min()
    inner = below_skin > chest.layers[-1]
    height, rise, curve = chest.diaphragm
    off = x - chest.middle[0]
    belly = z < height + rise * np.clip(off / 60, 0, 1) - curve * (off**2 + (y - chest.middle[1]) ** 2) / 4
    around = x**2 + y**2 + (z / 1.2) ** 2 < chest.cushion**2
    centre = around | ((off / chest.mediastinum) ** 2 + ((y + 50) / 90) ** 2 < 1)
    filled = np.sin(bent @ chest.fill_wave) * 0.5 + 0.5 < chest.filled
    leafy = inner & (belly | centre | filled)
    lung = inner & ~leafy
    out[lung] = N_HEART + LUNG
    out[leafy] = N_HEART + MUSCLE_LAYER  # where no leaf covers it
    out[inner & belly] = N_HEART + INNER_FAT
    out[inner & centre] = N_HEART + MEDIASTINUM
    liver = inner & belly & (x > chest.middle[0] - chest.liver_edge)
    grid = (FINE, FINE)
    image = out.reshape(grid)
    flow = np.stack([(bend @ axis).reshape(grid) for axis in (plane.along_y, plane.along_x)]) / plane.pixel
    origin = plane.corner + plane.normal * (depth * plane.thickness / 2)

    def stamp(leaves: Leaves, first: int, where: NDArray[np.bool_]) -> None:
        shapes = cut(leaves, origin, plane.along_y, plane.along_x, plane.pixel)
        paint(image, shapes, first, where.reshape(grid), flow)

    stamp(chest.organs, chest.first_organ, leafy & ~liver)
    stamp(chest.leaves, chest.first_leaf, leafy & ~liver)
    out[liver] = N_HEART + LIVER
    stamp(chest.branches, chest.first_branch, lung | liver)
    spine_y, radius = chest.spine
    out[inner & (np.hypot(off, y - spine_y) < radius)] = N_HEART + SPINE
    ax, ay, size = chest.aorta
    out[inner & (np.hypot(x - ax, y - ay) < size)] = N_HEART + AORTA
    for label, top, bottom in zip(
        (SKIN, FAT_LAYER, MUSCLE_LAYER, RIBS, INNER_FAT), [0.0, *chest.layers[:-1]], chest.layers, strict=True
    ):
        out[(below_skin > top) & (below_skin <= bottom)] = N_HEART + label
    # between the ribs there is muscle: the cage is cut along the body
    gaps = (np.mod(z + 0.25 * np.abs(off), 26) > 12) & (out == N_HEART + RIBS)
    out[gaps] = N_HEART + MUSCLE_LAYER
    return image
