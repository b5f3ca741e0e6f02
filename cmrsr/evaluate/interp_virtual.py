"""Virtual patients to score temporal super-resolution on: cine of whole hearts, with and without noise."""

from dataclasses import replace

import numpy as np

from cmrsr.errors import UsageError
from cmrsr.evaluate.interp_protocol import Case
from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scans import scan_patient

N_FRAMES = 24  # of a beat: many gaps divide it
SCAN = Protocol(kinds=("cine",), n_frames=N_FRAMES)
TRAINING_SEED = 0  # of the virtual patients that the shipped engines were trained on
SPEEDS = tuple(n for n in range(1, 7) if N_FRAMES % n == 0)


def check_virtual(seed: int, subjects: int, speed: int) -> None:
    """UsageError for numbers that cannot be scanned, or patients that the engines know."""
    if subjects < 1:
        raise UsageError(f"--subjects {subjects}: expected at least 1")
    if seed <= TRAINING_SEED:
        raise UsageError(f"--seed {seed}: the shipped engines were trained on patients of seed 0; expected 1 or more")
    if speed not in SPEEDS:
        raise UsageError(f"--speed {speed}: expected one of {', '.join(map(str, SPEEDS))}")


def virtual_case(seed: int, subject: int, speed: int = 1) -> Case:
    """The short-axis cine of a virtual patient (subject from 1) whose heart beats ``speed`` times as fast.

    The same scan with every ``speed``-th phase: as many times the motion from frame to frame.
    """
    patient = draw_patient(seed, subject)
    scan = next(scan_patient(patient, SCAN))
    series = scan.series()
    times = None if series.times_ms is None else series.times_ms[::speed] / speed
    scanned = series.with_frames(scan.frames[::speed], times_ms=times)
    name = patient.identity.name
    return Case(
        name=name, patient=name, series=replace(scanned, source=replace(series.source, name=name)),
        phases=(0, int(np.argmax(scan.truth["activation"][::speed]))),
        clean=scanned.with_frames(scan.clean[::speed]),
    )  # fmt: skip
