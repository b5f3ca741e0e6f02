"""The interval of a measured number: narrow where all readings agree, wide where they do not, and it covers."""

from pathlib import Path

import numpy as np
import pytest

from cmrsr.runtime.bundle import Confidence
from cmrsr.tasks.function.confidence import COVERED, INTERVAL, QUANTITIES, Readings, deviation, intervals, signs
from cmrsr.tasks.function.training import calibration
from cmrsr.tasks.function.training.calibration import calibrate, fitted
from cmrsr.tasks.registry import train
from tests.tasks.function.test_function_system import BEATS, recipe

HEART = np.array([[150.0, 110.0, 140.0], [70.0, 110.0, 60.0]])  # mL of RV, myocardium, LV at ED and ES
LAWS = {name: Confidence(floor=0.02, weights={"orientation": 2.0, "regression": 0.5}) for name in QUANTITIES}


def test_readings_that_agree_leave_the_floor() -> None:
    same = Readings(masks=np.stack([HEART] * 4), regressed=HEART)
    assert all(value == 0 for found in signs(same).values() for value in found.values())
    found = intervals(same, LAWS)
    assert found["lv_edv_ml"] == pytest.approx(INTERVAL * 0.02 * 140)
    assert found["lv_ef_percent"] == pytest.approx(INTERVAL * 0.02)  # points
    assert intervals(same, {}) == {}


def test_every_kind_of_disagreement_is_a_sign() -> None:
    masks = np.stack([HEART] * 4)
    masks[2, 1, 2] = 80.0  # another ESV in one orientation
    regressed = HEART * np.array([[1.0, 1.0, 1.2], [1.0, 1.0, 1.0]])
    found = signs(Readings(masks=masks, regressed=regressed))
    assert found["lv_esv_ml"]["orientation"] == pytest.approx(10 / 140, rel=1e-6)
    assert found["lv_edv_ml"]["orientation"] == 0
    assert found["lv_edv_ml"]["regression"] == pytest.approx(0.2)
    assert found["rv_ef_percent"]["orientation"] == 0
    masks[:, 1, 1] = 80.0  # muscle cannot be lost
    assert signs(Readings(masks=masks, regressed=HEART))["lv_ef_percent"]["muscle"] > 30


def test_a_heart_that_was_not_found_has_wide_finite_intervals() -> None:
    found = intervals(Readings(masks=np.zeros((4, 2, 3)), regressed=HEART), LAWS)
    assert np.isfinite(list(found.values())).all()


def test_the_law_finds_the_sign_that_tells_and_covers_the_errors() -> None:
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(400):
        told, idle = rng.exponential(2.0), rng.exponential(2.0)
        error = rng.normal(0, np.hypot(2.0, 1.5 * told))
        cases.append(({"lv_ef_percent": {"orientation": told, "regression": idle}}, {"lv_ef_percent": error}))
    law = fitted("lv_ef_percent", cases)
    assert law.weights["orientation"] == pytest.approx(1.5, rel=0.3)
    assert law.weights["regression"] < 0.3
    within = [abs(e["lv_ef_percent"]) <= INTERVAL * deviation(s["lv_ef_percent"], law) for s, e in cases]
    assert np.mean(within) == pytest.approx(COVERED, abs=0.01)


def test_training_ends_with_a_law_for_every_quantity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = recipe("optimiser.steps=1", "optimiser.bf16=false")
    train(one, BEATS, tmp_path)
    assert calibrate(one, BEATS, tmp_path, n_hearts=2) == {}  # three slices: too little of a heart
    monkeypatch.setattr(calibration, "LEAST_CM3", 0.1)
    found = calibrate(one, BEATS, tmp_path, n_hearts=6)
    assert set(found) == set(QUANTITIES)
    assert (tmp_path / "training.json").read_text().count('"floor"') == len(QUANTITIES)
