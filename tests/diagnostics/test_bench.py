"""Comparisons of speed: whose turn it is, what becomes of the times, who is left out, what is printed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmrsr.cli import bench as command
from cmrsr.cli.tables import WIDTH
from cmrsr.diagnostics import bench
from cmrsr.diagnostics.bench import LOOP, compare, relative_error
from cmrsr.diagnostics.ceilings import Ceiling
from cmrsr.diagnostics.cold_start import cold_start
from cmrsr.diagnostics.contenders import Contender, contenders, oracle, runtime_contender
from cmrsr.diagnostics.rounds import LEAST, MOST, TURN, rounds
from cmrsr.diagnostics.workload import Workload
from cmrsr.errors import DeviceError
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.choice import Array, DeviceChoice, OnStep
from cmrsr.runtime.engine import load_graph

SIZES = {"batch": 2, "rows": 16, "columns": 8}


class Clock:
    """Time that passes only where it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: float, log: list[str], name: str) -> Callable[[], object]:
        def call() -> None:
            self.now += seconds
            log.append(name)

        return call


def test_calls_take_turns_and_the_first_of_a_turn_is_not_timed() -> None:
    clock, log = Clock(), list[str]()
    times = rounds({"a": clock.taking(1, log, "a"), "b": clock.taking(2, log, "b")}, 0.0, clock)
    assert log == ["a", "a", "b", "b"] * LEAST
    assert times == {"a": [1.0] * LEAST, "b": [2.0] * LEAST}


def test_a_drift_of_the_machine_hits_all_alike() -> None:
    clock = Clock()

    def slowing(seconds: float) -> Callable[[], object]:
        def call() -> None:
            clock.now += seconds * (1 + clock.now / 10)

        return call

    times = rounds({"a": slowing(0.1), "b": slowing(0.1)}, 6.0, clock)
    a, b = (np.array(times[k]) for k in "ab")
    assert a[-1] > 1.5 * a[0]
    np.testing.assert_allclose(a, b, rtol=0.05)


@pytest.mark.parametrize(("budget", "n"), [(0.0, LEAST), (8.5, 4), (1e9, MOST)])
def test_as_many_rounds_as_fit(budget: float, n: int) -> None:
    clock = Clock()
    assert len(rounds({"a": clock.taking(1, [], "a")}, budget, clock)["a"]) == n


def test_what_is_over_at_once_is_repeated() -> None:
    clock, log = Clock(), list[str]()
    times = rounds({"a": clock.taking(TURN / 8, log, "a")}, 0.0, clock)
    assert times["a"] == [pytest.approx(TURN / 8)] * LEAST
    assert len(log) == (1 + 8) * LEAST


class Counting:
    """An engine that adds ``off`` to what the network gives, and counts; its name says that it runs on ``device``."""

    backend, precision = "counting", "bf16"

    def __init__(self, off: float = 0.0, device: str = "cpu") -> None:
        self.off, self.device = off, device
        self.evaluations, self.loops, self.closed = 0, list[int](), False

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        self.evaluations += 1
        x_t = inputs[0]
        return x_t + self.off, x_t

    def start(
        self, x_t: Array, given: Mapping[str, Array], coefficients: Sequence[Array], on_step: OnStep = None
    ) -> Callable[[], Array]:
        assert list(given) == ["lr", "low_pass"]
        self.loops.append(len(coefficients))
        return lambda: x_t

    def close(self) -> None:
        self.closed = True


def of(engine: Counting, name: str = "counting bf16") -> Contender:
    return Contender(name, lambda *_: engine, DeviceChoice())


def refusing(*_: Any) -> Counting:
    raise DeviceError("no such thing here")


@pytest.fixture
def small(engine: Path) -> Workload:
    return Workload(load(str(engine)), "step", SIZES)


def ceiling(device: str, precision: Any = "bf16") -> Ceiling:
    return Ceiling(device, precision, 1e6, lambda: None)


def test_the_figures_of_a_contender_fit_together(small: Workload) -> None:
    fast, exact = Counting(off=0.5), Counting()
    found = [of(fast), of(exact, "oracle f32")]
    result = compare(small, found, [ceiling("cpu"), ceiling("cpu", "f32")], found[1], seconds=0.0, cold=False)
    one, other = result.backends
    assert one.ms_per_image * result.images == pytest.approx(one.ms)
    assert one.tflop_s == pytest.approx(result.gflop / one.ms)
    assert one.share_of_ceiling == pytest.approx(one.tflop_s / result.ceilings_tflop_s["matrix product cpu bf16"])
    assert one.frames_per_s[1] == pytest.approx(result.images / one.ms * 1e3)
    assert one.frames_per_s[1] == pytest.approx(50 * one.frames_per_s[50])
    largest = np.abs(small.inputs()["x_t"]).max()
    assert (one.error, other.error) == (pytest.approx(0.5 / largest), 0.0)
    assert (result.oracle, result.n_rounds) == ("oracle f32", LEAST)
    assert fast.closed
    assert exact.closed
    json.dumps(result.record())


def test_times_are_medians_and_ceilings_the_best(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "rounds", lambda calls, _: {name: [0.3, 0.1, 0.2] for name in calls})
    cpu, gpu = Counting(), Counting(device="cuda:0")
    found = [of(cpu), of(gpu, "gpu bf16")]
    result = compare(small, found, [ceiling("cuda"), ceiling("cpu")], found[0], seconds=0.0, cold=False)
    on_cpu, on_gpu = result.backends
    assert result.ceilings_tflop_s == pytest.approx(dict.fromkeys(
        ("matrix product cuda bf16", "matrix product cpu bf16"), 1e6 / 0.1 / 1e12
    ))  # fmt: skip
    assert (on_cpu.ms, on_gpu.ms) == (pytest.approx(200), pytest.approx(200 / LOOP))  # a loop has LOOP evaluations
    assert on_cpu.frames_per_s == pytest.approx({n: 2 / (0.2 * n) for n in (1, 5, 50)})
    assert on_gpu.frames_per_s == pytest.approx(dict.fromkeys((1, 5, 50), 2 / 0.2))  # whole loops, timed themselves
    assert on_gpu.share_of_ceiling == pytest.approx(LOOP * (on_cpu.share_of_ceiling or 0))


def test_a_gpu_runs_whole_loops(small: Workload) -> None:
    gpu = Counting(device="cuda:0")
    compare(small, [of(gpu)], [], of(Counting()), seconds=0.0, cold=False)
    assert gpu.evaluations == 1  # for the error
    assert set(gpu.loops) == {LOOP, 1, 5, 50}


def test_a_ceiling_of_another_arithmetic_is_none(small: Workload) -> None:
    result = compare(small, [of(Counting())], [ceiling("cpu", "f32")], of(Counting()), seconds=0.0, cold=False)
    assert result.backends[0].share_of_ceiling is None


def test_what_does_not_run_is_named_and_the_others_go_on(small: Workload) -> None:
    found = [Contender("broken", refusing, DeviceChoice()), of(Counting())]
    result = compare(small, found, [], found[1], seconds=0.0, cold=False)
    assert [m.name for m in result.backends] == ["counting bf16"]
    assert result.skipped == {"broken": "no such thing here"}


def test_runtime_backends_side_by_side(small: Workload) -> None:
    found = [runtime_contender("openvino", "cpu", "f32", 1), runtime_contender("onnxruntime", "cpu", "f32", 1)]
    result = compare(small, found, [], oracle(1), seconds=0.0, cold=False)
    assert [(m.backend, m.device, m.precision) for m in result.backends] == [
        ("openvino", "cpu", "f32"), ("onnxruntime", "cpu", "f32"),
    ]  # fmt: skip
    assert result.backends[0].ratio_to_layers
    assert result.backends[0].error < 1e-5
    assert result.backends[1].error == 0


def test_the_error_is_the_largest_of_all_outputs_relative_to_each() -> None:
    wanted = (np.array([2.0, -4.0], np.float32), np.array([0.1], np.float32))
    found = (np.array([2.0, -3.0], np.float32), np.array([0.15], np.float32))
    assert relative_error(found, wanted) == pytest.approx(0.5)


def test_a_fresh_process_gives_an_output(small: Workload) -> None:
    start = cold_start(small, load_graph, DeviceChoice(device="cpu", backend="onnxruntime", threads=1))
    assert start.seconds > 0
    assert start.peak_mb is None or 20 < start.peak_mb < 2000


def test_a_fresh_process_that_fails_says_why(small: Workload) -> None:
    wrong = replace(small, sizes=SIZES | {"rows": 0})
    with pytest.raises(DeviceError, match=r"a fresh process ended with 1: .*Error"):
        cold_start(wrong, load_graph, DeviceChoice(device="cpu", backend="openvino", strict=True))


def test_a_backend_that_is_asked_for_is_alone() -> None:
    assert {one.choice.backend for one in contenders("cpu", "onnxruntime", 1)} == {"onnxruntime"}
    assert all(one.choice.strict and one.choice.threads == 3 for one in contenders("cpu", "auto", 3))
    assert {one.choice.device for one in contenders("cuda:1", "auto", 1)} <= {"cuda:1"}


def test_the_command_prints_a_table_and_gives_its_record(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.0)
    record = command.run_bench([str(engine)], "cpu", "onnxruntime", 1, as_json=False)
    printed = capsys.readouterr().out
    (one,) = record["engines"]
    assert one["backends"][0]["name"] == "onnxruntime f32"
    assert one["backends"][0]["cold_start_s"] > 0
    assert json.loads(json.dumps(record))["processors"] == 1
    assert "onnxruntime f32" in printed
    assert "oracle" in printed
    assert max(map(len, printed.splitlines())) <= WIDTH


def test_with_json_the_command_prints_nothing(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.0)
    there = runtime_contender("onnxruntime", "cpu", "f32", 1)
    monkeypatch.setattr(command, "everything", lambda *_: [Contender("broken", refusing, DeviceChoice()), there])
    record = command.run_bench([str(engine)], "cpu", "auto", 1, as_json=True)
    assert record["engines"][0]["skipped"] == {"broken": "no such thing here"}
    assert capsys.readouterr().out == ""


def test_nothing_to_measure_is_an_error_of_the_device(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.0)
    monkeypatch.setattr(command, "everything", lambda *_: [Contender("broken", refusing, DeviceChoice())])
    with pytest.raises(DeviceError, match="nothing could be measured: no such thing here"):
        command.run_bench([str(engine)], "cuda", "auto", 1, as_json=True)
    monkeypatch.setattr(command, "everything", lambda *_: [])
    with pytest.raises(DeviceError, match="--backend tensorrt is not installed here"):
        command.run_bench([str(engine)], "auto", "tensorrt", 1, as_json=True)


def test_torch_stands_beside_the_others_where_no_backend_is_named() -> None:
    pytest.importorskip("torch")
    names = [one.name for one in command.everything("cpu", "auto", 1)]
    assert "torch f32" in names
    assert len(names) == len(set(names))
    assert not any(one.name.startswith("torch") for one in command.everything("cpu", "openvino", 1))


def test_without_names_all_shipped_engines_are_measured() -> None:
    names = {one.manifest.name for one in command.chosen([])}
    assert names >= {"perfgen-s", "tssc-s", "cpkdm-s", "causal-s"}
    assert isinstance(command.chosen(["perfgen-s"])[0], Bundle)
