"""The tiny engine of ``sr`` with a stored sample: what ONNX Runtime makes of small inputs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cmrsr.runtime.sample import SAMPLE, key
from tests.engines import manifest_of, write_engine

EVERY = 3  # value of the outputs that is kept


def write_sampled_engine(folder: Path, **changes: NDArray[Any] | None) -> Path:
    """changes: arrays of the sample that are others, by "graph/part/port", or are not there (None)."""
    write_engine(folder, name=folder.name)
    np.savez_compressed(folder / SAMPLE, **{k: v for k, v in (sample_of(folder) | changes).items() if v is not None})
    return with_digest(folder)


def with_digest(folder: Path, name: str = SAMPLE) -> Path:
    """The manifest as if a file had been made with the bundle."""
    record = manifest_of(folder) | json.loads((folder / "bundle.json").read_text())
    record["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(record))
    return folder


def sample_of(folder: Path) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    inputs = {
        "x_t": rng.normal(size=(2, 1, 16, 12)), "lr": rng.random((2, 1, 16, 12)),
        "coefficients": np.array([0.5, 0.7, -0.7, 0.5, 0.4]), "low_pass": 0.5 * np.eye(16),
    }  # fmt: skip
    given = {name: value.astype(np.float32) for name, value in inputs.items()}
    outputs = onnxruntime.InferenceSession(str(folder / "step.onnx")).run(["x_next", "x0"], given)
    arrays = {key("step", "input", name): value for name, value in given.items()}
    for name, value in zip(("x_next", "x0"), outputs, strict=True):
        at = np.arange(0, value.size, EVERY, dtype=np.int32)
        arrays |= {
            key("step", "shape", name): np.array(value.shape, np.int32),
            key("step", "at", name): at,
            key("step", "values", name): value.reshape(-1)[at],
        }
    return arrays
