"""Virtual patients to score temporal super-resolution on: cine of whole hearts, with and without noise."""

from dataclasses import replace

import numpy as np

from cmrsr.errors import UsageError
from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.patient import draw_patient
from cmrsr.phantom.scans import scan_patient
from cmrsr.phantom.seeds import check_unseen
from cmrsr.tasks.interp4d.evaluation.protocol import Case

N_FRAMES = 24  # of a beat: many gaps divide it
SCAN = Protocol(kinds=("cine",), n_frames=N_FRAMES)
SPEEDS = tuple(n for n in range(1, 7) if N_FRAMES % n == 0)


def check_virtual(seed: int, subjects: int, speed: int) -> None:
    """UsageError for numbers that cannot be scanned, or patients that the engines know."""
    check_unseen(seed, subjects)
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
