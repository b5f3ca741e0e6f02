"""The step graph on ONNX Runtime: float32, the portable second and the oracle of the other backends."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cmrsr.errors import EngineError

Array = NDArray[np.float32]


class OnnxRuntimeStep:
    """One session; shapes may change from call to call."""

    backend = "onnxruntime"
    precision = "f32"

    def __init__(self, path: Path, *, threads: int | None, cuda_device: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        providers: list[object] = ["CPUExecutionProvider"]
        self.device = "cpu"
        if cuda_device is not None:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": cuda_device}))
            self.device = f"cuda:{cuda_device}"
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # the runtime raises many private classes that share no base
            raise EngineError(f"{path} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {error}") from error

    def __call__(self, x_t: Array, lr: Array, coefficients: Array, low_pass: Array) -> tuple[Array, Array]:
        inputs = {"x_t": x_t, "lr": lr, "coefficients": coefficients, "low_pass": low_pass}
        x_next, x0 = self._session.run(["x_next", "x0"], inputs)
        return x_next, x0

    def close(self) -> None:
        del self._session
