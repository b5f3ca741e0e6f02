from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.physics.volumes import MYOCARDIUM
from cmrsr.tasks.mie.evaluation.baselines import BEST_INVERSION, MIXTURE, T1_MAP, planes, rescaled, threshold_mask
from tests.mie_slices import mie_slice, ventricles
from tests.tasks.mie.mie_runs import NONE, SCAR

RNG = np.random.default_rng(3)


def noisy_t1(scar: np.ndarray) -> np.ndarray:
    return mie_slice(scar=scar).t1_ms + RNG.normal(0, 40, scar.shape)


def test_long_t1_in_the_wall_is_scar() -> None:
    found = threshold_mask(replace(mie_slice(), t1_ms=noisy_t1(SCAR)))
    assert (found & SCAR).sum() > 0.95 * SCAR.sum()
    assert (found & ~SCAR).sum() < 0.1 * SCAR.sum()
    assert not threshold_mask(replace(mie_slice(), t1_ms=noisy_t1(NONE))).any()


def test_the_threshold_is_two_deviations_above_remote_wall() -> None:
    for rise, is_found in ((60, False), (160, True)):  # the noise has 40 ms
        t1 = np.where(SCAR, 1000 + rise, 1000) + np.where(np.indices(SCAR.shape).sum(0) % 2, 40.0, -40.0)
        found = threshold_mask(replace(mie_slice(), t1_ms=t1))
        assert (found[SCAR].mean() > 0.9) == is_found
        assert not found[(ventricles() == MYOCARDIUM) & ~SCAR].any()


def test_without_a_ventricle_or_a_fit_there_is_no_scar() -> None:
    one = mie_slice(scar=SCAR)
    assert not threshold_mask(replace(one, labels=np.zeros_like(one.labels))).any()
    assert not threshold_mask(replace(one, t1_ms=np.full_like(one.t1_ms, np.nan))).any()


def test_weights_are_found_by_least_squares_over_all_slices() -> None:
    shown = [{MIXTURE: RNG.random((4, 12, 12)), T1_MAP: RNG.random((1, 12, 12))} for _ in range(3)]
    mixed = [0.1 + 0.5 * s[MIXTURE][2] + 0.2 * s[MIXTURE][0] for s in shown]
    made, best = rescaled(shown, mixed)
    assert best == 2
    for ours, truth in zip(made[MIXTURE], mixed, strict=True):
        assert_allclose(ours, truth, atol=1e-9)
    error = {name: np.mean([np.mean((o - t) ** 2) for o, t in zip(made[name], mixed, strict=True)]) for name in made}
    assert error[MIXTURE] < error[BEST_INVERSION] < error[T1_MAP]
    for own in (made[BEST_INVERSION][0], made[T1_MAP][0]):
        assert own.min() >= 0
        assert own.max() <= 1


def test_planes_have_one_brightness_and_no_gaps() -> None:
    t1 = np.full((128, 128), 1500.0)
    t1[:20] = np.nan
    one = replace(mie_slice(), t1_ms=t1, inversions=np.full((8, 128, 128), 300, np.float32))
    found = planes(one)
    assert found[MIXTURE].max() == pytest.approx(1)
    assert found[T1_MAP][0, 0, 0] == 0
    assert found[T1_MAP][0, -1, 0] == pytest.approx(0.5)
