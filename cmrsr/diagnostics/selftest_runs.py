"""Every task once on a small virtual patient, made on the spot, whose truth is known: does the result make sense?"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

import cmrsr
from cmrsr.errors import CmrsrWarning
from cmrsr.io.series import Series
from cmrsr.metrics.images import psnr
from cmrsr.phantom import scans
from cmrsr.phantom.examination import Examination, Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scan import LABELS, VirtualScan
from cmrsr.physics.kspace import degrade, n_lines
from cmrsr.physics.optical_flow import linear_blend
from cmrsr.physics.rms import rms
from cmrsr.runtime.bundle import Task
from cmrsr.runtime.choice import DeviceChoice

Array = NDArray[np.generic]
PATIENT_SEED, EF = 5, 0.4  # no patient of the training, which has seed 0; an infarct, the heart weak but no extreme
SCAN = Protocol(n_slices=8, n_frames=8, matrix=128)  # four to five seconds on one core, most of it for the slices
FRACTION = 0.4  # of the perfusion series' phase lines
EVERY = 3  # frame of the cine is measured; the one of end systole is among them
# Reached by the shipped engines on this patient, the same to two digits in bf16 and float32 on every backend.
LEAST_GAIN_DB = 0.3  # of sr over its zero-filled input; reached: 0.63
MOST_OF_BLEND = 0.96  # error of interp4d in hidden frames over a linear blend's; reached: 0.949, its first guess: 0.97
MOST_EF_POINTS = 6.0  # between the measured EF and that of the true labels; reached: 1.2
LEAST_DICE = 0.5  # of the scar of mie and the true one; reached: 0.80


@dataclass(frozen=True, slots=True)
class Outcome:
    """passed, why in a few words, the figures behind it, and the result itself to compare with that of a second run."""

    passed: bool
    found: str
    figures: dict[str, float]
    result: tuple[Array, ...]


class VirtualScans:
    """The scans of one virtual patient, each made when it is first asked for."""

    def __init__(self) -> None:
        self._exam = Examination(draw_patient(PATIENT_SEED, 1, "infarct", EF), SCAN)
        self._exam.n_levels = 1
        (self.level,) = self._exam.levels()  # slice of the cine where perfusion and T1 images are taken

    @cached_property
    def perfusion(self) -> VirtualScan:
        return next(scans.perfusion(self._exam))

    @cached_property
    def cine(self) -> VirtualScan:
        return next(scans.cine(self._exam))

    @cached_property
    def t1(self) -> VirtualScan:
        return next(scans.t1(self._exam))

    def make(self, task: Task) -> None:
        """What a task needs, so that its run is not timed with it."""
        _ = self.perfusion if task == "sr" else self.cine
        if task == "mie":
            _ = self.t1


def run_sr(engine: str, patient: VirtualScans, choice: DeviceChoice) -> Outcome:
    """A perfusion series of which a part of k-space is taken away, and given back."""
    truth = patient.perfusion.frames
    lr = degrade(truth, n_lines(FRACTION, truth.shape[2]), 2)
    result, _ = cmrsr.super_resolve(patient.perfusion.series().with_frames(lr), engine=engine, choice=choice)
    return judge_sr(_frames(result), lr, truth)


def judge_sr(found: NDArray[np.float32], lr: NDArray[np.float32], truth: NDArray[np.float32]) -> Outcome:
    """Super-resolved images (n, y, x) against the truth and the zero-filled ones."""
    if problem := _broken(found, truth.shape):
        return Outcome(False, problem, {}, (found,))
    gain = float((psnr(found, truth) - psnr(lr, truth)).mean())
    passed = gain >= LEAST_GAIN_DB
    said = f"{gain:+.2f} dB over zero-filled, expected at least {LEAST_GAIN_DB:+.1f}"
    return Outcome(passed, said, {"psnr_gain_db": gain}, (found,))


def run_interp4d(engine: str, patient: VirtualScans, choice: DeviceChoice) -> Outcome:
    """Three slices of the cine, of which every second frame is hidden, and given back."""
    around = slice(patient.level - 1, patient.level + 2)
    whole, series = patient.cine.frames[:, around], patient.cine.series()
    times = series.times_ms
    known = series.with_frames(whole[::2], times_ms=None if times is None else times[::2])
    result, _ = cmrsr.interpolate(known, engine=engine, choice=choice)
    return judge_interp4d(_frames(result), whole)


def judge_interp4d(found: NDArray[np.float32], truth: NDArray[np.float32]) -> Outcome:
    """truth: all frames of a beat, of which the even ones were given."""
    if problem := _broken(found, truth.shape):
        return Outcome(False, problem, {}, (found,))
    known, hidden = truth[::2], truth[1::2]
    if not np.array_equal(found[::2], known):
        return Outcome(False, "acquired frames were changed, expected bit for bit", {}, (found,))
    blend = np.concatenate([linear_blend(a, b, (0.5,)) for a, b in zip(known, np.roll(known, -1, 0), strict=True)])
    ratio = float(rms(found[1::2] - hidden) / rms(blend - hidden))
    said = f"error {ratio:.3f} of a linear blend's, expected below {MOST_OF_BLEND:g}"
    return Outcome(ratio < MOST_OF_BLEND, said, {"error_over_linear_blend": ratio}, (found,))


def run_function(engine: str, patient: VirtualScans, choice: DeviceChoice) -> Outcome:
    """Some frames of the cine, restored and measured."""
    series, lv_ml = patient.cine.series(), patient.cine.truth["from_labels"]["lv_ml"][::EVERY]
    times = series.times_ms
    seen = series.with_frames(patient.cine.frames[::EVERY], times_ms=None if times is None else times[::EVERY])
    options = cmrsr.FunctionOptions(scale=1, super_resolve=True)
    result = cmrsr.measure_function(seen, engine=engine, options=options, choice=choice)
    true = float(100 * (lv_ml[0] - lv_ml.min()) / lv_ml[0])
    outcome = judge_function(result.frames, seen.shape, result.measured.lv.ef_percent, true)
    return Outcome(outcome.passed, outcome.found, outcome.figures, (result.frames, result.labels))


def judge_function(frames: NDArray[np.float32], shape: tuple[int, ...], ef: float, true: float) -> Outcome:
    """An ejection fraction (percent) against the true one, and whether the restored frames are whole."""
    if problem := _broken(frames, shape):
        return Outcome(False, problem, {}, (frames,))
    said = f"EF {ef:.1f} %, true {true:.1f} %, expected within {MOST_EF_POINTS:g} points"
    return Outcome(abs(ef - true) <= MOST_EF_POINTS, said, {"ef_percent": ef, "true_ef_percent": true}, (frames,))


def run_mie(engine: str, patient: VirtualScans, choice: DeviceChoice) -> Outcome:
    """Late enhancement of the slice that holds the infarct, from its T1 images and the cine."""
    options = cmrsr.MieOptions(steps=5, samples=2, batch_size=2)
    t1 = patient.t1
    frame = cmrsr.enhance(patient.cine.series(), t1.series(), engine=engine, options=options, choice=choice).frame
    outcome = judge_mie(frame.output, frame.scar > 0, t1.labels[0] == LABELS["scar"])
    return Outcome(outcome.passed, outcome.found, outcome.figures, (frame.output, frame.scar_probability))


def judge_mie(image: NDArray[np.float32], scar: NDArray[np.bool_], true: NDArray[np.bool_]) -> Outcome:
    """A scar mask against the true one, and whether the synthetic image is whole."""
    if problem := _broken(image, true.shape):
        return Outcome(False, problem, {}, (image,))
    dice = float(2 * (scar & true).sum() / max(scar.sum() + true.sum(), 1))
    said = f"Dice of the scar {dice:.2f}, expected at least {LEAST_DICE:g}"
    return Outcome(dice >= LEAST_DICE, said, {"scar_dice": dice}, (image,))


RUNS: dict[Task, Callable[[str, VirtualScans, DeviceChoice], Outcome]] = {
    "sr": run_sr, "interp4d": run_interp4d, "function": run_function, "mie": run_mie,
}  # fmt: skip


def run_task(task: Task, engine: str, patient: VirtualScans, choice: DeviceChoice) -> Outcome:
    """One run through the public call of the task; what it remarks on the small patient is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CmrsrWarning)
        return RUNS[task](engine, patient, choice)


def _frames(series: Series) -> NDArray[np.float32]:
    return np.stack([series.frame(t) for t in range(series.n_frames)])


def _broken(found: NDArray[np.float32], shape: tuple[int, ...]) -> str:
    """What is wrong with a result as an array; empty where nothing is."""
    if found.shape != shape:
        return f"result of {'x'.join(map(str, found.shape))}, expected {'x'.join(map(str, shape))}"
    return "" if np.isfinite(found).all() else "result holds values that are not finite"
