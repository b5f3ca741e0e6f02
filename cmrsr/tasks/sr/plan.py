"""Super-resolution of perfusion series: what may be chosen, and the plan made from one survey of the series."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.heart.centre import heart_centre
from cmrsr.io.magnitude import refuse_maps
from cmrsr.io.series import Axis, Series
from cmrsr.io.survey import Survey
from cmrsr.io.window import Window, cropped, window_around, zero_filled
from cmrsr.physics.band import Band, coarse_axis, detect_band
from cmrsr.physics.kspace import band_window, low_pass_matrix, n_lines
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.tasks.sr.engine import load_step

Array = NDArray[np.float32]
PhaseAxis = Literal["auto", "row", "col", "x", "y"]
SAMPLES = 8  # of the posterior, where more than one step is asked for
HEART_WINDOW = 96  # pixels, the crop of the PerfGen paper
MIN_WINDOW = 16
ANISOTROPIC = 1.25  # pixels longer by this along one axis: the scanner did not zero-fill, so we do
CONTRADICTION_DB = 6.0  # an edge in the spectrum that outweighs a header which names the other axis
FULL_BAND = 0.9  # acquired share of the matrix above which nothing is missing
STRETCHED = 4.0  # pixels longer by this are no image to look at: the header is wrong
ASSUMED = "assumed"
NOTHING_MISSING = "nothing is missing at this matrix size, so the output stays close to the input"


@dataclass(frozen=True, slots=True, kw_only=True)
class SrOptions:
    """What a user may choose; the names are those of the command line."""

    steps: int = 1
    samples: int | None = None  # None: as many as SAMPLES, see n_samples
    seed: int = 0
    phase_axis: PhaseAxis = "auto"
    consistency: float | None = None  # None: the bundle's
    roi: Literal["full", "heart"] | Window = "full"
    realism: float = 0.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        for flag, value in (("steps", self.steps), ("samples", self.samples), ("batch-size", self.batch_size)):
            if value is not None and value < 1:
                raise UsageError(f"--{flag} {value}: expected at least 1")
        for flag, value, most in (("steps", self.steps, 1000), ("batch-size", self.batch_size, 1024)):
            if value > most:
                raise UsageError(f"--{flag} {value}: expected at most {most}")
        if self.consistency is not None and not 0 <= self.consistency <= 1:
            raise UsageError(f"--consistency {self.consistency}: expected auto, off or a weight from 0 to 1")
        if not 0 <= self.realism <= 1:
            raise UsageError(f"--realism {self.realism}: expected a number from 0 (best estimate) to 1 (one sample)")
        if self.realism > 0 and self.steps == 1:
            raise UsageError(
                f"--realism {self.realism:g} with --steps 1: one step gives the mean and no sample to move towards; "
                "add --steps 5"
            )

    @property
    def n_samples(self) -> int:
        """Posterior samples drawn of each image; one step gives the mean itself and none."""
        if self.steps == 1:
            return 0
        return SAMPLES if self.samples is None else self.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class SrPlan:
    """Everything decided about one series before the first evaluation."""

    axis: Axis  # of phase encoding
    axis_source: str  # how it is known, in words
    band: Band  # acquired lines of the matrix along that axis
    matrix: tuple[int, int]  # (y, x) after zero-filling, before cropping
    zero_fill: tuple[Axis, int] | None  # axis and new size where the scanner did not interpolate
    window: Window
    heart: tuple[float, float]  # its centre (y, x) in pixels of the matrix
    affine: NDArray[np.float64]
    scale: float
    digest: str
    consistency: float
    low_pass: Array  # (n, n) along the phase axis of the padded window, weight included
    padded: tuple[int, int]  # size along (phase, readout) that the engine runs at
    notes: tuple[str, ...]

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self.window[3], self.window[2]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) of the result."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)


def plan_sr(series: Series, found: Survey, bundle: Bundle, options: SrOptions) -> SrPlan:
    """Decide phase axis, band, matrix, window and projection for one series; UnusableError where it cannot be."""
    refuse_maps(series)
    notes: list[str] = []
    _, _, n_y, n_x = series.shape
    bands = {"x": detect_band(found.power_x), "y": detect_band(found.power_y)}
    axis, axis_source = _phase_axis(series, bands, options.phase_axis, notes)
    matrix, fill = _zero_fill(series, axis)
    band = bands[axis]
    if fill:
        band = Band(band.lines, fill[1], band.edge_db)
    elif band.fraction > FULL_BAND and series.acquired_fraction and series.acquired_fraction < FULL_BAND:
        band = Band(n_lines(series.acquired_fraction, band.size), band.size, band.edge_db)
        notes.append(f"acquired lines taken from the header: {band.lines} of {band.size}")
    low, high = bundle.manifest.trained.fraction or (0.0, 1.0)
    if band.fraction > FULL_BAND and axis_source != ASSUMED:
        notes.append(f"the spectrum is full along {axis} ({band.lines} of {band.size} lines): {NOTHING_MISSING}")
    elif band.fraction <= FULL_BAND and not low - 0.03 <= band.fraction <= high + 0.03:
        notes.append(
            f"{band.lines} of {band.size} lines ({band.fraction:.0%}) were acquired along {axis}, but the engine was "
            f"trained on {low:.0%} to {high:.0%}: look at the result with care"
        )
    if series.kind not in ("perfusion", "unknown"):
        notes.append(
            f"this looks like a {series.kind} series; the engine {bundle.manifest.name} was made for perfusion"
        )
    (heart_y, heart_x), heart_source = heart_centre(series, found.variance)
    heart = (heart_y * matrix[0] / n_y, heart_x * matrix[1] / n_x)
    window = _window(heart, matrix, options.roi, series.source.name)
    x, y, width, height = window
    if options.roi == "heart":
        notes.append(f"heart found from the {heart_source}: window x {x}, y {y}, {width} x {height} pixels")
    weight = bundle.manifest.defaults.consistency if options.consistency is None else options.consistency
    stride = bundle.manifest.step.stride
    along, across = (width, height) if axis == "x" else (height, width)
    padded = (-(-along // stride) * stride, -(-across // stride) * stride)
    low_pass = np.zeros((padded[0], padded[0]), np.float32)
    if band.lines == band.size:
        weight = 0.0  # the projection on everything would return the input
    if weight > 0:
        whole = low_pass_matrix(band_window(band.lines, band.size, bundle.manifest.defaults.taper))
        low_pass[:along, :along] = weight * whole[:along, :along]  # circulant: the same wherever the window lies
    return SrPlan(
        axis=axis, axis_source=axis_source, band=band, matrix=matrix, zero_fill=fill, window=window, heart=heart,
        affine=result_affine(series, fill, window), scale=found.scale, digest=found.digest, consistency=weight,
        low_pass=low_pass, padded=padded, notes=tuple(notes),
    )  # fmt: skip


def _phase_axis(series: Series, bands: dict[str, Band], asked: PhaseAxis, notes: list[str]) -> tuple[Axis, str]:
    if asked != "auto":
        # DICOM's words: ROW = phase encoding runs along a row, which is x
        return ("x" if asked in ("row", "x") else "y"), "--phase-axis"
    seen = coarse_axis(bands["x"], bands["y"])
    if seen and series.phase_axis and series.phase_axis != seen and bands[seen].edge_db < CONTRADICTION_DB:
        seen = None
    if seen:
        if series.phase_axis and series.phase_axis != seen:
            notes.append(
                f"the header says phase encoding along {series.phase_axis}, but the spectrum is truncated along "
                f"{seen}: {seen} is used, override it with --phase-axis"
            )
        return seen, "spectrum"
    if series.phase_axis:
        return series.phase_axis, "header"
    _, y, x = series.spacing_mm
    if max(x, y) > ANISOTROPIC * min(x, y):
        return ("x" if x > y else "y"), "longer pixels"
    if min(bands["x"].fraction, bands["y"].fraction) < FULL_BAND:
        raise UnusableError(
            f"{series.source.name}: the phase-encoding axis is not in the header, and the spectrum is truncated alike "
            f"along x ({bands['x'].lines} of {bands['x'].size} lines) and y ({bands['y'].lines} of {bands['y'].size}): "
            "give --phase-axis x or y"
        )
    notes.append(
        f"the header names no phase axis and the spectrum is full along both: {NOTHING_MISSING}; y is assumed, name it "
        "with --phase-axis if the scanner hid a truncation behind a filter"
    )
    return "y", ASSUMED


def _zero_fill(series: Series, axis: Axis) -> tuple[tuple[int, int], tuple[Axis, int] | None]:
    """The matrix (y, x) with pixels no longer along the phase axis than across it."""
    _, _, n_y, n_x = series.shape
    _, y, x = series.spacing_mm
    ratio = x / y if axis == "x" else y / x
    if max(ratio, 1 / ratio) > STRETCHED:
        raise UnusableError(
            f"{series.source.name}: pixels of {x:.4g} x {y:.4g} mm, expected nearly square ones: correct the header, "
            "or name the time axis with --time-axis if the first two axes of the file are not the image"
        )
    if ratio < ANISOTROPIC:
        return (n_y, n_x), None
    old = n_x if axis == "x" else n_y
    new = round(old * ratio / 2) * 2
    return ((n_y, new) if axis == "x" else (new, n_x)), (axis, new)


def _window(
    heart: tuple[float, float], matrix: tuple[int, int], roi: Literal["full", "heart"] | Window, name: str
) -> Window:
    n_y, n_x = matrix
    if roi == "full":
        return 0, 0, n_x, n_y
    if roi == "heart":
        return window_around(heart, matrix, HEART_WINDOW)
    left, top, width, height = roi
    if min(roi) < 0 or min(width, height) < MIN_WINDOW or left + width > n_x or top + height > n_y:
        raise UsageError(
            f"--roi {left},{top},{width},{height}: expected X,Y,W,H of at least {MIN_WINDOW} pixels inside the matrix "
            f"{n_x}x{n_y} of {name}"
        )
    return left, top, width, height


def result_affine(series: Series, fill: tuple[Axis, int] | None, window: Window) -> NDArray[np.float64]:
    """Affine of the result of a series that is zero-filled (see ``SrPlan.zero_fill``) and cropped."""
    affine = series.affine
    if fill:
        column = 0 if fill[0] == "x" else 1
        affine = zero_filled(affine, column, series.shape[3 - column], fill[1])
    return cropped(affine, *window[:2])


def load_sr_engine(bundle: Bundle, plan: SrPlan, options: SrOptions, choice: DeviceChoice) -> Engine:
    """The bundle's step graph compiled for this plan's matrix."""
    return load_step(bundle, (options.batch_size, *plan.padded), choice)
