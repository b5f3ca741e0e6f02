"""One virtual patient on the table: what is scanned, where the slices lie, and how frames become a scan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.io.series import Kind
from cmrsr.phantom.breath import draw_breath
from cmrsr.phantom.chest import Chest, draw_chest
from cmrsr.phantom.patient import VirtualPatient
from cmrsr.phantom.plane import FINE, short_axis
from cmrsr.phantom.render import Pose, Section
from cmrsr.phantom.scan import LABELS, ScanHeader, Sequence, VirtualScan
from cmrsr.phantom.scanner import Scanner, acquire
from cmrsr.phantom.tissue import Materials
from cmrsr.phantom.truth import maps_at
from cmrsr.physics.kspace import degrade, n_lines

Generator = np.random.Generator
ScanKind = Literal["cine", "perfusion", "t1", "lge"]
KINDS: tuple[ScanKind, ...] = get_args(ScanKind)
INTENSITY = 500.0  # of the brightest tissues, as scanners write them
MOST_SLICES, MOST_LEVELS = 20, 8  # of a stack; of perfusion and T1, which use slices of a stack of at least so many
HOLD_MM = 1.5  # from breath-hold to breath-hold
STREAM = {"geometry": 1, "cine": 2, "stress": 3, "rest": 4, "t1": 5, "lge": 6}  # of the patient's random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What to scan; None leaves it to the patient's draw. Numbers out of range raise UsageError."""

    kinds: tuple[ScanKind, ...] = KINDS
    n_slices: int | None = None  # of cine and LGE; of perfusion and T1 where only those are scanned
    n_frames: int | None = None  # phases of a cine, beats of a perfusion series
    matrix: int | None = None
    fraction: float = 1.0  # of the phase lines (y) of a perfusion series that are acquired
    long_axis: bool = False  # cine views through the apex too

    def __post_init__(self) -> None:
        ranges = (
            ("slices", self.n_slices, 1, MOST_SLICES if {"cine", "lge"} & set(self.kinds) else MOST_LEVELS),
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
        rng = patient.rng(STREAM["geometry"])
        self.fov = float(rng.uniform(300, 400))
        self.thickness = float(rng.choice([6.0, 7.0, 8.0]))
        # most protocols use 8 mm; a long ventricle gets more, so that the stack keeps to a dozen slices
        gap: float | None = max(8.0, float(np.ceil(10 * patient.heart.lv.top_z / 11.4)) / 10)
        n, spin, offset = 0, float(rng.normal(0, 0.5)), float(rng.uniform(0, 1))
        stacked = {"cine", "lge"} & set(protocol.kinds)
        if stacked and protocol.n_slices is not None:
            n, gap = protocol.n_slices, None
        self.planes, self.gap = short_axis(
            patient, n, fov=self.fov, thickness=self.thickness, gap=gap, spin=spin, offset=offset
        )
        self.n_levels = min(3, len(self.planes)) if stacked else protocol.n_slices or 3
        self._sections: dict[int, Section] = {}

    def section(self, z: int) -> Section:
        """Slice ``z`` of the stack, drawn once for all scans."""
        if z not in self._sections:
            self._sections[z] = Section(self.patient, self.chest, self.planes[z])
        return self._sections[z]

    def levels(self) -> list[int]:
        """The slices of perfusion and T1: some of the stack, evenly from the apical to the basal third."""
        assert self.n_levels <= len(self.planes), (self.n_levels, len(self.planes))
        lv, axis = self.patient.heart.lv, self.patient.turn[:, 2]
        heights = np.array([float((p.centre - self.patient.apex_mm) @ axis) for p in self.planes])
        middle = int(np.argmin(np.abs(heights - 0.55 * lv.base_z)))
        inside = int(((heights > 0.2 * lv.base_z) & (heights < 0.9 * lv.base_z)).sum())
        step = max(1, min(inside // self.n_levels, len(self.planes) // self.n_levels))
        first = int(
            np.clip(middle - step * (self.n_levels - 1) // 2, 0, len(self.planes) - step * (self.n_levels - 1) - 1)
        )
        return [first + step * i for i in range(self.n_levels)]


def held_shift(rng: Generator, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where one breath-hold has the heart, RAS mm: shifted within its slice, so that a stack still tiles the heart."""
    shift = draw_breath(rng, 1.0, (0.0,)).direction * rng.normal(0, HOLD_MM)
    return np.asarray(shift - normal * (normal @ shift))


def header_of(
    exam: Examination,
    scanner: Scanner,
    sequence: Sequence,
    description: str,
    number: int,
    *,
    gap: float,
    **settings: Any,
) -> ScanHeader:
    """What the scanner writes beside the pixels; ``settings`` are further fields of ``ScanHeader``."""
    sampled = round(scanner.sampled[0] * scanner.matrix)
    fraction = exam.protocol.fraction if sequence == "saturation-recovery" else 1.0
    asked = n_lines(fraction, scanner.matrix)
    return ScanHeader(
        sequence=sequence, description=description, series_number=number, field_t=exam.patient.field_t,
        thickness_mm=exam.thickness, gap_mm=gap, phase_axis="y", phase_lines=min(sampled, asked),
        **({"beat_ms": exam.patient.cycle.beat_ms} | settings),
    )  # fmt: skip


def acquire_scan(
    exam: Examination,
    name: str,
    kind: Kind,
    sections: list[Section],
    poses: NDArray[np.object_],
    signals: Callable[[Materials, int], NDArray[np.floating[Any]]],
    scanner: Scanner,
    rng: Generator,
    header: ScanHeader,
    times_ms: NDArray[np.float64],
    *,
    truth: dict[str, Any],
    maps: tuple[str, ...],
    fraction: float = 1.0,
    unit: float | None = None,
    gain: Callable[[Section], NDArray[np.float32]] | None = None,
) -> VirtualScan:
    """Render and acquire all frames and slices. unit: the signal that is ``INTENSITY``; None: of the brightest.

    signals: of the labels of some materials in slice z at every frame, (t, n), or (1, n) where they stay.
    gain: what multiplies the signal maps (FINE, FINE) of a section.
    """
    n_t, n_z = poses.shape
    n = scanner.matrix
    shape = (n_t, n_z, n, n)
    frames, clean, labels = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    volumes: dict[str, NDArray[Any]] = {
        m: np.zeros((*shape, 3), np.float32) if m in ("displacement", "strain") else np.zeros(shape, np.uint8)
        for m in maps
    }
    materials, lines = exam.chest.materials, n_lines(fraction, n)
    for z, section in enumerate(sections):
        noise = np.random.default_rng(rng.integers(2**63))
        table = signals(materials.take(section.used), z)
        factor = gain(section) if gain else np.float32(1)
        for t in range(n_t):
            pose: Pose = poses[t, z]
            image = section.signal(pose, table[min(t, len(table) - 1)], materials) * factor
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
