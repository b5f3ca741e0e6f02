"""The step graph on OpenVINO: static shapes, bf16 where the processor computes in it."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from cmrsr.errors import DeviceError, EngineError
from cmrsr.runtime.choice import Precision, default_threads, first_line

Array = NDArray[np.float32]


class OpenVinoStep:
    """One compiled model for one batch size and matrix."""

    backend = "openvino"
    device = "cpu"

    def __init__(self, path: Path, shape: tuple[int, int, int], *, threads: int | None, precision: Precision) -> None:
        core = ov.Core()
        batch, height, width = shape
        image = [batch, 1, height, width]
        settings = {
            "INFERENCE_PRECISION_HINT": best_precision(core) if precision == "auto" else precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or default_threads(),
        }
        try:
            model = core.read_model(path)
            model.reshape({"x_t": image, "lr": image, "low_pass": [height, height]})
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            if "memory" in str(error).lower():
                raise DeviceError(
                    f"out of memory for {batch} images of {width}x{height}: use --batch-size 1"
                ) from error
            raise EngineError(f"{path} cannot be compiled by OpenVINO {_version()}: {first_line(error)}") from error
        # what the processor does, not what was asked for
        self.precision = "bf16" if compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16 else "f32"
        self._request = compiled.create_infer_request()

    def __call__(self, x_t: Array, lr: Array, coefficients: Array, low_pass: Array) -> tuple[Array, Array]:
        values = {"x_t": x_t, "lr": lr, "coefficients": coefficients, "low_pass": low_pass}
        try:
            self._request.infer(values, share_inputs=True)
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO failed: {first_line(error)}; use a smaller --batch-size") from error
        return self._request.get_tensor("x_next").data.copy(), self._request.get_tensor("x0").data.copy()

    def close(self) -> None:
        del self._request


def best_precision(core: ov.Core) -> Precision:
    """bf16 where the processor has instructions for it (AMX, AVX-512 BF16): several times faster, errors near 4e-3."""
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def describe() -> dict[str, Any]:
    core = ov.Core()
    return {
        "name": "openvino",
        "version": _version(),
        "devices": [d.lower() for d in core.available_devices],
        "precision": best_precision(core),
        "processor": core.get_property("CPU", "FULL_DEVICE_NAME"),
    }


def _version() -> str:
    return str(ov.__version__).split("-")[0]
