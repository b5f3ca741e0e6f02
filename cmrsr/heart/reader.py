"""Reads the heart in windows of a cine with an engine's graphs: where it is, and what is what."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.heart.masks import clean_labels
from cmrsr.heart.window import ENCODED, READING_MM, WINDOW, ReadingWindow, encoded, in_turn, with_neighbours
from cmrsr.io.survey import SCALE_QUANTILE
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.runtime.engine import load_graph

Array = NDArray[np.float32]
READINGS = 2  # orientations in which every image is read: masks are means over them
KEPT_GRAPHS = 2  # numbers of time steps: those of the search for the heart, and those of the series
SEARCH_MM = 60.0  # from the middle of the image, where the heart is looked for beside the place that moves most
SMALLEST_HEART_MM2 = 600.0  # of LV cavity and wall over the slices that are looked at: less is no heart
THINNEST_MM = 2.5  # wall: an edge that is blurred by a pixel or two is thinner, a scar or a dilated heart is not
CLEAR_HEART_MM2 = 800.0  # likewise, a slice: more is certainly a heart, and no other need be looked for


class HeartReader:
    """The graphs that read windows of a cine, see ``cmrsr.heart.graphs``, compiled for its number of slices."""

    def __init__(self, bundle: Bundle, n_slices: int, batch_size: int, choice: DeviceChoice) -> None:
        self.bundle, self._choice = bundle, choice
        self.batch = -(-n_slices // -(-n_slices // batch_size))  # evenly filled
        self.encoder = self._load("encoder", lr=(self.batch, 1, ENCODED, ENCODED))
        self.decoder = self._load(
            "decoder", image=(self.batch, self.n_shown, WINDOW, WINDOW), context=(self.batch, self.n_told)
        )  # fmt: skip
        self._graphs: dict[int, Engine] = {}

    @property
    def n_told(self) -> int:
        """Numbers that every frame is told of its beat."""
        return int(self.bundle.manifest.graphs["decoder"].inputs[1].shape[1])

    @property
    def n_shown(self) -> int:
        """Slices that the decoder sees of a frame: the one it reads, and neighbours."""
        return int(self.bundle.manifest.graphs["decoder"].inputs[0].shape[1])

    @property
    def n_features(self) -> int:
        return int(self.bundle.manifest.graphs["encoder"].outputs[0].shape[1])

    def node(self, windows: Array) -> Array:
        """Features (f,) of a time step: the mean over its slices (z, WINDOW, WINDOW)."""
        return np.asarray(self.in_batches(self.encoder, encoded(windows)[:, None])[0].mean(0))

    def graph(self, nodes: Array, position: Array) -> tuple[Array, Array, Array]:
        """(alpha, context, whole) of the time steps; compiled for their number, and kept for the last two numbers."""
        n = len(nodes)
        if n not in self._graphs:
            if len(self._graphs) == KEPT_GRAPHS:
                self._graphs.pop(next(iter(self._graphs))).close()
            self._graphs[n] = self._load("graph", precise=True, nodes=(n, self.n_features), position=(n,))
        alpha, context, whole = self._graphs[n](nodes, position)
        return alpha, context, whole

    def contexts(self, beat: Array) -> Array:
        """What every time step of windows (t, z, WINDOW, WINDOW), in units of their scale, is told: (t, c)."""
        nodes = np.stack([self.node(images) for images in beat])
        return self.graph(nodes, (np.arange(len(nodes)) / len(nodes)).astype(np.float32))[1]

    def labels(self, images: Array, told: Array) -> NDArray[np.uint8]:
        """Cleaned labels of the windows (z, WINDOW, WINDOW) of one time step."""
        probabilities, _ = self.decoded(images, told)
        return clean_labels(probabilities.argmax(1).astype(np.uint8), READING_MM**2)

    def decoded(self, images: Array, told: Array, orientations: int = READINGS) -> tuple[Array, Array]:
        """Probabilities (z, classes, WINDOW, WINDOW), areas (z, 3) in pixels of the windows (z, WINDOW, WINDOW) of one
        time step that is told ``told`` (c,) of its beat: means over the first ``orientations``.
        """
        probabilities, areas = zip(*(self.in_orientation(images, told, k) for k in range(orientations)), strict=True)
        return np.mean(probabilities, 0), np.mean(areas, 0)

    def in_orientation(self, images: Array, told: Array, k: int) -> tuple[Array, Array]:
        """As ``decoded``, read once, in the k-th orientation of ``in_turn``."""
        shown = with_neighbours(in_turn(images, k), (self.n_shown - 1) // 2)
        probabilities, areas = self.in_batches(self.decoder, shown, np.repeat(told[None], len(images), 0))
        return in_turn(probabilities, k, back=True), areas

    def read(self, beat: Array) -> NDArray[np.uint8]:
        """Cleaned labels of windows (t, z, WINDOW, WINDOW) of any brightness."""
        shown = beat / np.float32(max(brightness(beat), 1e-6))
        return np.stack([self.labels(images, told) for images, told in zip(shown, self.contexts(shown), strict=True)])

    def _load(self, name: str, *, precise: bool = False, **shapes: tuple[int, ...]) -> Engine:
        """A graph compiled; precise: in full precision, where that costs nothing."""
        choice = replace(self._choice, precision="f32") if precise else self._choice
        return load_graph(self.bundle, self.bundle.manifest.graphs[name], shapes, choice)

    def close(self) -> None:
        for engine in {id(e): e for e in self._open()}.values():
            engine.close()

    def _open(self) -> list[Engine]:
        return [self.encoder, self.decoder, *self._graphs.values()]

    def in_batches(self, engine: Callable[..., tuple[Array, ...]], *inputs: Array) -> tuple[Array, ...]:
        """Inputs (n, ...) through an engine of a static batch, the tail filled up."""
        n = len(inputs[0])
        parts = []
        for start in range(0, n, self.batch):
            cut = [x[start : start + self.batch] for x in inputs]
            missing = self.batch - len(cut[0])
            full = [np.concatenate([x, np.repeat(x[-1:], missing, 0)]) if missing else x for x in cut]
            parts.append([out[: len(cut[0])] for out in engine(*(np.ascontiguousarray(x, np.float32) for x in full))])
        return tuple(np.concatenate(p) for p in zip(*parts, strict=True))


def middle_slices(n_slices: int) -> NDArray[np.int64]:
    """Of a stack, those where the heart is looked for."""
    return np.unique(np.round(np.linspace(0.3, 0.7, 4) * (n_slices - 1)).astype(int))


def find_heart(
    looked: Array, moving: tuple[float, float], pixel_mm: tuple[float, float], reader: HeartReader, name: str
) -> ReadingWindow:
    """The window around the heart in images (t, z, y, x) of a few phases: where the decoder sees most of an LV.

    moving: (y, x) where the images change most, looked at first. UnusableError: there is no heart in them.
    """
    matrix = looked.shape[2:]
    middle = ((matrix[0] - 1) / 2, (matrix[1] - 1) / 2)
    centres = [moving, middle]
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        centres.append((middle[0] + dy * SEARCH_MM / pixel_mm[0], middle[1] + dx * SEARCH_MM / pixel_mm[1]))
    best: tuple[float, ReadingWindow] | None = None
    for centre in centres:
        if best is not None and best[0] > CLEAR_HEART_MM2 * looked.shape[1]:
            break
        window = ReadingWindow(centre=centre, pixel_mm=pixel_mm)
        for _ in range(2):  # look, then look again with the heart in the middle
            size, at = _look(window, looked, reader)
            if at is None:
                break
            if best is None or size > best[0]:
                best = (size, window.moved_to(*at))
            window = window.moved_to(*at)
    if best is None or best[0] < SMALLEST_HEART_MM2:
        raise UnusableError(
            f"{name}: no left ventricle was found in its middle slices, expected a short-axis cine of the heart"
        )
    return best[1]


def brightness(windows: Array) -> float:
    """What most pixels of the windows (..., y, x) stay below, as in training: their scale."""
    return float(np.quantile(windows[..., ::2, ::2], SCALE_QUANTILE))


def _look(window: ReadingWindow, looked: Array, reader: HeartReader) -> tuple[float, tuple[float, float] | None]:
    """Area (mm2) of the LV with its wall in a window, mean over time, and its middle (y, x) in pixels of it."""
    cut = np.stack([window.cut(images) for images in looked])
    if brightness(cut) <= 0:
        return 0.0, None
    areas, places = [], []
    for labels in reader.read(cut):
        places.append(np.argwhere(labels > 0)[:, 1:])
        areas.append(_size_mm2(labels))
    found = np.concatenate(places)
    if not len(found):
        return 0.0, None
    y, x = found.mean(0)
    return float(np.mean(areas)), (float(y), float(x))


def _size_mm2(labels: NDArray[np.uint8]) -> float:
    """Area of cavity and wall of the LV in a window (z, y, x), as far as they can be those of one.

    Blood without a wall is no ventricle, and neither is what reaches the window's edge: that holds a whole one.
    """
    cavity, wall = labels == LV, labels == MYOCARDIUM
    whole = ~(cavity[:, [0, -1]].any((1, 2)) | cavity[:, :, [0, -1]].any((1, 2)))
    inside, around = (mask[whole].sum((1, 2)) * READING_MM**2 for mask in (cavity, wall))
    if around.sum() < THINNEST_MM * (2 * np.sqrt(np.pi * inside)).sum():
        return 0.0
    return float(2 * min(inside.sum(), around.sum()))
