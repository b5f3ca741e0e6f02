"""The stack that signals are handled on, kept as it was by libraries that put their own in its place.

OpenVINO (2026.4) leaves a stack of its own on the thread that loads its plugin for the CPU, and frees it with that
plugin: the next signal, such as the one that ends a job, then has no stack, and the process dies without a word.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DISABLED = 2  # SS_DISABLE


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Inside, a library may set the alternate signal stack of this thread; afterwards it is again what it was."""
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        if before.flags & DISABLED:
            before.size = 0
        libc.sigaltstack(ctypes.byref(before), None)


def signal_stack() -> tuple[int | None, bool]:
    """Where this thread's alternate signal stack lies, and whether there is one."""
    now = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now))
    return now.sp, not now.flags & DISABLED
