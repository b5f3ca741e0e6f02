"""The first pass of contrast agent: through RV, lung and LV into the myocardium, at rest or under stress."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.infarct import SCAR_FLOW
from cmrsr.phantom.patient import VirtualPatient
from cmrsr.phantom.tissue import Materials, Supply
from cmrsr.physics.kinetics import GAMMA_B_S, arterial_input, tissue_concentration
from cmrsr.physics.signal import relaxation_rate, saturation_recovery

Generator = np.random.Generator
TIME_STEP_S = 0.1  # of the kinetic model
TISSUE_DELAY_S = 0.5  # from the LV to the myocardium


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationRecovery:
    """A saturation-recovery gradient echo, times in ms; the field strength is in the tissues' T1."""

    delay_ms: float
    tr_ms: float
    flip_deg: float
    n_before_centre: int

    def signal(self, rho: NDArray[np.float64], r1: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return saturation_recovery(
            rho, r1, delay_ms=self.delay_ms, tr_ms=self.tr_ms, flip_deg=self.flip_deg,
            n_before_centre=self.n_before_centre,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One injection: the beats, the arterial input and the flow (mL/g/min) by AHA segment and layer."""

    times_s: NDArray[np.float64]  # (t,)
    onset_s: float
    peak: float  # mmol/L in arterial blood
    transit_s: float  # RV to LV
    sharpness: float  # time scale of the bolus, relative
    mbf: NDArray[np.float64]  # (17, 2)


def draw_sequence(rng: Generator) -> SaturationRecovery:
    """A saturation-recovery sequence as first-pass protocols have them."""
    return SaturationRecovery(
        delay_ms=float(rng.uniform(95, 155)),
        tr_ms=float(rng.uniform(1.9, 2.6)),
        flip_deg=float(rng.uniform(10, 18)),
        n_before_centre=int(rng.integers(20, 60)),
    )


def draw_passage(rng: Generator, patient: VirtualPatient, n_beats: int, stress: bool) -> Passage:
    """The beats of one run with their natural variation, and a bolus on its way through the patient."""
    rest_s = patient.cycle.beat_ms / 1000
    interval = rest_s * rng.uniform(0.65, 0.85) if stress else rest_s
    sd = patient.beat_sd * interval
    beats = np.cumsum(np.r_[0.0, np.clip(rng.normal(interval, sd, n_beats - 1), 0.45 * interval, 2.0)])
    return Passage(
        times_s=beats,
        onset_s=float(rng.uniform(1, 6)) * interval,
        peak=float(rng.uniform(4, 13)),
        transit_s=float(rng.uniform(3, 6)) * interval,
        sharpness=float(rng.uniform(0.3, 0.7)),
        mbf=patient.perfusion.stress if stress else patient.perfusion.rest,
    )


def curves(passage: Passage) -> tuple[NDArray[np.float64], dict[Supply, NDArray[np.float64]]]:
    """Contrast agent in mmol/L on the even time grid (n,) in s of the model, by supply; of the myocardium for a flow of
    1 mL/g/min, to which it is proportional.
    """
    t = np.arange(0.0, passage.times_s[-1] + 1.0, TIME_STEP_S)
    b = GAMMA_B_S * passage.sharpness
    lv = arterial_input(t, passage.onset_s + passage.transit_s, passage.peak, 1.15 * b)
    return t, {
        Supply.NONE: np.zeros_like(t),
        Supply.RV_BLOOD: arterial_input(t, passage.onset_s, passage.peak * 1.2, b),
        Supply.LV_BLOOD: lv,
        Supply.LUNG: arterial_input(t, passage.onset_s + 0.5 * passage.transit_s, passage.peak, 1.1 * b),
        Supply.SLOW: tissue_concentration(t, lv, 0.6, 4.0),
        Supply.MYOCARDIUM: tissue_concentration(t, lv, 1.0, TISSUE_DELAY_S),
    }


def agent(materials: Materials, passage: Passage) -> NDArray[np.float64]:
    """Contrast agent (mmol/L) in every label at every beat, (t, n_labels)."""
    t, by_supply = curves(passage)
    c = np.zeros((passage.times_s.size, materials.rho.size))
    for supply, curve in by_supply.items():
        here = materials.supply == supply
        share = np.ones(int(here.sum()))
        if supply == Supply.SLOW:
            share = materials.uptake[here]
        elif supply == Supply.MYOCARDIUM:
            segment = materials.segment[here]
            # papillary muscles, atria and the RV's wall belong to no segment: they have the flow of the middle
            flow = passage.mbf[np.maximum(segment - 1, 0), materials.layer[here]]
            share = np.where(segment > 0, flow, np.median(passage.mbf))
            share = np.where(materials.scar[here], SCAR_FLOW * share, share)
        c[:, here] = np.interp(passage.times_s, t, curve)[:, None] * share
    return c


def first_pass_signals(materials: Materials, passage: Passage, sequence: SaturationRecovery) -> NDArray[np.float32]:
    """Signal of every label at every beat, (t, n_labels), from its proton density, T1 and contrast agent."""
    r1 = relaxation_rate(materials.t1_ms, agent(materials, passage))
    return np.asarray(sequence.signal(materials.rho, r1), dtype=np.float32)
