"""What the model of ``mie`` is shown: shapes, units, and images too few or too many."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.physics.kinematics import Kinematics, beat_displacement, kinematics
from cmrsr.tasks.mie.features.registration import register_inversions
from cmrsr.tasks.mie.features.signs import (
    CELL,
    HEART_CROP,
    LARGEST,
    LONGEST_T1_S,
    MOTION_UNITS,
    N_CLUSTERS,
    N_INVERSIONS,
    N_PHASES,
    SCALE_QUANTILE,
    MotionSigns,
    eight,
    enhancement_scale,
    heart_crop,
    motion_signs,
    recovery_signs,
)
from tests.ring_infarcts import MIDDLE, PIXEL_MM, SIZE, T1_MS, TIMES_MS, cine, labels_at, recovery

CELLS = (SIZE // CELL, SIZE // CELL)


def followed(signs: MotionSigns) -> Kinematics:
    return kinematics(beat_displacement(signs.cine), (MIDDLE, MIDDLE), PIXEL_MM)


def test_motion_is_shown_by_cells_in_its_units() -> None:
    signs = motion_signs(cine(True, 0), (MIDDLE, MIDDLE), PIXEL_MM)
    assert signs.cine.shape == (N_PHASES, SIZE, SIZE)
    assert signs.motion.shape == (N_PHASES, 4, *CELLS)
    assert np.quantile(signs.cine[..., ::2, ::2], SCALE_QUANTILE) == pytest.approx(1, abs=1e-4)
    assert np.abs(signs.motion).max() <= LARGEST
    assert not signs.motion[0].any()  # since end diastole
    k = followed(signs)
    for i, part in enumerate((k.u_r, k.u_c, k.e_rr, k.e_cc)):
        mean = np.clip(part / MOTION_UNITS[i], -LARGEST, LARGEST)
        mean = mean.reshape(N_PHASES, CELLS[0], CELL, CELLS[1], CELL).mean((2, 4))
        assert_allclose(signs.motion[:, i], mean, atol=1e-5)


def test_a_still_scar_is_seen_in_the_motion() -> None:
    """At end systole the wall moves inwards, but where it is scarred."""
    half = N_PHASES // 2
    signs = motion_signs(cine(True, 0), (MIDDLE, MIDDLE), PIXEL_MM)
    y, x = np.indices((SIZE, SIZE)) - MIDDLE
    inner = np.abs(np.hypot(y, x) - 9) < 1.5
    scar = inner & (y > 3) & (x > 3)
    other = inner & (y < -3)
    u_r = followed(signs).u_r[half]
    assert u_r[other].mean() < -1.5
    assert np.abs(u_r[scar]).mean() < 1.0


@pytest.mark.parametrize("n", [5, 12, 25, 30])
def test_any_number_of_phases_is_a_beat(n: int) -> None:
    """Frames are taken evenly, the first is end diastole; with fewer some are taken twice."""
    frames = np.arange(1, n + 1, dtype=np.float32)[:, None, None] * np.ones((1, 32, 32), np.float32)
    shown = motion_signs(frames, (15.5, 15.5), PIXEL_MM).cine[:, 0, 0]
    at = np.rint(shown / shown[0]).astype(int) - 1
    assert at[0] == 0
    off = np.mod(at / n - np.arange(N_PHASES) / N_PHASES + 0.5, 1) - 0.5  # the beat is round: its end is its start
    assert np.abs(off).max() <= 0.5 / n + 1e-6


def test_brightness_of_the_scanner_does_not_matter() -> None:
    one, other = (motion_signs(cine(True, 0) * gain, (MIDDLE, MIDDLE), PIXEL_MM) for gain in (1, 700))
    assert_allclose(one.cine, other.cine, rtol=1e-4)
    assert_allclose(one.motion, other.motion, atol=0.02)
    one_t1, other_t1 = (recovery_signs(recovery(True, 0) * gain, TIMES_MS) for gain in (1, 700))
    assert_allclose(one_t1.inversions, other_t1.inversions, rtol=1e-3, atol=1e-4)
    assert_allclose(one_t1.t1, other_t1.t1, rtol=1e-3, atol=1e-3)


def test_recovery_is_shown_with_its_t1_and_clusters() -> None:
    signs = recovery_signs(recovery(True, 0), TIMES_MS)
    assert signs.inversions.shape == (N_INVERSIONS, SIZE, SIZE)
    assert_allclose(signs.timing, TIMES_MS / 1000)
    assert signs.t1.shape == (1, SIZE, SIZE)
    assert np.isfinite(signs.t1).all()
    assert signs.t1.max() <= LONGEST_T1_S
    assert signs.clusters.shape == (N_CLUSTERS, *CELLS)
    assert_allclose(signs.clusters.sum(0), 1, atol=1e-6)  # shares of a cell
    labels = labels_at(8, True)
    for k in (2, 3, 4):
        assert np.median(signs.t1[0][labels == k]) == pytest.approx(T1_MS[k] / 1000, rel=0.03)


def test_the_order_of_the_images_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(TIMES_MS))
    one, other = recovery_signs(recovery(True, 0), TIMES_MS), recovery_signs(recovery(True, 0)[order], TIMES_MS[order])
    for name in ("inversions", "timing", "t1", "clusters"):
        assert_array_equal(getattr(one, name), getattr(other, name))


def test_pixels_without_t1_are_zero() -> None:
    images = recovery(True, 0)
    images[:, :10] = 0
    signs = recovery_signs(images, TIMES_MS)
    assert not signs.t1[0, :8].any()


def test_seven_images_are_filled_up_by_the_fit() -> None:
    """The image that is missing in the widest gap is what the other seven expect there."""
    images, kept = recovery(False, 0), np.arange(8) != 6
    registered = register_inversions(images[kept], TIMES_MS[kept])
    filled, times = eight(registered, TIMES_MS[kept])
    assert filled.shape == (8, SIZE, SIZE)
    assert (np.diff(times) > 0).all()
    assert times[6] == (1980 + 3700) / 2
    assert_array_equal(filled[kept], registered.images)
    expected = np.abs(1 - 2 * np.exp(-times[6] / T1_MS[labels_at(8, False)]))
    assert np.median(np.abs(filled[6] - expected)) < 0.03
    signs = recovery_signs(images[kept], TIMES_MS[kept])
    assert signs.inversions.shape == (8, SIZE, SIZE)
    assert signs.timing[6] == pytest.approx(2.84)


def test_five_images_are_filled_up_too() -> None:
    kept = [0, 2, 4, 6, 7]
    signs = recovery_signs(recovery(False, 0)[kept], TIMES_MS[kept])
    assert len(signs.timing) == 8
    assert (np.diff(signs.timing) > 0).all()
    assert np.isfinite(signs.inversions).all()


def test_of_eleven_images_eight_are_chosen() -> None:
    """From first to last, each as it was measured; T1 is still fitted to all."""
    times = np.sort(np.r_[100 + 900 * np.arange(3), 180 + 900 * np.arange(3), 260 + 900 * np.arange(5)]).astype(float)
    t1 = T1_MS[labels_at(8, True)]
    images = np.abs(1 - 2 * np.exp(-times[:, None, None] / t1)).astype(np.float32)
    registered = register_inversions(images, times)
    chosen, at = eight(registered, times)
    assert len(at) == len(np.unique(at)) == 8
    assert (at[0], at[-1]) == (times[0], times[-1])
    for image, time in zip(chosen, at, strict=True):
        assert_array_equal(image, registered.images[list(times).index(time)])
    assert_allclose(np.nanmedian(registered.fit.t1_ms[labels_at(8, True) == 2]), T1_MS[2], rtol=0.01)


def test_enhancement_is_scaled_about_the_heart() -> None:
    """Bright fat at the edge of the window does not decide what is 1."""
    window = np.ones((128, 128))
    window[:12] = 50
    assert heart_crop(window).shape == (HEART_CROP, HEART_CROP)
    assert enhancement_scale(window) == 1
    assert heart_crop(window[:40, :100]).shape == (40, HEART_CROP)
    assert enhancement_scale(np.zeros((128, 128))) > 0
