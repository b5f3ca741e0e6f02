from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.physics.fourier import fft1c
from cmrsr.physics.kspace import n_lines, truncate
from cmrsr.tasks.sr.training import pairs
from cmrsr.tasks.sr.training.acquisition import Exposure
from cmrsr.tasks.sr.training.data import Pool
from cmrsr.tasks.sr.training.pairs import (
    SCALE_QUANTILE,
    Batch,
    PairConfig,
    acquired_short,
    draw_batch,
    recoloured,
    shortened_afterwards,
    smallest_image,
)
from cmrsr.tasks.sr.training.system import WEIGHT_FLOOR, error_weight

CONFIG = PairConfig(crop=24, fraction=(0.3, 0.5), phase_share=0.0, short=0.0)


def _images(n: int = 4, shape: tuple[int, int] = (48, 40)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.indices(shape)
    images = []
    for _ in range(n):
        image = np.full(shape, 100.0)
        for _ in range(20):
            cy, cx = rng.uniform(0, shape[0], 2)
            image[np.hypot(y - cy, x - cx) < rng.uniform(2, 10)] = rng.uniform(0, 1000)
        images.append(image.astype(np.uint16))
    return images


def _pool(shape: tuple[int, int] = (48, 40)) -> list[Pool]:
    return [Pool(images=_images(shape=shape))]


@pytest.mark.parametrize("sharp", [False, True])
def test_same_seed_same_batch(sharp: bool) -> None:
    images = [image / np.float32(1000) for image in _images(shape=(48, 48))]  # scenes are square
    config = PairConfig(crop=24, fraction=(0.3, 0.5), phase_share=0.3, short=0.3)
    pools = [Pool(images=images, sharp=sharp, recoloured=sharp)]
    a, b, other = (draw_batch(pools, config, 6, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name in ("lr", "hr", "expected", "brightness", "fraction"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
        assert getattr(a, name).tobytes() != getattr(other, name).tobytes()


def test_shapes_and_units() -> None:
    batch = draw_batch(_pool(), CONFIG, 40, np.random.default_rng(0))
    assert batch.lr.shape == batch.hr.shape == (40, 1, 24, 24)
    assert batch.lr.dtype == batch.hr.dtype == batch.brightness.dtype == np.float32
    assert batch.brightness.shape == (40,)
    assert batch.brightness.min() >= 0.3
    assert batch.brightness.max() <= 1.3
    assert batch.lr.min() >= 0
    error = np.sqrt(((batch.hr - batch.lr) ** 2).mean())
    assert 0 < error < 0.5 * batch.hr.std()
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(batch.lr, batch.hr, strict=True)]
    assert np.median(correlation) > 0.9


def test_brightness_is_the_frames_scale_of_the_series() -> None:
    whole = PairConfig(crop=40, fraction=(0.3, 0.5), phase_share=0.0, short=0.0)
    batch = draw_batch(_pool(shape=(40, 40)), whole, 10, np.random.default_rng(0))
    scale = [np.quantile(lr[0, ::2, ::2], SCALE_QUANTILE) for lr in batch.lr]
    assert_allclose(scale, batch.brightness, rtol=1e-5)


def test_constant_and_empty_images_stay_finite() -> None:
    flat = [np.full((40, 40), 7, np.uint16), np.zeros((40, 40), np.uint16)]
    batch = draw_batch([Pool(images=flat)], CONFIG, 8, np.random.default_rng(0))
    assert np.isfinite(batch.lr).all()
    assert_allclose(batch.lr, batch.hr, atol=1e-4)


@pytest.mark.parametrize("phase_share", [0.0, 1.0])
def test_the_low_resolution_image_is_band_limited(monkeypatch: pytest.MonkeyPatch, phase_share: float) -> None:
    seen: list[tuple[int, int, np.ndarray]] = []

    def spy(image: np.ndarray, lines: int, axis: int) -> np.ndarray:
        out = truncate(image, lines, axis)
        seen.append((lines, image.shape[axis], out))
        return out

    truncate = pairs.truncate
    monkeypatch.setattr(pairs, "truncate", spy)
    config = PairConfig(crop=24, fraction=(0.3, 0.5), phase_share=phase_share, short=0.0)
    batch = draw_batch(_pool(), config, 60, np.random.default_rng(0))
    inside = 0
    for lines, size, complex_lr in seen:
        power = (np.abs(fft1c(complex_lr, 0)) ** 2).sum(1)
        outside = np.ones(size, bool)
        outside[size // 2 - lines // 2 : size // 2 - lines // 2 + lines] = False
        assert power[outside].max() < 1e-9 * power.max()
        assert np.iscomplexobj(complex_lr)
        assert n_lines(0.25, size) <= lines <= n_lines(0.8, size)
        inside += n_lines(0.3, size) <= lines <= n_lines(0.5, size)
    assert len(seen) == len(batch.lr)
    assert inside / len(seen) > 0.8  # the others lie beyond on purpose
    assert {size for _, size, _ in seen} == {40, 48}  # either axis is phase encoded
    real = [np.abs(c.imag).max() < 1e-3 * np.abs(c).max() for lines, _, c in seen if lines % 2]
    assert all(real) if phase_share == 0 else not any(real)


def test_crops_prefer_the_middle() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([pairs.corner((48, 40), 24, rng) for _ in range(3000)])
    assert_array_equal(corners.min(0), [0, 0])
    assert_array_equal(corners.max(0), [24, 16])
    assert_allclose(corners.mean(0), [12, 8], atol=0.3)
    assert np.all(corners.std(0) < [24 / np.sqrt(12), 16 / np.sqrt(12)])


def test_flips_and_turns_all_happen() -> None:
    ramp = np.add.outer(100.0 * np.arange(32), np.arange(32)) + 500
    config = PairConfig(crop=32, fraction=(0.3, 0.5), phase_share=0.0, short=0.0)
    batch = draw_batch([Pool(images=[ramp])], config, 64, np.random.default_rng(0))
    down, right = (np.diff(batch.hr[:, 0], axis=axis).mean((1, 2)) for axis in (1, 2))
    kinds = {(bool(abs(d) > abs(r)), bool(d > 0), bool(r > 0)) for d, r in zip(down, right, strict=True)}
    assert len(kinds) == 8


def _exposure(rng: np.random.Generator, noise: float) -> Exposure:
    """A ring and a bar under a smooth phase, with white noise."""
    y, x = np.indices((48, 40))
    clean = (0.2 + ((np.hypot(y - 24, x - 20) < 14) & (np.hypot(y - 24, x - 20) > 8)) + (np.abs(y - 6) < 2)) * 1.0
    clean = (clean * np.exp(0.3j * np.sin(y / 20))).astype(np.complex64)
    white = rng.standard_normal((2, 48, 40))
    noisy = (clean + noise * (white[0] + 1j * white[1])).astype(np.complex64)
    return Exposure(noisy, clean, np.full((48, 40), noise, np.float32))


@pytest.mark.parametrize("kind", ["afterwards", "short"])
def test_expected_is_the_mean_over_noise_that_is_not_known(kind: str) -> None:
    """Noise in the missing lines is drawn again and again, the rest stays: the mean of hr is what was expected."""
    rng, lines, noise = np.random.default_rng(0), 16, 0.15
    first = _exposure(rng, noise)
    low = truncate(first.noisy - first.clean, lines, 0)
    total, expected, n = np.zeros((48, 40)), np.zeros((48, 40)), 400
    for _ in range(n):
        other = _exposure(rng, noise)
        random = other.noisy - other.clean
        again = Exposure(first.clean + low + random - truncate(random, lines, 0), first.clean, first.sd)
        _, hr, mean = acquired_short(again, lines, 0.0) if kind == "short" else shortened_afterwards(again, lines)
        total += hr
        expected += mean
    error = np.abs(total - expected) / n
    # of n draws; that the band of a magnitude is known, not that of the complex image, costs a little
    assert error.mean() < {"short": 2.0, "afterwards": 2.0}[kind] * noise / np.sqrt(n)


@pytest.mark.parametrize("make", [shortened_afterwards, lambda e, lines: acquired_short(e, lines, 0.0)])
def test_without_noise_the_image_itself_is_expected(make: Callable[..., tuple[np.ndarray, ...]]) -> None:
    lr, hr, expected = make(_exposure(np.random.default_rng(0), 0.0), 17)
    assert_allclose(expected, hr, atol=2e-6)
    assert np.abs(lr - hr).max() > 0.1


def test_expected_is_nearer_to_the_clean_image_and_as_near_to_the_low_resolution() -> None:
    exposure = _exposure(np.random.default_rng(1), 0.1)
    lr, hr, expected = shortened_afterwards(exposure, 17)
    clean = np.abs(exposure.clean)
    assert np.square(expected - clean).mean() < 0.6 * np.square(hr - clean).mean()
    assert_allclose(truncate(expected, 17, 0), truncate(hr, 17, 0), atol=1e-5)  # what was measured stays
    assert np.square(expected - lr).mean() < np.square(hr - lr).mean()


def test_a_short_acquisition_knows_nothing_beyond_its_lines() -> None:
    exposure = _exposure(np.random.default_rng(2), 0.1)
    changed = exposure.noisy + 0.5 * (exposure.noisy - truncate(exposure.noisy, 16, 0))
    (lr, hr, _), (same, other, _) = (
        acquired_short(Exposure(noisy.astype(np.complex64), exposure.clean, exposure.sd), 16, 0.4)
        for noisy in (exposure.noisy, changed)
    )
    assert_allclose(lr, same, atol=1e-5)
    assert np.abs(hr - other).max() > 0.05


def test_pools_are_drawn_by_their_shares() -> None:
    pools = [Pool(images=[np.eye(32) + i], share=share) for i, share in ((100, 3.0), (500, 1.0))]
    config = PairConfig(crop=32, fraction=(1.0, 1.0), phase_share=0.0, short=0.0)
    batch = draw_batch(pools, config, 400, np.random.default_rng(0))
    # the first is bright but for its diagonal of one in a hundred, the second nearly flat
    contrast = np.ptp(batch.hr, axis=(1, 2, 3)) / batch.brightness
    assert np.mean(contrast > 0.005) == pytest.approx(0.75, abs=0.06)


def test_scenes_are_scanned_and_images_are_not() -> None:
    image = _images(1, (64, 64))[0] / 1000
    config = PairConfig(crop=32, fraction=(0.3, 0.5), phase_share=0.0, short=0.5)
    finished = draw_batch([Pool(images=[image])], config, 16, np.random.default_rng(0))
    scanned = draw_batch([Pool(images=[image], sharp=True)], config, 16, np.random.default_rng(0))
    assert_array_equal(finished.hr, finished.expected)
    assert np.abs(scanned.hr - scanned.expected).mean() > 1e-3
    assert np.isfinite(scanned.lr).all()
    assert scanned.lr.min() >= 0


def test_the_smallest_image_of_a_scene_is_smaller_than_the_scene() -> None:
    images = [np.zeros((50, 60)), np.zeros((70, 70))]
    assert smallest_image(Pool(images=images)) == 50
    assert smallest_image(Pool(images=images, sharp=True)) == 35
    config = PairConfig(crop=32, fraction=(0.3, 0.5), phase_share=0.0, short=0.0)
    draw_batch([Pool(images=[np.ones((46, 46))], sharp=True)], config, 60, np.random.default_rng(0))  # 32 are there


def test_recolouring_maps_grey_values_smoothly() -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(-0.1, 1.3, 400, dtype=np.float32)[None]
    curves = np.concatenate([recoloured(ramp, rng) for _ in range(60)])
    assert curves.min() >= 0
    assert curves.max() < 1.6
    assert np.abs(np.diff(curves, axis=1)).max() < 0.03  # no step: neighbours 0.0035 apart
    rising = (np.diff(curves, axis=1) > -1e-6).all(1).mean()
    assert 0.3 < rising < 0.9  # some contrasts are reversed in part
    assert np.std(curves[:, 200]) > 0.1


def test_every_image_counts_by_what_it_misses() -> None:
    """The weighted squared residual of images that miss much is the same for all: relative errors count."""
    lr = np.zeros((3, 1, 4, 4), np.float32)
    hr = np.ones((3, 1, 4, 4), np.float32) * np.array([0.0, 1.0, 10.0], np.float32)[:, None, None, None]
    weight = error_weight(Batch(lr, hr, hr, np.ones(3, np.float32), np.full(3, 0.4, np.float32)), residual_std=0.1)
    power = (hr - lr).reshape(3, -1).var(1) + (hr - lr).reshape(3, -1).mean(1) ** 2
    assert_allclose((weight * power)[1:], 0.01, rtol=2e-3)
    assert weight[0] == pytest.approx(1 / WEIGHT_FLOOR)
