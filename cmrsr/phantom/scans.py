"""The four scans of a virtual patient: cine, first-pass perfusion, native T1 images, late enhancement."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.io.series import Kind
from cmrsr.phantom.breath import draw_breath
from cmrsr.phantom.chest import Chest, draw_chest
from cmrsr.phantom.contrast import draw_passage, draw_sequence, first_pass_signals
from cmrsr.phantom.heart import LV_CAVITY
from cmrsr.phantom.patient import VirtualPatient
from cmrsr.phantom.plane import FINE, LONG_AXIS, long_axis, short_axis
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scan import LABELS, ScanHeader, Sequence, VirtualScan
from cmrsr.phantom.scanner import BREATH_HOLD_NOISE, FIRST_PASS_NOISE, Scanner, acquire, draw_scanner
from cmrsr.phantom.truth import maps_at
from cmrsr.physics.kspace import degrade, n_lines
from cmrsr.physics.signal import bssfp, inversion_recovery, inversion_recovery_gre, null_time

Generator = np.random.Generator
ScanKind = Literal["cine", "perfusion", "t1", "lge"]
KINDS: tuple[ScanKind, ...] = get_args(ScanKind)
INTENSITY = 500.0  # of the brightest tissues, as scanners write them
STILL = 0.75  # of the beat: diastasis, when T1 and LGE images are taken
HOLD_MM = 1.5  # from breath-hold to breath-hold
_STREAM = {"geometry": 1, "cine": 2, "stress": 3, "rest": 4, "t1": 5, "lge": 6}
# MOLLI 5(3)3: image k of an inversion comes k beats after its first inversion time. Messroghli 2004, simulation values.
MOLLI = ((100.0, 5), (180.0, 3))
MOLLI_PAUSE = 3  # beats of recovery between the two


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What to scan; None leaves it to the patient's draw. Numbers out of range raise UsageError."""

    kinds: tuple[ScanKind, ...] = KINDS
    n_slices: int | None = None
    n_frames: int | None = None  # phases of a cine, beats of a perfusion series
    matrix: int | None = None
    fraction: float = 1.0  # of the phase lines (y) of a perfusion series that are acquired
    long_axis: bool = False  # cine views through the apex too

    def __post_init__(self) -> None:
        ranges = (
            ("slices", self.n_slices, 1, 20),
            ("frames", self.n_frames, 8, 500),
            ("matrix", self.matrix, 64, FINE),
        )
        for flag, value, low, high in ranges:
            if value is not None and not low <= value <= high:
                raise UsageError(f"--{flag} {value}: expected {low} to {high}")
        if not 0.1 <= self.fraction <= 1:
            raise UsageError(f"--fraction {self.fraction}: expected 0.1 to 1")


class Examination:
    """One patient on the table: the chest and the short-axis stack that all its scans share."""

    def __init__(self, patient: VirtualPatient, protocol: Protocol) -> None:
        self.patient, self.protocol = patient, protocol
        self.chest: Chest = draw_chest(patient)
        rng = patient.rng(_STREAM["geometry"])
        self.fov = float(rng.uniform(300, 400))
        self.thickness = float(rng.choice([6.0, 7.0, 8.0]))
        # most protocols use 8 mm; a long ventricle gets more, so that the stack keeps to a dozen slices
        gap: float | None = max(8.0, round(patient.heart.lv.top_z / 11.5, 1))
        n, spin, offset = 0, float(rng.normal(0, 0.5)), float(rng.uniform(0, 1))
        stacked = {"cine", "lge"} & set(protocol.kinds)
        if stacked and protocol.n_slices is not None:
            n, gap = protocol.n_slices, None
        self.planes, self.gap = short_axis(
            patient, n, fov=self.fov, thickness=self.thickness, gap=gap, spin=spin, offset=offset
        )
        self.n_levels = 3 if stacked else protocol.n_slices or 3
        self._sections: dict[int, Section] = {}

    def section(self, z: int) -> Section:
        """Slice ``z`` of the stack, drawn once for all scans."""
        if z not in self._sections:
            self._sections[z] = Section(self.patient, self.chest, self.planes[z])
        return self._sections[z]

    def levels(self) -> list[int]:
        """The slices of perfusion and T1: some of the stack, evenly from the apical to the basal third."""
        if self.n_levels > len(self.planes):
            raise UsageError(f"--slices {self.n_levels}: the stack of this virtual patient has {len(self.planes)}")
        lv, axis = self.patient.heart.lv, self.patient.turn[:, 2]
        heights = np.array([float((p.centre - self.patient.apex_mm) @ axis) for p in self.planes])
        middle = int(np.argmin(np.abs(heights - 0.55 * lv.base_z)))
        inside = int(((heights > 0.2 * lv.base_z) & (heights < 0.9 * lv.base_z)).sum())
        step = max(1, min(inside // self.n_levels, len(self.planes) // self.n_levels))
        first = int(
            np.clip(middle - step * (self.n_levels - 1) // 2, 0, len(self.planes) - step * (self.n_levels - 1) - 1)
        )
        return [first + step * i for i in range(self.n_levels)]


def scan_patient(patient: VirtualPatient, protocol: Protocol) -> Iterator[VirtualScan]:
    """All scans of a protocol, one after the other; each depends on the patient and on its own numbers alone."""
    exam = Examination(patient, protocol)
    for kind in KINDS:
        if kind in protocol.kinds:
            yield from _SCANS[kind](exam)


def cine(exam: Examination) -> Iterator[VirtualScan]:
    """A bSSFP short-axis stack over one beat, a breath-hold a slice; long-axis views if asked for."""
    patient = exam.patient
    rng = patient.rng(_STREAM["cine"])
    n_t = exam.protocol.n_frames or int(rng.integers(20, 31))
    flip, tr = float(rng.uniform(45, 70)), float(rng.uniform(2.6, 3.4))
    matrix = exam.protocol.matrix or int(rng.choice([192, 208, 224, 256]))
    m = exam.chest.materials
    signals = bssfp(m.rho, m.t1_ms, m.t2_ms, te_ms=tr / 2, flip_deg=flip)
    scanner = draw_scanner(rng, FINE, matrix, BREATH_HOLD_NOISE, distorted=False)
    times = np.arange(n_t) * patient.cycle.beat_ms / n_t
    views: dict[str, list[Section]] = {"sax": [exam.section(z) for z in range(len(exam.planes))]}
    if exam.protocol.long_axis:
        for view in LONG_AXIS:
            plane = long_axis(patient, view, fov=exam.fov, thickness=exam.thickness)
            views[view] = [Section(patient, exam.chest, plane)]
    for number, (view, sections) in enumerate(views.items()):
        poses = np.empty((n_t, len(sections)), object)
        for z in range(len(sections)):
            # each slice is another breath-hold, at another heart rate
            still = _held(rng, exam)
            beat = replace(patient.cycle, beat_ms=patient.cycle.beat_ms * max(rng.normal(1, patient.beat_sd), 0.75))
            for t, a in enumerate(beat.activation(np.arange(n_t) / n_t * beat.beat_ms)):
                poses[t, z] = Pose(activation=float(a), breath_mm=still)
        acquired = 60.0 + 400 * number + 20 * np.arange(len(sections)) + times[:, None] / 1000
        header = _header(
            exam, "bssfp", f"cine_{view}", 10 + 30 * number, tr_ms=tr, te_ms=tr / 2, flip_deg=flip, contrast=False,
            gap=exam.gap, trigger_ms=np.repeat(times[:, None], len(sections), 1), acquired_s=acquired,
        )  # fmt: skip
        truth: dict[str, Any] = {"trigger_ms": times}
        if view == "sax":
            truth["activation"] = patient.cycle.activation(times)
        yield _scan(
            exam, f"cine_{view}", "cine", sections, poses, lambda t, z: signals, scanner, rng, header, times,
            truth=truth, maps=("aha", "displacement", "strain"),
        )  # fmt: skip


def perfusion(exam: Examination) -> Iterator[VirtualScan]:
    """First pass of contrast under stress and at rest: a few slices in every beat, each at its own phase of it."""
    patient, levels = exam.patient, exam.levels()
    for number, (run, stress) in enumerate((("stress", True), ("rest", False))):
        rng = patient.rng(_STREAM[run])
        n_t = exam.protocol.n_frames or int(rng.integers(40, 71))
        sequence = draw_sequence(rng)
        passage = draw_passage(rng, patient, n_t, stress)
        matrix = exam.protocol.matrix or int(rng.choice([144, 160, 176, 192]))
        scanner = draw_scanner(rng, FINE, matrix, FIRST_PASS_NOISE, distorted=False)
        breath = draw_breath(rng, passage.times_s[-1], (0.0, 2.0, 7.0))
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
        signals = first_pass_signals(exam.chest.materials, passage, sequence)
        signals = signals / typical_peak(signals)
        header = _header(
            exam, "saturation-recovery", f"perfusion_{run}", 200 + number, tr_ms=sequence.tr_ms,
            te_ms=sequence.tr_ms / 2, flip_deg=sequence.flip_deg, contrast=True, beat_ms=interval,
            gap=exam.gap * (levels[-1] - levels[0]) / max(len(levels) - 1, 1) or exam.gap,
            trigger_ms=np.maximum(delays + jitter[:, None], 0.0),
            acquired_s=1200.0 + 900 * number + passage.times_s[:, None] + delays / 1000,
        )  # fmt: skip
        truth = {
            "stress": stress, "times_s": passage.times_s, "onset_s": passage.onset_s, "transit_s": passage.transit_s,
            "acquired_fraction": exam.protocol.fraction, "delay_ms": sequence.delay_ms, "tr_ms": sequence.tr_ms,
            "flip_deg": sequence.flip_deg, "n_before_centre": sequence.n_before_centre,
            "mbf_ml_g_min_by_segment": passage.mbf.mean(1),
            "mbf_ml_g_min_endocardial": passage.mbf[:, 1], "mbf_ml_g_min_epicardial": passage.mbf[:, 0],
        }  # fmt: skip
        yield _scan(
            exam, f"perfusion_{run}", "perfusion", [exam.section(z) for z in levels], poses,
            _by_frame(signals), scanner, rng, header, passage.times_s * 1000, truth=truth, maps=("aha",),
            fraction=exam.protocol.fraction, unit=1.0,
        )  # fmt: skip


def t1(exam: Examination) -> Iterator[VirtualScan]:
    """Eight native inversion-recovery images a slice, MOLLI 5(3)3, by inversion time; a breath-hold a slice."""
    patient, levels = exam.patient, exam.levels()
    rng = patient.rng(_STREAM["t1"])
    matrix = exam.protocol.matrix or int(rng.choice([160, 192, 224]))
    scanner = draw_scanner(rng, FINE, matrix, BREATH_HOLD_NOISE, distorted=False)
    n_t, n_z = sum(n for _, n in MOLLI), len(levels)
    inversion, acquired, poses = np.zeros((n_t, n_z)), np.zeros((n_t, n_z)), np.empty((n_t, n_z), object)
    beat = patient.cycle.beat_ms
    activation = float(patient.cycle.activation(STILL * beat))
    depth = float(rng.choice([0.0, 0.0, 1.5, 5.0]))  # some cannot hold their breath
    for z in range(n_z):
        ti, at, clock = [], [], 0.0
        for first, n in MOLLI:
            beats = np.r_[0.0, np.cumsum(np.clip(rng.normal(beat, patient.beat_sd * beat, n - 1), 0.5 * beat, None))]
            ti += list(first + beats)
            at += list(clock + beats)
            clock += beats[-1] + (MOLLI_PAUSE + 1) * beat
        order = np.argsort(ti)
        inversion[:, z], acquired[:, z] = np.array(ti)[order], np.array(at)[order] / 1000
        breath = draw_breath(rng, clock / 1000, (depth,))
        for t in range(n_t):
            poses[t, z] = Pose(activation=activation, breath_mm=breath.at(float(acquired[t, z])))
    m = exam.chest.materials
    header = _header(
        exam, "molli", "t1_molli", 150, tr_ms=2.7, te_ms=1.1, flip_deg=35.0, contrast=False,
        gap=exam.gap * (levels[-1] - levels[0]) / max(n_z - 1, 1) or exam.gap,
        trigger_ms=np.full((n_t, n_z), STILL * beat), acquired_s=700.0 + 25 * np.arange(n_z) + acquired,
        inversion_ms=inversion,
    )  # fmt: skip

    def signals(t: int, z: int) -> NDArray[np.floating[Any]]:
        return np.abs(inversion_recovery(m.rho, m.t1_ms, inversion[t, z]))

    yield _scan(
        exam, "t1", "t1", [exam.section(z) for z in levels], poses, signals, scanner, rng, header, inversion,
        truth={"inversion_ms": inversion, "breathing_mm": depth}, maps=("aha",), unit=1.0,
    )  # fmt: skip


def lge(exam: Examination) -> Iterator[VirtualScan]:
    """Late enhancement: inversion recovery 15 minutes after contrast, the inversion time nulls healthy myocardium."""
    patient = exam.patient
    rng = patient.rng(_STREAM["lge"])
    matrix = exam.protocol.matrix or int(rng.choice([192, 224, 256]))
    scanner = draw_scanner(rng, FINE, matrix, BREATH_HOLD_NOISE, distorted=False)
    n_z, beat = len(exam.planes), patient.cycle.beat_ms
    m = exam.chest.materials
    healthy = float(np.median(m.late_t1_ms[(m.segment > 0) & ~m.scar]))
    best = float(null_time(healthy, beat_ms=beat))
    inversion = best + float(rng.normal(0, 8))  # as well as it is set by eye
    activation = float(patient.cycle.activation(STILL * beat))
    poses = np.empty((1, n_z), object)
    for z in range(n_z):
        poses[0, z] = Pose(activation=activation, breath_mm=_held(rng, exam))
    signals = np.abs(inversion_recovery_gre(m.rho, m.late_t1_ms, inversion_ms=inversion, beat_ms=beat))
    header = _header(
        exam, "inversion-recovery", "lge_sax", 300, tr_ms=float(rng.uniform(5, 8)), te_ms=3.0, flip_deg=25.0,
        contrast=True, gap=exam.gap, trigger_ms=np.full((1, n_z), STILL * beat),
        acquired_s=3000.0 + 15 * np.arange(n_z)[None], inversion_ms=np.full((1, n_z), inversion),
    )  # fmt: skip
    blood = float(signals[LV_CAVITY])
    truth = {"inversion_ms": inversion, "null_ms": best}
    yield _scan(
        exam, "lge", "lge", [exam.section(z) for z in range(n_z)], poses, lambda t, z: signals, scanner, rng, header,
        np.array([STILL * beat]), truth=truth, maps=("aha",), unit=1.5 * blood,
    )  # fmt: skip


_SCANS: dict[ScanKind, Callable[[Examination], Iterator[VirtualScan]]] = {
    "cine": cine, "perfusion": perfusion, "t1": t1, "lge": lge,
}  # fmt: skip


def _held(rng: Generator, exam: Examination) -> NDArray[np.float64]:
    """Where one breath-hold has the heart: shifted within the slice, so that the stack still tiles the ventricle."""
    shift = draw_breath(rng, 1.0, (0.0,)).direction * rng.normal(0, HOLD_MM)
    normal = exam.planes[0].normal
    return np.asarray(shift - normal * (normal @ shift))


def _by_frame(signals: NDArray[np.floating[Any]]) -> Callable[[int, int], NDArray[np.floating[Any]]]:
    return lambda t, z: signals[t]


def typical_peak(signals: NDArray[np.floating[Any]]) -> np.float32:
    """The level that most regions (t, n_labels) stay below at their peak: the unit of a scanner's noise."""
    return np.float32(np.quantile(signals.max(0), 0.9))


def _header(
    exam: Examination, sequence: Sequence, description: str, number: int, *, gap: float, **settings: Any
) -> ScanHeader:
    return ScanHeader(
        sequence=sequence, description=description, series_number=number, field_t=exam.patient.field_t,
        thickness_mm=exam.thickness, gap_mm=gap, phase_axis="y",
        **({"beat_ms": exam.patient.cycle.beat_ms} | settings),
    )  # fmt: skip


def _scan(
    exam: Examination,
    name: str,
    kind: Kind,
    sections: list[Section],
    poses: NDArray[np.object_],
    signals: Callable[[int, int], NDArray[np.floating[Any]]],
    scanner: Scanner,
    rng: Generator,
    header: ScanHeader,
    times_ms: NDArray[np.float64],
    *,
    truth: dict[str, Any],
    maps: tuple[str, ...],
    fraction: float = 1.0,
    unit: float | None = None,
) -> VirtualScan:
    """Render and acquire all frames and slices. unit: the signal that is ``INTENSITY``; None: of the brightest."""
    n_t, n_z = poses.shape
    n = scanner.matrix
    shape = (n_t, n_z, n, n)
    frames, clean, labels = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    volumes: dict[str, NDArray[Any]] = {
        m: np.zeros((*shape, 3), np.float32) if m in ("displacement", "strain") else np.zeros(shape, np.uint8)
        for m in maps
    }
    rough, lines = exam.chest.materials.texture, n_lines(fraction, n)
    for z, section in enumerate(sections):
        noise = np.random.default_rng(rng.integers(2**63))
        for t in range(n_t):
            pose: Pose = poses[t, z]
            image = section.at(pose).signal(signals(t, z), rough)
            if unit is None:
                unit = float(np.quantile(image, 0.98))
            for out, noisy in ((frames, True), (clean, False)):
                scan = acquire(image / np.float32(unit), scanner, noise, noisy) * np.float32(INTENSITY)
                out[t, z] = degrade(scan, lines, 0) if fraction < 1 else scan
            found = maps_at(exam.patient, section.plane, n, pose.activation, pose.breath_mm)
            labels[t, z] = found["label"]
            for m in maps:
                volumes[m][t, z] = found[m]
    return VirtualScan(
        name=name, kind=kind, frames=frames, clean=clean, labels=labels,
        affine=sections[0].plane.affine(n, header.gap_mm), times_ms=times_ms, header=header, volumes=volumes,
        truth=truth | _scanned(labels, sections[0].plane.fov / n, header.gap_mm),
    )  # fmt: skip


def _scanned(labels: NDArray[np.uint8], pixel_mm: float, gap_mm: float) -> dict[str, Any]:
    """Volumes by summation of discs over the labels of the scan itself: what a perfect reader would measure on it."""
    if labels.shape[1] < 3:
        return {}
    voxel = pixel_mm**2 * gap_mm / 1000
    lv = (labels == LABELS["lv"]).sum((1, 2, 3)) * voxel
    wall = np.isin(labels, (LABELS["myocardium"], LABELS["scar"])).sum((1, 2, 3)) * voxel
    rv = (labels == LABELS["rv"]).sum((1, 2, 3)) * voxel
    return {"from_labels": {"lv_ml": lv, "myocardium_ml": wall, "rv_ml": rv}}
