"""What a user may ask for, and what a loaded graph is, whatever runs it."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UsageError

Array = NDArray[np.float32]
BackendName = Literal["auto", "openvino", "onnxruntime", "tensorrt"]
Precision = Literal["auto", "bf16", "f16", "f32"]
OnStep = Callable[[], None] | None


class Engine(Protocol):
    """One graph of a bundle on one device. Shapes are static; what runs it is in the three names."""

    backend: str
    device: str
    precision: str

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        """The graph's outputs, both in the order of its manifest."""
        ...

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        """Begin the DDIM loop of a step graph from the noise ``x_t``, and return what waits for its last x_next.

        given: the graph's other inputs by name, the same at every step. coefficients: of each step. Both have to stay
        as they are until the result is there; a caller prepares the next batch meanwhile and starts it too, so that
        there is never a gap: results come in the order of the starts. on_step: called once for every step, from any
        thread, and ends the loop with what it raises; a device that loops by itself calls it when all are done.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """What the user asked for; ``threads`` None takes all processors."""

    device: str = "auto"
    backend: BackendName = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", self.device):
            raise UsageError(f"--device {self.device}: expected auto, cpu, cuda or cuda:N")
        if self.device.startswith("cuda") and self.backend == "openvino":
            raise UsageError(
                f"--device {self.device} with --backend openvino, which runs on the CPU: leave one of them out"
            )
        if self.device == "cpu" and self.backend == "tensorrt":
            raise UsageError("--device cpu with --backend tensorrt, which runs on a GPU: leave one of them out")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads}: expected at least 1")


def first_line(error: Exception) -> str:
    """What a backend says of a failure, without the C++ call stack behind it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from")), type(error).__name__)


def described(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The sizes of a graph's inputs, for a message: "x_t 8x1x96x96"."""
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())


def default_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
