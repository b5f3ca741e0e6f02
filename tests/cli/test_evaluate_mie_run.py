"""``cmrsr evaluate mie`` with engines that are run: a drawn heart, its T1 images, and enhancement that was moved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cmrsr.cli.evaluate import load_engines
from cmrsr.cli.evaluate_mie import enhancers
from cmrsr.io.series import Series
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.tasks.mie.evaluation.baselines import T1_THRESHOLD
from cmrsr.tasks.mie.evaluation.cases import Case, Enhancement
from cmrsr.tasks.mie.evaluation.images import SSIM
from cmrsr.tasks.mie.evaluation.protocol import MOVED, UNMOVED, CaseScore, Swapped, evaluate_case, swap
from cmrsr.tasks.mie.plan import MieOptions
from tests.beating_heart import FINER, Heart
from tests.heart_engine import heart_engine
from tests.infarct_engine import BLOOD, HEALTHY, SCAR, SCAR_T1_S, T1_S, infarct_engine
from tests.recovering_heart import Recovery

__all__ = ["heart_engine", "infarct_engine"]
HEART = Heart(n_t=12, n_z=6)
MOVED_MM = (3.0, -1.5)  # (y, x) from breath-hold to breath-hold
T1 = Recovery(heart=HEART, slices=(2, 3))


def enhancement() -> Enhancement:
    """What the tiny engine would show, of the heart in another place, with noise and labels."""
    late = replace(T1, heart=replace(HEART, centre_mm=MOVED_MM))
    n_y, n_x = HEART.matrix
    t1 = np.stack([late.t1_s(z).reshape(n_y, FINER, n_x, FINER)[:, 0, :, 0] for z in T1.shown])
    bright = np.full(t1.shape, HEALTHY, np.float32)
    labels = np.zeros(t1.shape, np.uint8)
    for s, (label, value) in {
        T1_S[1]: (1, HEALTHY),
        T1_S[2]: (2, HEALTHY),
        SCAR_T1_S: (2, SCAR),
        T1_S[3]: (3, BLOOD),
    }.items():
        bright[t1 == np.float32(s)], labels[t1 == np.float32(s)] = value, label
    noise = np.random.default_rng(2).normal(0, 0.02, t1.shape)
    series = Series.from_array(np.abs(bright + noise)[None] * 400, affine=T1.affine, kind="lge")
    return Enhancement(series=series, scar=t1 == np.float32(SCAR_T1_S), labels=labels)


@pytest.fixture(scope="module")
def results(heart_engine: Path, infarct_engine: Path) -> tuple[CaseScore, Swapped]:
    """The case with its own cine, and with that of a much smaller heart."""
    case = Case(name="p1", t1=T1.series(), cine=HEART.series(), late=enhancement())
    other = replace(case, name="p2", cine=replace(HEART, radius_mm=14.0).series())
    options = MieOptions(steps=1, samples=2, reader=str(heart_engine))
    bundles = load_engines([str(infarct_engine)], "mie")
    with enhancers(bundles, options, DeviceChoice(device="cpu")) as enhance:
        (name,) = enhance
        found = evaluate_case(case, enhance)
        return found, swap(case, other, enhance[name], found.readings[name])


def test_scar_and_its_place_are_found(results: tuple[CaseScore, Swapped]) -> None:
    found, _ = results
    (engine,) = [name for name in found.readings if name != T1_THRESHOLD]
    one = found.readings[engine]
    assert found.slices == (0, 1)
    assert found.scar_g == pytest.approx(float(T1.scar_mm2.sum()) * 10 / 1000 * 1.05, rel=0.03)
    assert one.scar_g == pytest.approx(found.scar_g, rel=0.25)
    assert one.dice > 0.75
    assert one.dice > one.dice_unmoved + 0.05
    assert one.shift_mm == pytest.approx(np.full(2, np.hypot(*MOVED_MM)), abs=0.8)
    similarity = {k: np.mean([row[SSIM] for row in found.images[engine, k]]) for k in (MOVED, UNMOVED)}
    assert similarity[MOVED] > similarity[UNMOVED]
    assert found.readings[T1_THRESHOLD].dice > 0.5


def test_another_heart_agrees_less(results: tuple[CaseScore, Swapped]) -> None:
    _, swapped = results
    assert not swapped.refused
    assert swapped.agreement < swapped.own_agreement - 0.2
