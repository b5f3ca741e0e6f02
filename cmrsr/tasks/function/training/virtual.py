"""Virtual short-axis cine with labels, to train ``function`` on: stacks over a beat, in contrast of every kind."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.chest import draw_chest
from cmrsr.phantom.examination import held_shift
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.plane import FINE, short_axis
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.scanner import BREATH_HOLD, acquire, draw_scanner
from cmrsr.phantom.tissue import KINDS
from cmrsr.phantom.truth import maps_at
from cmrsr.physics.signal import bssfp
from cmrsr.training.cache import FULL_SCALE

_STREAM = 11  # of a patient's random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSet:
    """How many patients, slices of each from below the apex to above the valve, phases of the beat, pixels of the crop.

    random_contrast: share of the patients whose tissues get signals that no sequence would give them.
    """

    NAME: ClassVar[str] = "function"
    RENDERER: ClassVar[int] = 1

    n_patients: int = 320
    n_slices: int = 8
    n_phases: int = 6
    crop: int = 144
    random_contrast: float = 0.6
    seed: int = 0

    @property
    def n_items(self) -> int:
        return self.n_patients

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(1, image and label, phases, slices, crop, crop)."""
        return 1, 2, self.n_phases, self.n_slices, self.crop, self.crop

    def render(self, index: int) -> NDArray[np.uint16]:
        """One patient's stack from end diastole on; ``FULL_SCALE`` is the brightest pixel. Labels as outputs have them.

        Pixels of about 1.5 mm; the heart is drawn near the middle of the crop.
        """
        patient = draw_patient(self.seed, index + 1)
        rng = patient.rng(_STREAM)
        chest = draw_chest(patient)
        matrix = int(rng.choice([208, 224]))
        flip, tr = float(rng.uniform(40, 75)), float(rng.uniform(2.6, 3.4))
        m = chest.materials
        scanner = draw_scanner(rng, FINE, matrix, BREATH_HOLD)
        planes, _ = short_axis(
            patient, self.n_slices, fov=float(rng.uniform(1.3, 1.7) * matrix), thickness=float(rng.uniform(5, 10)),
            gap=None, spin=float(rng.normal(0, 0.8)), offset=float(rng.random()), spare=float(rng.uniform(0.5, 2.5)),
        )  # fmt: skip
        if rng.random() < 0.5:  # many scanners show the stack from the other side
            planes = [replace(plane, along_x=-plane.along_x) for plane in planes]
        beat = patient.cycle.beat_ms
        contrast = np.ones(len(KINDS))
        if rng.random() < self.random_contrast:
            contrast = np.exp(rng.normal(0, 0.3, len(KINDS)))
            contrast[KINDS.index("scar")] = contrast[KINDS.index("myocardium")] * np.exp(rng.normal(0, 0.1))
            blood = KINDS.index("lv_blood")
            contrast[KINDS.index("rv_blood")] = contrast[blood] * np.exp(rng.normal(0, 0.1))
        middle = (matrix - self.crop) // 2 + rng.integers(-10, 11, 2)
        window = tuple(slice(int(a), int(a) + self.crop) for a in middle)
        out = np.zeros(self.item_shape[1:], np.float32)
        activations = patient.cycle.activation(np.arange(self.n_phases) / self.n_phases * beat)
        for z, plane in enumerate(planes):
            section = Section(patient, chest, plane)
            shown = m.take(section.used)
            signals = bssfp(shown.rho, shown.t1_ms, shown.t2_ms, te_ms=tr / 2, flip_deg=flip) * contrast[shown.kind]
            still = held_shift(rng, plane.normal)
            for t, a in enumerate(activations):
                image = section.signal(Pose(activation=float(a), breath_mm=still), signals, m)
                if z == t == 0:
                    unit = np.float32(np.quantile(image, 0.98))
                out[0, t, z] = acquire(image / unit, scanner, rng)[window]
                label = maps_at(patient, plane, matrix, float(a), still)["label"]
                out[1, t, z] = np.where(label == LABELS["scar"], LABELS["myocardium"], label)[window]
        out[0] = np.minimum(out[0] * (FULL_SCALE / out[0].max()), FULL_SCALE)
        return np.asarray(out[None], dtype=np.uint16)
