"""Spectral clusters of inversion-recovery images of a geometric chest."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from scipy.ndimage import label

from cmrsr.tasks.mie.features.clusters import CELL, sinusoidal_code, tissue_clusters

N, K = 96, 6
TIMES = np.array([100.0, 180, 1000, 1080, 1900, 1980, 2800, 3700])
Y, X = np.indices((N, N)) - N / 2
FAT, WALL, BLOOD, AIR = 300.0, 1150.0, 1800.0, 0.0


def chest() -> NDArray[np.float64]:
    """T1 (ms) of fat about a heart of two blood pools and a wall, lungs beside."""
    t1 = np.full((N, N), FAT)
    t1[(np.abs(X) > 34) & (np.abs(Y) < 36)] = AIR
    t1[np.hypot(Y, X + 4) < 20] = WALL
    t1[np.hypot(Y, X + 4) < 11] = BLOOD
    t1[(np.hypot(Y, X - 14) < 13) & (np.hypot(Y, X + 4) >= 20)] = BLOOD
    return t1


def images(noise: float = 0.02, seed: int = 0) -> NDArray[np.float32]:
    t1 = chest()
    signal = np.where(t1 > 0, np.abs(1 - 2 * np.exp(-TIMES[:, None, None] / np.maximum(t1, 1))), 0)
    rng = np.random.default_rng(seed)
    return np.hypot(signal + rng.normal(0, noise, signal.shape), rng.normal(0, noise, signal.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def clusters() -> NDArray[np.uint8]:
    return tissue_clusters(images(), chest(), K)


def test_code_is_equation_3() -> None:
    d = 8
    code = sinusoidal_code(np.arange(9), d)
    assert code.shape == (9, d)
    for t in range(9):
        for j in range(d // 2):
            angle = t / 10000 ** (2 * j / d)
            assert code[t, 2 * j] == pytest.approx(np.sin(angle))
            assert code[t, 2 * j + 1] == pytest.approx(np.cos(angle))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tissues_are_told_apart(seed: int) -> None:
    """What a tissue is called is the name of no other tissue; only their borders may share one."""
    found = tissue_clusters(images(seed=seed), chest(), K, seed)
    assert found.shape == (N, N)
    assert found.dtype == np.uint8
    assert found.max() < K
    t1 = chest()
    names = []
    for tissue in (FAT, WALL, BLOOD):
        counted = np.bincount(found[t1 == tissue], minlength=K)
        names.append(set(np.flatnonzero(counted > 0.12 * counted.sum()).tolist()))
    fat, wall, blood = names
    assert not (fat & wall) | (wall & blood) | (fat & blood), names


def test_clusters_rise_with_t1(clusters: NDArray[np.uint8]) -> None:
    t1 = chest()
    medians = [np.median(t1[clusters == c]) for c in range(K) if (clusters == c).any()]
    assert medians == sorted(medians)
    assert medians[-1] == BLOOD


def test_clusters_are_compact(clusters: NDArray[np.uint8]) -> None:
    """Most pixels have the name of their neighbours, and every cluster is a few regions, not dust."""
    assert np.mean(clusters[:, :-CELL] == clusters[:, CELL:]) > 0.8
    kept = 0
    for c in np.unique(clusters):
        regions, _ = label(clusters == c)
        kept += np.sort(np.bincount(regions.ravel())[1:])[-3:].sum()
    assert kept > 0.9 * clusters.size


def test_the_same_images_have_the_same_clusters(clusters: NDArray[np.uint8]) -> None:
    assert_array_equal(tissue_clusters(images(), chest(), K), clusters)
    assert_array_equal(tissue_clusters(images() * 700, chest(), K), clusters)  # in any unit of brightness


def test_any_size_and_pixels_without_signal() -> None:
    """Odd sides, T1 that is not known somewhere, and nothing at all."""
    t1 = chest()
    t1[t1 == AIR] = np.nan
    found = tissue_clusters(images()[:, 10:71, 8:85], t1[10:71, 8:85], 4)
    assert found.shape == (61, 77)
    assert set(np.unique(found)) <= set(range(4))
    nothing = tissue_clusters(np.zeros((8, 32, 32)), np.full((32, 32), np.nan), 3)
    assert nothing.shape == (32, 32)
