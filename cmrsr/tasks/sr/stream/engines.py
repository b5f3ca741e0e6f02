"""Engines of a stream: compiled before they are needed where that can be, and kept warm."""

import importlib
from collections import OrderedDict

import numpy as np

from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.tasks.sr.engine import load_step
from cmrsr.tasks.sr.plan import SrOptions

USUAL = 96  # pixels along and across a perfusion image: what is compiled before the first has come
MAX_KEPT = 4
# What the first frame would import; the readers are there already.
LATER = ("cmrsr.io.dicom.read.group", "cmrsr.io.dicom.read.instance", "cmrsr.io.dicom.write.series", "scipy.ndimage")


class WarmEngines:
    """One engine for each size of image and batch, each evaluated once before it is given out."""

    def __init__(self, bundle: Bundle, options: SrOptions, choice: DeviceChoice) -> None:
        self._bundle, self._options, self._choice = bundle, options, choice
        self._kept: OrderedDict[tuple[int, int, int], Engine] = OrderedDict()

    def get(self, batch: int, padded: tuple[int, int]) -> Engine:
        """The engine for images ``padded`` = (phase, readout), ``batch`` at a time. The errors of ``load_graph``."""
        key = (batch, *padded)
        if key not in self._kept:
            while len(self._kept) >= MAX_KEPT:
                self._kept.popitem(last=False)[1].close()
            engine = self._kept[key] = load_step(self._bundle, key, self._choice)
            image = np.zeros((batch, 1, *padded), np.float32)
            given = {"lr": image, "low_pass": np.zeros((padded[0], padded[0]), np.float32)}
            engine.start(image, given, [np.zeros(5, np.float32)])()
        self._kept.move_to_end(key)
        return self._kept[key]

    def prepare(self) -> None:
        """Import what the first frame needs, and compile for the size that it most likely has."""
        for module in LATER:
            importlib.import_module(module)
        stride = self._bundle.manifest.step.stride
        size = (USUAL, USUAL)
        if isinstance(self._options.roi, tuple):
            size = self._options.roi[:1:-1]  # (height, width) of X,Y,W,H
            size = size[::-1] if self._options.phase_axis in ("row", "x") else size
        self.get(self.batch_of(1), (-(-size[0] // stride) * stride, -(-size[1] // stride) * stride))

    def batch_of(self, n_slices: int) -> int:
        """Images at a time: all of a frame, or even shares of it. Two to eight are 3 to 7 % faster than one by one."""
        n = n_slices * max(self._options.n_samples, 1)
        return -(-n // -(-n // self._options.batch_size))

    def close(self) -> None:
        for engine in self._kept.values():
            engine.close()
        self._kept.clear()
