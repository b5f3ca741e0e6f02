"""The self-test: what agrees passes, and each thing that does not fails its own line with its own exit code."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.diagnostics import selftest
from cmrsr.diagnostics.selftest import Check, SelfTest, allowed, run_checks
from cmrsr.diagnostics.selftest_runs import run_task
from cmrsr.errors import DeviceError, EngineError, UnusableError, UsageError
from cmrsr.metrics.outcome import Outcome
from cmrsr.phantom.one_patient import VirtualScans
from cmrsr.runtime.bundle import shipped
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.sample import key
from cmrsr.tasks.function.selftest import judge as judge_function
from cmrsr.tasks.interp4d.selftest import judge as judge_interp4d
from cmrsr.tasks.mie.selftest import judge as judge_mie
from cmrsr.tasks.sr.selftest import judge as judge_sr
from tests.engines import write_engine
from tests.fake_gpu import fake_gpu
from tests.sampled_engine import sample_of, write_sampled_engine

__all__ = ["fake_gpu"]
ON_CPU = {"device": "cpu", "backend": "onnxruntime"}
VALUES = key("step", "values", "x0")


def outcome(value: float = 0.0, passed: bool = True) -> Outcome:
    return Outcome(passed, "as it should be", {"figure": value}, (np.full(4, value),))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the runs of a task give, one after the other (an error is raised); no patient is made."""
    given: list[Any] = []

    def run(*arguments: Any) -> Outcome:
        found = given.pop(0) if given else outcome()
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Outcome)
        return found

    monkeypatch.setattr(selftest, "run_task", run)
    monkeypatch.setattr(selftest, "VirtualScans", lambda: SimpleNamespace(make=lambda *scans: None))
    return given


@pytest.fixture
def tested(runs: list[Any]) -> Callable[..., list[Check]]:
    return lambda *engines, **asked: list(run_checks(SelfTest(engines=[str(e) for e in engines], **asked)))


def lines(checks: list[Check]) -> dict[str, int]:
    return {check.what: check.exit_code for check in checks}


def test_a_bundle_that_agrees_passes_on_every_backend(tested: Callable[..., list[Check]], tmp_path: Path) -> None:
    checks = tested(write_sampled_engine(tmp_path / "good"), device="cpu")
    assert all(check.passed for check in checks), [check.found for check in checks]
    ways = [check.what for check in checks[1:-2]]
    assert [checks[0].what, *lines(checks[-2:])] == ["files", "cmrsr sr", "same seed, same bits"]
    assert {"openvino f32", "onnxruntime f32"} <= set(ways)
    assert {check.engine for check in checks} == {"good"}
    errors = [check.figures["step"] for check in checks[1:-2]]
    assert all(error is not None and error < 0.05 for error in errors)
    assert checks[ways.index("onnxruntime f32") + 1].figures == {"step": 0.0}


def test_one_value_that_is_another_fails(tested: Callable[..., list[Check]], tmp_path: Path) -> None:
    """By more than the tolerance in float32, which the bf16 line lets pass."""
    values = sample_of(write_engine(tmp_path / "one"))[VALUES]
    off = values.copy()
    off[7] += 1e-3 * np.abs(values).max()
    checks = tested(write_sampled_engine(tmp_path / "one", **{VALUES: off}), device="cpu")
    found = {check.what: check.exit_code for check in checks[1:-2]}
    assert found == {way: 0 if way.endswith("bf16") else 5 for way in found}
    wrong = next(check for check in checks if not check.passed)
    assert "error 1.0e-03, allowed 1e-05, in step; install the engine again" in wrong.found


def test_another_shape_is_no_number_for_a_script(tested: Callable[..., list[Check]], tmp_path: Path) -> None:
    shape = {key("step", "shape", "x0"): np.array([2, 1, 16, 40], np.int32)}
    check = tested(write_sampled_engine(tmp_path / "odd", **shape), **ON_CPU)[1]
    assert (check.exit_code, check.figures) == (5, {"step": None})


def test_only_its_line_fails_without_a_sample(tested: Callable[..., list[Check]], tmp_path: Path) -> None:
    checks = tested(write_engine(tmp_path / "old"), **ON_CPU)
    assert lines(checks) == {"files": 0, "stored sample": 5, "cmrsr sr": 0, "same seed, same bits": 0}
    assert "without a sample.npz" in checks[1].found


def test_a_damaged_engine_does_not_hide_the_next(tested: Callable[..., list[Check]], tmp_path: Path) -> None:
    worn, good = (write_sampled_engine(tmp_path / name) for name in ("worn", "good"))
    (worn / "step.onnx").write_bytes(b"")
    checks = tested(worn, "nowhere", good, **ON_CPU)
    assert [check.exit_code for check in checks] == [5, 5, 0, 0, 0, 0]
    assert "damaged" in checks[0].found
    assert "no engine 'nowhere'" in checks[1].found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([outcome(passed=False)], [5, 0]),
        ([outcome(1.0), outcome(2.0)], [0, 5]),
        ([outcome(np.nan), outcome(np.nan)], [0, 0]),
        ([UnusableError("no heart is found")], [5]),
        ([DeviceError("out of memory")], [6]),
        ([outcome(), EngineError("gone")], [0, 5]),
    ],
    ids=["senseless", "differs", "nan twice", "refused", "device", "second run"],
)
def test_runs_that_fail(
    tested: Callable[..., list[Check]], runs: list[Any], given: list[Any], expected: list[int], tmp_path: Path
) -> None:
    runs += given
    checks = tested(write_sampled_engine(tmp_path / "good"), **ON_CPU)
    assert [check.exit_code for check in checks[2:]] == expected


def test_a_backend_that_fails_is_one_line(
    tested: Callable[..., list[Check]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Iterator[None]:
        raise DeviceError("no memory")

    ways = selftest.contenders("cpu", "auto", None)
    broken_one = type(ways[0])("openvino f32", broken, ways[0].choice)  # type: ignore[arg-type]
    monkeypatch.setattr(selftest, "contenders", lambda *asked: [broken_one, ways[-1]])
    checks = tested(write_sampled_engine(tmp_path / "good"))
    assert [(check.exit_code, check.found) for check in checks[1:2]] == [(6, "no memory")]
    assert all(check.passed for check in checks[2:])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "cuda:7"}, "no GPU can be used: no NVIDIA driver"),
        ({"backend": "tensorrt"}, "--backend tensorrt is not installed: pip install 'cmrsr[tensorrt]'"),
    ],
)
def test_what_is_asked_for_and_absent_ends_it(
    asked: dict[str, str], message: str, tested: Callable[..., list[Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "tensorrt" in name else there(name))
    monkeypatch.setattr(selftest, "cuda_provider", lambda: False)
    monkeypatch.setattr("cmrsr.runtime.gpu.cuda._look", lambda: ([], "no NVIDIA driver"))
    (check,) = tested("any", **asked)
    assert (check.what, check.exit_code) == ("device", 6)
    assert check.found.startswith(message)


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.filterwarnings("ignore::cmrsr.errors.CmrsrWarning")  # of plans that are built
def test_tensorrt_is_compared_where_a_gpu_is(tested: Callable[..., list[Check]], tmp_path: Path) -> None:
    checks = tested(write_sampled_engine(tmp_path / "good"), device="cuda", backend="tensorrt")
    assert [check.exit_code for check in checks] == [0] * 4, [check.found for check in checks]
    assert "tensorrt" in checks[1].what
    (check,) = tested("good", device="cuda:3")
    assert (check.exit_code, check.found.split(",")[0]) == (6, "there is no cuda:3")


def test_a_wrong_request_is_no_failed_check() -> None:
    with pytest.raises(UsageError, match="--device moon"):
        list(run_checks(SelfTest(engines=[], device="moon")))


def test_what_is_asked_for_by_name_is_not_replaced() -> None:
    assert not SelfTest(engines=[]).choice.strict
    assert SelfTest(engines=[], backend="onnxruntime").choice.strict
    assert SelfTest(engines=[], device="cpu").choice.strict


def test_only_float32_on_a_processor_is_exact() -> None:
    graph: Any = SimpleNamespace(tolerance=1e-4, tolerance_low_precision=0.05)
    found = {
        (device, precision): allowed(graph, SimpleNamespace(device=device, precision=precision))  # type: ignore[arg-type]
        for device in ("cpu", "cuda:0")
        for precision in ("f32", "bf16")
    }
    assert [one for one, limit in found.items() if limit == 1e-4] == [("cpu", "f32")]


def test_the_f16_graphs_run_where_there_are_some() -> None:
    ways = selftest.contenders("cpu", "auto", None)
    for variants, expected in (([{}], []), ([{"f16": 1}, {}], ["onnxruntime cpu f16"])):
        graphs = {str(i): SimpleNamespace(variants=one) for i, one in enumerate(variants)}
        bundle: Any = SimpleNamespace(manifest=SimpleNamespace(graphs=graphs))
        found = selftest._half_precision(bundle, ways, SelfTest(engines=[]))
        assert [" ".join((w.choice.backend, w.choice.device, w.choice.precision)) for w in found] == expected
        assert not selftest._half_precision(bundle, [w for w in ways if "onnx" not in w.name], SelfTest(engines=[]))


Judge = Callable[[NDArray[Any]], Outcome]
RNG = np.random.default_rng(5)
TRUTH = RNG.random((4, 1, 16, 16)).astype(np.float32)
BLURRED = (TRUTH + np.roll(TRUTH, 1, 2)) / 2
SCAR = np.zeros((1, 16, 16), bool)
SCAR[0, 4:9, 4:9] = True
IMAGE = RNG.random(SCAR.shape).astype(np.float32)
BETWEEN = TRUTH.copy()
BETWEEN[1::2] += 0.1
AS_BLENDED = TRUTH.copy()
AS_BLENDED[1::2] = (TRUTH[::2] + np.roll(TRUTH[::2], -1, 0)) / 2
NEAR = TRUTH.copy()
NEAR[::2] += 1e-6
JUDGES: dict[str, tuple[Judge, NDArray[Any]]] = {
    "sr": (lambda found: judge_sr(found, BLURRED, TRUTH), (TRUTH + BLURRED) / 2),
    "interp4d": (lambda found: judge_interp4d(found, TRUTH), BETWEEN),
    "function": (lambda found: judge_function(found, TRUTH.shape, 40.0, 44.0), TRUTH),
    "mie": (lambda found: judge_mie(found, np.roll(SCAR, 1, 2), SCAR), IMAGE),
}


@pytest.mark.parametrize(("judge", "good"), JUDGES.values(), ids=JUDGES)
def test_sense_and_nonsense(judge: Judge, good: NDArray[Any]) -> None:
    assert judge(good).passed, judge(good).found
    broken = good.copy()
    broken.flat[3] = np.nan
    assert judge(broken).found == "result holds values that are not finite"
    assert judge(good[..., 1:]).found.startswith("result of ")
    assert not judge(broken).passed
    assert not judge(good[..., 1:]).passed


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (judge_sr(BLURRED, BLURRED, TRUTH), "+0.00 dB over zero-filled"),
        (judge_interp4d(AS_BLENDED, TRUTH), "error 1.000 of a linear blend's"),
        (judge_interp4d(NEAR, TRUTH), "acquired frames were changed"),
        (judge_function(TRUTH, TRUTH.shape, 33.0, 40.0), "EF 33.0 %, true 40.0 %"),
        (judge_function(TRUTH, TRUTH.shape, np.nan, 40.0), "EF nan %"),
        (judge_mie(IMAGE, np.zeros_like(SCAR), SCAR), "Dice of the scar 0.00"),
        (judge_mie(IMAGE, ~SCAR, SCAR), "Dice of the scar 0.00"),
    ],
)
def test_results_without_sense_fail(found: Outcome, words: str) -> None:
    assert not found.passed
    assert found.found.startswith(words)


@pytest.mark.skipif(not shipped(), reason="no engine is shipped in this checkout")
def test_the_shipped_engine_restores_the_virtual_patient() -> None:
    """The quickest of the four; the command runs them all."""
    patient = VirtualScans()
    choice = DeviceChoice(device="cpu")
    one, two = (run_task("sr", "perfgen-s", patient, choice) for _ in range(2))
    assert one.passed, one.found
    np.testing.assert_array_equal(one.result, two.result)
    assert set(vars(patient)) == {"_exam", "level", "perfusion"}  # nothing that sr does not need was made
