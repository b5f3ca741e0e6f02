import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.physics.fourier import fft1c
from cmrsr.physics.kspace import n_lines
from cmrsr.training import pairs
from cmrsr.training.pairs import SCALE_QUANTILE, PairConfig, draw_batch

CONFIG = PairConfig(crop=24, fraction=(0.3, 0.5), phase_share=0.0)


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


def test_same_seed_same_batch() -> None:
    a, b, other = (draw_batch(_images(), CONFIG, 6, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name in ("lr", "hr", "brightness"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
        assert getattr(a, name).tobytes() != getattr(other, name).tobytes()


def test_shapes_and_units() -> None:
    batch = draw_batch(_images(), CONFIG, 40, np.random.default_rng(0))
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
    whole = PairConfig(crop=40, fraction=(0.3, 0.5), phase_share=0.0)
    batch = draw_batch(_images(shape=(40, 40)), whole, 10, np.random.default_rng(0))
    scale = [np.quantile(lr[0, ::2, ::2], SCALE_QUANTILE) for lr in batch.lr]
    assert_allclose(scale, batch.brightness, rtol=1e-5)


def test_constant_and_empty_images_stay_finite() -> None:
    flat = [np.full((40, 40), 7, np.uint16), np.zeros((40, 40), np.uint16)]
    batch = draw_batch(flat, CONFIG, 8, np.random.default_rng(0))
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
    config = PairConfig(crop=24, fraction=(0.3, 0.5), phase_share=phase_share)
    batch = draw_batch(_images(), config, 60, np.random.default_rng(0))
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
    config = PairConfig(crop=32, fraction=(0.3, 0.5), phase_share=0.0)
    batch = draw_batch([ramp], config, 64, np.random.default_rng(0))
    down, right = (np.diff(batch.hr[:, 0], axis=axis).mean((1, 2)) for axis in (1, 2))
    kinds = {(bool(abs(d) > abs(r)), bool(d > 0), bool(r > 0)) for d, r in zip(down, right, strict=True)}
    assert len(kinds) == 8
