"""Backends agree with a plain numpy step, and what is absent is an error or a recorded fallback."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import scipy.signal
from numpy.typing import NDArray

from cmrsr.errors import CmrsrWarning, DeviceError, EngineError, UsageError
from cmrsr.runtime import engine as runtime
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import DeviceChoice, default_threads
from cmrsr.runtime.engine import backends, load_graph
from cmrsr.runtime.open_vino import best_precision
from cmrsr.tasks.sr.engine import load_step
from tests.cine import BEND_SHARE, PULL, interp_engine
from tests.cine import RESIDUAL_STD as INTERP_STD
from tests.engines import SEEN_LR, SEEN_X_T, write_engine

__all__ = ["interp_engine"]

Array = NDArray[np.float32]
F32 = 1e-5  # relative: float32 sums of a few dozen products
BF16 = 5e-2  # relative: eight bits of mantissa, the tolerance of the bundles
CPU_BACKENDS: tuple[Any, ...] = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def bundle(engine: Path) -> Bundle:
    return load(str(engine), "sr")


def inputs(batch: int = 3, height: int = 24, width: int = 20) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(3)
    x_t = rng.standard_normal((batch, 1, height, width)).astype(np.float32)
    lr = rng.random((batch, 1, height, width)).astype(np.float32)
    low_pass = 0.5 * np.eye(height, dtype=np.float32) + 0.1 * rng.random((height, height)).astype(np.float32)
    return x_t, lr, np.array([0.3, 0.9, -0.4, 0.7, 0.2], np.float32), low_pass


def expected(x_t: Array, lr: Array, coefficients: Array, low_pass: Array) -> tuple[Array, Array]:
    """The step in numpy."""
    condition, read_x, read_f, next_x0, next_x = coefficients.astype(np.float64)
    f = seen((1 - condition) * x_t, SEEN_X_T) + seen(lr, SEEN_LR)
    x0 = read_x * x_t + read_f * f
    x0 = x0 - low_pass @ x0
    return next_x0 * x0 + next_x * x_t, x0


def seen(images: NDArray[Any], kernel: Array) -> NDArray[Any]:
    return np.stack([scipy.signal.correlate2d(image[0], kernel, "same") for image in images])[:, None]


def error(found: Array, wanted: Array) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_backends_compute_the_step(bundle: Bundle, backend: Any) -> None:
    given = inputs()
    step = load_step(bundle, (3, 24, 20), DeviceChoice(backend=backend, precision="f32", device="cpu"))
    assert (step.backend, step.device, step.precision) == (backend, "cpu", "f32")
    for found, wanted in zip(step(*given), expected(*given), strict=True):
        assert found.shape == wanted.shape
        assert error(found, wanted) < F32
    step.close()


@pytest.fixture(scope="module")
def interp_bundle(interp_engine: Path) -> Bundle:
    return load(str(interp_engine), "interp4d")


def clip(batch: int = 2, n: int = 3, y: int = 16, x: int = 24) -> dict[str, Array]:
    """Inputs of stage 1, by name."""
    rng = np.random.default_rng(8)
    sizes = {"x_t": n, "known": 2, "base": n, "bend": n}
    images = {k: rng.standard_normal((batch, size, y, x)).astype(np.float32) for k, size in sizes.items()}
    tau = rng.random((batch, n)).astype(np.float32)
    return images | {"tau": tau, "coefficients": np.array([0.3, 0.9, -0.4, 0.7, 0.2], np.float32)}


def sizes_of(given: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    return {k: v.shape for k, v in given.items() if k != "coefficients"}


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_any_graph_of_a_bundle_runs(interp_bundle: Bundle, backend: Any) -> None:
    """Inputs and outputs in the order of the manifest, for whatever sizes of the dynamic ones are named."""
    choice = DeviceChoice(backend=backend, precision="f32", device="cpu")
    step, volume = interp_bundle.manifest.graphs.values()
    for given in (clip(), clip(batch=1, n=5, y=8, x=8)):
        engine = load_graph(interp_bundle, step, sizes_of(given), choice)
        condition, read_x, read_f, next_x0, next_x = given["coefficients"].astype(np.float64)
        f = (1 - condition) * given["x_t"] - given["bend"] * (BEND_SHARE / INTERP_STD)
        x0 = read_x * given["x_t"] + read_f * f
        found = engine(*given.values())
        assert len(found) == 2
        for got, wanted in zip(found, (next_x0 * x0 + next_x * given["x_t"], x0), strict=True):
            assert got.shape == wanted.shape
            assert error(got, wanted) < F32
        engine.close()
    shown = np.random.default_rng(1).random((1, 3, 4, 12, 8)).astype(np.float32)
    engine = load_graph(interp_bundle, volume, {"volume": shown.shape}, choice)
    (found_volume,) = engine(shown)
    assert error(found_volume, (1 - PULL) * shown[:, :1] + PULL / 2 * (shown[:, 1:2] + shown[:, 2:])) < F32


def test_memory_that_ran_out_and_graphs_that_do_not_compile_name_their_sizes(
    interp_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_model(*_: Any) -> None:
        raise RuntimeError("Exception from x:\nCould not allocate memory")

    given = clip()
    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    with pytest.raises(
        DeviceError, match=r"out of memory for x_t 2x3x16x24, known 2x2x16x24, .*tau 2x3: use a smaller --batch-size"
    ):
        load_graph(
            interp_bundle, interp_bundle.manifest.step, sizes_of(given), DeviceChoice(backend="openvino", strict=True)
        )


def test_bf16_is_within_the_tolerance(bundle: Bundle) -> None:
    if best_precision(openvino.Core()) != "bf16":
        pytest.skip("this processor does not compute in bf16")
    given = inputs()
    step = load_step(bundle, (3, 24, 20), DeviceChoice(precision="bf16"))
    assert step.precision == "bf16"
    for found, wanted in zip(step(*given), expected(*given), strict=True):
        assert error(found, wanted) < BF16


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_its_single_images_bit_for_bit(bundle: Bundle, backend: Any, threads: int) -> None:
    x_t, lr, coefficients, low_pass = inputs()
    whole = load_step(bundle, (3, 24, 20), DeviceChoice(backend=backend, threads=2))
    single = load_step(bundle, (1, 24, 20), DeviceChoice(backend=backend, threads=threads))
    together = whole(x_t, lr, coefficients, low_pass)[0]
    alone = [single(x_t[i : i + 1], lr[i : i + 1], coefficients, low_pass)[0] for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_a_loop_is_its_steps_one_by_one(bundle: Bundle, backend: Any, n_steps: int) -> None:
    x_t, lr, coefficients, low_pass = inputs()
    step = load_step(bundle, (3, 24, 20), DeviceChoice(backend=backend, precision="f32"))
    steps = [coefficients * np.float32(1 - 0.1 * i) for i in range(n_steps)]
    kept, said = x_t.copy(), []
    wait = step.start(x_t, {"lr": lr, "low_pass": low_pass}, steps, lambda: said.append(1))
    other = step.start(-x_t, {"lr": lr, "low_pass": low_pass}, steps)  # queued behind the first
    found = wait()
    np.testing.assert_array_equal(x_t, kept)
    assert len(said) == n_steps
    for one in steps:
        kept = step(kept, lr, one, low_pass)[0]
    np.testing.assert_array_equal(found, kept)
    assert not np.array_equal(other(), found)
    step.close()


def test_what_goes_wrong_in_a_loop_reaches_who_waits(bundle: Bundle) -> None:
    x_t, lr, coefficients, low_pass = inputs()
    for backend in CPU_BACKENDS:
        step = load_step(bundle, (3, 24, 20), DeviceChoice(backend=backend))
        wait = step.start(x_t, {"lr": lr[:, :, :-1], "low_pass": low_pass}, [coefficients])
        with pytest.raises(DeviceError, match="failed"):
            wait()
        step.close()


def test_outputs_are_not_overwritten_by_the_next_call(bundle: Bundle) -> None:
    x_t, lr, coefficients, low_pass = inputs()
    step = load_step(bundle, (3, 24, 20), DeviceChoice())
    first = step(x_t, lr, coefficients, low_pass)[0]
    kept = first.copy()
    step(-x_t, lr, coefficients, low_pass)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("device", ["foo", "", "gpu", "cuda:", "cuda:x", "cuda:²", "cpu:1", "auto:0", "CUDA"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match=r"--device .*expected auto, cpu, cuda or cuda:N"):
        DeviceChoice(device=device)


def test_contradictions_are_refused() -> None:
    with pytest.raises(UsageError, match="--threads 0"):
        DeviceChoice(threads=0)
    with pytest.raises(UsageError, match="--device cuda:1 with --backend openvino"):
        DeviceChoice(device="cuda:1", backend="openvino")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_driver", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_an_absent_gpu_falls_back_and_says_so(bundle: Bundle) -> None:
    with pytest.warns(CmrsrWarning, match="--device cuda: no NVIDIA driver is installed here; the CPU is used"):
        step = load_step(bundle, (1, 8, 8), DeviceChoice(device="cuda"))
    assert (step.backend, step.device) == ("openvino", "cpu")


@pytest.mark.usefixtures("no_gpu")
def test_an_absent_gpu_is_an_error_when_strict(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="--device cuda:0: no NVIDIA driver is installed here"):
        load_step(bundle, (1, 8, 8), DeviceChoice(device="cuda:0", strict=True))


def test_a_gpu_that_onnx_runtime_cannot_use_is_no_silent_cpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its libraries ONNX Runtime makes the session on the CPU without a word."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime may really have a GPU")
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(runtime, "cuda_provider", lambda: True)
    monkeypatch.setattr(runtime, "_driver", lambda: True)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession",
        lambda path, options, providers: session(path, options, providers=["CPUExecutionProvider"]),
    )  # fmt: skip
    with pytest.warns(CmrsrWarning, match="cannot use cuda:0.*the CPU is used"):
        step = load_step(bundle, (1, 8, 8), DeviceChoice(device="cuda"))
    assert step.device == "cpu"
    with pytest.raises(DeviceError, match="cannot use cuda:1"):
        load_step(bundle, (1, 8, 8), DeviceChoice(device="cuda:1", strict=True))


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else there(name, *rest))


def test_an_absent_backend_is_replaced_by_the_other(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino")
    assert load_step(bundle, (1, 8, 8), DeviceChoice()).backend == "onnxruntime"
    with pytest.warns(CmrsrWarning, match="--backend openvino is not installed.*onnxruntime is used"):
        assert load_step(bundle, (1, 8, 8), DeviceChoice(backend="openvino")).backend == "onnxruntime"
    with pytest.raises(DeviceError, match="--backend openvino is not installed"):
        load_step(bundle, (1, 8, 8), DeviceChoice(backend="openvino", strict=True))
    assert [found["name"] for found in backends()] == ["onnxruntime"]


def test_no_backend_at_all_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(DeviceError, match="pip install openvino"):
        load_step(bundle, (1, 8, 8), DeviceChoice())
    assert backends() == []


def test_a_precision_that_is_not_to_be_had_is_not_passed_over(bundle: Bundle) -> None:
    with pytest.warns(CmrsrWarning, match="--precision bf16: not with onnxruntime.*f32 is used"):
        step = load_step(bundle, (1, 8, 8), DeviceChoice(backend="onnxruntime", precision="bf16"))
    assert step.precision == "f32"


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_file_that_is_no_graph_is_an_engine_error(tmp_path: Path, backend: Any) -> None:
    folder = write_engine(tmp_path / "engine")
    broken = load(str(folder), "sr")
    (folder / "step.onnx").write_bytes(b"not onnx")
    with pytest.raises(EngineError, match=r"step\.onnx cannot be") as caught:
        load_step(broken, (1, 8, 8), DeviceChoice(backend=backend))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_failure_while_running_is_a_device_error(bundle: Bundle, backend: Any) -> None:
    x_t, lr, coefficients, low_pass = inputs()
    step = load_step(bundle, (3, 24, 20), DeviceChoice(backend=backend))
    with pytest.raises(DeviceError, match="failed"):
        step(x_t, lr[:, :, :-1], coefficients, low_pass)


def test_the_processors_of_this_process_are_counted() -> None:
    assert default_threads() >= 1
