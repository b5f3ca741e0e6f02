"""Super-resolution of a cine together with the function of its heart, frame after frame.

Three passes: where the heart is; the causal graph over all time steps; then every frame is restored, read and
measured. Memory holds one frame, tables of numbers, and a small window of every frame for the report.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.diffusion.noise import keyed_noise
from cmrsr.heart.centre import heart_centre
from cmrsr.heart.masks import clean_labels
from cmrsr.heart.reader import HeartReader, brightness, find_heart, middle_slices
from cmrsr.heart.window import ORIENTATIONS, READING_MM, WINDOW, ReadingWindow
from cmrsr.io.series import Series
from cmrsr.io.survey import Survey, survey
from cmrsr.physics.kspace import zero_fill_plane
from cmrsr.physics.volumes import disc_areas
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.tasks.function.engine import ENGINE
from cmrsr.tasks.function.measure import Measured, Measurer
from cmrsr.tasks.function.plan import FunctionOptions, FunctionPlan, plan_function

Array = NDArray[np.float32]
SHOWN_GREY = 1.25  # of the series' scale that is white in the report


@dataclass(frozen=True, slots=True)
class FunctionFrame:
    """One time point of the result (z, y, x) with its masks; ``std``: spread of the samples, None for a single one."""

    output: Array
    std: Array | None
    labels: NDArray[np.uint8]


class Engines(HeartReader):
    """The graphs of one bundle, compiled for one series' slices and matrix."""

    def __init__(
        self, bundle: Bundle, plan: FunctionPlan, n_slices: int, batch_size: int, choice: DeviceChoice
    ) -> None:
        super().__init__(bundle, n_slices, batch_size, choice)
        image, told = (self.batch, 1, *plan.padded), (self.batch, self.n_told)
        self.step = self._load("step", x_t=image, lr=image, context=told) if plan.super_resolved else self.decoder
        self._verdict = self._load("verdict", precise=True)

    def verdict(self, whole: Array, ef: float) -> float:
        """Probability of abnormal function."""
        (probability,) = self._verdict(whole, np.array([ef], np.float32))
        return float(probability[0])

    def _open(self) -> list[Engine]:
        return [*super()._open(), self.step, self._verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFindings:
    """What all frames of a series together say, and what the report shows of them.

    alpha: (t, t) the causal graph. window: around the heart; scale: of its brightness. images, labels: (t, z, WINDOW,
    WINDOW) of that window, with pixels of READING_MM, restored frames in one grey scale and their masks.
    """

    measured: Measured
    alpha: Array
    window: ReadingWindow
    scale: float
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class FunctionRun:
    """One series and where its heart is; UnusableError: none is found."""

    def __init__(
        self, series: Series, found: Survey, plan: FunctionPlan, engines: Engines, options: FunctionOptions
    ) -> None:
        self.series, self.plan, self.engines, self.options = series, plan, engines, options
        self._variance = found.variance
        diffusion = engines.bundle.manifest.diffusion
        self._residual_std = diffusion.residual_std
        self._steps = [step.array() for step in ddim_coefficients(diffusion.build(), options.steps)]
        self.window, self.scale = self._find()

    def run(
        self, on_frame: Callable[[FunctionFrame], None], on_evaluation: Callable[[int], None] | None = None
    ) -> FunctionFindings:
        """Restore, read and measure all frames.

        on_frame: receives each in order, as soon as it is done. on_evaluation: how many images went through one
        evaluation of the network.
        """
        said = on_evaluation or (lambda n: None)
        series, plan, engines = self.series, self.plan, self.engines
        features = []
        for t in range(series.n_frames):
            features.append(engines.node(self._cut(self._prepared(t))))
        position = plan.position.astype(np.float32)
        alpha, context, whole = engines.graph(np.stack(features), position)
        gap_mm, *pixel_mm = plan.spacing_mm
        n_t, n_z, *_ = series.shape
        measurer = Measurer(
            n_t, n_z, pixel_mm=(pixel_mm[0], pixel_mm[1]), gap_mm=gap_mm, heart_rate_bpm=plan.heart_rate_bpm,
            mirrored=plan.mirrored, body_surface_m2=plan.body.area_m2,
        )  # fmt: skip
        images, shown_labels = (np.zeros((n_t, n_z, WINDOW, WINDOW), np.uint8) for _ in range(2))
        for t in range(n_t):
            lr = self._prepared(t)
            told = np.repeat(context[t : t + 1], len(lr), 0)
            output, std = self._restored(t, lr, told, said) if plan.super_resolved else (lr, None)
            shown = self._cut(output)
            probabilities, areas = engines.decoded(shown, context[t])
            said(len(lr))
            labels = clean_labels(self.window.labels(probabilities, plan.matrix), pixel_mm[0] * pixel_mm[1])
            measurer.add(t, labels, areas.astype(np.float64) * READING_MM**2, _certainty(probabilities))
            images[t] = np.clip(shown * (255 / SHOWN_GREY), 0, 255)
            shown_labels[t] = clean_labels(probabilities.argmax(1).astype(np.uint8), READING_MM**2)
            on_frame(FunctionFrame(output, std, labels))
        ed, es = measurer.phases()
        probability = engines.verdict(whole, measurer.regressed_ef())
        measured = measurer.finish(
            probability, shown_labels[ed], shown_labels[es], window_pixel_mm=(READING_MM, READING_MM),
            readings_mm2=self._readings(images[[ed, es]], shown_labels[[ed, es]], context[[ed, es]]),
            laws=engines.bundle.manifest.confidence or {},
        )  # fmt: skip
        return FunctionFindings(
            measured=measured, alpha=alpha, window=self.window, scale=self.scale, images=images, labels=shown_labels
        )

    def _readings(
        self, images: NDArray[np.uint8], labels: NDArray[np.uint8], context: Array
    ) -> NDArray[np.float64] | None:
        """Areas (n, 2, 3) in mm2, summed over the slices, of two time steps in all orientations; the first is that of
        their labels. None where the engine does not say what they are good for.
        """
        if not self.engines.bundle.manifest.confidence:
            return None
        found = [[disc_areas(one, READING_MM**2).sum(0) for one in labels]]
        shown = images * np.float32(SHOWN_GREY / 255)
        for k in range(1, ORIENTATIONS):
            read = [self.engines.in_orientation(x, told, k)[0] for x, told in zip(shown, context, strict=True)]
            again = [clean_labels(p.argmax(1).astype(np.uint8), READING_MM**2) for p in read]
            found.append([disc_areas(one, READING_MM**2).sum(0) for one in again])
        return np.array(found)

    def _prepared(self, t: int) -> Array:
        """A frame (z, y, x) on the output's matrix: k-space is zero-filled where pixels are coarse."""
        frame = self.series.frame(t)
        if self.plan.scale > 1:
            frame = zero_fill_plane(frame, self.plan.scale)
        return np.asarray(frame, dtype=np.float32)

    def _cut(self, frame: Array) -> Array:
        return self.window.cut(frame) / np.float32(self.scale)

    def _restored(self, t: int, lr: Array, told: Array, said: Callable[[int], None]) -> tuple[Array, Array | None]:
        """Mean and spread of the samples of a frame (z, y, x)."""
        (height, width), padded = self.plan.matrix, self.plan.padded
        edge = ((0, 0), (0, padded[0] - height), (0, padded[1] - width))
        shown = np.pad(lr, edge, mode="symmetric")[:, None] / np.float32(self.scale)
        total, squares = np.zeros(lr.shape), np.zeros(lr.shape)
        n = self.options.samples
        for k in range(n):
            x_t = np.stack([
                keyed_noise(self.options.seed, self.plan.digest, t, z, k, padded) for z in range(len(lr))
            ])[:, None]  # fmt: skip
            x_t = self._sampled(x_t, shown, told)
            said(len(lr) * len(self._steps))
            std = self._residual_std
            image = (x_t + 1) / 2 if std is None else shown + np.float32(std) * x_t
            image = np.maximum(image[:, 0, :height, :width] * np.float32(self.scale), 0)
            total += image
            squares += np.square(image, dtype=np.float64)
        mean = total / n
        spread = np.sqrt(np.maximum(squares - n * mean**2, 0) / (n - 1)) if n > 1 else None
        factor = self.engines.bundle.spread_factor(self.options.steps) or 1.0
        return mean.astype(np.float32), None if spread is None else (factor * spread).astype(np.float32)

    def _sampled(self, x_t: Array, shown: Array, told: Array) -> Array:
        """The end of the DDIM loop."""

        def loop(x: Array, lr: Array, context: Array) -> tuple[Array, ...]:
            return (self.engines.step.start(x, {"lr": lr, "context": context}, self._steps)(),)

        return self.engines.in_batches(loop, x_t, shown, told)[0]

    def _find(self) -> tuple[ReadingWindow, float]:
        """The window around the heart and the scale of its brightness."""
        series, plan = self.series, self.plan
        moving, _ = heart_centre(series, self._variance)
        times = np.unique([0, series.n_frames // 3 or 1])
        slices = middle_slices(series.shape[1])
        looked = np.stack([self._prepared(int(t))[slices] for t in times])
        y_mm, x_mm = plan.spacing_mm[1:]
        window = find_heart(
            looked, (plan.scale * moving[0], plan.scale * moving[1]), (y_mm, x_mm), self.engines, series.source.name
        )
        return window, brightness(np.stack([window.cut(images) for images in looked]))


def _certainty(probabilities: Array) -> NDArray[np.float64]:
    """(n,): mean probability of the chosen class over the pixels of the heart; 1 where there are none."""
    best, chosen = probabilities.max(1), probabilities.argmax(1) > 0
    count = chosen.sum((1, 2))
    return np.where(count > 0, (best * chosen).sum((1, 2)) / np.maximum(count, 1), 1.0)


def n_evaluations(series: Series, plan: FunctionPlan, options: FunctionOptions) -> int:
    """Images through the network, the unit of progress."""
    n_t, n_z, *_ = series.shape
    return n_t * n_z * (1 + options.steps * options.samples * plan.super_resolved)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionResult:
    """A series measured in memory.

    frames: restored images (t, z, y, x), and the spread of their samples, None for a single one. labels: on their
    matrix. alpha: causal graph (t, t).
    """

    frames: Array
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    measured: Measured
    alpha: Array
    std: Array | None = None
    times_ms: NDArray[np.float64] | None = None

    @property
    def series(self) -> Series:
        """The restored images with their geometry and times."""
        return Series.from_array(self.frames, affine=self.affine, times_ms=self.times_ms, kind="cine")


def run_function(
    series: Series,
    bundle: Bundle,
    options: FunctionOptions | None = None,
    choice: DeviceChoice | None = None,
    *,
    on_evaluation: Callable[[int], None] | None = None,
) -> FunctionResult:
    """The whole pipeline in memory, with a bundle that is open. Raises the errors of ``cmrsr.errors``."""
    options = options or FunctionOptions()
    found = survey(series)
    plan = plan_function(series, found, bundle, options)
    engines = Engines(bundle, plan, series.shape[1], options.batch_size, choice or DeviceChoice())
    frames: list[FunctionFrame] = []
    try:
        together = FunctionRun(series, found, plan, engines, options).run(frames.append, on_evaluation)
    finally:
        engines.close()
    spread = [f.std for f in frames if f.std is not None]
    return FunctionResult(
        frames=np.stack([f.output for f in frames]), labels=np.stack([f.labels for f in frames]), affine=plan.affine,
        measured=together.measured, alpha=together.alpha, std=np.stack(spread) if spread else None,
        times_ms=series.times_ms,
    )  # fmt: skip


def measure_function(
    series: Series,
    *,
    engine: str = "causal-s",
    options: FunctionOptions | None = None,
    choice: DeviceChoice | None = None,
) -> FunctionResult:
    """Super-resolve and measure a short-axis cine in memory: the call behind ``cmrsr function``.

    Raises the errors of ``cmrsr.errors``.
    """
    return run_function(series, ENGINE.load(engine), options, choice)
