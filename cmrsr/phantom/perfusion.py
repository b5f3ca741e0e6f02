"""Virtual first-pass perfusion: contrast agent through RV, lung, LV and myocardium, at rest or under stress."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from cmrsr.phantom.anatomy import N_SEGMENTS, Chest
from cmrsr.phantom.tissue import Supply
from cmrsr.physics.kinetics import GAMMA_B_S, arterial_input, tissue_concentration
from cmrsr.physics.signal import relaxation_rate, saturation_recovery

Generator = np.random.Generator
TIME_STEP_S = 0.1  # of the kinetic model
MBF_REST, MBF_STRESS = 1.0, 3.5  # mL/g/min (MRXCAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A saturation-recovery gradient echo, times in ms; the field strength is in the tissues' T1."""

    delay_ms: float
    tr_ms: float
    flip_deg: float
    n_before_centre: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One injection: beats, arterial input and flow by segment (mL/g/min)."""

    times_s: NDArray[np.float64]  # (t,)
    onset_s: float
    peak: float  # mmol/L in arterial blood
    transit_s: float  # RV to LV
    sharpness: float  # time scale of the bolus, relative
    mbf: NDArray[np.float64]  # (N_SEGMENTS,)


def draw_sequence(rng: Generator) -> Sequence:
    return Sequence(
        delay_ms=float(rng.uniform(95, 155)),
        tr_ms=float(rng.uniform(1.9, 2.6)),
        flip_deg=float(rng.uniform(10, 18)),
        n_before_centre=int(rng.integers(20, 60)),
    )


def draw_passage(rng: Generator, n_beats: int, stress: bool) -> Passage:
    """Beats with natural variation; stress flow is high but for one ischaemic territory in half of the patients."""
    interval = rng.uniform(0.55, 0.8) if stress else rng.uniform(0.75, 1.1)
    beats = np.cumsum(np.r_[0.0, np.clip(rng.normal(interval, 0.03 * interval, n_beats - 1), 0.4, 2.0)])
    mbf = np.full(N_SEGMENTS, (MBF_STRESS if stress else MBF_REST) * rng.uniform(0.75, 1.25))
    if rng.random() < 0.5:
        first, width = rng.integers(N_SEGMENTS), rng.integers(1, 4)
        mbf[(first + np.arange(width)) % N_SEGMENTS] *= rng.uniform(0.25, 0.6) if stress else rng.uniform(0.8, 1.0)
    return Passage(
        times_s=beats,
        onset_s=float(rng.uniform(1, 6)) * interval,
        peak=float(rng.uniform(4, 13)),
        transit_s=float(rng.uniform(3, 6)) * interval,
        sharpness=float(rng.uniform(0.3, 0.7)),
        mbf=mbf,
    )


def concentrations(passage: Passage) -> dict[Supply, NDArray[np.float64]]:
    """Contrast agent (mmol/L) at the beats: (t,) by supply, (t, N_SEGMENTS) for the myocardium."""
    end = passage.times_s[-1] + 1.0
    t = np.arange(0.0, end, TIME_STEP_S)
    b = GAMMA_B_S * passage.sharpness
    rv = arterial_input(t, passage.onset_s, passage.peak * 1.2, b)
    lv = arterial_input(t, passage.onset_s + passage.transit_s, passage.peak, 1.15 * b)
    lung = arterial_input(t, passage.onset_s + 0.5 * passage.transit_s, passage.peak, 1.1 * b)
    tissue = np.stack([tissue_concentration(t, lv, flow, 0.5) for flow in passage.mbf], 1)
    slow = tissue_concentration(t, lv, 0.6, 4.0)

    def at_beats(c: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.asarray(np.interp(passage.times_s, t, c))

    return {
        Supply.NONE: np.zeros_like(passage.times_s),
        Supply.RV_BLOOD: at_beats(rv),
        Supply.LV_BLOOD: at_beats(lv),
        Supply.LUNG: at_beats(lung),
        Supply.SLOW: at_beats(slow),
        Supply.MYOCARDIUM: np.stack([at_beats(tissue[:, s]) for s in range(N_SEGMENTS)], 1),
    }


def region_signals(chest: Chest, passage: Passage, sequence: Sequence) -> NDArray[np.float32]:
    """Signal of every region at every beat, (t, n_labels), from its proton density, T1 and contrast agent."""
    regions, c = chest.regions, concentrations(passage)
    agent = np.zeros((passage.times_s.size, regions.rho.size))
    for supply in Supply:
        if supply == Supply.MYOCARDIUM:
            continue
        agent[:, regions.supply == supply] = c[supply][:, None]
    slow = regions.supply == Supply.SLOW
    agent[:, slow] *= regions.uptake[slow]
    myocardium = regions.supply == Supply.MYOCARDIUM
    agent[:, myocardium] = c[Supply.MYOCARDIUM][:, regions.segment[myocardium]]
    r1 = relaxation_rate(regions.t1_ms, agent)
    signal = saturation_recovery(
        regions.rho, r1, delay_ms=sequence.delay_ms, tr_ms=sequence.tr_ms,
        flip_deg=sequence.flip_deg, n_before_centre=sequence.n_before_centre,
    )  # fmt: skip
    return np.asarray(signal, dtype=np.float32)


def typical_peak(signals: NDArray[np.float32]) -> np.float32:
    """The level that most regions (t, n_labels) stay below at their peak: the unit of a scanner's noise."""
    return np.float32(np.quantile(signals.max(0), 0.9))


def render(chest: Chest, signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """One frame's signal map on the fine grid: region signals with texture, averaged over the slice thickness."""
    kind = np.arange(signal.size) % len(chest.textures)
    amplitude = chest.regions.texture.astype(np.float32)
    total = np.zeros(chest.labels.shape[1:], np.float32)
    rows, columns = np.arange(len(total))[:, None], np.arange(len(total))
    for labels in chest.labels:
        texture = chest.textures[kind[labels], rows, columns]
        total += np.maximum(signal[labels] * (1 + amplitude[labels] * texture), 0)
    return total / np.float32(len(chest.labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Rigid breathing shift (t, 2) in mm, y and x, and a radial squeeze (t,) of the heart from mistriggered beats."""

    shift_mm: NDArray[np.float64]
    squeeze: NDArray[np.float64] = field(repr=False)


def draw_motion(rng: Generator, times_s: NDArray[np.float64]) -> Motion:
    """Breath-hold, then shallow to deep breathing; the trigger hits nearly the same phase of the cycle."""
    depth = rng.choice([0.0, 2.0, 7.0], p=[0.3, 0.4, 0.3]) * rng.uniform(0.5, 1.5)
    start = rng.uniform(0, 1) * times_s[-1]
    breath = 0.5 - 0.5 * np.cos(2 * np.pi * np.clip(times_s - start, 0, None) / rng.uniform(3.0, 5.5))
    direction = rng.uniform(0, 2 * np.pi)
    shift = depth * breath[:, None] * np.array([np.sin(direction), np.cos(direction)])
    return Motion(shift_mm=shift, squeeze=rng.normal(0, rng.uniform(0, 0.03), times_s.size))


def displace(image: NDArray[np.generic], chest: Chest, motion: Motion, t: int, order: int = 1) -> NDArray[np.generic]:
    """Move the heart in a rendered map (signal, or labels with order 0) to where breathing and trigger have it at t."""
    if not motion.shift_mm[t].any() and motion.squeeze[t] == 0:
        return image
    n = image.shape[0]
    grid = np.indices((n, n), dtype=np.float32)
    centre = np.array(chest.heart.centre_mm) / chest.spacing_mm + n / 2
    shift = motion.shift_mm[t] / chest.spacing_mm
    for i in (0, 1):
        grid[i] -= chest.near_heart * (shift[i] + motion.squeeze[t] * (grid[i] - centre[i]))
    return np.asarray(scipy.ndimage.map_coordinates(image, grid, order=order, mode="nearest"))
