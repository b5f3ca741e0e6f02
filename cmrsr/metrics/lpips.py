"""Learned perceptual distance by a network that the user has: none is shipped."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError, UnusableError


class Lpips:
    """An ONNX file of two images (n, 3, y, x) in [-1, 1] to their distance (n,). Source: Zhang et al. 2018."""

    def __init__(self, path: Path) -> None:
        import openvino as ov
        from openvino.frontend import FrontEndManager, GeneralFailure, OpConversionFailure, OpValidationFailure

        if not path.is_file():
            raise UnreadableError(f"--lpips {path}: no such file; expected an ONNX file of two images to a distance")
        reader = FrontEndManager().load_by_framework("onnx")
        try:
            self._model = ov.Core().compile_model(reader.convert(reader.load(str(path))), "CPU")
        except (RuntimeError, GeneralFailure, OpConversionFailure, OpValidationFailure) as error:
            first = str(error).strip().splitlines()[-1]
            raise UnreadableError(f"--lpips {path}: not an ONNX file that can be run ({first})") from error
        if len(self._model.inputs) != 2:
            raise UnusableError(
                f"--lpips {path}: {len(self._model.inputs)} inputs, expected two images (n, 3, y, x) to a distance (n,)"
            )
        self._path = path

    def __call__(self, ours: NDArray[Any], truth: NDArray[Any]) -> float:
        """LPIPS distance of two images (y, x) in [0, 1], given as grey.

        UnusableError: the file does not give one value.
        """
        pair = [np.repeat(np.asarray(2 * image - 1, np.float32)[None, None], 3, 1) for image in (ours, truth)]
        try:
            found = np.asarray(next(iter(self._model(pair).values())), np.float64)
        except RuntimeError as error:
            raise UnusableError(f"--lpips {self._path}: does not take two images of (1, 3, y, x)") from error
        if found.size != 1:
            raise UnusableError(f"--lpips {self._path}: gives {found.shape} for two images, expected one distance")
        return float(found.ravel()[0])
