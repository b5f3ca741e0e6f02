"""The protocol of the PerfGen paper on anybody's full-resolution series: truncate, restore, compare in the heart."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError
from cmrsr.evaluate.baselines import bicubic, lanczos, small_matrix
from cmrsr.evaluate.metrics import nrmse, psnr, roi_curves, ssim, temporal_nrmse
from cmrsr.io.discover import Candidate
from cmrsr.io.patient import patient_of
from cmrsr.io.series import Axis, Series
from cmrsr.io.survey import survey
from cmrsr.physics.kspace import degrade, n_lines
from cmrsr.physics.passage import blood_pools
from cmrsr.physics.rms import rms
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.tasks.geometry import window_around
from cmrsr.tasks.heart import heart_centre
from cmrsr.tasks.sr import SrOptions, SrPlan, load_sr_engine, plan_sr
from cmrsr.tasks.sr_sampling import run_sr

Frames = NDArray[np.float32]
ZERO_FILLING = "zero-filling"
METRICS: dict[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]] = {
    "nRMSE (%)": lambda sr, hr: 100 * nrmse(sr, hr),
    "PSNR (dB)": psnr,
    "SSIM": ssim,
}
LABEL_NAMES = {1: "myocardium", 2: "LV blood", 3: "RV blood"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run the engine; ``consistency`` None takes the engine's own weight."""

    steps: int
    samples: int
    consistency: float | None = None

    @property
    def name(self) -> str:
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        text = steps if self.samples == 1 else f"mean of {self.samples} × {steps}"
        return text if self.consistency is None else f"{text}, consistency {self.consistency:g}"


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


@dataclass(slots=True)
class SeriesResult:
    """One series along one axis: metrics by method (one value an image), curves by region and method, a frame."""

    name: str
    patient: str
    axis: Axis
    metrics: dict[str, dict[str, NDArray[np.float64]]]
    curves: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    curve_errors: dict[str, dict[str, float]] = field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = field(
        default_factory=dict
    )  # method: (rms of the std map, rmse of the mean)
    shown: dict[str, Frames] = field(default_factory=dict)

    @property
    def n_images(self) -> int:
        return len(self.metrics[ZERO_FILLING]["SSIM"])


def parse_settings(text: str) -> list[Setting]:
    """``1x1,5x8,1x1@0.5``: steps x samples, and a consistency weight after @."""
    settings = []
    for part in text.split(","):
        run, _, weight = part.strip().partition("@")
        steps, _, samples = run.partition("x")
        try:
            setting = Setting(
                steps=int(steps), samples=int(samples or 1), consistency=float(weight) if weight else None
            )
        except ValueError:
            raise UsageError(
                f"--settings {part!r}: expected STEPSxSAMPLES[@CONSISTENCY], for instance 5x8 or 1x1@0.5"
            ) from None
        SrOptions(steps=setting.steps, samples=setting.samples, consistency=setting.consistency)  # checks the ranges
        settings.append(setting)
    return settings


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
        result = SeriesResult(candidate.name, patient_of(candidate.name), axis, {})
        for setting in settings:
            if on_method:
                on_method(setting.name)
            options = SrOptions(
                steps=setting.steps, samples=setting.samples, seed=seed, phase_axis=axis,
                consistency=setting.consistency, roi=window, batch_size=engines.batch_size,
            )  # fmt: skip
            plan = plan_sr(lr_series, found, bundle, options)
            frames = list(run_sr(lr_series, plan, bundle, engines.get(bundle, plan, options), options))
            images.setdefault(ZERO_FILLING, np.stack([f.input for f in frames]))
            images[setting.name] = np.stack([f.output for f in frames])
            if setting.samples > 1:
                std = np.stack([f.std for f in frames if f.std is not None])
                error = images[setting.name] - hr
                scale = np.maximum(np.ptp(hr, axis=(-2, -1), keepdims=True), 1e-12)  # every frame by its own range
                result.spread[setting.name] = (rms(std / scale), rms(error / scale))
        images.update(_interpolations(lr_series, axis, lines, window))
        order = [ZERO_FILLING, "bicubic", "Lanczos", *(s.name for s in settings)]
        flat = hr.reshape(-1, height, width)
        usable = np.ptp(flat, axis=(1, 2)) > 0
        for name in order:
            scored = images[name].reshape(flat.shape)[usable]
            result.metrics[name] = {metric: f(scored, flat[usable]) for metric, f in METRICS.items()}
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
    return replace(reference, reader=lambda t: degrade(reference.frame(t), lines, index), phase_axis=axis), lines


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
    from cmrsr.io.nifti import nifti_stem, read_nifti

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
