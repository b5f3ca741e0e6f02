"""What a loop on a GPU is made of: streams, events, memory on both sides, captured graphs. The CUDA device is current.

Each is given back by ``close``, once; a constructor that fails leaves nothing behind.
"""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.runtime.gpu.cuda import LIBRARY, call, constant, give_back


class _Owned:
    """A handle of the CUDA runtime and the function that takes it back."""

    def __init__(self, handle: Any, destroy: str) -> None:
        self.handle = handle
        self._destroy = destroy

    def close(self) -> None:
        handle, self.handle = self.handle, None
        if handle is not None:
            give_back(self._destroy, handle)


class Event(_Owned):
    """A place in a stream. The host sleeps while it waits for one: the processors are needed for other batches."""

    def __init__(self) -> None:
        flags = constant("cudaEventBlockingSync") | constant("cudaEventDisableTiming")
        super().__init__(call("cudaEventCreateWithFlags", flags), "cudaEventDestroy")

    def synchronise(self) -> None:
        call("cudaEventSynchronize", self.handle)


class DeviceBuffer(_Owned):
    """Memory on the GPU; its address is a multiple of 256."""

    def __init__(self, size: int) -> None:
        super().__init__(call("cudaMalloc", size), "cudaFree")
        self.size = size

    @property
    def address(self) -> int:
        return int(self.handle)


class PinnedBuffer(_Owned):
    """Page-locked memory of the host, which copies to and from the GPU need to run beside everything else."""

    def __init__(self, size: int) -> None:
        super().__init__(call("cudaHostAlloc", size, 0), "cudaFreeHost")
        self.size = size

    @property
    def address(self) -> int:
        return int(self.handle)

    def array(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """float32 at ``offset`` bytes, until ``close``."""
        assert offset + 4 * np.prod(shape) <= self.size
        content = (ctypes.c_float * int(np.prod(shape))).from_address(self.address + offset)
        return np.ctypeslib.as_array(content).reshape(shape)


class Stream(_Owned):
    """Work in order; independent of the default stream, which cannot be captured."""

    def __init__(self) -> None:
        super().__init__(call("cudaStreamCreateWithFlags", constant("cudaStreamNonBlocking")), "cudaStreamDestroy")

    @property
    def number(self) -> int:
        """The handle as TensorRT takes it."""
        return int(self.handle)

    def record(self, event: Event) -> None:
        call("cudaEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """What comes next in this stream starts after ``event``; the host goes on."""
        call("cudaStreamWaitEvent", self.handle, event.handle, 0)

    def copy_in(self, device_address: int, host_address: int, size: int) -> None:
        self._copy(device_address, host_address, size, "cudaMemcpyHostToDevice")

    def copy_out(self, host_address: int, device_address: int, size: int) -> None:
        self._copy(host_address, device_address, size, "cudaMemcpyDeviceToHost")

    def _copy(self, to: int, of: int, size: int, kind: str) -> None:
        call("cudaMemcpyAsync", to, of, size, constant(f"cudaMemcpyKind.{kind}"), self.handle)

    def synchronise(self) -> None:
        call("cudaStreamSynchronize", self.handle)


class CapturedGraph(_Owned):
    """What ``enqueue`` puts on ``stream``, recorded instead of run, to be launched any number of times at once."""

    def __init__(self, stream: Stream, enqueue: Callable[[], None]) -> None:
        # Other threads may allocate meanwhile: engines are loaded beside this one.
        call(
            "cudaStreamBeginCapture", stream.handle, constant("cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal")
        )
        try:
            enqueue()
        except BaseException:
            _abandon_capture(stream)
            raise
        graph = call("cudaStreamEndCapture", stream.handle)
        try:
            super().__init__(call("cudaGraphInstantiate", graph, 0), "cudaGraphExecDestroy")
        finally:
            give_back("cudaGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        call("cudaGraphLaunch", self.handle, stream.handle)


def _abandon_capture(stream: Stream) -> None:
    """A stream that still captures could not be used again, nor destroyed."""
    _, graph = importlib.import_module(LIBRARY).cudaStreamEndCapture(stream.handle)
    if graph is not None:
        give_back("cudaGraphDestroy", graph)
