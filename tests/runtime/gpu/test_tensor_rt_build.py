"""Building TensorRT plans: what goes wrong, what is built beforehand, and plans for the lean runtime."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from cmrsr.errors import CmrsrWarning, DeviceError, EngineError, OutOfMemoryError
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.gpu.cuda import gpus
from cmrsr.runtime.gpu.plan import PlanRecord, build_plans, open_plan, plan_source
from cmrsr.runtime.gpu.plan_build import library
from cmrsr.runtime.gpu.profiles import ranged_profile
from cmrsr.tasks.rooms import kind_of
from tests.engines import write_engine
from tests.fake_tensorrt import FakeTensorRt
from tests.heart_engine import heart_engine
from tests.plans import bundle, cache, fake_gpu, newly_opened, opened, restarted, silently, stored, tensorrt

__all__ = ["bundle", "cache", "fake_gpu", "heart_engine", "stored", "tensorrt"]


def failing(bundle: Bundle) -> pytest.ExceptionInfo[Exception]:
    with pytest.warns(CmrsrWarning, match="is built now"), pytest.raises((DeviceError, EngineError)) as caught:
        opened(bundle)
    assert "\n" not in str(caught.value)
    return caught  # type: ignore[return-value]


def test_what_the_parser_says_first_is_quoted(bundle: Bundle, tensorrt: FakeTensorRt) -> None:
    tensorrt.unsupported = {"Conv", "MatMul"}
    caught = failing(bundle)
    assert caught.type is EngineError
    assert caught.match(r"TensorRT 11\.4\.0\.106 cannot read .*step\.onnx: No importer registered for op \(in Conv\)")


def test_a_file_that_is_no_graph(bundle: Bundle, tensorrt: FakeTensorRt, tmp_path: Path) -> None:
    broken = load(str(write_engine(tmp_path / "broken")))
    (broken.path / "step.onnx").write_bytes(b"not onnx")
    assert failing(broken).type is EngineError


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        ("Error Code 10: Internal Error (Could not find any implementation for node a)", EngineError, "any implement"),
        ("Error Code 1: Cuda Runtime (out of memory)", OutOfMemoryError, "smaller --batch-size"),
        ("Requested amount of GPU memory (64 bytes) could not be allocated.", OutOfMemoryError, "smaller"),
        ("Error Code 2: OutOfMemory (no further information)", OutOfMemoryError, "smaller"),
    ],
)
def test_a_build_that_fails_says_why(
    bundle: Bundle, tensorrt: FakeTensorRt, cache: Path, failure: str, kind: type, words: str
) -> None:
    tensorrt.failure = failure
    caught = failing(bundle)
    assert caught.type is kind
    assert caught.match(words)
    assert not list(cache.glob("*.plan"))
    tensorrt.failure = "Error Code 4: something else"  # what was said before is forgotten
    assert failing(bundle).match("cannot build a plan of .* for x_t 2x1x16x24: Error Code 4: something else")
    tensorrt.failure = None
    newly_opened(bundle)


def test_tensorrt_without_a_gpu_is_a_device_error(bundle: Bundle, tensorrt: FakeTensorRt) -> None:
    gpu = gpus()[0]
    tensorrt.cuda.n_gpus = 0
    with pytest.raises(DeviceError):
        opened(bundle, gpu=gpu)


def test_tensorrt_that_is_not_there_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_lean"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceError, match=r"TensorRT does not load .*pip install 'cmrsr\[tensorrt\]'"):
        library()


def test_tensorrt_10_is_told_to_keep_to_the_types(
    bundle: Bundle, tensorrt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarted(monkeypatch, tensorrt.cuda, version="10.9.0.34")
    newly_opened(bundle)


def built(bundle: Bundle, **options: Any) -> tuple[list[PlanRecord], list[str]]:
    said: list[str] = []
    return build_plans(bundle, kind_of(bundle.manifest.task), gpu=gpus()[0], say=said.append, **options), said


def test_plans_that_were_built_beforehand_are_found(bundle: Bundle, tensorrt: FakeTensorRt, cache: Path) -> None:
    records, _ = built(bundle)
    assert [record.graph for record in records] == ["step"] * 3
    assert all(record.built and record.path and record.path.parent == cache for record in records)
    again, said_again = built(bundle)
    assert not any(record.built for record in again)
    assert said_again == [f"step.onnx f32 for {record.profile}: was there" for record in records]
    for n, rows, columns in ((8, 96, 96), (1, 96, 96), (3, 160, 144)):
        image = (n, 1, rows, columns)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plan, _ = opened(bundle, x_t=image, lr=image, low_pass=(rows, rows))
        low, _, high = plan.get_tensor_profile_shape("x_t", 0)
        assert (tuple(low) == tuple(high)) == (rows == 96)
    assert len(tensorrt.builds) == 3


def test_progress_is_passed_on(bundle: Bundle, tensorrt: FakeTensorRt) -> None:
    profile = ranged_profile(bundle.manifest.step, {"batch": 1, "rows": 16, "columns": 16})
    _, said = built(bundle, profiles={"step": [profile]})
    title = "step.onnx f32 for x_t 1x1x16x16: "
    assert said[0] == title + "building, which takes minutes"
    assert [line.removeprefix(title) for line in said[1:-1]] == [
        "Building engine", *(f"Building engine: {share} %" for share in (25, 50, 75, 100)),
    ]  # fmt: skip
    assert said[-1].startswith(title + "built in ")


def test_an_interrupt_ends_a_build(bundle: Bundle, tensorrt: FakeTensorRt, cache: Path) -> None:
    """TensorRT calls back from C++, which would swallow it."""

    def say(text: str) -> None:
        if "50 %" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plans(bundle, kind_of(bundle.manifest.task), gpu=gpus()[0], say=say)
    assert not list(cache.glob("*.plan"))


def test_graphs_without_dynamic_sizes_and_those_in_full_precision(heart_engine: Path, tensorrt: FakeTensorRt) -> None:
    bundle = load(str(heart_engine))
    records, _ = built(bundle)
    assert {record.graph for record in records} == {"step", "encoder", "graph", "decoder", "verdict"}
    assert {record.precision for record in records if record.graph in ("graph", "verdict")} == {"f32"}
    verdict = bundle.manifest.graphs["verdict"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_plan(plan_source(bundle, verdict, "f32"), verdict, {}, gpu=gpus()[0])


def test_float32_is_not_tf32(stored: Bundle, tensorrt: FakeTensorRt) -> None:
    assert tensorrt.builds == [[]]


def test_lean_runs_portable_plans_and_builds_none(
    bundle: Bundle, tensorrt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = ranged_profile(bundle.manifest.step, {"batch": (1, 2, 8), "rows": 16, "columns": 24})
    built(bundle, profiles={"step": [profile]})
    restarted(monkeypatch, tensorrt.cuda, lean=True)
    with pytest.raises(DeviceError, match=r"no plan of .* is stored for x_t 2x1x16x24, and tensorrt_lean builds none"):
        opened(bundle)
    with pytest.raises(DeviceError, match="tensorrt_lean builds no plans"):
        built(bundle)
    restarted(monkeypatch, tensorrt.cuda)
    built(bundle, profiles={"step": [profile]}, portable=True)
    restarted(monkeypatch, tensorrt.cuda, lean=True)
    silently(bundle)


def test_a_whole_tensorrt_runs_portable_plans_too(bundle: Bundle, tensorrt: FakeTensorRt) -> None:
    profile = ranged_profile(bundle.manifest.step, {"batch": (1, 2, 8), "rows": 16, "columns": 24})
    built(bundle, profiles={"step": [profile]}, portable=True)
    silently(bundle)
    assert tensorrt.builds == [["VERSION_COMPATIBLE"]]
