"""From the body to signal maps: what lies in every pixel of a plane at a moment, and how bright it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.chest import Chest, draw_background, texture_at
from cmrsr.phantom.heart import N_HEART, OUTSIDE, REACH_MM
from cmrsr.phantom.patient import VirtualPatient
from cmrsr.phantom.plane import DEPTHS, FINE, Plane
from cmrsr.phantom.tissue import Materials

FOLLOW_MM = 30.0  # the chest follows the heart's motion, less with distance, over this scale
STILL_MM = 55.0  # farther than this from the heart nothing moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """The body at a moment: activation of the heart (0..1), and how far breathing has moved it, RAS mm."""

    activation: float = 0.0
    breath_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moment:
    """What lies in a plane at a moment: labels and texture (depth, FINE, FINE)."""

    labels: NDArray[np.int32]
    texture: NDArray[np.float32]

    def signal(self, signals: NDArray[np.floating], amplitude: NDArray[np.float64]) -> NDArray[np.float32]:
        """The signal map (FINE, FINE): ``signals`` (n_labels,) with texture, averaged over the slice's thickness."""
        table, rough = signals.astype(np.float32), amplitude.astype(np.float32)
        total = np.zeros((FINE, FINE), np.float32)
        for labels, texture in zip(self.labels, self.texture, strict=True):
            total += table[labels] * np.maximum(1 + rough[labels] * texture, 0)
        return total / np.float32(len(self.labels))


class Section:
    """A plane through one patient; what does not move is drawn once."""

    def __init__(self, patient: VirtualPatient, chest: Chest, plane: Plane) -> None:
        self.patient, self.chest, self.plane = patient, chest, plane
        self._labels, self._texture = draw_background(chest, plane)
        # what the plane shows now or at another moment; the rest of the chest needs no signal here
        self.used = np.union1d(np.arange(N_HEART), self._labels)
        rows, columns = np.indices((FINE, FINE))
        self._table = np.zeros(chest.materials.rho.size, np.float32)
        self._near: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        for depth in DEPTHS:
            points = plane.points(rows.ravel(), columns.ravel(), depth)
            near = np.flatnonzero((points**2).sum(1) < REACH_MM**2)
            found = patient.heart.locate(patient.to_heart(points[near]), 0.0)
            near = near[(found.outside < STILL_MM) | (found.labels != OUTSIDE)]
            self._near.append((near // FINE, near % FINE, points[near]))

    def signal(self, pose: Pose, signals: NDArray[np.floating], materials: Materials) -> NDArray[np.float32]:
        """The signal map (FINE, FINE) at a moment; ``signals`` of the labels in ``used``, in their order."""
        self._table[self.used] = signals
        return self.at(pose).signal(self._table, materials.texture)

    def at(self, pose: Pose) -> Moment:
        """Labels and texture at a moment."""
        labels, texture = self._labels.copy(), self._texture.copy()
        heart, plane = self.patient.heart, self.plane
        for d, (rows, columns, points) in enumerate(self._near):
            local = self.patient.to_heart(points - pose.breath_mm)
            found = heart.locate(local, pose.activation)
            m = found.material
            # the chest around: where its points were before the heart and the breath moved them
            follow = np.exp(-((np.maximum(found.outside, 0) / FOLLOW_MM) ** 2))
            radial = np.where(m.now_r > 1e-6, (m.r - m.now_r) / np.maximum(m.now_r, 1e-6), 0.0)
            # beyond the wall the map goes on widening; what lies there follows the wall's own shift
            radial = np.clip(radial * m.now_r, -12, 12) / np.maximum(m.now_r, 1e-6)
            back = np.stack([local[:, 0] * radial, local[:, 1] * radial, m.z - local[:, 2]], 1) @ self.patient.turn.T
            back = follow[:, None] * (back - pose.breath_mm)
            y = np.clip(np.rint(rows + back @ plane.along_y / plane.pixel), 0, FINE - 1).astype(np.int64)
            x = np.clip(np.rint(columns + back @ plane.along_x / plane.pixel), 0, FINE - 1).astype(np.int64)
            inside = found.labels != OUTSIDE
            material = np.stack([m.r * np.cos(m.theta), m.r * np.sin(m.theta), m.z], 1)
            values = np.where(inside, found.labels, self._labels[d, y, x])
            labels[d, rows, columns] = values
            texture[d, rows, columns] = np.where(
                inside, texture_at(self.chest, material, np.where(inside, found.labels, 0)), self._texture[d, y, x]
            )
        return Moment(labels, texture)
