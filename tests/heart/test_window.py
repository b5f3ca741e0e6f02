"""The reading window: places and areas are kept between it and a matrix of any pixel size."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmrsr.heart.window import ENCODED, ORIENTATIONS, READING_MM, WINDOW, ReadingWindow, encoded, in_turn

MIDDLE = (WINDOW - 1) / 2
PIXELS = [(1.5, 1.5), (0.8, 0.8), (2.2, 2.2), (1.0, 2.0), (2.0, 0.9)]


def disc(
    matrix: tuple[int, int], pixel_mm: tuple[float, float], at: tuple[float, float], radius_mm: float
) -> np.ndarray:
    """(y, x): smooth at its edge over a pixel, so that its sum is its area."""
    y, x = np.mgrid[: matrix[0], : matrix[1]]
    away = radius_mm - np.hypot((y - at[0]) * pixel_mm[0], (x - at[1]) * pixel_mm[1])
    return np.clip(0.5 + away / max(pixel_mm), 0, 1).astype(np.float32)


def centroid(image: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((y * image).sum() / image.sum()), float((x * image).sum() / image.sum())


@pytest.mark.parametrize("pixel_mm", PIXELS)
def test_what_lies_at_the_centre_lies_in_the_middle(pixel_mm: tuple[float, float]) -> None:
    matrix, at = (151, 140), (63.3, 71.8)
    image = disc(matrix, pixel_mm, at, 22.0)
    shown = ReadingWindow(centre=at, pixel_mm=pixel_mm).cut(image[None])[0]
    assert shown.shape == (WINDOW, WINDOW)
    shown = shown[44:-44, 44:-44]  # 60 mm: beyond, the image is mirrored where it ends
    assert_allclose(centroid(shown), (MIDDLE - 44, MIDDLE - 44), atol=0.05)
    assert shown.sum() * READING_MM**2 == pytest.approx(np.pi * 22**2, rel=0.01)


@pytest.mark.parametrize("pixel_mm", PIXELS)
def test_labels_lie_where_they_were_seen(pixel_mm: tuple[float, float]) -> None:
    """From the window to the matrix and back, off the middle."""
    matrix, at, radius = (151, 140), (63.3, 71.8), 22.0
    seen = disc((WINDOW, WINDOW), (READING_MM,) * 2, (MIDDLE + 7, MIDDLE - 12), radius)
    probabilities = np.stack([1 - seen, 0 * seen, 0 * seen, seen])[None]
    labels = ReadingWindow(centre=at, pixel_mm=pixel_mm).labels(probabilities, matrix)
    assert labels.shape == (1, *matrix)
    assert set(np.unique(labels)) == {0, 3}
    expected = at[0] + 7 * READING_MM / pixel_mm[0], at[1] - 12 * READING_MM / pixel_mm[1]
    assert_allclose(centroid(labels[0] == 3), expected, atol=0.1)
    assert (labels == 3).sum() * pixel_mm[0] * pixel_mm[1] == pytest.approx(np.pi * radius**2, rel=0.02)


@pytest.mark.parametrize("centre", [(3.0, 30.0), (-40.0, 30.0), (55.0, 58.0), (500.0, 30.0)])
def test_a_window_across_the_edge_of_the_image(centre: tuple[float, float]) -> None:
    """Nothing is labelled but pixels of the image; one that misses it labels none."""
    window = ReadingWindow(centre=centre, pixel_mm=(1.5, 1.5))
    everywhere = np.zeros((1, 4, WINDOW, WINDOW), np.float32)
    everywhere[:, 2] = 1
    labels = window.labels(everywhere, (60, 61))
    y, x = np.mgrid[:60, :61]
    inside = (np.abs(y - centre[0]) <= MIDDLE) & (np.abs(x - centre[1]) <= MIDDLE)
    assert_array_equal(labels[0], np.where(inside, 2, 0))
    assert np.isfinite(window.cut(np.ones((1, 60, 61), np.float32))).all()


def test_noise_is_averaged_where_the_window_is_coarser() -> None:
    """Sampling every third pixel alone would keep its spread."""
    noise = 10 + np.random.default_rng(0).normal(size=(1, 400, 400)).astype(np.float32)
    shown = ReadingWindow(centre=(200, 200), pixel_mm=(0.5, 0.5)).cut(noise)
    assert 0.15 < shown.std() < 0.5
    assert shown.mean() == pytest.approx(10, abs=0.05)


def test_moving_a_window() -> None:
    window = ReadingWindow(centre=(50.0, 40.0), pixel_mm=(1.0, 3.0))
    assert window.moved_to(MIDDLE, MIDDLE) == window
    assert_allclose(window.moved_to(MIDDLE + 2, MIDDLE - 4).centre, (53.0, 38.0))


def test_the_encoder_sees_the_middle() -> None:
    windows = np.arange(WINDOW**2, dtype=np.float32).reshape(1, WINDOW, WINDOW)
    assert encoded(windows).shape == (1, ENCODED, ENCODED)
    assert encoded(windows).mean() == windows.mean()


@pytest.mark.parametrize("k", range(ORIENTATIONS))
def test_every_orientation_leads_back(k: int) -> None:
    images = np.random.default_rng(k).random((2, 3, 8, 8), np.float32)
    turned = in_turn(images, k)
    assert_array_equal(in_turn(turned, k, back=True), images)
    assert k == 0 or not np.array_equal(turned, images)
    assert all(np.array_equal(turned, in_turn(images, other)) == (other == k) for other in range(ORIENTATIONS))
