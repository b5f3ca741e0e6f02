"""Virtual patients on disk: the scans, and beside them everything that is known of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr import __version__
from cmrsr.errors import UsageError
from cmrsr.io.derivation import Derivation
from cmrsr.io.outputs import write_json_atomic
from cmrsr.io.series import Series, Source
from cmrsr.phantom.anatomy import FINE, LABELS, at_level, draw_chest, draw_heart
from cmrsr.phantom.perfusion import (
    Passage,
    displace,
    draw_motion,
    draw_passage,
    draw_sequence,
    region_signals,
    render,
    typical_peak,
)
from cmrsr.phantom.scanner import Scanner, acquire, draw_scanner
from cmrsr.physics.kspace import degrade, n_lines

GAP_MM = 10.0  # from slice to slice
INTENSITY = 500.0  # of the brightest tissues, as scanners write them


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfusionRequest:
    """What to simulate: ``fraction`` of the phase lines is acquired, along y."""

    n_frames: int = 60
    n_slices: int = 3
    matrix: int = 160
    fraction: float = 1.0

    def __post_init__(self) -> None:
        for flag, value, low, high in (
            ("frames", self.n_frames, 8, 500), ("slices", self.n_slices, 1, 12), ("matrix", self.matrix, 64, FINE),
        ):  # fmt: skip
            if not low <= value <= high:
                raise UsageError(f"--{flag} {value}: expected {low} to {high}")
        if not 0.1 <= self.fraction <= 1:
            raise UsageError(f"--fraction {self.fraction}: expected 0.1 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualScan:
    """One perfusion run: the scan, its labels (t, z, y, x) and what is true of it."""

    name: str
    series: Series
    labels: NDArray[np.uint8]
    truth: dict[str, Any]


def perfusion_study(seed: int, subject: int, request: PerfusionRequest) -> Iterator[VirtualScan]:
    """Stress and rest perfusion of one virtual patient; subject ``subject`` is the same however many are made."""
    rng = np.random.default_rng((seed, subject))
    heart = draw_heart(rng)
    fov = float(rng.uniform(300, 380))
    levels = [0.0] if request.n_slices == 1 else np.linspace(-0.8, 0.8, request.n_slices).tolist()
    chests = [draw_chest(rng, fov, at_level(heart, level)) for level in levels]
    sequence, scanner = draw_sequence(rng), draw_scanner(rng, FINE, request.matrix)
    affine = _short_axis_affine(rng, fov / request.matrix, request)
    for name, stress in (("stress", True), ("rest", False)):
        passage = draw_passage(rng, request.n_frames, stress)
        motion = draw_motion(rng, passage.times_s)
        shape = (request.n_frames, request.n_slices, request.matrix, request.matrix)
        frames, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        for z, chest in enumerate(chests):
            signals = region_signals(chest, passage, sequence)
            signals = signals / typical_peak(signals)
            for t in range(request.n_frames):
                moved = displace(render(chest, signals[t]), chest, motion, t).astype(np.float32)
                image = acquire(moved, scanner, rng) * INTENSITY
                lines = n_lines(request.fraction, request.matrix)
                frames[t, z] = degrade(image, lines, 0) if request.fraction < 1 else image
                where = displace(chest.truth, chest, motion, t, order=0)
                labels[t, z] = labels_as_scanned(np.asarray(where), scanner)
        series = Series.from_array(
            frames,
            affine=affine,
            times_ms=passage.times_s * 1000,
            kind="perfusion",
            phase_axis="y",
            source=Source(name=f"subject{subject + 1:03d}_{name}"),
        )
        yield VirtualScan(name=name, series=series, labels=labels, truth=_truth(passage, request, stress))


def write_perfusion(
    out: Path, seed: int, subject: int, request: PerfusionRequest, file_format: Literal["nifti", "dicom"]
) -> None:
    """One subject's folder: stress and rest series, ``*_label.nii.gz`` (see ``LABELS``) and ``truth.json``."""
    folder = out / f"subject{subject + 1:03d}"
    truth: dict[str, Any] = {"seed": seed, "subject": subject + 1, "labels": LABELS, "software": f"cmrsr {__version__}"}
    for scan in perfusion_study(seed, subject, request):
        series = scan.series
        if file_format == "nifti":
            _write_nifti(folder / f"perfusion_{scan.name}.nii.gz", series, "virtual perfusion, not a patient")
        else:
            _write_dicom(folder / f"perfusion_{scan.name}", scan, seed, request)
        _write_nifti(
            folder / f"perfusion_{scan.name}_label.nii.gz",
            series.with_frames(scan.labels),
            "labels of a virtual patient",
        )
        truth[scan.name] = scan.truth
    write_json_atomic(folder / "truth.json", truth)


def _write_nifti(path: Path, series: Series, description: str) -> None:
    from cmrsr.io.nifti import nifti_writer

    with nifti_writer(
        path, series, shape=series.shape, affine=series.affine, times_ms=series.times_ms, description=description
    ) as writer:
        for frame in series:
            writer.write(frame)


def _write_dicom(folder: Path, scan: VirtualScan, seed: int, request: PerfusionRequest) -> None:
    from cmrsr.io.dicom_write import dicom_writer

    series = scan.series
    derivation = Derivation(
        task="phantom", engine="virtual patient", engine_version="1", engine_digest="0" * 64,
        software_version=__version__, parameters={"seed": seed, "fraction": request.fraction},
    )  # fmt: skip
    with dicom_writer(
        folder, series, derivation, shape=series.shape, affine=series.affine, times_ms=series.times_ms,
        series_offset=1 if scan.name == "stress" else 2, description_suffix=scan.name,
    ) as writer:  # fmt: skip
        for frame in series:
            writer.write(frame)


def _short_axis_affine(rng: np.random.Generator, pixel_mm: float, request: PerfusionRequest) -> NDArray[np.float64]:
    """An oblique short-axis orientation (RAS+): right-handed, slices ``GAP_MM`` apart, the centre near the heart."""
    normal = np.array([0.65, 0.6, -0.45]) + rng.normal(0, 0.08, 3)
    normal /= np.linalg.norm(normal)
    x = np.cross([0.0, 0.0, 1.0], normal)
    x /= np.linalg.norm(x)
    y = np.cross(normal, x)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([x * pixel_mm, y * pixel_mm, normal * GAP_MM], 1)
    centre = np.array([-20.0, 10.0, -10.0]) + rng.normal(0, 10, 3)
    middle = np.array([request.matrix / 2, request.matrix / 2, (request.n_slices - 1) / 2])
    affine[:3, 3] = centre - affine[:3, :3] @ middle
    return affine


def labels_as_scanned(labels: NDArray[Any], scanner: Scanner) -> NDArray[np.uint8]:
    """Labels (n, n) of the rendering grid at the pixels (matrix, matrix) of the scan, bent as the image is.

    Pixel j lies at n // 2 + (j - matrix // 2) n / matrix on the rendering grid: the Fourier transform keeps the centre.
    """
    n, m = labels.shape[0], scanner.matrix
    pixel = np.indices((m, m)).astype(np.float64)
    if scanner.bend is not None:
        pixel += scanner.bend
    y, x = np.clip((n // 2 + (pixel - m // 2) * (n / m)).round().astype(int), 0, n - 1)
    return np.asarray(labels[y, x], dtype=np.uint8)


def _truth(passage: Passage, request: PerfusionRequest, stress: bool) -> dict[str, Any]:
    return {
        "stress": stress,
        "times_s": passage.times_s,
        "mbf_ml_g_min_by_segment": passage.mbf,
        "onset_s": passage.onset_s,
        "acquired_fraction": request.fraction,
    }
