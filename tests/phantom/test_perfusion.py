from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.phantom.anatomy import LABELS, N_SEGMENTS, Chest, draw_chest
from cmrsr.phantom.perfusion import (
    MBF_REST,
    MBF_STRESS,
    Motion,
    Passage,
    concentrations,
    displace,
    draw_motion,
    draw_passage,
    draw_sequence,
    region_signals,
    render,
)
from cmrsr.phantom.tissue import Supply


@pytest.fixture(scope="module")
def chest() -> Chest:
    return draw_chest(np.random.default_rng(3), 340.0, n_leaves=300)


def _passage(mbf: float | np.ndarray = 1.0) -> Passage:
    return Passage(
        times_s=np.arange(50) * 0.9, onset_s=3.0, peak=6.0, transit_s=4.0, sharpness=0.4, mbf=np.full(N_SEGMENTS, mbf)
    )


def test_signal_of_a_region_is_the_closed_form(chest: Chest) -> None:
    passage, sequence = _passage(np.arange(1.0, 7.0)), draw_sequence(np.random.default_rng(0))
    signals = region_signals(chest, passage, sequence)
    assert signals.shape == (50, len(chest.kinds))
    assert signals.dtype == np.float32
    agent = concentrations(passage)
    r = chest.regions
    a = np.deg2rad(sequence.flip_deg)
    for i in {chest.kinds.index(kind) for kind in set(chest.kinds)} | {len(chest.kinds) - 2, len(chest.kinds) - 4}:
        supply = Supply(int(r.supply[i]))
        c = agent[supply]
        if supply == Supply.MYOCARDIUM:
            c = c[:, r.segment[i]]
        if supply == Supply.SLOW:
            c = c * r.uptake[i]
        r1 = 1000 / r.t1_ms[i] + 5.6 * c
        e = np.exp(-sequence.tr_ms * r1 / 1000)
        mz = 1 - np.exp(-sequence.delay_ms * r1 / 1000)
        for _ in range(sequence.n_before_centre - 1):
            mz = 1 - (1 - mz * np.cos(a)) * e
        assert_allclose(signals[:, i], r.rho[i] * np.sin(a) * mz, rtol=1e-5, atol=1e-7)


def test_contrast_passes_from_right_to_left_to_the_muscle() -> None:
    c = concentrations(_passage(np.array([1.0, 1.0, 1.0, 3.0, 3.0, 3.0])))
    right, left = c[Supply.RV_BLOOD], c[Supply.LV_BLOOD]
    muscle = c[Supply.MYOCARDIUM]
    assert muscle.shape == (50, N_SEGMENTS)
    assert right.argmax() < c[Supply.LUNG].argmax() < left.argmax() < muscle[:, 0].argmax()
    assert right.max() == pytest.approx(1.2 * 6, rel=0.05)  # the peak falls between two beats
    assert muscle[:, 0].max() < left.max()
    assert_allclose(muscle[:, 3], 3 * muscle[:, 0])
    assert not c[Supply.NONE].any()
    assert left[0] == 0


def test_stress_flow_is_higher_but_for_ischaemia() -> None:
    rest, stress = ([draw_passage(np.random.default_rng(s), 60, kind) for s in range(60)] for kind in (False, True))
    highest = [np.array([p.mbf.max() for p in passages]) for passages in (rest, stress)]
    assert np.all((highest[0] >= 0.75 * MBF_REST) & (highest[0] <= 1.25 * MBF_REST))
    assert np.all((highest[1] >= 0.75 * MBF_STRESS) & (highest[1] <= 1.25 * MBF_STRESS))
    ischaemic = [p for p in stress if np.ptp(p.mbf) > 0]
    assert 15 < len(ischaemic) < 45
    for passage in ischaemic:
        share = passage.mbf / passage.mbf.max()
        low = share < 1
        assert 1 <= low.sum() <= 3
        assert np.all((share[low] >= 0.25) & (share[low] <= 0.6))
        assert np.count_nonzero(np.diff(np.r_[low, low[0]].astype(int)) == 1) == 1  # one territory
    assert np.mean([np.diff(p.times_s).mean() for p in stress]) < np.mean([np.diff(p.times_s).mean() for p in rest])
    assert all(np.diff(p.times_s).min() >= 0.4 for p in stress + rest)


def test_rendering_averages_the_depths(chest: Chest) -> None:
    signal = np.random.default_rng(0).random(len(chest.kinds)).astype(np.float32)
    flat = replace(chest, textures=0 * chest.textures)
    assert_allclose(render(flat, signal), signal[chest.labels].mean(0), rtol=1e-5)
    textured = render(chest, signal)
    assert textured.min() >= 0
    assert np.corrcoef(textured.ravel(), render(flat, signal).ravel())[0, 1] > 0.9
    blood = chest.truth == LABELS["lv_blood"]
    assert textured[blood].std() > render(flat, signal)[blood].std()


def test_still_beats_are_left_alone(chest: Chest) -> None:
    motion = Motion(shift_mm=np.zeros((3, 2)), squeeze=np.zeros(3))
    image = render(chest, np.ones(len(chest.kinds), np.float32))
    assert displace(image, chest, motion, 1) is image


def test_breathing_shifts_the_heart_and_nothing_far_away(chest: Chest) -> None:
    step = chest.spacing_mm
    motion = Motion(shift_mm=np.array([[3 * step, -2 * step]]), squeeze=np.zeros(1))
    everywhere = replace(chest, near_heart=np.ones_like(chest.near_heart))
    moved = displace(chest.truth, everywhere, motion, 0, order=0)
    assert_array_equal(moved[3:, :-2], chest.truth[:-3, 2:])
    image = render(chest, np.linspace(0, 1, len(chest.kinds), dtype=np.float32))
    local = displace(image, chest, motion, 0)
    # the shift fades out from the heart over some centimetres
    still = chest.near_heart < 1e-4
    assert still.any()
    assert_allclose(local[still], image[still], atol=1e-3)
    after, before = (m == LABELS["lv_blood"] for m in (displace(chest.truth, chest, motion, 0, order=0), chest.truth))
    assert_allclose(np.argwhere(after).mean(0) - np.argwhere(before).mean(0), [3, -2], atol=0.25)


def test_squeeze_scales_about_the_centre_of_the_heart(chest: Chest) -> None:
    everywhere = replace(chest, near_heart=np.ones_like(chest.near_heart))
    blood = (chest.truth == LABELS["lv_blood"]).astype(np.float32)
    larger = displace(blood, everywhere, Motion(shift_mm=np.zeros((1, 2)), squeeze=np.array([0.1])), 0)
    assert larger.sum() / blood.sum() == pytest.approx(1 / 0.9**2, rel=0.02)


def test_breath_hold_then_breathing() -> None:
    times = np.arange(60) * 0.9
    for seed in range(20):
        motion = draw_motion(np.random.default_rng(seed), times)
        size = np.hypot(*motion.shift_mm.T)
        assert size[0] == 0
        assert size.max() <= 7 * 1.5
        moving = np.flatnonzero(size > 1e-9)
        if moving.size > 1:
            direction = motion.shift_mm[moving] / size[moving, None]
            assert_allclose(direction, np.broadcast_to(direction[0], direction.shape), atol=1e-6)
