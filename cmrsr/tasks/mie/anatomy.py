"""Where the ventricles lie in the slices of ``mie``: the cine's own reading, brought onto the T1 images."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from cmrsr.heart.reader import HeartReader
from cmrsr.heart.window import WINDOW
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.tasks.mie.features.signs import heart_crop

Array = NDArray[np.float32]
Labels = NDArray[np.uint8]
FARTHEST = 7  # pixels of the window between the breath-holds of cine and T1 images
EDGE_SD = 1.5  # pixels that edges are looked for at
EDGE_WEIGHT = 1.0  # of the correlation of edges beside the Dice
PRICE = 0.004  # of Dice, a pixel of shift: the nearest of equally good places


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Labels (t, z, y, x) of a cine's windows from end diastole on, and its frames of end diastole and systole.

    ed: counted as the cine has its frames; es: from end diastole on.
    """

    labels: Labels
    ed: int
    es: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The phase of a cine that T1 images were taken at: shift (y, x) in pixels of the cine's heart from that of T1.

    agreement: Dice of both with it; edges: the correlation of their edges.
    """

    phase: int
    shift: tuple[float, float]
    agreement: float
    edges: float


def read_beat(windows: Array, reader: HeartReader) -> Beat:
    """Labels of a cine's windows (t, z, WINDOW, WINDOW), turned so that the fullest LV comes first."""
    labels = reader.read(windows)
    size = (labels == LV).sum((1, 2, 3))
    ed = int(size.argmax())
    return Beat(labels=np.roll(labels, -ed, 0), ed=ed, es=int(np.roll(size, -ed).argmin()))


def match(beat: Labels, cine: Array, t1: Labels, inversions: Array) -> Match:
    """The phase of a cine (t, y, x) and the shift that agree best with T1 images (n, y, x), both with their labels.

    Edges agree by their correlation, the LV and the LV with its wall by their Dice; where the model misreads the T1
    images, edges alone decide.
    """
    best = Match(phase=0, shift=(0.0, 0.0), agreement=0.0, edges=0.0)
    score = -np.inf
    at = np.fft.fftfreq(WINDOW, 1 / WINDOW).round()
    far = np.hypot(*np.meshgrid(at, at, indexing="ij"))
    still = heart_crop(edge_map(inversions))
    for phase, labels in enumerate(beat):
        whole = _overlap(np.isin(t1, (LV, MYOCARDIUM)), np.isin(labels, (LV, MYOCARDIUM)))
        both = (whole + _overlap(t1 == LV, labels == LV)) / 2
        edges = _correlation(still, edge_map(cine[phase : phase + 1]))
        priced = np.where(far <= FARTHEST, both + EDGE_WEIGHT * edges - PRICE * far, -np.inf)
        y, x = np.unravel_index(int(priced.argmax()), priced.shape)
        if priced[y, x] > score:
            score = float(priced[y, x])
            shift = (float(at[y]), float(at[x]))
            best = Match(phase=phase, shift=shift, agreement=float(whole[y, x]), edges=float(edges[y, x]))
    return best


def edge_map(images: Array) -> Array:
    """Root of the mean strength of the edges in images (n, y, x) of any brightness: (y, x)."""
    return np.asarray(np.sqrt(np.mean([_edges(i / max(float(i.mean()), 1e-6)) for i in images], 0)))


def likeness(cine: Array, inversions: Array) -> float:
    """How alike the edges of a cine (t, y, x) and of T1 images (n, y, x) are, both on one window: -1 to 1.

    Correlation of the roots of the mean strength of their edges: chest, RV and vessels of one body lie in one place
    whatever the contrast, those of another do not, even where its LV happens to fit.
    """
    a, b = edge_map(cine), edge_map(inversions)
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _edges(image: Array) -> Array:
    smooth = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), EDGE_SD)
    return np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))


def _correlation(still: Array, moved: Array) -> NDArray[np.float64]:
    """Correlation of a map about the middle with a larger one moved back by (y, x), for all shifts in the window."""
    template = np.zeros(moved.shape)
    top, left = ((n - m) // 2 for n, m in zip(moved.shape, still.shape, strict=True))
    template[top : top + still.shape[0], left : left + still.shape[1]] = still - still.mean()
    centred = moved - moved.mean()
    size = float(np.linalg.norm(template) * np.linalg.norm(heart_crop(centred)))
    if size == 0:
        return np.zeros(moved.shape)
    return _products(template, centred) / size


def _overlap(still: NDArray[np.bool_], moved: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice of one mask with another moved back by (y, x), for every shift round the window."""
    total = still.sum() + moved.sum()
    return 2 * _products(still, moved) / total if total else np.zeros(still.shape)


def _products(still: NDArray[Any], moved: NDArray[Any]) -> NDArray[np.float64]:
    """Sum over the window of one map times another moved back by (y, x), for every shift round the window."""
    return np.asarray(irfft2(rfft2(moved.astype(float)) * np.conj(rfft2(still.astype(float))), still.shape))
