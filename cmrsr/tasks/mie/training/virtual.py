"""Virtual cine, native T1 images and late enhancement of the same slices, to train ``mie`` on."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from cmrsr.phantom.breath import draw_breath
from cmrsr.phantom.examination import Examination, Protocol, held_shift
from cmrsr.phantom.patient import Group, draw_patient
from cmrsr.phantom.plane import FINE, Plane
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scanner import BREATH_HOLD, Scanner, acquire, draw_scanner, with_coil
from cmrsr.phantom.scans import MOLLI, STILL, late_inversion_ms, molli_times
from cmrsr.phantom.truth import maps_at
from cmrsr.physics.signal import bssfp, inversion_recovery_gre
from cmrsr.training.cache import FULL_SCALE

Generator = np.random.Generator
Array = NDArray[np.float32]
_STREAM = 12  # of a patient's random numbers
N_INVERSIONS = sum(n for _, n in MOLLI)
# Of the patients: infarcts at any ejection fraction, so that a weak heart alone is no sign of a scar.
SHARES: dict[Group, float] = {"infarct": 0.6, "normal": 0.14, "dilated": 0.12, "hypertrophic": 0.09, "rv": 0.05}
INFARCT_EF = (0.22, 0.62)
LOOK_LOCKER = (1.9, 2.2)  # B / A of the recovery: 2 is a perfect inversion that nobody reads on the way


@dataclass(frozen=True, slots=True, kw_only=True)
class InfarctSet:
    """How many patients, slices of each, phases of the beat, pixels of the window and their size."""

    NAME: ClassVar[str] = "infarct"
    RENDERER: ClassVar[int] = 2

    n_patients: int = 480
    n_slices: int = 3
    n_phases: int = 12
    window: int = 128
    pixel_mm: float = 1.5
    seed: int = 0

    @property
    def n_items(self) -> int:
        return self.n_patients

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(slices, planes, window, window): see ``render``."""
        return self.n_slices, self.n_phases + N_INVERSIONS + 4, self.window, self.window

    def render(self, index: int) -> NDArray[np.uint16]:
        """One patient's slices: cine from end diastole on, images by inversion time, enhancement without noise, its
        labels, the cine's labels at end diastole, and a plane whose first row holds the inversion times in ms.

        Every scan has its own matrix, noise and breath; all are resampled to one window about the heart.
        """
        choice = np.random.default_rng((self.seed, index, _STREAM))
        group = list(SHARES)[int(choice.choice(len(SHARES), p=list(SHARES.values())))]
        ef = float(choice.uniform(*INFARCT_EF)) if group == "infarct" else None
        patient = draw_patient(self.seed, index + 1, group, ef)
        rng = patient.rng(_STREAM)
        exam = Examination(patient, Protocol(kinds=("cine", "t1", "lge")))
        levels = exam.levels()
        levels = [levels[i % len(levels)] for i in range(self.n_slices)]
        mirror = rng.random() < 0.5  # many scanners show the stack from the other side
        middle = rng.normal(0, 5, 2)  # mm, of the window's centre from the heart's axis
        matrices = {"cine": [192, 208, 224, 256], "t1": [160, 192, 224], "lge": [192, 224, 256]}
        scanners = {k: draw_scanner(rng, FINE, int(rng.choice(m)), BREATH_HOLD) for k, m in matrices.items()}
        scanners["lge"] = with_coil(scanners["lge"], scanners["t1"])
        tr, flip = float(rng.uniform(2.6, 3.4)), float(rng.uniform(45, 70))
        ratio = float(rng.uniform(*LOOK_LOCKER)) if rng.random() < 0.5 else 2.0
        m = exam.chest.materials
        beat = patient.cycle.beat_ms
        _, late_ti = late_inversion_ms(rng, m, beat)
        depth = float(rng.choice([0.0, 0.0, 0.0, 1.5, 5.0]))
        phases = patient.cycle.activation(np.arange(self.n_phases) / self.n_phases * beat)
        still = float(patient.cycle.activation(STILL * beat))
        out = np.zeros(self.item_shape, np.float32)
        n = self.n_phases
        for i, z in enumerate(levels):
            plane = exam.planes[z]
            if mirror:
                plane = replace(plane, along_x=-plane.along_x)
            section = Section(patient, exam.chest, plane)
            shown = m.take(section.used)
            cut = _Cut(plane, self, middle)

            def image(kind: str, pose: Pose, signals: NDArray[np.floating], unit: float, noisy: bool = True) -> Array:
                signal = section.signal(pose, signals, m) / np.float32(unit)  # noqa: B023
                return cut.resampled(acquire(signal, scanners[kind], rng, noisy), scanners[kind])  # noqa: B023

            base = held_shift(rng, plane.normal)
            signals = bssfp(shown.rho, shown.t1_ms, shown.t2_ms, te_ms=tr / 2, flip_deg=flip)
            for t, a in enumerate(phases):
                out[i, t] = image("cine", Pose(activation=float(a), breath_mm=base), signals, 0.4)
            times, seconds, _ = molli_times(rng, patient)
            breath = draw_breath(rng, float(seconds.max()), (depth,))
            hold = held_shift(rng, plane.normal)
            moved = np.stack([breath.at(float(s)) for s in seconds]) + hold
            for k, ti in enumerate(times):
                recovered = np.abs(shown.rho * (1 - ratio * np.exp(-ti * (ratio - 1) / shown.t1_ms)))
                out[i, n + k] = image("t1", Pose(activation=still, breath_mm=moved[k]), recovered, 1.0)
            at = np.median(moved, 0)
            late = np.abs(inversion_recovery_gre(shown.rho, shown.late_t1_ms, inversion_ms=late_ti, beat_ms=beat))
            out[i, n + N_INVERSIONS] = image("lge", Pose(activation=still, breath_mm=at), late, 0.5, noisy=False)
            for row, activation, shift in ((1, still, at), (2, float(phases[0]), base)):
                label = maps_at(patient, plane, FINE, activation, shift)["label"]
                out[i, n + N_INVERSIONS + row] = cut.nearest(label)
            out[i, n + N_INVERSIONS + 3, 0, :N_INVERSIONS] = times
        for part in (slice(0, n), slice(n, n + N_INVERSIONS), slice(n + N_INVERSIONS, n + N_INVERSIONS + 1)):
            out[:, part] *= FULL_SCALE / out[:, part].max()
        return np.asarray(np.clip(np.rint(out), 0, FULL_SCALE), dtype=np.uint16)


class _Cut:
    """Resamples images of a plane to the window."""

    def __init__(self, plane: Plane, like: InfarctSet, middle_mm: NDArray[np.float64]) -> None:
        axis = (np.arange(like.window) - (like.window - 1) / 2) * like.pixel_mm
        self._mm = np.stack(np.meshgrid(axis + middle_mm[0], axis + middle_mm[1], indexing="ij"))
        self._fov = plane.fov

    def _at(self, n: int) -> NDArray[np.float64]:
        """Pixels (2, window, window) of an (n, n) image; its pixel n // 2 is the plane's centre."""
        return self._mm * (n / self._fov) + n // 2

    def resampled(self, image: Array, scanner: Scanner) -> Array:
        found = scipy.ndimage.map_coordinates(image, self._at(scanner.matrix), order=3, mode="nearest")
        return np.asarray(np.maximum(found, 0), dtype=np.float32)

    def nearest(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(scipy.ndimage.map_coordinates(label, self._at(len(label)), order=0, mode="nearest"))
