"""Sharp virtual scenes to train super-resolution on: chests during the first pass of contrast, and dead leaves."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.breath import draw_breath
from cmrsr.phantom.chest import draw_chest
from cmrsr.phantom.contrast import draw_passage, draw_sequence, first_pass_signals
from cmrsr.phantom.leaves import draw_scene
from cmrsr.phantom.patient import VirtualPatient, draw_patient
from cmrsr.phantom.plane import Plane
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scanner import typical_peak
from cmrsr.phantom.tissue import redraw_materials
from cmrsr.physics.fourier import centre_crop, fftnc, ifftnc

_STREAM = 9  # of a patient's random numbers
_LEAVES = 31  # of the seeds of scenes of leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualSet:
    """How many chests, how many scans (tissues, contrast) of each, how many frames of a scan; matrix in pixels."""

    NAME: ClassVar[str] = "chests"
    RENDERER: ClassVar[int] = 4

    n_chests: int = 1500
    n_scans: int = 3
    n_frames: int = 4
    matrix: int = 192
    random_contrast: float = 0.25  # share of scans whose regions get arbitrary signals instead of a contrast passage
    seed: int = 0

    @property
    def n_items(self) -> int:
        return self.n_chests

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(images of a chest, matrix, matrix)."""
        return self.n_scans * self.n_frames, self.matrix, self.matrix

    def render(self, index: int) -> NDArray[np.float16]:
        """All scenes of one chest, in units of the signal that most of it stays below."""
        patient = draw_patient(self.seed, index + 1)
        rng = patient.rng(_STREAM)
        chest = draw_chest(patient)
        section = Section(patient, chest, _draw_plane(rng, patient))
        images = []
        for _ in range(self.n_scans):
            # the same shapes in other tissues, at another time
            materials = redraw_materials(rng, chest.materials, float(rng.choice([1.5, 3.0])))
            shown = materials.take(section.used)
            passage = draw_passage(rng, patient, 60, bool(rng.random() < 0.5))
            if rng.random() < self.random_contrast:
                signals = rng.random((passage.times_s.size, shown.rho.size), np.float32) ** rng.uniform(1, 2)
            else:
                signals = first_pass_signals(shown, passage, draw_sequence(rng))
            signals = signals / typical_peak(signals)
            breath = draw_breath(rng, passage.times_s[-1], (1.0, 4.0, 10.0))
            activation = rng.random()  # the phase of the cycle that triggering happens to hit
            for t in rng.choice(passage.times_s.size, self.n_frames, replace=False):
                pose = Pose(activation=activation, breath_mm=breath.at(passage.times_s[t]))
                images.append(sampled(section.signal(pose, signals[t], materials), self.matrix))
        return np.stack(images)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavesSet:
    """How many scenes of dead leaves; matrix in pixels."""

    NAME: ClassVar[str] = "leaves"
    RENDERER: ClassVar[int] = 1

    n_scenes: int = 6000
    matrix: int = 192
    seed: int = 0

    @property
    def n_items(self) -> int:
        return self.n_scenes

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(1, matrix, matrix)."""
        return 1, self.matrix, self.matrix

    def render(self, index: int) -> NDArray[np.float16]:
        """One scene, painted at twice the matrix."""
        rng = np.random.default_rng((_LEAVES, self.seed, index))
        return sampled(draw_scene(rng, 2 * self.matrix), self.matrix)[None]


def sampled(scene: NDArray[np.float32], matrix: int) -> NDArray[np.float16]:
    """A scene (n, n) as the central ``matrix`` x ``matrix`` of its k-space shows it; edges ring, as they do there."""
    k = centre_crop(centre_crop(fftnc(scene, (0, 1)), matrix, 0), matrix, 1)
    return np.asarray(ifftnc(k, (0, 1)).real * (matrix / scene.shape[0]), np.float16)


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
