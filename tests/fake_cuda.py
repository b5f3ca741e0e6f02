"""Stands in for ``cuda.bindings.runtime`` where there is no GPU: same names, same arguments, misuse is refused.

Device memory is host memory that starts and ends as NaN. Work is done as late as CUDA allows it (``lazy``): when the
host waits, and then only what the awaited work depends on, by the order of its stream and by events. So a missing wait
or a buffer that is filled too early gives wrong numbers, as it may on a GPU. Without ``lazy`` it is done at once.
"""

# ruff: noqa: N802, N815 - the names are CUDA's

import ctypes
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fake_device import (
    ALIGNMENT,
    CallError,
    FakeDevice,
    Handle,
    MisuseError,
    cudaError_t,
    cudaMemcpyKind,
    cudaStreamCaptureMode,
)

__all__ = ["ALIGNMENT", "FakeCuda", "MisuseError", "cudaError_t"]


def _call(n_values: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Counts the call and answers as the bindings do: (error, value, ...)."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(self: "FakeCuda", *args: Any) -> tuple[Any, ...]:
            try:
                self._begin(function.__name__)
                value = function(self, *args)
            except CallError as failure:
                return (failure.args[0], *[None] * n_values)
            return (cudaError_t.cudaSuccess, *([value] if n_values == 1 else value or ()))

        return called

    return wrap


class FakeCuda(FakeDevice):
    """The module. ``live`` counts what was made and not given back, ``calls`` all calls by name."""

    cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode = cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaEventBlockingSync = 1
    cudaEventDisableTiming = 2

    # what tests and other fakes call

    def enqueue(self, stream_handle: int, work: Callable[[], None]) -> None:
        """Do ``work`` in the order of the stream, or record it for the graph while the stream captures.

        It may run later, and many times when it was recorded: it has to hold the addresses of this moment.
        """
        self._begin("enqueue")
        self._push(self._get("stream", stream_handle), work)

    def array(self, address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """float32 in device memory as a numpy view; MisuseError where that is not inside one allocation."""
        size = 4 * int(np.prod(shape))
        self._check_range(address, size, "device")
        return np.frombuffer((ctypes.c_char * size).from_address(address), np.float32).reshape(shape)

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """The calls inside the ``with``, by name; known at its end."""
        before, found = self.calls.copy(), Counter[str]()
        yield found
        found.update(self.calls - before)

    @property
    def all_live(self) -> dict[str, int]:
        return {kind: n for kind, n in self.live.items() if n}

    @property
    def used_bytes(self) -> int:
        return sum(size for kind, size, _ in self._memory.values() if kind == "device")

    # devices and errors

    @_call(1)
    def cudaGetErrorName(self, error: int) -> bytes:
        return cudaError_t(error).name.encode()

    @_call(1)
    def cudaGetErrorString(self, error: int) -> bytes:
        return f"what {cudaError_t(error).name} means".encode()

    @_call(1)
    def cudaDriverGetVersion(self) -> int:
        return self.driver

    @_call(1)
    def cudaGetDeviceCount(self) -> int:
        if self.n_gpus == 0:
            raise CallError(cudaError_t.cudaErrorNoDevice)
        return self.n_gpus

    @_call(1)
    def cudaGetDeviceProperties(self, device: int) -> SimpleNamespace:
        self._check_device(device)
        major, minor = self.capability
        return SimpleNamespace(name=self.gpu_name.encode(), major=major, minor=minor, totalGlobalMem=self.memory_bytes)

    @_call(0)
    def cudaSetDevice(self, device: int) -> None:
        self._check_device(device)
        self._current.device = device

    @_call(2)
    def cudaMemGetInfo(self) -> tuple[int, int]:
        return self.memory_bytes - self.used_bytes, self.memory_bytes

    # memory

    @_call(1)
    def cudaMalloc(self, size: int) -> int:
        self._refuse_while_capturing("cudaMalloc")
        if self.used_bytes + size > self.memory_bytes:
            raise CallError(cudaError_t.cudaErrorMemoryAllocation)
        return self._allocate("device", size)

    @_call(0)
    def cudaFree(self, devPtr: int) -> None:
        self._release("device", devPtr)

    @_call(1)
    def cudaHostAlloc(self, size: int, flags: int) -> int:
        self._refuse_while_capturing("cudaHostAlloc")
        return self._allocate("pinned", size)

    @_call(0)
    def cudaFreeHost(self, ptr: int) -> None:
        self._release("pinned", ptr)

    @_call(0)
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: Any) -> None:
        to, of = {1: ("device", "pinned"), 2: ("pinned", "device"), 3: ("device", "device")}[kind]

        def copy() -> None:
            self._check_range(dst, count, to)
            self._check_range(src, count, of)
            ctypes.memmove(dst, src, count)

        self._check_range(dst, count, to)
        self._check_range(src, count, of)
        self._push(self._get("stream", stream), copy)

    # streams and events

    @_call(1)
    def cudaStreamCreateWithFlags(self, flags: int) -> Handle:
        if flags != self.cudaStreamNonBlocking:
            raise MisuseError("a stream that waits for the default stream cannot be captured safely")
        return self._make("stream")

    @_call(0)
    def cudaStreamDestroy(self, stream: Any) -> None:
        self._destroy("stream", stream)

    @_call(0)
    def cudaStreamSynchronize(self, stream: Any) -> None:
        handle = self._get("stream", stream)
        if handle.nodes is not None:
            raise MisuseError("a stream that captures cannot be waited for")
        if handle.last:
            handle.last.finish()

    @_call(0)
    def cudaStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        handle, last = self._get("stream", stream), self._get("event", event).last
        if handle.nodes is not None:
            raise MisuseError("this captures work of one stream only")
        if last:
            self._push(handle, lambda: None, after=last)

    @_call(1)
    def cudaEventCreateWithFlags(self, flags: int) -> Handle:
        return self._make("event")

    @_call(0)
    def cudaEventDestroy(self, event: Any) -> None:
        self._destroy("event", event)

    @_call(0)
    def cudaEventRecord(self, event: Any, stream: Any) -> None:
        handle, of = self._get("event", event), self._get("stream", stream)
        if of.nodes is not None or of.device != handle.device:
            raise MisuseError("an event is recorded on its own device, and here outside captures")
        handle.last = of.last

    @_call(0)
    def cudaEventSynchronize(self, event: Any) -> None:
        handle = self._get("event", event)
        self._refuse_while_capturing("cudaEventSynchronize")
        if handle.last:
            handle.last.finish()

    # graphs

    @_call(0)
    def cudaStreamBeginCapture(self, stream: Any, mode: cudaStreamCaptureMode) -> None:
        handle = self._get("stream", stream)
        if handle.number == 0 or handle.nodes is not None:
            raise MisuseError("the default stream, or one that captures already, cannot be captured")
        handle.nodes, handle.capturing_thread = [], threading.get_ident()

    @_call(1)
    def cudaStreamEndCapture(self, stream: Any) -> Handle:
        handle = self._get("stream", stream)
        if handle.nodes is None or handle.capturing_thread != threading.get_ident():
            raise MisuseError("the capture of a stream is ended once, by the thread that began it")
        graph = self._make("graph")
        graph.nodes, handle.nodes, handle.capturing_thread = handle.nodes, None, None
        return graph

    @_call(1)
    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Handle:
        executable = self._make("executable")
        executable.nodes = list(self._get("graph", graph).nodes or ())
        return executable

    @_call(0)
    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> None:
        nodes = self._get("executable", graphExec).nodes or ()
        handle = self._get("stream", stream)
        if handle.nodes is not None:
            raise MisuseError("this launches no graph inside a capture")
        for node in nodes:
            self._push(handle, node)

    @_call(0)
    def cudaGraphDestroy(self, graph: Any) -> None:
        self._destroy("graph", graph)

    @_call(0)
    def cudaGraphExecDestroy(self, graphExec: Any) -> None:
        self._destroy("executable", graphExec)
