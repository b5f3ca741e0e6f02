"""The frames of a super-resolved series: best estimate, standard deviation map and samples, from one loop of batches.

With zero terminal SNR one step is the posterior mean E[HR | LR], which no other estimate exceeds in PSNR. More steps
draw samples of the posterior, each 3 dB below the mean. They give the standard deviation map; the image written stays
an estimate of the mean.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.diffusion.noise import keyed_noise
from cmrsr.diffusion.schedule import Schedule
from cmrsr.io.series import Series
from cmrsr.physics.kspace import zero_fill
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.runtime.pipeline import Ahead
from cmrsr.tasks.sr.engine import ENGINE
from cmrsr.tasks.sr.plan import SrOptions, SrPlan, load_sr_engine, plan_sr
from cmrsr.tasks.sr.uncertainty import expected_error
from cmrsr.user_warnings import warn_user

Array = NDArray[np.float32]

# Share of the mean of the samples in the image, the rest being the one-step estimate. The two err differently: 0.2 with
# eight samples of five steps gains 0.01 to 0.02 dB over one step alone on real series and 0.04 dB on virtual ones.
# Fewer samples, and those of more steps, are noisier and count in proportion: at 50 steps 0.2 lost 0.035 dB in one of
# 12 series and axes.
SAMPLES_SHARE = 0.2
FULL_SHARE_FROM = 8  # samples
FULL_SHARE_UP_TO = 5  # steps


@dataclass(frozen=True, slots=True)
class SrFrame:
    """One time point of the result, (z, y, x) each.

    input: what the network was given, zero-filled and cropped. output: the posterior mean, unless ``realism`` moved it
    towards the first sample. std: the calibrated uncertainty, None for less than two samples. samples: single samples
    of the posterior, where they were asked for.
    """

    input: Array
    output: Array
    std: Array | None
    samples: tuple[Array, ...] = ()


def one_step_is_mean(schedule: Schedule) -> bool:
    """Whether one step of the network gives E[HR | LR]: no signal is left in its starting noise."""
    return schedule.prediction != "eps" and float(schedule.alpha_sigma(np.ones(1))[0][0]) == 0


def samples_share(schedule: Schedule, options: SrOptions) -> float:
    """Weight of the mean of the samples in the image, from 0 (the one-step estimate alone) to 1."""
    if options.n_samples == 0:
        return 0.0
    if not one_step_is_mean(schedule):
        return 1.0
    return SAMPLES_SHARE * min(options.n_samples / FULL_SHARE_FROM, 1.0) * min(FULL_SHARE_UP_TO / options.steps, 1.0)


def evaluations_per_image(schedule: Schedule, options: SrOptions) -> int:
    """Evaluations of the network: one for the one-step estimate, and ``steps`` for each sample."""
    return _has_estimate(schedule, options) + options.steps * options.n_samples


def realism_cost_db(realism: float) -> float:
    """PSNR that mean + realism (sample - mean) loses at most against the mean, in dB.

    A sample of the true posterior has twice the mean squared error of its mean, so that the mean squared error is
    1 + realism^2 of the least one; the samples of few steps spread less and cost less.
    Source: Freirich et al. 2021, "A theory of the distortion-perception tradeoff in Wasserstein space".
    """
    return 10 * float(np.log10(1 + realism**2))


def run_sr(
    series: Series,
    plan: SrPlan,
    bundle: Bundle,
    engine: Engine,
    options: SrOptions,
    *,
    keep_samples: bool = False,
    on_evaluation: Callable[[int], None] | None = None,
) -> Iterator[SrFrame]:
    """Super-resolve the frames in order; memory holds a few batches, whatever the length of the series.

    ``keep_samples`` gives every frame its single samples. ``on_evaluation`` receives how many images went through one
    evaluation of the network.
    """
    if options.steps == 1 and (options.samples or 1) > 1:
        warn_user(
            f"one step gives the posterior mean and no samples: --samples {options.samples} has no effect, use "
            "--steps 5 for a standard deviation map",
            stacklevel=2,
        )
    schedule, n_samples = bundle.manifest.diffusion.build(), options.n_samples
    has_estimate = _has_estimate(schedule, options)
    n_kept = n_samples if keep_samples else int(options.realism > 0)
    with Ahead(on_evaluation) as ahead:
        single = _Loop(plan, bundle, engine, options, ahead, n_steps=1)
        drawn = _Loop(plan, bundle, engine, options, ahead, n_steps=options.steps)
        waiting: list[_Pending] = []
        for t in range(series.n_frames):
            image = prepare(series.frame(t), plan)
            pending = _Pending(image, plan.shape_yx, has_estimate=has_estimate, n_samples=n_samples, n_kept=n_kept)
            waiting.append(pending)
            for z in range(len(image)):
                shown = _to_network(image[z], plan)
                if has_estimate:
                    single.add(shown, (t, z, 0), pending.add_estimate)
                for k in range(n_samples):
                    drawn.add(shown, (t, z, k), pending.add_sample)
            while waiting and waiting[0].done:
                yield _finish(waiting.pop(0), plan, bundle, options, keep_samples=keep_samples)
        single.flush()
        drawn.flush()
        ahead.finish()
    for pending in waiting:
        yield _finish(pending, plan, bundle, options, keep_samples=keep_samples)


def _has_estimate(schedule: Schedule, options: SrOptions) -> bool:
    return options.steps == 1 or one_step_is_mean(schedule)


def prepare(frame: Array, plan: SrPlan) -> Array:
    """One frame (z, y, x) as the network is given it: zero-filled where the scanner did not, cropped to the window."""
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
    """The one-step estimate of a frame and the running mean and spread of its samples, in units of the scale.

    Samples arrive in order, so that sums do not depend on how the work is cut into batches.
    """

    def __init__(
        self, image: Array, shape: tuple[int, int], *, has_estimate: bool, n_samples: int, n_kept: int
    ) -> None:
        whole = (len(image), *shape)
        self.image = image
        self.left = len(image) * (has_estimate + n_samples)
        self.estimate = np.zeros(whole, np.float32) if has_estimate else None
        self.mean = np.zeros(whole) if n_samples else None
        self.m2 = np.zeros(whole) if n_samples > 1 else None
        self.kept = [np.zeros(whole, np.float32) for _ in range(n_kept)]

    @property
    def done(self) -> bool:
        return self.left == 0

    def add_estimate(self, z: int, _: int, value: Array) -> None:
        assert self.estimate is not None
        self.left -= 1
        self.estimate[z] = value

    def add_sample(self, z: int, k: int, value: Array) -> None:
        assert self.mean is not None
        self.left -= 1
        delta = value - self.mean[z]
        self.mean[z] += delta / (k + 1)
        if self.m2 is not None:
            self.m2[z] += delta * (value - self.mean[z])
        if k < len(self.kept):
            self.kept[k][z] = value


Then = Callable[[int, int, Array], None]  # receives plane, sample and image


class _Loop:
    """Collects (frame, plane, sample) images to batches of one static size and runs the DDIM loop on each batch."""

    def __init__(
        self, plan: SrPlan, bundle: Bundle, engine: Engine, options: SrOptions, ahead: Ahead, *, n_steps: int
    ) -> None:
        self.plan, self.engine, self.options, self.ahead = plan, engine, options, ahead
        diffusion = bundle.manifest.diffusion
        self.residual_std = diffusion.residual_std
        self.coefficients = [step.array() for step in ddim_coefficients(diffusion.build(), n_steps)]
        self.items: list[tuple[Array, tuple[int, int, int], Then]] = []

    def add(self, shown: Array, key: tuple[int, int, int], then: Then) -> None:
        """One image to be computed from the noise of ``key`` = (frame, plane, sample)."""
        self.items.append((shown, key, then))
        if len(self.items) == self.options.batch_size:
            self.flush()

    def flush(self) -> None:
        """Start what is collected."""
        if not self.items:
            return
        items, n = self.items, len(self.items)
        full = [*items, *[items[-1]] * (self.options.batch_size - n)]  # a full tail: the batch size is static
        x_t = np.stack([self._noise(key) for _, key, _ in full])[:, None]
        given = {"lr": np.stack([shown for shown, _, _ in full])[:, None], "low_pass": self.plan.low_pass}
        self.ahead.start(self.engine, x_t, given, self.coefficients, n, lambda result: self._done(items, result))
        self.items = []

    def _noise(self, key: tuple[int, int, int]) -> Array:
        return keyed_noise(self.options.seed, self.plan.digest, *key, self.plan.padded)

    def _done(self, items: list[tuple[Array, tuple[int, int, int], Then]], result: Array) -> None:
        for (shown, (_, z, k), then), x_0 in zip(items, result[:, 0], strict=False):
            image = (x_0 + 1) / 2 if self.residual_std is None else shown + np.float32(self.residual_std) * x_0
            then(z, k, _from_network(image, self.plan))


def _finish(
    pending: _Pending, plan: SrPlan, bundle: Bundle, options: SrOptions, *, keep_samples: bool
) -> SrFrame:  # fmt: skip
    mean = _best(pending, samples_share(bundle.manifest.diffusion.build(), options))
    if options.realism > 0:
        mean = mean + options.realism * (pending.kept[0] - mean)
    std = None
    if pending.m2 is not None:
        variance = pending.m2 / (options.n_samples - 1)
        std = (_expected_error(pending.image, variance, plan, bundle, options) * plan.scale).astype(np.float32)
    samples = tuple(_restored(one, plan) for one in pending.kept) if keep_samples else ()
    return SrFrame(pending.image, _restored(mean, plan), std, samples)


def _expected_error(
    image: Array, variance: NDArray[np.float64], plan: SrPlan, bundle: Bundle, options: SrOptions
) -> NDArray[np.float64]:
    """Expected error of a frame (z, y, x), from the variance of its samples, in units of the scale."""
    model = bundle.uncertainty(options.steps)
    if model is None:
        return np.sqrt(variance) * (bundle.spread_factor(options.steps) or 1.0)
    along = -1 if plan.axis == "x" else -2
    shown, spread = (np.swapaxes(one, along, -2) for one in (image / plan.scale, variance))
    return np.swapaxes(expected_error(shown, spread, plan.band.fraction, model), along, -2)


def _best(pending: _Pending, share: float) -> NDArray[np.float64]:
    """The estimate of the posterior mean, in units of the scale."""
    if pending.mean is None:
        assert pending.estimate is not None
        return pending.estimate.astype(np.float64)
    return pending.mean if pending.estimate is None else pending.estimate + share * (pending.mean - pending.estimate)


def _restored(image: NDArray[np.floating], plan: SrPlan) -> Array:
    """A magnitude image in the units of the series."""
    return np.maximum(image * np.float64(plan.scale), 0).astype(np.float32)


class SrResult(NamedTuple):
    """A super-resolved series, and the standard deviation of its error (t, z, y, x); None without samples."""

    series: Series
    std: Array | None


def super_resolve(
    series: Series,
    *,
    engine: str = "perfgen-s",
    options: SrOptions | None = None,
    choice: DeviceChoice | None = None,
) -> SrResult:
    """Super-resolve a series in memory: the posterior mean, with its uncertainty for more than one step and sample.

    The call behind ``cmrsr sr``. Raises the errors of ``cmrsr.errors``.
    """
    from cmrsr.io.survey import survey

    options = options or SrOptions()
    bundle = ENGINE.load(engine)
    plan = plan_sr(series, survey(series), bundle, options)
    for text in plan.notes:
        warn_user(text, stacklevel=2)
    step = load_sr_engine(bundle, plan, options, choice or DeviceChoice())
    frames = list(run_sr(series, plan, bundle, step, options))
    step.close()
    result = series.with_frames(np.stack([f.output for f in frames]), affine=plan.affine)
    std = None if frames[0].std is None else np.stack([f.std for f in frames if f.std is not None])
    return SrResult(result, std)
