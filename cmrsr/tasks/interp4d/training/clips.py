"""Clips for temporal super-resolution: two known frames, times between them and the frames that were there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cmrsr.io.survey import SCALE_QUANTILE
from cmrsr.physics.optical_flow import estimate
from cmrsr.tasks.interp4d.training.data import Stack
from cmrsr.training.crops import corner

Array = NDArray[np.float32]
ALONE = 0.35  # share of the clips without neighbours, like two phases (ED and ES) or the ends of an open series
BRIGHTNESS = (0.6, 1.3)  # scale of the clip over that of its series
NOISE = (0.03, 2.5)  # noise of the known frames over the scanner's own, where the clean image is known; log-uniform
LASTING = (0.03, 2.0)  # the same of noise that all frames share, as after temporal regularisation: part of the target
PERSISTENCE = (0.2, 1.0)  # share of the gap over which noise fades, in half of the clips: frames often share raw data
TIMING = 0.12  # standard deviation of the time that is stated half-way: motion is not equally fast in all hearts
SLICE_TIMING = 0.2  # up to which slices differ in that time among each other: each may come from another beat
ZOOM = 1.8  # up to which half of the clips are enlarged: images are often interpolated to finer pixels
PARTS = ("known", "base", "bend", "target", "tau")  # of ``Clips``


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """crop: pixels; n_frames: unknown ones of a clip; gap: of the known frames in phases, of slices in a volume."""

    crop: int
    n_frames: int
    gap: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """float32, divided by the series' scale. Slices of one volume follow each other along the first axis.

    known (batch, 2, y, x); base, bend, target (batch, n, y, x), see ``physics.optical_flow.estimate``; tau (batch, n).
    """

    known: Array
    base: Array
    bend: Array
    target: Array
    tau: Array


def draw_clips(stacks: Sequence[Stack], config: ClipConfig, size: int, rng: np.random.Generator) -> Clips:
    """``size`` clips of single slices."""
    return _joined([_draw(stacks, config, 1, rng) for _ in range(size)])


def draw_volumes(
    stacks: Sequence[Stack], config: ClipConfig, size: int, n_slices: int, rng: np.random.Generator
) -> Clips:
    """``size`` clips of ``n_slices`` neighbouring slices each; the batch is size * n_slices."""
    return _joined([_draw(stacks, config, n_slices, rng) for _ in range(size)])


def _joined(clips: Sequence[Clips]) -> Clips:
    return Clips(**{name: np.concatenate([getattr(clip, name) for clip in clips]) for name in PARTS})


def _draw(stacks: Sequence[Stack], config: ClipConfig, n_slices: int, rng: np.random.Generator) -> Clips:
    stack = stacks[int(rng.integers(len(stacks)))]
    n_t, n_z = stack.shown.shape[:2]
    most = min(config.gap[1], n_t - 1)
    gap = int(rng.integers(min(config.gap[0], most), most + 1))
    first = int(rng.integers(n_t if stack.cyclic else n_t - gap))
    steps = rng.choice(np.arange(1, gap), config.n_frames, replace=gap - 1 < config.n_frames)
    tau = steps / gap
    frames = [first - gap, first, first + gap, first + 2 * gap]
    if rng.random() < 0.5:
        frames, tau = frames[::-1], 1 - tau
    low = int(rng.integers(n_z - n_slices + 1))
    planes = np.arange(low, low + n_slices)[:: rng.choice([-1, 1])]
    noise, lasting = (float(np.float32(np.exp(rng.uniform(*np.log(bounds))))) for bounds in (NOISE, LASTING))
    lasting *= rng.random() < 0.5
    shared_at = int(rng.integers(n_t))
    zoom = float(rng.uniform(1, ZOOM)) if rng.random() < 0.5 else 1.0
    alone = rng.random() < ALONE or (stack.cyclic and 2 * gap > n_t)  # or a neighbour would lie between the known
    turn = (bool(rng.random() < 0.5), int(rng.choice([-1, 1])), int(rng.choice([-1, 1])))
    fading = float(rng.uniform(*PERSISTENCE)) if rng.random() < 0.5 else 1e-6
    late = np.full(n_slices, rng.normal(0, TIMING))
    if n_slices > 1:
        late = late + rng.normal(0, rng.uniform(0, SLICE_TIMING), n_slices)
    late = np.clip(late, -2 * TIMING, 2 * TIMING)

    @cache
    def noise_of(t: int, z: int) -> Array:
        assert stack.clean is not None
        return np.asarray(np.asarray(stack.shown[t, z], np.float32) - stack.clean[t, z], np.float32)

    def image(t: int, z: int, grain: dict[int, float]) -> Array:
        """Phase t with the noise of other phases, each at its weight."""
        shown = np.asarray((stack.shown if stack.clean is None else stack.clean)[t % n_t, z], np.float32)
        if stack.clean is not None:
            for source, weight in ((shared_at, lasting), *grain.items()):
                if weight:
                    shown = shown + np.float32(weight) * noise_of(source % n_t, z)
            shown = np.maximum(shown, 0)
        if zoom > 1:
            shown = np.maximum(cv2.resize(shown, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), 0)
        return (shown.T if turn[0] else shown)[:: turn[1], :: turn[2]]

    def neighbour(t: int, z: int) -> Array | None:
        return None if alone or not (stack.cyclic or 0 <= t < n_t) else image(t, z, {t: noise})

    before, a, b, after = frames
    known = [np.stack([image(t, z, {t: noise}) for t in (a, b)]) for z in planes]
    grains = [{a: noise * max(0, 1 - share / fading), b: noise * max(0, 1 - (1 - share) / fading)} for share in tau]
    scale = max(float(np.quantile([pair[0, ::2, ::2] for pair in known], SCALE_QUANTILE)), 1e-12)
    at = tuple(slice(o, o + config.crop) for o in corner(known[0].shape[1:], config.crop, rng))
    gain = np.float32(rng.uniform(*BRIGHTNESS) / scale)
    parts: dict[str, list[Array]] = {name: [] for name in PARTS}
    for z, pair, delay in zip(planes, known, late, strict=True):
        stated = tau + float(delay) * 4 * tau * (1 - tau)
        base, bend = estimate(neighbour(before, z), pair[0], pair[1], neighbour(after, z), stated, scale)
        target = np.stack([image(first + int(step), z, grain) for step, grain in zip(steps, grains, strict=True)])
        for name, value in (("known", pair), ("base", base), ("bend", bend), ("target", target)):
            parts[name].append(value[:, *at] * gain)
        parts["tau"].append(stated.astype(np.float32))
    return Clips(**{name: np.stack(value) for name, value in parts.items()})
