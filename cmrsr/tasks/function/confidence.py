"""How far a measured heart may be off: what speaks against its numbers, turned into an interval that holds 90 %.

Signs are small for a heart that is read well: how much the result changes when the same images are read turned and
mirrored, how far direct regression is from the masks, how much muscle appears or vanishes between the phases. Their
weights come from hearts that training has not seen, see ``training.calibration``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmrsr.physics.volumes import LV, MYOCARDIUM, RV, STRUCTURES
from cmrsr.runtime.bundle import Confidence

Array = NDArray[np.float64]
_RV, _WALL, _LV = (STRUCTURES.index(s) for s in (RV, MYOCARDIUM, LV))
INTERVAL, COVERED = 1.645, 0.9  # half the interval in standard deviations, and the share of errors that it holds
RATIO_LIMIT = 2.0  # of a sign that is a ratio: beyond it nothing more is told
EF_POINTS = 100.0
QUANTITIES = ("lv_ef_percent", "lv_edv_ml", "lv_esv_ml", "rv_ef_percent", "rv_edv_ml", "rv_esv_ml")
Signs = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Volumes in mL of one heart at ED and ES, (2, 3) as ``STRUCTURES`` has them.

    masks: (n, 2, 3), the n readings in other orientations; the first is the reading that counts, or as good as it.
    regressed: (2, 3), by direct regression.
    """

    masks: Array
    regressed: Array


def signs(of: Readings) -> Signs:
    """By quantity, what speaks against it: of ejection fractions in points, of volumes as a share of the EDV."""
    mean = of.masks.mean(0)
    swelling = abs(np.log(max(mean[0, _WALL], 1.0) / max(mean[1, _WALL], 1.0)))
    out: Signs = {}
    for side, s in (("lv", _LV), ("rv", _RV)):
        edv = max(float(mean[0, s]), 1.0)
        readings, regressed = of.masks[..., s] / edv, of.regressed[:, s] / edv
        found = {
            "ef_percent": (EF_POINTS * _ef(readings), EF_POINTS * _ef(regressed)),
            "edv_ml": (readings[:, 0], regressed[0]),
            "esv_ml": (readings[:, 1], regressed[1]),
        }
        for name, (each, other) in found.items():
            limit = RATIO_LIMIT * (EF_POINTS if name == "ef_percent" else 1.0)
            out[f"{side}_{name}"] = {
                "orientation": min(float(each.std(ddof=1)), limit),
                "regression": min(float(abs(other - each.mean())), limit),
                "muscle": min(float(swelling), RATIO_LIMIT) * (EF_POINTS if name == "ef_percent" else 1.0),
            }
    return out


def _ef(volumes: Array) -> Array:
    """(..., 2) of ED and ES -> (...), 0..1."""
    return np.asarray(1 - volumes[..., 1] / np.maximum(volumes[..., 0], 1e-6))


def deviation(found: Mapping[str, float], law: Confidence) -> float:
    """Standard deviation of the error: sqrt(floor^2 + sum of (weight x sign)^2)."""
    return float(np.sqrt(law.floor**2 + sum((law.weights.get(k, 0.0) * v) ** 2 for k, v in found.items())))


def intervals(of: Readings, laws: Mapping[str, Confidence]) -> dict[str, float]:
    """Half the 90 % interval of each quantity that has a law: in points of EF, in mL."""
    mean, out = of.masks.mean(0), {}
    for name, found in signs(of).items():
        if name in laws:
            unit = 1.0 if name.endswith("percent") else float(mean[0, _LV if name.startswith("lv") else _RV])
            out[name] = INTERVAL * deviation(found, laws[name]) * unit
    return out
