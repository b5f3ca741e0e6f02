"""The protocol of the PerfGen paper on anybody's full-resolution series: truncate, restore, compare in the heart."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.heart.centre import heart_centre
from cmrsr.io.discover import Candidate
from cmrsr.io.patient import patient_of
from cmrsr.io.series import Axis, Series
from cmrsr.io.survey import survey
from cmrsr.io.window import window_around
from cmrsr.metrics.baselines import bicubic, lanczos, small_matrix
from cmrsr.metrics.images import nrmse, psnr, roi_curves, ssim, temporal_nrmse
from cmrsr.metrics.settings import Setting, parse_settings
from cmrsr.metrics.sharpness import edge_slope, high_frequency_power
from cmrsr.physics.kspace import degrade, n_lines
from cmrsr.physics.passage import blood_pools
from cmrsr.physics.rms import rms
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.tasks.sr.plan import SrOptions, SrPlan, load_sr_engine, plan_sr
from cmrsr.tasks.sr.run import run_sr
from cmrsr.tasks.sr.uncertainty import INTERVAL

Frames = NDArray[np.float32]
ZERO_FILLING = "zero-filling"
HF_POWER, EDGE_SLOPE = "HF power", "edge slope"
# Of images (n, y, x): result, reference, phase axis (-2 or -1), fraction of the lines that was kept.
Metric = Callable[[NDArray[Any], NDArray[Any], int, float], NDArray[np.float64]]
METRICS: dict[str, Metric] = {
    "nRMSE (%)": lambda sr, hr, axis, fraction: 100 * nrmse(sr, hr),
    "PSNR (dB)": lambda sr, hr, axis, fraction: psnr(sr, hr),
    "SSIM": lambda sr, hr, axis, fraction: ssim(sr, hr),
    HF_POWER: high_frequency_power,
    EDGE_SLOPE: lambda sr, hr, axis, fraction: edge_slope(sr, hr, axis),
}
LOWER_IS_BETTER = ("nRMSE (%)",)
BEST_AT_ONE = (HF_POWER, EDGE_SLOPE)  # more than 1 is no better than less
LABEL_NAMES = {1: "myocardium", 2: "LV blood", 3: "RV blood"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """fraction of the phase lines kept, the axes tried, the window scored (pixels; 0 the whole image), frame stride."""

    fraction: float = 0.35
    axes: tuple[Axis, ...] = ("x", "y")
    crop: int = 96
    every: int = 1

    def __post_init__(self) -> None:
        if not 0.1 <= self.fraction < 1:
            raise UsageError(f"--fraction {self.fraction}: expected 0.1 to less than 1")
        if self.every < 1:
            raise UsageError(f"--every {self.every}: expected at least 1")
        if self.crop and self.crop < 16:
            raise UsageError(f"--crop {self.crop}: expected 0 or at least 16 pixels")


@dataclass(frozen=True, slots=True)
class Spread:
    """Root mean squares of the standard deviation map and of the error; share of errors within the 90 % interval."""

    std: float
    error: float
    covered: float

    @property
    def ratio(self) -> float:
        return self.std / self.error


@dataclass(slots=True)
class SeriesResult:
    """One series along one axis: metrics by method (one value an image), curves by region and method, a frame."""

    name: str
    patient: str
    axis: Axis
    metrics: dict[str, dict[str, NDArray[np.float64]]]
    curves: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    curve_errors: dict[str, dict[str, float]] = field(default_factory=dict)
    spread: dict[str, Spread] = field(default_factory=dict)  # by method
    seconds: dict[str, float] = field(default_factory=dict)  # method: per image
    shown: dict[str, Frames] = field(default_factory=dict)

    @property
    def n_images(self) -> int:
        return len(self.metrics[ZERO_FILLING]["SSIM"])


def parse_sr_settings(text: str) -> list[Setting]:
    """``parse_settings`` with values that ``cmrsr sr`` takes, or UsageError."""
    settings = parse_settings(text)
    for setting in settings:
        options_of(setting)  # checks the ranges
    return settings


def options_of(setting: Setting, **chosen: Any) -> SrOptions:
    """The options of ``cmrsr sr`` for a setting. UsageError for values out of range."""
    return SrOptions(
        steps=setting.steps, samples=setting.samples, realism=setting.realism, consistency=setting.consistency,
        **chosen,
    )  # fmt: skip


def evaluate_series(
    candidate: Candidate,
    bundle: Bundle,
    protocol: Protocol,
    settings: Sequence[Setting],
    engines: "EngineCache",
    *,
    seed: int = 0,
    on_method: Callable[[str], None] | None = None,
) -> Iterator[SeriesResult]:
    """Truncate one series along each axis of the protocol, restore it with every method and score it."""
    whole = candidate.open()
    chosen = list(range(0, whole.n_frames, protocol.every))
    reference = whole.with_frames(np.stack([whole.frame(t) for t in chosen]), times_ms=_times(whole, chosen))
    window = _window(whole, protocol.crop)  # every n-th frame would hide the passage of contrast
    x, y, width, height = window
    hr = reference.array()[:, :, y : y + height, x : x + width]
    labels = _labels_beside(candidate, whole, chosen)
    if labels is not None:
        labels = labels[:, :, y : y + height, x : x + width]
    plane = whole.shape[1] // 2
    passage = np.stack([whole.frame(t)[plane, y : y + height, x : x + width] for t in range(whole.n_frames)])
    pools = blood_pools(passage)
    for axis in protocol.axes:
        lr_series, lines = _truncated(reference, axis, protocol.fraction)
        found = survey(lr_series)
        images: dict[str, Frames] = {}
        plans: dict[float | None, SrPlan] = {}  # by consistency: nothing else of a setting enters a plan
        result = SeriesResult(candidate.name, patient_of(candidate.name), axis, {})
        for setting in settings:
            if on_method:
                on_method(setting.name)
            options = options_of(setting, seed=seed, phase_axis=axis, roi=window, batch_size=engines.batch_size)
            if setting.consistency not in plans:
                plans[setting.consistency] = plan_sr(lr_series, found, bundle, options)
            plan = plans[setting.consistency]
            engine = engines.get(bundle, plan, options)
            clock = time.perf_counter()
            frames = list(run_sr(lr_series, plan, bundle, engine, options, keep_samples=setting.plain_mean))
            result.seconds[setting.name] = (time.perf_counter() - clock) / (len(frames) * len(frames[0].output))
            images.setdefault(ZERO_FILLING, np.stack([f.input for f in frames]))
            images[setting.name] = np.stack(
                [np.mean(f.samples, axis=0, dtype=np.float32) if setting.plain_mean else f.output for f in frames]
            )
            if options.n_samples > 1:
                std = np.stack([f.std for f in frames if f.std is not None])
                error = images[setting.name] - hr
                scale = np.maximum(np.ptp(hr, axis=(-2, -1), keepdims=True), 1e-12)  # every frame by its own range
                covered = float((np.abs(error) <= INTERVAL * std).mean())
                result.spread[setting.name] = Spread(rms(std / scale), rms(error / scale), covered)
        images.update(_interpolations(lr_series, axis, lines, window))
        order = [ZERO_FILLING, "bicubic", "Lanczos", *(s.name for s in settings)]
        flat = hr.reshape(-1, height, width)
        usable = np.ptp(flat, axis=(1, 2)) > 0
        for name in order:
            scored = images[name].reshape(flat.shape)[usable]
            result.metrics[name] = {
                metric: f(scored, flat[usable], -1 if axis == "x" else -2, protocol.fraction)
                for metric, f in METRICS.items()
            }
        _add_curves(result, {"reference": hr, **{name: images[name] for name in order}}, labels, pools)
        middle = len(hr) // 3
        result.shown = {"reference": hr[middle, plane], **{name: images[name][middle, plane] for name in order}}
        yield result


class EngineCache:
    """Keeps one compiled engine per matrix, over series and settings."""

    def __init__(self, choice: DeviceChoice, batch_size: int) -> None:
        self.choice, self.batch_size = choice, batch_size
        self._engines: dict[tuple[int, int], Engine] = {}

    def get(self, bundle: Bundle, plan: SrPlan, options: SrOptions) -> Engine:
        if plan.padded not in self._engines:
            self._engines[plan.padded] = load_sr_engine(bundle, plan, options, self.choice)
        return self._engines[plan.padded]


def _truncated(reference: Series, axis: Axis, fraction: float) -> tuple[Series, int]:
    index = -1 if axis == "x" else -2
    lines = n_lines(fraction, reference.shape[index])
    frames = np.stack([degrade(frame, lines, index) for frame in reference])
    return replace(reference, reader=lambda t: frames[t], phase_axis=axis), lines


def _window(whole: Series, crop: int) -> tuple[int, int, int, int]:
    _, _, n_y, n_x = whole.shape
    if not crop:
        return 0, 0, n_x, n_y
    return window_around(heart_centre(whole, survey(whole).variance)[0], (n_y, n_x), crop)


def _interpolations(lr: Series, axis: Axis, lines: int, window: tuple[int, int, int, int]) -> dict[str, Frames]:
    index = -1 if axis == "x" else -2
    x, y, width, height = window
    out: dict[str, list[Frames]] = {"bicubic": [], "Lanczos": []}
    for frame in lr:
        small = small_matrix(frame, index, lines)
        for name, method in (("bicubic", bicubic), ("Lanczos", lanczos)):
            image = method(small, lr.shape[index], index)
            out[name].append(np.asarray(image[:, y : y + height, x : x + width], dtype=np.float32))
    return {name: np.stack(frames) for name, frames in out.items()}


def _labels_beside(candidate: Candidate, whole: Series, chosen: list[int]) -> NDArray[np.uint8] | None:
    """``<stem>_label.nii.gz`` beside a NIfTI series, if it is there and of the same shape: (t, z, y, x)."""
    if candidate.format != "nifti":
        return None
    from cmrsr.io.nifti.series import nifti_stem, read_nifti

    path: Path = candidate.paths[0]
    beside = path.with_name(f"{nifti_stem(path)}_label.nii.gz")
    if not beside.is_file():
        return None
    labels = read_nifti(beside)
    if labels.shape != whole.shape:
        return None
    return np.stack([labels.frame(t).round().astype(np.uint8) for t in chosen])


def _add_curves(
    result: SeriesResult,
    images: dict[str, Frames],
    labels: NDArray[np.uint8] | None,
    pools: dict[str, NDArray[np.bool_]],
) -> None:
    """Signal-time curves in the labelled tissues (frames with labels), else in the blood pools found by themselves."""
    plane = images["reference"].shape[1] // 2
    if labels is not None:
        for value, region in LABEL_NAMES.items():
            mask = labels[:, plane] == value
            frames = np.flatnonzero(mask.sum((1, 2)) >= 5)
            if frames.size >= 5:
                result.curves[region] = {
                    name: np.array([stack[t, plane][mask[t]].mean() for t in frames]) for name, stack in images.items()
                }
    for region, pool in pools.items():
        if region not in result.curves:
            result.curves[region] = {
                name: roi_curves(stack[:, plane], {region: pool})[region] for name, stack in images.items()
            }
    for region, curves in result.curves.items():
        result.curve_errors[region] = {
            name: float(temporal_nrmse(curve, curves["reference"]))
            for name, curve in curves.items()
            if name != "reference"
        }


def _times(series: Series, chosen: list[int]) -> NDArray[np.float64] | None:
    return None if series.times_ms is None else series.times_ms[chosen]
