"""Tissues of a slice by the way their signal recovers: spectral clustering of inversion-recovery images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
CODE = 8  # d of eq. 3: numbers that code a place or a time
NEIGHBOURS = 12  # of a pixel in the graph of likeness
WEAK = 0.1  # of the strong signal: where noise begins to blur the shape of the recovery
COMPACTNESS = 0.1  # weight of the place beside the signal: more, and the thin wall joins the blood beside it
CELL = 2  # pixels a side that are clustered as one: a graph of 4096 nodes for 128 x 128 pixels


def sinusoidal_code(positions: NDArray[Any], size: int = CODE) -> Array:
    """Eq. 3 of CPKDM: positions (n,) -> (n, size), sin and cos of t / 10000^(2j / d) in turn."""
    j = np.arange(size // 2)
    angle = np.asarray(positions, np.float64)[:, None] / 10000.0 ** (2 * j / size)
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(len(angle), size)


def tissue_clusters(images: NDArray[Any], t1_ms: NDArray[Any], k: int, seed: int = 0) -> NDArray[np.uint8]:
    """Clusters 0..k-1 of the pixels of inversion-recovery images (n, y, x), by rising median T1 (y, x).

    What the paper leaves open is ours: the feature of a pixel is its recovery curve, normalised, projected on the code
    of the images' order, and the codes of its row and column, which keep clusters together in space; the graph of
    likeness joins each pixel with its nearest ``NEIGHBOURS`` in that space (Gaussian of the distance, scaled by each
    pixel's own neighbourhood: Zelnik-Manor and Perona 2004); then the normalised spectral clustering of Ng, Jordan and
    Weiss 2001. Pixels without signal join the cluster that is nearest. Source: CPKDM (2024), 2.2 and equation 3.
    """
    small = _cells(np.asarray(images, np.float64))
    n, rows, columns = small.shape
    curve = small.reshape(n, -1).T
    strength = np.linalg.norm(curve, axis=1)
    weak = WEAK * max(float(np.quantile(strength, 0.98)), 1e-9)
    curve = curve / (strength + weak)[:, None]  # its shape, which T1 decides; air has none
    signal = curve @ sinusoidal_code(np.arange(n), CODE)
    signal = signal / max(float(signal.std()), 1e-9)
    y, x = np.indices((rows, columns)).reshape(2, -1)
    place = np.concatenate([sinusoidal_code(y * (CODE / rows)), sinusoidal_code(x * (CODE / columns))], 1)
    feature = np.concatenate([signal, COMPACTNESS * place], 1)
    labels = _spectral(feature, k, seed)
    median = _cells(np.nan_to_num(np.asarray(t1_ms, np.float64))[None])[0].ravel()
    order = np.argsort([np.median(median[labels == c]) if (labels == c).any() else np.inf for c in range(k)])
    ranked = np.argsort(order)[labels].reshape(rows, columns)
    return np.asarray(np.kron(ranked, np.ones((CELL, CELL))), np.uint8)[: images.shape[1], : images.shape[2]]


def _cells(images: Array) -> Array:
    """Means over CELL x CELL pixels of (n, y, x), the edge filled up."""
    n, y, x = images.shape
    full = np.pad(images, ((0, 0), (0, -y % CELL), (0, -x % CELL)), mode="edge")
    return np.asarray(full.reshape(n, full.shape[1] // CELL, CELL, full.shape[2] // CELL, CELL).mean((2, 4)))


def _spectral(feature: Array, k: int, seed: int) -> NDArray[np.int64]:
    """Cluster numbers (n,) of points (n, f)."""
    distance, index = cKDTree(feature).query(feature, NEIGHBOURS + 1)
    distance, index = distance[:, 1:], index[:, 1:]
    scale = np.maximum(distance[:, NEIGHBOURS // 2], 1e-9)
    weight = np.exp(-(distance**2) / (scale[:, None] * scale[index]))
    n = len(feature)
    rows = np.repeat(np.arange(n), NEIGHBOURS)
    graph = csr_matrix(coo_matrix((weight.ravel(), (rows, index.ravel())), shape=(n, n)))
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(1)).ravel()
    half = 1 / np.sqrt(np.maximum(degree, 1e-12))
    likeness = csr_matrix(graph.multiply(half[:, None]).multiply(half[None]))
    start = np.random.default_rng(seed).random(n)
    _, vectors = eigsh(likeness + identity(n), k=k, which="LA", v0=start, tol=1e-4)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    _, labels = kmeans2(unit, k, minit="++", rng=np.random.default_rng(seed), iter=30)
    return np.asarray(labels, np.int64)
