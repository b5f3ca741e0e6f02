"""The four scans of a virtual patient: cine, first-pass perfusion, native T1 images, late enhancement."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.breath import draw_breath
from cmrsr.phantom.clutter import draw_warp
from cmrsr.phantom.contrast import Passage, SaturationRecovery, agent, draw_passage, draw_sequence, first_pass_signals
from cmrsr.phantom.examination import (
    KINDS,
    STREAM,
    Examination,
    Protocol,
    ScanKind,
    acquire_scan,
    header_of,
    held_shift,
)
from cmrsr.phantom.heart import LV_CAVITY, RV_CAVITY, WALL
from cmrsr.phantom.patient import VirtualPatient
from cmrsr.phantom.plane import FINE, LONG_AXIS, long_axis
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scan import VirtualScan
from cmrsr.phantom.scanner import BREATH_HOLD, FIRST_PASS, Scanner, draw_scanner, typical_peak, with_coil
from cmrsr.phantom.tissue import Materials
from cmrsr.physics.signal import bssfp, inversion_recovery, inversion_recovery_gre, null_time

STILL = 0.75  # of the beat: diastasis, when T1 and LGE images are taken
# MOLLI 5(3)3: image k of an inversion comes k beats after its first inversion time. Messroghli 2004, simulation values.
MOLLI = ((100.0, 5), (180.0, 3))
MOLLI_PAUSE = 3  # beats of recovery between the two


def scan_patient(patient: VirtualPatient, protocol: Protocol) -> Iterator[VirtualScan]:
    """All scans of a protocol, one after the other; each depends on the patient and on its own numbers alone."""
    exam = Examination(patient, protocol)
    for kind in KINDS:
        if kind in protocol.kinds:
            yield from _SCANS[kind](exam)


def cine(exam: Examination) -> Iterator[VirtualScan]:
    """A bSSFP short-axis stack over one beat, a breath-hold a slice; long-axis views if asked for."""
    patient = exam.patient
    rng = patient.rng(STREAM["cine"])
    n_t = exam.protocol.n_frames or int(rng.integers(20, 31))
    flip, tr = float(rng.uniform(45, 70)), float(rng.uniform(2.6, 3.4))
    matrix = exam.protocol.matrix or int(rng.choice([192, 208, 224, 256]))

    def signals(m: Materials, z: int) -> NDArray[np.floating[Any]]:
        return bssfp(m.rho, m.t1_ms, m.t2_ms, te_ms=tr / 2, flip_deg=flip)[None]

    scanner = draw_scanner(rng, FINE, matrix, BREATH_HOLD)
    times = np.arange(n_t) * patient.cycle.beat_ms / n_t
    field = draw_warp(rng, float(rng.uniform(5, 25)) * patient.field_t)  # off-resonance in Hz, smooth in the body

    def banding(section: Section) -> NDArray[np.float32]:
        """Signal off resonance relative to that on resonance, (FINE, FINE), of a tissue such as myocardium."""
        rows, columns = np.indices((FINE, FINE)).reshape(2, -1)
        hertz = field.at(section.plane.points(rows, columns, 0.0))[:, 0].reshape(FINE, FINE)
        off, on = (
            bssfp(1.0, 1000.0, 50.0, te_ms=tr / 2, flip_deg=flip, tr_ms=tr, off_resonance_hz=f) for f in (hertz, 0.0)
        )
        return np.asarray(off / on, dtype=np.float32)

    views: dict[str, list[Section]] = {"sax": [exam.section(z) for z in range(len(exam.planes))]}
    if exam.protocol.long_axis:
        for view in LONG_AXIS:
            plane = long_axis(patient, view, fov=exam.fov, thickness=exam.thickness)
            views[view] = [Section(patient, exam.chest, plane)]
    for number, (view, sections) in enumerate(views.items()):
        poses = np.empty((n_t, len(sections)), object)
        for z in range(len(sections)):
            # each slice is another breath-hold, at another heart rate
            still = held_shift(rng, sections[z].plane.normal)
            beat = replace(patient.cycle, beat_ms=patient.cycle.beat_ms * max(rng.normal(1, patient.beat_sd), 0.75))
            for t, a in enumerate(beat.activation(np.arange(n_t) / n_t * beat.beat_ms)):
                poses[t, z] = Pose(activation=float(a), breath_mm=still)
        acquired = 60.0 + 400 * number + 20 * np.arange(len(sections)) + times[:, None] / 1000
        header = header_of(
            exam, scanner, "bssfp", f"cine_{view}", 10 + 30 * number, tr_ms=tr, te_ms=tr / 2, flip_deg=flip,
            contrast=False, gap=exam.gap, trigger_ms=np.repeat(times[:, None], len(sections), 1), acquired_s=acquired,
        )  # fmt: skip
        truth: dict[str, Any] = {"trigger_ms": times}
        if view == "sax":
            truth["activation"] = patient.cycle.activation(times)
        yield acquire_scan(
            exam, f"cine_{view}", "cine", sections, poses, signals, scanner, rng, header, times,
            truth=truth, maps=("aha", "displacement", "strain"), gain=banding,
        )  # fmt: skip


def perfusion(exam: Examination) -> Iterator[VirtualScan]:
    """First pass of contrast under stress and at rest: a few slices in every beat, each at its own phase of it."""
    patient, levels = exam.patient, exam.levels()
    for number, (run, stress) in enumerate((("stress", True), ("rest", False))):
        rng = patient.rng(STREAM[run])
        n_t = exam.protocol.n_frames or int(rng.integers(40, 71))
        sequence = draw_sequence(rng)
        passage = draw_passage(rng, patient, n_t, stress)
        matrix = exam.protocol.matrix or int(rng.choice([144, 160, 176, 192]))
        scanner = draw_scanner(rng, FINE, matrix, FIRST_PASS)
        breath = draw_breath(rng, passage.times_s[-1], (1.0, 4.0, 10.0))
        interval = float(np.diff(passage.times_s).mean()) * 1000
        cycle = replace(patient.cycle, beat_ms=interval, systole_ms=330 * (interval / 900) ** 0.5)
        # one slice after the other within the beat, so that every slice sees another phase of it
        delays = float(rng.uniform(20, 120)) + np.arange(len(levels)) * min(170.0, 0.8 * interval / len(levels))
        jitter = rng.normal(0, rng.uniform(0, 15), n_t)  # of the trigger, ms
        poses = np.empty((n_t, len(levels)), object)
        for t, time in enumerate(passage.times_s):
            for z, delay in enumerate(delays):
                a = float(cycle.activation(max(delay + jitter[t], 0.0)))
                poses[t, z] = Pose(activation=a, breath_mm=breath.at(time))
        peak = typical_peak(first_pass_signals(exam.chest.sample, passage, sequence))
        header = header_of(
            exam, scanner, "saturation-recovery", f"perfusion_{run}", 200 + number, tr_ms=sequence.tr_ms,
            te_ms=sequence.tr_ms / 2, flip_deg=sequence.flip_deg, contrast=True, beat_ms=interval,
            gap=exam.gap * _step(levels),
            trigger_ms=np.maximum(delays + jitter[:, None], 0.0),
            acquired_s=1200.0 + 900 * number + passage.times_s[:, None] + delays / 1000,
        )  # fmt: skip
        shown = exam.chest.materials.take(np.array([LV_CAVITY, RV_CAVITY]))
        truth = {
            "stress": stress, "times_s": passage.times_s, "onset_s": passage.onset_s, "transit_s": passage.transit_s,
            "acquired_fraction": exam.protocol.fraction, "delay_ms": sequence.delay_ms, "tr_ms": sequence.tr_ms,
            "flip_deg": sequence.flip_deg, "n_before_centre": sequence.n_before_centre,
            "t1_native_ms": _of_tissues(exam.chest.materials.t1_ms),
            "agent_mmol_l": {name: agent(shown, passage)[:, i] for i, name in enumerate(("lv", "rv"))},
            "mbf_ml_g_min_by_segment": passage.mbf.mean(1),
            "mbf_ml_g_min_endocardial": passage.mbf[:, 1], "mbf_ml_g_min_epicardial": passage.mbf[:, 0],
        }  # fmt: skip
        yield acquire_scan(
            exam, f"perfusion_{run}", "perfusion", [exam.section(z) for z in levels], poses,
            _first_pass(passage, sequence), scanner, rng, header, passage.times_s * 1000, truth=truth, maps=("aha",),
            fraction=exam.protocol.fraction, unit=float(peak),
        )  # fmt: skip


def t1(exam: Examination) -> Iterator[VirtualScan]:
    """Eight native inversion-recovery images a slice, MOLLI 5(3)3, by inversion time; a breath-hold a slice."""
    patient, levels = exam.patient, exam.levels()
    rng = patient.rng(STREAM["t1"])
    scanner = _t1_scanner(exam, rng)
    n_t, n_z = sum(n for _, n in MOLLI), len(levels)
    inversion, acquired, poses = np.zeros((n_t, n_z)), np.zeros((n_t, n_z)), np.empty((n_t, n_z), object)
    beat = patient.cycle.beat_ms
    activation = float(patient.cycle.activation(STILL * beat))
    depth = float(rng.choice([0.0, 0.0, 1.5, 5.0]))  # some cannot hold their breath
    for z in range(n_z):
        inversion[:, z], acquired[:, z], length = molli_times(rng, patient)
        breath = draw_breath(rng, length, (depth,))
        for t in range(n_t):
            poses[t, z] = Pose(activation=activation, breath_mm=breath.at(float(acquired[t, z])))
    header = header_of(
        exam, scanner, "molli", "t1_molli", 150, tr_ms=2.7, te_ms=1.1, flip_deg=35.0, contrast=False,
        gap=exam.gap * _step(levels),
        trigger_ms=np.full((n_t, n_z), STILL * beat), acquired_s=700.0 + 25 * np.arange(n_z) + acquired,
        inversion_ms=inversion,
    )  # fmt: skip

    def signals(m: Materials, z: int) -> NDArray[np.floating[Any]]:
        return np.abs(inversion_recovery(m.rho, m.t1_ms, inversion[:, z, None]))

    m = exam.chest.materials
    yield acquire_scan(
        exam, "t1", "t1", [exam.section(z) for z in levels], poses, signals, scanner, rng, header, inversion,
        truth={"inversion_ms": inversion, "breathing_mm": depth, "t1_ms": _of_tissues(m.t1_ms)}, maps=("aha",),
        unit=1.0,
    )  # fmt: skip


def lge(exam: Examination) -> Iterator[VirtualScan]:
    """Late enhancement: inversion recovery 15 minutes after contrast, the inversion time nulls healthy myocardium."""
    patient = exam.patient
    rng = patient.rng(STREAM["lge"])
    matrix = exam.protocol.matrix or int(rng.choice([192, 224, 256]))
    # the same coil as for the T1 images: who lies in it does not move between the scans
    coil = _t1_scanner(exam, patient.rng(STREAM["t1"]))
    scanner = with_coil(draw_scanner(rng, FINE, matrix, BREATH_HOLD), coil)
    n_z, beat = len(exam.planes), patient.cycle.beat_ms
    m = exam.chest.materials
    best, inversion = late_inversion_ms(rng, m, beat)
    activation = float(patient.cycle.activation(STILL * beat))
    poses = np.empty((1, n_z), object)
    for z in range(n_z):
        poses[0, z] = Pose(activation=activation, breath_mm=held_shift(rng, exam.planes[0].normal))

    def signals(m: Materials, z: int) -> NDArray[np.floating[Any]]:
        return np.abs(inversion_recovery_gre(m.rho, m.late_t1_ms, inversion_ms=inversion, beat_ms=beat))[None]

    header = header_of(
        exam, scanner, "inversion-recovery", "lge_sax", 300, tr_ms=float(rng.uniform(5, 8)), te_ms=3.0, flip_deg=25.0,
        contrast=True, gap=exam.gap, trigger_ms=np.full((1, n_z), STILL * beat),
        acquired_s=3000.0 + 15 * np.arange(n_z)[None], inversion_ms=np.full((1, n_z), inversion),
    )  # fmt: skip
    blood = float(signals(m, 0)[0, LV_CAVITY])
    truth = {"inversion_ms": inversion, "null_ms": best, "late_t1_ms": _of_tissues(m.late_t1_ms)}
    yield acquire_scan(
        exam, "lge", "lge", [exam.section(z) for z in range(n_z)], poses, signals, scanner, rng, header,
        np.array([STILL * beat]), truth=truth, maps=("aha",), unit=1.5 * blood,
    )  # fmt: skip


_SCANS: dict[ScanKind, Callable[[Examination], Iterator[VirtualScan]]] = {
    "cine": cine, "perfusion": perfusion, "t1": t1, "lge": lge,
}  # fmt: skip


def molli_times(
    rng: np.random.Generator, patient: VirtualPatient
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Inversion times (ms) of one slice in rising order, when those images were taken, and when all was over (s)."""
    beat, ti, at, clock = patient.cycle.beat_ms, [], [], 0.0
    for first, n in MOLLI:
        beats = np.r_[0.0, np.cumsum(np.clip(rng.normal(beat, patient.beat_sd * beat, n - 1), 0.5 * beat, None))]
        ti += list(first + beats)
        at += list(clock + beats)
        clock += beats[-1] + (MOLLI_PAUSE + 1) * beat
    order = np.argsort(ti)
    return np.array(ti)[order], np.array(at)[order] / 1000, clock / 1000


def late_inversion_ms(rng: np.random.Generator, materials: Materials, beat_ms: float) -> tuple[float, float]:
    """Inversion time (ms) of LGE that nulls healthy myocardium, and the one that is set by eye."""
    healthy = float(np.median(materials.late_t1_ms[(materials.segment > 0) & ~materials.scar]))
    best = float(null_time(healthy, beat_ms=beat_ms))
    return best, best + float(rng.normal(0, 8))


def _t1_scanner(exam: Examination, rng: np.random.Generator) -> Scanner:
    """The first draws of the T1 scan."""
    return draw_scanner(rng, FINE, exam.protocol.matrix or int(rng.choice([160, 192, 224])), BREATH_HOLD)


def _step(levels: list[int]) -> int:
    """From level to level, in slices of the stack."""
    return levels[1] - levels[0] if len(levels) > 1 else 1


def _of_tissues(values: NDArray[np.float64]) -> dict[str, float]:
    """The value of the tissues that have a label of their own."""
    return {"rv": values[RV_CAVITY], "myocardium": values[WALL], "lv": values[LV_CAVITY], "scar": values[WALL + 1]}


def _first_pass(
    passage: Passage, sequence: SaturationRecovery
) -> Callable[[Materials, int], NDArray[np.floating[Any]]]:
    return lambda materials, z: first_pass_signals(materials, passage, sequence)
