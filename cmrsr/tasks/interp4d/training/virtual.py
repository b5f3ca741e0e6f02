"""Virtual 4-D cine around the heart to train temporal super-resolution on: whole stacks over a whole beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.chest import draw_chest
from cmrsr.phantom.examination import held_shift
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.plane import FINE, short_axis
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scanner import BREATH_HOLD, acquire, draw_scanner
from cmrsr.physics.signal import bssfp
from cmrsr.training.cache import FULL_SCALE

_STREAM = 10  # of a patient's random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class CineSet:
    """How many patients, slices of each over the whole ventricle, phases over the whole beat, pixels of the crop."""

    NAME: ClassVar[str] = "cine"
    RENDERER: ClassVar[int] = 1

    n_patients: int = 240
    n_slices: int = 8
    n_phases: int = 20
    crop: int = 96
    seed: int = 0

    @property
    def n_items(self) -> int:
        return self.n_patients

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(1, with and without noise, phases, slices, crop, crop)."""
        return 1, 2, self.n_phases, self.n_slices, self.crop, self.crop

    def render(self, index: int) -> NDArray[np.uint16]:
        """One patient's stack; ``FULL_SCALE`` is the brightest pixel of the noisy images."""
        patient = draw_patient(self.seed, index + 1)
        rng = patient.rng(_STREAM)
        chest = draw_chest(patient)
        pixel = rng.uniform(1.2, 2.2)
        matrix = int(rng.choice([160, 192, 224]))
        flip, tr = float(rng.uniform(45, 70)), float(rng.uniform(2.6, 3.4))
        m = chest.materials
        scanner = draw_scanner(rng, FINE, matrix, BREATH_HOLD)
        planes, _ = short_axis(
            patient, self.n_slices, fov=float(pixel * matrix), thickness=float(rng.uniform(5, 9)), gap=None,
            spin=float(rng.uniform(0, 2 * np.pi)), offset=float(rng.random()),
        )  # fmt: skip
        activations = patient.cycle.activation(np.arange(self.n_phases) / self.n_phases * patient.cycle.beat_ms)
        low = (matrix - self.crop) // 2 + rng.integers(-8, 9, 2)
        window = tuple(slice(int(a), int(a) + self.crop) for a in low)
        out = np.zeros(self.item_shape[1:], np.float32)
        unit = np.float32(1)
        for z, plane in enumerate(planes):
            section = Section(patient, chest, plane)
            shown = m.take(section.used)
            signals = bssfp(shown.rho, shown.t1_ms, shown.t2_ms, te_ms=tr / 2, flip_deg=flip)
            still = held_shift(rng, plane.normal)
            for t, a in enumerate(activations):
                image = section.signal(Pose(activation=float(a), breath_mm=still), signals, m)
                if z == t == 0:
                    unit = np.float32(np.quantile(image, 0.98))
                for k, noisy in enumerate((True, False)):
                    out[k, t, z] = acquire(image / unit, scanner, rng, noisy)[window]
        return np.asarray(np.minimum(out * (FULL_SCALE / out[0].max()), FULL_SCALE)[None], dtype=np.uint16)
