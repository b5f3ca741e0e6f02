"""Virtual first-pass perfusion images to train super-resolution on."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.breath import draw_breath
from cmrsr.phantom.chest import draw_chest
from cmrsr.phantom.contrast import draw_passage, draw_sequence, first_pass_signals
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.plane import FINE, Plane
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scanner import HARD, acquire, draw_scanner, typical_peak
from cmrsr.phantom.tissue import redraw_materials
from cmrsr.training.cache import FULL_SCALE

_STREAM = 9  # of a patient's random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualSet:
    """How many chests, how many scans (contrast, scanner) of each, how many frames of a scan; matrix in pixels."""

    NAME: ClassVar[str] = "perfusion"
    RENDERER: ClassVar[int] = 3

    n_chests: int = 1500
    n_scans: int = 3
    n_frames: int = 4
    matrix: int = 160
    random_contrast: float = 0.25  # share of scans whose regions get arbitrary signals instead of a contrast passage
    seed: int = 0

    @property
    def n_items(self) -> int:
        return self.n_chests

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(images of a chest, matrix, matrix)."""
        return self.n_scans * self.n_frames, self.matrix, self.matrix

    def render(self, index: int) -> NDArray[np.uint16]:
        """All images of one chest."""
        patient = draw_patient(self.seed, index + 1)
        rng = patient.rng(_STREAM)
        chest = draw_chest(patient)
        section = Section(patient, chest, _draw_plane(rng, patient))
        images = []
        for _ in range(self.n_scans):
            # the same shapes in other tissues, at another time, on another scanner
            materials = redraw_materials(rng, chest.materials, float(rng.choice([1.5, 3.0])))
            shown = materials.take(section.used)
            passage = draw_passage(rng, patient, 60, bool(rng.random() < 0.5))
            if rng.random() < self.random_contrast:
                signals = rng.random((passage.times_s.size, shown.rho.size), np.float32) ** rng.uniform(1, 2)
            else:
                signals = first_pass_signals(shown, passage, draw_sequence(rng))
            signals = signals / typical_peak(signals)
            scanner = draw_scanner(rng, FINE, self.matrix, HARD)
            breath = draw_breath(rng, passage.times_s[-1], (1.0, 4.0, 10.0))
            activation = rng.random()  # the phase of the cycle that triggering happens to hit
            for t in rng.choice(passage.times_s.size, self.n_frames, replace=False):
                pose = Pose(activation=activation, breath_mm=breath.at(passage.times_s[t]))
                image = acquire(section.signal(pose, signals[t], materials), scanner, rng)
                images.append((image * (FULL_SCALE / image.max())).astype(np.uint16))
        return np.stack(images)


def _draw_plane(rng: np.random.Generator, patient: VirtualPatient) -> Plane:
    """A slice through the heart: short-axis, leaning a little or, for variety, a lot, turned in any way."""
    lean = rng.choice([0.1, 0.8], p=[0.8, 0.2])
    normal = patient.turn[:, 2] + lean * rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    along_x = np.cross(normal, rng.normal(size=3))
    along_x /= np.linalg.norm(along_x)
    heart = patient.heart.lv
    centre = patient.apex_mm + patient.turn[:, 2] * (heart.base_z * rng.uniform(0.15, 0.95)) + rng.normal(0, 10, 3)
    return Plane(
        centre=centre, along_y=np.cross(normal, along_x), along_x=along_x, fov=float(rng.uniform(260, 420)),
        thickness=float(rng.uniform(5, 10)),
    )  # fmt: skip
