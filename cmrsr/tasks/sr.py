"""Super-resolution of perfusion series: a plan made from one survey of the series, then frame after frame."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.errors import CmrsrWarning, UnusableError, UsageError
from cmrsr.io.series import Axis, Series
from cmrsr.io.survey import Survey
from cmrsr.physics.band import Band, coarse_axis, detect_band
from cmrsr.physics.kspace import band_window, low_pass_matrix, n_lines, zero_fill
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.runtime.engine import load_step
from cmrsr.tasks.ahead import Ahead
from cmrsr.tasks.geometry import Window, cropped, window_around, zero_filled
from cmrsr.tasks.heart import heart_centre
from cmrsr.tasks.magnitude import refuse_maps
from cmrsr.tasks.noise import keyed_noise

Array = NDArray[np.float32]
PhaseAxis = Literal["auto", "row", "col", "x", "y"]
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
    samples: int = 1
    seed: int = 0
    phase_axis: PhaseAxis = "auto"
    consistency: float | None = None  # None: the bundle's
    roi: Literal["full", "heart"] | Window = "full"
    batch_size: int = 8

    def __post_init__(self) -> None:
        for flag, value in (("steps", self.steps), ("samples", self.samples), ("batch-size", self.batch_size)):
            if value < 1:
                raise UsageError(f"--{flag} {value}: expected at least 1")
        for flag, value, most in (("steps", self.steps, 1000), ("batch-size", self.batch_size, 1024)):
            if value > most:
                raise UsageError(f"--{flag} {value}: expected at most {most}")
        if self.consistency is not None and not 0 <= self.consistency <= 1:
            raise UsageError(f"--consistency {self.consistency}: expected auto, off or a weight from 0 to 1")


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


@dataclass(frozen=True, slots=True)
class SrFrame:
    """One time point of the result (z, y, x); ``std`` is the calibrated uncertainty, None for a single sample."""

    input: Array  # what the network was shown: zero-filled and cropped
    output: Array
    std: Array | None


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
    """Of the result of a series that is zero-filled (see ``SrPlan.zero_fill``) and cropped."""
    affine = series.affine
    if fill:
        column = 0 if fill[0] == "x" else 1
        affine = zero_filled(affine, column, series.shape[3 - column], fill[1])
    return cropped(affine, *window[:2])


def run_sr(
    series: Series,
    plan: SrPlan,
    bundle: Bundle,
    engine: Engine,
    options: SrOptions,
    *,
    on_evaluation: Callable[[int], None] | None = None,
) -> Iterator[SrFrame]:
    """Super-resolve the frames in order; memory holds a few batches, whatever the length of the series.

    ``on_evaluation`` is told how many images went through one evaluation of the network.
    """
    if options.samples > 1 and options.steps == 1:
        warnings.warn(
            "one step gives the mean: the samples are all but equal and their spread says nothing, use --steps 5",
            CmrsrWarning,
            stacklevel=2,
        )
    with Ahead(on_evaluation) as ahead:
        sampler = _Sampler(plan, bundle, engine, options, ahead)
        waiting: list[_Pending] = []
        for t in range(series.n_frames):
            image = prepare(series.frame(t), plan)
            pending = _Pending(image, options.samples, plan.shape_yx)
            waiting.append(pending)
            for z in range(len(image)):
                shown = _to_network(image[z], plan)
                for k in range(options.samples):
                    sampler.add(pending, t, z, k, shown)
            while waiting and waiting[0].done:
                yield _finish(waiting.pop(0), plan, bundle, options)
        sampler.finish()
    for pending in waiting:
        yield _finish(pending, plan, bundle, options)


def prepare(frame: Array, plan: SrPlan) -> Array:
    """One frame (z, y, x) as the network is shown it: zero-filled where the scanner did not, cropped to the window."""
    if plan.zero_fill:
        axis, size = plan.zero_fill
        frame = zero_fill(frame, size, -1 if axis == "x" else -2)
    x, y, width, height = plan.window
    return np.asarray(frame[:, y : y + height, x : x + width], dtype=np.float32)


def _to_network(image: Array, plan: SrPlan) -> Array:
    """Phase encoding along rows, padded to the stride by reflection, in units of the series' scale."""
    turned = image.T if plan.axis == "x" else image
    rows, columns = plan.padded[0] - turned.shape[0], plan.padded[1] - turned.shape[1]
    return np.ascontiguousarray(np.pad(turned, ((0, rows), (0, columns)), mode="symmetric") / np.float32(plan.scale))


def _from_network(image: Array, plan: SrPlan) -> Array:
    height, width = plan.shape_yx
    along, across = (width, height) if plan.axis == "x" else (height, width)
    turned = image[:along, :across]
    return turned.T if plan.axis == "x" else turned


class _Pending:
    """Running mean and spread of one frame's samples; samples arrive in order, so sums do not depend on batches."""

    def __init__(self, image: Array, n_samples: int, shape: tuple[int, int]) -> None:
        self.image = image
        self.left = len(image) * n_samples
        self.count = np.zeros(len(image), int)
        self.mean = np.zeros((len(image), *shape), np.float64)
        self.m2 = np.zeros_like(self.mean) if n_samples > 1 else None

    @property
    def done(self) -> bool:
        return self.left == 0

    def add(self, z: int, value: Array) -> None:
        self.left -= 1
        self.count[z] += 1
        delta = value - self.mean[z]
        self.mean[z] += delta / self.count[z]
        if self.m2 is not None:
            self.m2[z] += delta * (value - self.mean[z])


class _Sampler:
    """Collects (frame, plane, sample) images to batches of one static size and runs the DDIM loop on each batch."""

    def __init__(self, plan: SrPlan, bundle: Bundle, engine: Engine, options: SrOptions, ahead: Ahead) -> None:
        self.plan, self.engine, self.options, self.ahead = plan, engine, options, ahead
        diffusion = bundle.manifest.diffusion
        self.residual_std = diffusion.residual_std
        self.coefficients = [step.array() for step in ddim_coefficients(diffusion.build(), options.steps)]
        self.items: list[tuple[_Pending, int, Array]] = []
        self.noise: list[Array] = []

    def add(self, pending: _Pending, t: int, z: int, k: int, shown: Array) -> None:
        self.noise.append(keyed_noise(self.options.seed, self.plan.digest, t, z, k, self.plan.padded))
        self.items.append((pending, z, shown))
        if len(self.items) == self.options.batch_size:
            self._start()

    def finish(self) -> None:
        if self.items:
            self._start()
        self.ahead.finish()

    def _start(self) -> None:
        items, n = self.items, len(self.items)
        full = [*range(n), *[n - 1] * (self.options.batch_size - n)]  # a full tail: the batch size is static
        x_t = np.stack([self.noise[i] for i in full])[:, None]
        given = {"lr": np.stack([items[i][2] for i in full])[:, None], "low_pass": self.plan.low_pass}
        self.ahead.start(self.engine, x_t, given, self.coefficients, n, lambda result: self._done(items, result))
        self.items, self.noise = [], []

    def _done(self, items: list[tuple[_Pending, int, Array]], result: Array) -> None:
        for (pending, z, shown), x_0 in zip(items, result[:, 0], strict=False):
            image = (x_0 + 1) / 2 if self.residual_std is None else shown + np.float32(self.residual_std) * x_0
            pending.add(z, _from_network(image, self.plan))


def _finish(pending: _Pending, plan: SrPlan, bundle: Bundle, options: SrOptions) -> SrFrame:
    output = np.maximum(pending.mean * plan.scale, 0).astype(np.float32)
    std = None
    if pending.m2 is not None:
        factor = bundle.spread_factor(options.steps) or 1.0
        spread = np.sqrt(pending.m2 / (options.samples - 1)) * plan.scale * factor
        std = spread.astype(np.float32)
    return SrFrame(pending.image, output, std)


def load_sr_engine(bundle: Bundle, plan: SrPlan, options: SrOptions, choice: DeviceChoice) -> Engine:
    """The bundle's step graph compiled for this plan's matrix."""
    return load_step(bundle, (options.batch_size, *plan.padded), choice)


def super_resolve(
    series: Series,
    *,
    engine: str = "perfgen-s",
    options: SrOptions | None = None,
    choice: DeviceChoice | None = None,
) -> tuple[Series, Array | None]:
    """Super-resolve a series in memory: the result, and the uncertainty (t, z, y, x) where ``options.samples`` > 1.

    The call behind ``cmrsr sr``. Raises the errors of ``cmrsr.errors``.
    """
    from cmrsr.io.survey import survey
    from cmrsr.runtime.bundle import load

    options = options or SrOptions()
    bundle = load(engine, "sr")
    plan = plan_sr(series, survey(series), bundle, options)
    for note in plan.notes:
        warnings.warn(note, CmrsrWarning, stacklevel=2)
    step = load_sr_engine(bundle, plan, options, choice or DeviceChoice())
    frames = list(run_sr(series, plan, bundle, step, options))
    step.close()
    result = series.with_frames(np.stack([f.output for f in frames]), affine=plan.affine)
    std = None if frames[0].std is None else np.stack([f.std for f in frames if f.std is not None])
    return result, std
