"""A cine of a virtual patient, restored and measured: is its ejection fraction near that of the true labels?"""

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.series import Series
from cmrsr.metrics.outcome import Outcome, broken
from cmrsr.phantom.one_patient import VirtualScans
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.function.plan import FunctionOptions
from cmrsr.tasks.function.run import measure_function

SCANS = ("cine",)
EVERY = 3  # frame of the cine is measured; the one of end systole is among them
# Reached by the shipped engine on this patient: 1.2, the same to two digits in bf16 and float32 on every backend.
MOST_EF_POINTS = 6.0  # between the measured EF and that of the true labels


def run(engine: str, patient: VirtualScans, choice: DeviceChoice) -> Outcome:
    """Some frames of the cine, restored and measured."""
    series, lv_ml = patient.cine.series(), patient.cine.truth["from_labels"]["lv_ml"][::EVERY]
    times = series.times_ms
    seen = series.with_frames(patient.cine.frames[::EVERY], times_ms=None if times is None else times[::EVERY])
    options = FunctionOptions(scale=1, super_resolve=True)
    result = measure_function(seen, engine=engine, options=options, choice=choice)
    true = float(100 * (lv_ml[0] - lv_ml.min()) / lv_ml[0])
    outcome = judge(result.frames, seen.shape, result.measured.lv.ef_percent, true)
    return Outcome(outcome.passed, outcome.found, outcome.figures, (result.frames, result.labels))


def judge(frames: NDArray[np.float32], shape: tuple[int, ...], ef: float, true: float) -> Outcome:
    """An ejection fraction (percent) against the true one, and whether the restored frames are whole."""
    if problem := broken(frames, shape):
        return Outcome(False, problem, {}, (frames,))
    said = f"EF {ef:.1f} %, true {true:.1f} %, expected within {MOST_EF_POINTS:g} points"
    return Outcome(abs(ef - true) <= MOST_EF_POINTS, said, {"ef_percent": ef, "true_ef_percent": true}, (frames,))


def _frames(series: Series) -> NDArray[np.float32]:
    return np.stack([series.frame(t) for t in range(series.n_frames)])
