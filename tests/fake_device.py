"""What the stand-in for CUDA is made of: memory, streams that work late, what is alive, and misuse that is refused."""

# ruff: noqa: N801, N815 - the names are CUDA's

import ctypes
import threading
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType
from typing import Any

ALIGNMENT = 256
NAN_BYTE = 0xFF  # four of them are a NaN
# Asked for while an error is handled, or not of CUDA: their own failure would be told to nobody.
NEVER_FAILS = ("enqueue", "Destroy", "Free", "EndCapture", "GetErrorName", "GetErrorString")


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorLaunchFailure = 719


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class MisuseError(AssertionError):
    """What real hardware answers with an error much later, with wrong numbers, or with a crash."""


class CallError(Exception):
    """Becomes the error code of a call."""


class Work:
    """Something that was enqueued, and what has to be done before it."""

    def __init__(self, do: Callable[[], None], needs: list["Work"]) -> None:
        self.do, self.needs, self.done = do, needs, False

    def finish(self) -> None:
        waiting = [self]
        while waiting:
            work = waiting[-1]
            missing = [] if work.done else [need for need in work.needs if not need.done]
            waiting.extend(missing)
            if not missing:
                waiting.pop()
                if not work.done:
                    work.done, work.needs = True, []
                    work.do()


class Handle:
    """A stream, an event, a graph or an executable graph: its number by ``int()``, as of the real handles."""

    def __init__(self, kind: str, number: int, device: int) -> None:
        self.kind, self.number, self.device = kind, number, device
        self.last: Work | None = None  # of a stream: enqueued last; of an event: recorded last
        self.nodes: list[Callable[[], None]] | None = None  # of a graph; of a stream while it captures
        self.capturing_thread: int | None = None

    def __int__(self) -> int:
        return self.number


class FakeDevice(ModuleType):
    """What is behind the functions of ``FakeCuda``."""

    def __init__(self, *, n_gpus: int = 1, memory_bytes: int = 1 << 28, driver: int = 13000, lazy: bool = True) -> None:
        super().__init__("cuda.bindings.runtime")
        self.n_gpus, self.memory_bytes, self.driver, self.lazy = n_gpus, memory_bytes, driver, lazy
        self.gpu_name, self.capability = "Fake GPU", (9, 0)
        self.calls: Counter[str] = Counter()
        self.live: Counter[str] = Counter()
        self.fails_at: int | None = None  # this many calls from now one fails
        self.failure = cudaError_t.cudaErrorLaunchFailure
        self._current = threading.local()
        self._memory: dict[int, tuple[str, int, Any]] = {}  # by address: device or pinned, bytes, the allocation
        self._freed: list[Any] = []  # kept, so that a late write hits nothing else
        self._stream = Handle("stream", 0, 0)  # the default stream
        self._handles: dict[int, Handle] = {0: self._stream}
        self._number = 0x1000

    def _begin(self, name: str) -> None:
        self.calls[name] += 1
        if self.driver == 0 and not name.startswith(("cudaDriverGetVersion", "cudaGetError")):
            raise CallError(cudaError_t.cudaErrorInsufficientDriver)
        if self.fails_at is not None and not any(part in name for part in NEVER_FAILS):
            self.fails_at -= 1
            if self.fails_at < 0:
                self.fails_at = None
                raise CallError(self.failure)

    @property
    def current_device(self) -> int:
        """Of this thread."""
        return getattr(self._current, "device", 0)

    def _check_device(self, device: int) -> None:
        if not 0 <= device < self.n_gpus:
            raise CallError(cudaError_t.cudaErrorInvalidDevice)

    def _make(self, kind: str) -> Handle:
        self._number += 1
        self.live[kind] += 1
        handle = Handle(kind, self._number, self.current_device)
        self._handles[handle.number] = handle
        return handle

    def _get(self, kind: str, handle: Any) -> Handle:
        found = self._handles.get(int(handle))
        if found is None or found.kind != kind:
            raise MisuseError(f"{int(handle)} is no {kind}, or one that was destroyed")
        return found

    def _destroy(self, kind: str, handle: Any) -> None:
        found = self._get(kind, handle)
        if found.nodes is not None and kind == "stream":
            raise MisuseError("a stream is destroyed while it captures")
        del self._handles[found.number]
        self.live[kind] -= 1

    def _push(self, stream: Handle, do: Callable[[], None], after: Work | None = None) -> None:
        if stream.nodes is not None:
            stream.nodes.append(do)
            return
        if stream.number == 0:
            self._refuse_while_capturing("the default stream")
        elif stream.device != self.current_device:
            raise MisuseError(
                f"a stream of device {stream.device}, while {self.current_device} is current in this thread"
            )
        stream.last = Work(do, [work for work in (stream.last, after) if work])
        if not self.lazy:
            stream.last.finish()

    def _refuse_while_capturing(self, what: str) -> None:
        if any(handle.capturing_thread == threading.get_ident() for handle in self._handles.values()):
            raise MisuseError(f"{what} is not allowed while a stream captures")

    def _allocate(self, kind: str, size: int) -> int:
        allocation = (ctypes.c_char * (size + ALIGNMENT))()
        address = -(-ctypes.addressof(allocation) // ALIGNMENT) * ALIGNMENT
        ctypes.memset(address, NAN_BYTE, size)
        self._memory[address] = (kind, size, allocation)
        self.live[kind] += 1
        return address

    def _release(self, kind: str, address: int) -> None:
        for handle in list(self._handles.values()):  # CUDA waits for the device here, too
            if handle.kind == "stream" and handle.last:
                handle.last.finish()
        found, size, allocation = self._memory.pop(address, ("nothing", 0, None))
        if found != kind:
            raise MisuseError(f"{kind} memory at {address:#x} is freed, where {found} is")
        ctypes.memset(address, NAN_BYTE, size)
        self._freed.append(allocation)
        self.live[kind] -= 1

    def _check_range(self, address: int, size: int, kind: str) -> None:
        for start, (found, held, _) in self._memory.items():
            if start <= address and address + size <= start + held and found == kind:
                return
        raise MisuseError(f"{size} bytes at {address:#x} are not inside one allocation of {kind} memory")
