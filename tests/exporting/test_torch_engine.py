"""The torch engine against ONNX Runtime, and its captured loop with stand-ins for CUDA's streams and graphs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cmrsr.diagnostics.bench import relative_error
from cmrsr.diagnostics.workload import Workload
from cmrsr.errors import DeviceError, UsageError
from cmrsr.exporting.captured_loop import CapturedLoop
from cmrsr.exporting.torch_engine import TorchGraph, matrix_rate_call
from cmrsr.runtime.bundle import load, shipped
from cmrsr.runtime.choice import Array, DeviceChoice, Precision
from cmrsr.runtime.engine import load_graph
from cmrsr.tasks.registry import load_torch
from tests.engines import write_engine

pytestmark = pytest.mark.skipif(not shipped(), reason="no engine is shipped in this checkout")
SIZES = {"batch": 2, "rows": 32, "columns": 48, "frames": 3, "slices": 4}
GRAPHS = [
    ("perfgen-s", "step"), ("tssc-s", "step"), ("tssc-s", "volume"), ("cpkdm-s", "decoder"), ("causal-s", "graph"),
]  # fmt: skip
LOOP_ERROR = 1e-5  # of three steps in float32


def work(name: str, graph: str = "step") -> Workload:
    return Workload(load(name), graph, SIZES)


def opened(one: Workload, precision: Precision) -> TorchGraph:
    return load_torch(one.bundle, one.graph, one.shapes, DeviceChoice(device="cpu", precision=precision, threads=1))


@pytest.mark.parametrize(("name", "graph"), GRAPHS)
def test_torch_is_the_onnx_graph(name: str, graph: str) -> None:
    one = work(name, graph)
    inputs = one.inputs()
    reference = load_graph(one.bundle, one.graph, one.shapes, DeviceChoice(device="cpu", backend="onnxruntime"))
    wanted = reference(*inputs.values())
    reference.close()
    errors = {}
    for precision in ("f32", "bf16"):
        engine = opened(one, precision)  # type: ignore[arg-type]
        found = engine(*inputs.values())
        assert (engine.backend, engine.device, engine.precision) == ("torch", "cpu", precision)
        assert [(a.shape, a.dtype, a.flags.c_contiguous) for a in found] == [(a.shape, a.dtype, True) for a in wanted]
        errors[precision] = relative_error(found, wanted)
        engine.close()
    assert errors["f32"] < one.graph.tolerance
    assert one.graph.tolerance / 10 < errors["bf16"] < one.graph.tolerance_low_precision


def test_the_loop_is_its_steps() -> None:
    one = work("perfgen-s")
    inputs, steps = one.inputs(), one.coefficients(3)
    engine = opened(one, "f32")
    seen: list[int] = []
    others = {k: v for k, v in inputs.items() if k not in ("x_t", "coefficients")}
    result = engine.start(inputs["x_t"], others, steps, lambda: seen.append(1))()
    x = inputs["x_t"]
    for step in steps:
        x = engine(x, inputs["lr"], step, inputs["low_pass"])[0]
    np.testing.assert_array_equal(result, x)
    assert len(seen) == 3
    engine.close()


def test_inputs_that_may_not_be_written_are_taken() -> None:
    one = work("perfgen-s")
    inputs = one.inputs()
    for value in inputs.values():
        value.setflags(write=False)
    engine = opened(one, "f32")
    engine(*inputs.values())
    engine.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_engine_says_so() -> None:
    one = work("perfgen-s")
    with pytest.raises(DeviceError, match=r"--device cuda:0: torch .* sees no GPU here"):
        load_torch(one.bundle, one.graph, one.shapes, DeviceChoice(device="cuda:0"))


def test_a_bundle_without_weights_is_named(tmp_path: Path) -> None:
    bundle = load(str(write_engine(tmp_path / "tiny")))
    with pytest.raises(UsageError, match=r"expected training\.json and weights"):
        load_torch(bundle, bundle.manifest.step, {}, DeviceChoice(device="cpu"))


def test_a_plain_product_runs() -> None:
    matrix_rate_call("cpu", "bf16", 32)()


class StandIn:
    """CUDA's streams, events and graphs on the processor: everything happens at once, a launch runs the steps again."""

    launched = 0
    owner: CapturedLoop

    def replay(self) -> None:
        type(self).launched += 1
        with torch.inference_mode():
            self.owner._result.copy_(self.owner._steps())

    def wait_stream(self, other: object) -> None: ...
    def record(self, stream: object) -> None: ...
    def synchronize(self) -> None: ...


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    @contextlib.contextmanager
    def at_once(_: object) -> Iterator[None]:
        yield

    StandIn.launched = 0
    for name in ("Stream", "current_stream", "Event", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: StandIn())
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, at_once)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    return StandIn


def halving(values: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """x_next = x_t * first coefficient + lr."""
    return (values["x_t"] * values["coefficients"][0] + values["lr"],)


def test_a_captured_loop_takes_new_inputs_at_every_launch(no_cuda: type[StandIn]) -> None:
    def values(seed: int) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        return {
            "x_t": rng.random((2, 3), np.float32), "lr": rng.random((2, 3), np.float32),
            "coefficients": rng.random((4, 5), np.float32),
        }  # fmt: skip

    entered: list[int] = []

    @contextlib.contextmanager
    def arithmetic() -> Iterator[None]:
        entered.append(1)
        with torch.inference_mode():
            yield

    on_device = {k: torch.tensor(v) for k, v in values(0).items()}
    loop = CapturedLoop(halving, "x_t", on_device, arithmetic)  # type: ignore[arg-type]
    loop._graph.owner = loop  # type: ignore[attr-defined]
    results = [(seed, loop.begin(values(seed))) for seed in (1, 2)]  # both begun before one is asked for
    for seed, wait in results:
        given = values(seed)
        x = given["x_t"]
        for step in given["coefficients"]:
            x = x * step[0] + given["lr"]
        np.testing.assert_allclose(wait(), x, rtol=1e-6)
    assert no_cuda.launched == 2  # once a loop, not once a step
    assert len(entered) == 2  # one for the trial, one for the capture: none spans both


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_on_a_gpu_the_loop_is_that_of_the_processor(precision: Precision) -> None:
    one = work("perfgen-s")
    inputs, steps = one.inputs(), one.coefficients(3)
    others = {k: v for k, v in inputs.items() if k not in ("x_t", "coefficients")}
    exact = opened(one, "f32")
    wanted = exact.start(inputs["x_t"], others, steps)()
    exact.close()
    engine = load_torch(one.bundle, one.graph, one.shapes, DeviceChoice(device="cuda:0", precision=precision))
    begun = [engine.start(x, others, steps) for x in (inputs["x_t"][::-1].copy(), inputs["x_t"])]
    begun[0]()
    limit = LOOP_ERROR if precision == "f32" else one.graph.tolerance_low_precision
    assert np.abs(begun[1]() - wanted).max() / np.abs(wanted).max() < limit
    engine.close()
