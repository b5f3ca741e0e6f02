"""GPUs are found or their absence explained; no error of CUDA is overlooked, nothing left behind; the stand-in fits."""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmrsr.errors import DeviceError, OutOfMemoryError
from cmrsr.runtime.gpu import cuda
from cmrsr.runtime.gpu.cuda import LIBRARY, call, find_gpu, free_memory, gpus, use, why_no_gpu
from cmrsr.runtime.gpu.cuda_objects import CapturedGraph, DeviceBuffer, Event, PinnedBuffer, Stream
from tests.fake_cuda import FakeCuda, MisuseError, cudaError_t
from tests.fake_gpu import fake_cuda, install

__all__ = ["fake_cuda"]


def test_gpus_are_described(fake_cuda: FakeCuda) -> None:
    fake_cuda.n_gpus = 2
    assert [(gpu.number, gpu.name, gpu.capability, gpu.driver) for gpu in gpus()] == [
        (0, "Fake GPU", (9, 0), 13000),
        (1, "Fake GPU", (9, 0), 13000),
    ]
    assert why_no_gpu() is None
    assert find_gpu(1).memory_bytes == fake_cuda.memory_bytes
    with pytest.raises(DeviceError, match=r"no cuda:2, only cuda:0 \(Fake GPU\), cuda:1"):
        find_gpu(2)


def no_driver(fake: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    fake.driver = 0


def no_device(fake: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    fake.n_gpus = 0


def not_installed(fake: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, LIBRARY, None)  # type: ignore[arg-type]


def old_driver(fake: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    fake.driver = 12040
    patch.setattr(fake, "cudaGetDeviceCount", lambda: (cudaError_t.cudaErrorInsufficientDriver, None), raising=False)


def broken(fake: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("cannot load libcuda.so.1")

    patch.setattr(fake, "cudaDriverGetVersion", fails, raising=False)


def in_a_fault(fake: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    fake.fails_at = 2  # the properties of the device


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (no_driver, "no NVIDIA driver"),
        (no_device, "shows no GPU"),
        (not_installed, r"cuda-python is not installed: pip install 'cmrsr\[tensorrt\]'"),
        (old_driver, r"knows CUDA 12\.4.*cuda-python==12"),
        (broken, "cannot load libcuda"),
        (in_a_fault, "cudaErrorLaunchFailure"),
    ],
)
def test_what_is_missing_is_said_and_nothing_raises(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None], says: str
) -> None:
    fault(fake_cuda, monkeypatch)
    assert gpus() == []
    fault(fake_cuda, monkeypatch)
    with pytest.raises(DeviceError, match=says):
        find_gpu(0)


def test_errors_have_cudas_name_and_what_to_do(fake_cuda: FakeCuda) -> None:
    with pytest.raises(
        DeviceError, match=r"cudaSetDevice failed with cudaErrorInvalidDevice \(what .* means\).*--device"
    ):
        use(3)
    fake_cuda.memory_bytes = 3 << 20
    assert free_memory(0) == 3 << 20
    with pytest.raises(OutOfMemoryError, match=r"out of GPU memory \(cudaMalloc, asked for 4\.0 MiB\).*--batch-size"):
        call("cudaMalloc", 4 << 20)


def test_closed_twice_is_given_back_once_and_a_failed_constructor_leaves_nothing(fake_cuda: FakeCuda) -> None:
    stream = Stream()
    made = [stream, Event(), DeviceBuffer(8), PinnedBuffer(8), CapturedGraph(stream, lambda: None)]
    assert sum(fake_cuda.live.values()) == len(made)
    for one in [*reversed(made), *made]:
        one.close()
    assert fake_cuda.all_live == {}

    stream = Stream()
    for k in range(2):
        fake_cuda.fails_at = k
        with pytest.raises(DeviceError):
            CapturedGraph(stream, lambda: None)
    with pytest.raises(ZeroDivisionError):
        CapturedGraph(stream, lambda: print(1 / 0))
    CapturedGraph(stream, lambda: None).close()  # the stream captures again
    stream.close()
    assert fake_cuda.all_live == {}


def test_copies_are_late_unless_waited_for(fake_cuda: FakeCuda) -> None:
    first, second, event = Stream(), Stream(), Event()
    there, staged, back = DeviceBuffer(64), PinnedBuffer(64), PinnedBuffer(64)
    staged.array(0, (16,))[:] = 1
    first.copy_in(there.address, staged.address, 64)
    first.record(event)
    second.copy_out(back.address, there.address, 64)
    second.synchronise()
    assert np.isnan(back.array(0, (16,))).all()  # second did not wait for first
    second.wait(event)
    second.copy_out(back.address, there.address, 64)
    assert np.isnan(back.array(0, (16,))).all()  # nor did the host
    second.synchronise()
    assert (back.array(32, (8,)) == 1).all()


def test_the_stand_in_refuses_misuse(fake_cuda: FakeCuda) -> None:
    stream, there, host = Stream(), DeviceBuffer(64), PinnedBuffer(128)

    def raises(do: Callable[[], Any], says: str) -> None:
        with pytest.raises(MisuseError, match=says):
            do()

    raises(lambda: stream.copy_in(there.address, host.address, 65), "not inside one allocation")
    raises(lambda: stream.copy_in(host.address, there.address, 64), "not inside one allocation")
    raises(lambda: CapturedGraph(stream, lambda: stream.synchronise()), "captures cannot be waited for")
    raises(lambda: CapturedGraph(stream, lambda: DeviceBuffer(1).close()), "while a stream captures")
    raises(lambda: CapturedGraph(stream, lambda: fake_cuda.enqueue(0, lambda: None)), "while a stream captures")
    there.close()
    raises(lambda: stream.copy_in(there.handle or host.address + 512, host.address, 64), "not inside one allocation")
    raises(lambda: fake_cuda.cudaFree(12345), "is freed")
    fake_cuda.n_gpus = 2
    use(1)
    raises(lambda: fake_cuda.enqueue(stream.number, lambda: None), "of device 0")


# ---- the same names and arguments in the code, in the stand-in and in the real bindings


def used() -> dict[str, int]:
    """The functions that cmrsr calls, with the number of their arguments."""
    found = {"cudaGetErrorName": 1, "cudaGetErrorString": 1}  # called by a name in a variable
    for path in Path(cuda.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            caller, arguments = ast.unparse(node.func), [ast.unparse(a).strip("'") for a in node.args]
            method, last = caller.rpartition(".")[2], arguments[-1] if arguments else ""
            if re.match("cuda[A-Z]", method):
                found[method] = len(arguments)
            elif caller == "call" and re.match("cuda[A-Z]", arguments[0]):
                found[arguments[0]] = len(arguments) - 1
            elif caller == "give_back" and re.match("cuda[A-Z]", arguments[0]):
                found[arguments[0]] = 1
            elif caller == "super().__init__" and re.match("cuda[A-Z]", last):
                found[last] = 1  # what takes the handle back
    return found


def test_the_stand_in_has_what_is_called() -> None:
    functions = used()
    assert len(functions) > 20
    for name, n in functions.items():
        assert len(inspect.signature(getattr(FakeCuda(), name)).parameters) == n, name


@pytest.fixture
def real() -> Any:
    """The real bindings; installed with cuda-python, with or without a driver."""
    pytest.importorskip("cuda.bindings", reason="cuda-python is not installed")
    return importlib.import_module(LIBRARY)


def test_the_real_bindings_have_what_is_called_and_faked(real: Any) -> None:
    fake = FakeCuda()
    names = {name for name in dir(FakeCuda) if name.startswith("cuda") and inspect.isroutine(getattr(FakeCuda, name))}
    for name in names | set(used()):
        signature = getattr(real, name).__doc__.strip().splitlines()[0]
        wanted = [part.strip() for part in signature.partition("(")[2].rpartition(")")[0].split(",") if part.strip()]
        plain = [part.partition(":")[0].split()[-1] for part in wanted]
        assert list(inspect.signature(getattr(fake, name)).parameters) == plain, signature
    for kind in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode"):
        for member in getattr(fake, kind):
            assert int(getattr(getattr(real, kind), member.name)) == member.value
    for flag in ("cudaStreamNonBlocking", "cudaEventBlockingSync", "cudaEventDisableTiming"):
        assert getattr(real, flag) == getattr(fake, flag)


def test_the_real_bindings_without_a_driver(real: Any) -> None:
    if real.cudaDriverGetVersion() != (real.cudaError_t.cudaSuccess, 0):
        pytest.skip("there is a driver")
    assert gpus() == []
    assert "no NVIDIA driver" in str(why_no_gpu())
    fake = FakeCuda(driver=0)
    members = {
        "kind": "cudaMemcpyKind.cudaMemcpyHostToDevice",
        "mode": "cudaStreamCaptureMode.cudaStreamCaptureModeGlobal",
    }
    for name in used():
        parameters = list(inspect.signature(getattr(fake, name)).parameters)
        answers = []
        for library in (real, fake):
            named = {
                key: getattr(getattr(library, a), b) for key, (a, b) in ((k, v.split(".")) for k, v in members.items())
            }
            named["error"] = library.cudaError_t.cudaErrorNoDevice
            answers.append(getattr(library, name)(*(named.get(key, 0) for key in parameters)))
        assert len(answers[0]) == len(answers[1]), name  # as many values
        assert int(answers[0][0]) == int(answers[1][0]), name  # the same error


def test_without_cuda_python_nothing_of_it_is_needed_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", LIBRARY):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    assert gpus() == []
    assert "not installed" in str(why_no_gpu())
    install(monkeypatch, FakeCuda())
    assert len(gpus()) == 1
