"""The DDIM loop of a step as one CUDA graph: the host launches it once and waits for its result once."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmrsr.runtime.host_loop import COEFFICIENTS

Array = NDArray[np.float32]
Step = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]


class CapturedLoop:
    """A loop of a fixed number of steps and fixed shapes, captured when it is made.

    step: (inputs by name) -> (x_next, ...), run inside of ``arithmetic()``. values: inputs on the GPU, which the graph
    goes on reading; "coefficients" (steps, 5) of all steps. x_t: the name of what a step replaces.
    """

    def __init__(
        self, step: Step, x_t: str, values: dict[str, Tensor], arithmetic: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._step, self._x_t, self._values = step, x_t, values
        self._device = values[x_t].device
        current, side = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        # Libraries choose their kernels before the capture. Each has an arithmetic of its own: weights that autocast
        # rounded and kept outside of the graph would be gone when it is launched.
        with torch.cuda.stream(side), arithmetic():
            step({**values, COEFFICIENTS: values[COEFFICIENTS][0]})
        current.wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), arithmetic():
            self._result = self._steps()

    def _steps(self) -> Tensor:
        x = self._values[self._x_t]
        for coefficients in self._values[COEFFICIENTS]:
            x = self._step({**self._values, self._x_t: x, COEFFICIENTS: coefficients})[0]
        return x.float()

    def begin(self, values: Mapping[str, Array]) -> Callable[[], Array]:
        """Queue copies, loop and the copy back behind what was begun before; the result waits for its own alone."""
        for name, value in values.items():
            # the allocator of pinned memory keeps it until the copy out of it is done
            self._values[name].copy_(torch.tensor(value).pin_memory(), non_blocking=True)
        self._graph.replay()
        result = torch.empty(self._result.shape).pin_memory()
        result.copy_(self._result, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))

        def wait() -> Array:
            done.synchronize()
            found: Array = result.numpy().copy()
            return found

        return wait
