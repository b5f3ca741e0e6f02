"""NVIDIA GPUs through cuda-python: which there are, and calls of the CUDA runtime whose errors are never overlooked."""

import importlib
from dataclasses import dataclass
from typing import Any

from cmrsr.errors import DeviceError, OutOfMemoryError

LIBRARY = "cuda.bindings.runtime"
# Of an installation that is broken, not only absent: nothing of that may stop a run on the CPU.
NOT_THERE = (ImportError, OSError, RuntimeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Gpu:
    """driver: the newest CUDA version that it knows, 13000 for 13.0."""

    number: int
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    driver: int


def call(function: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime: its value, the tuple of its values, or None where it has none.

    OutOfMemoryError: memory ran out. DeviceError: any other error; one of earlier work comes up at whatever is called
    next.
    """
    library = importlib.import_module(LIBRARY)
    error, *values = getattr(library, function)(*arguments)
    if error == library.cudaError_t.cudaErrorMemoryAllocation:
        what = "page-locked host memory" if function == "cudaHostAlloc" else "GPU memory"
        size = f", asked for {arguments[0] / 2**20:.1f} MiB" if function in ("cudaMalloc", "cudaHostAlloc") else ""
        raise OutOfMemoryError(f"out of {what} ({function}{size}): use a smaller --batch-size")
    if error != library.cudaError_t.cudaSuccess:
        name, text = (getattr(library, f)(error)[1].decode() for f in ("cudaGetErrorName", "cudaGetErrorString"))
        raise DeviceError(f"{function} failed with {name} ({text}): see what nvidia-smi says, or use --device cpu")
    return values[0] if len(values) == 1 else tuple(values) or None


def constant(name: str) -> Any:
    """A flag of the CUDA runtime, or "enumeration.member"."""
    value: Any = importlib.import_module(LIBRARY)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def give_back(function: str, handle: Any) -> None:
    """Free or destroy something; an error here is one of earlier work and was raised where that was waited for."""
    getattr(importlib.import_module(LIBRARY), function)(handle)


def use(number: int) -> None:
    """Make a GPU the current one of this thread: every thread that calls CUDA does so first."""
    call("cudaSetDevice", number)


def gpus() -> list[Gpu]:
    """The GPUs that CUDA can use; none without cuda-python, a driver or a device, which is no error."""
    return _look()[0]


def why_no_gpu() -> str | None:
    """What is missing and what to do, for a message; None where there is a GPU."""
    return _look()[1]


def find_gpu(number: int) -> Gpu:
    """The GPU of this number. DeviceError: there is none."""
    found, problem = _look()
    if problem:
        raise DeviceError(f"no GPU can be used: {problem}")
    if number >= len(found):
        there = ", ".join(f"cuda:{gpu.number} ({gpu.name})" for gpu in found)
        raise DeviceError(f"there is no cuda:{number}, only {there}: choose one of them with --device")
    return found[number]


def free_memory(number: int) -> int:
    """Bytes that are free on a GPU."""
    use(number)
    free: int = call("cudaMemGetInfo")[0]
    return free


def _look() -> tuple[list[Gpu], str | None]:
    try:
        importlib.import_module(LIBRARY)
    except ModuleNotFoundError:
        return [], "cuda-python is not installed: pip install 'cmrsr[tensorrt]'"
    except NOT_THERE as error:
        return [], f"cuda-python does not load ({error}): install it again, pip install 'cmrsr[tensorrt]'"
    try:
        driver = call("cudaDriverGetVersion")
        if driver == 0:
            return [], "no NVIDIA driver: install one, or use --device cpu"
        code, count = importlib.import_module(LIBRARY).cudaGetDeviceCount()
        if code == constant("cudaError_t.cudaErrorNoDevice") or count == 0:
            return [], "the driver shows no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"
        if code == constant("cudaError_t.cudaErrorInsufficientDriver"):
            known = f"{driver // 1000}.{driver % 1000 // 10}"
            return [], (
                f"the driver knows CUDA {known}, cuda-python needs a newer one: update the driver, or "
                f"pip install 'cuda-python=={driver // 1000}.*'"
            )
        return [_gpu(number, driver) for number in range(call("cudaGetDeviceCount"))], None
    except (DeviceError, *NOT_THERE) as error:
        return [], str(error)


def _gpu(number: int, driver: int) -> Gpu:
    found = call("cudaGetDeviceProperties", number)
    name = found.name.decode(errors="replace").rstrip("\0")
    return Gpu(number, name, (found.major, found.minor), found.totalGlobalMem, driver)
