"""TensorRT plans from the bundle to the engine, on a stand-in for TensorRT (there is no GPU here)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from cmrsr.errors import CmrsrWarning, OutOfMemoryError, OutputError
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.runtime.gpu.cuda import gpus
from cmrsr.runtime.gpu.plan import build_plans, plan_source
from cmrsr.tasks.rooms import kind_of
from tests.engines import manifest_of, write_engine
from tests.fake_tensorrt import FakeTensorRt
from tests.plans import (
    OTHER_BATCH,
    SHAPES,
    bundle,
    cache,
    fake_gpu,
    newly_opened,
    opened,
    restarted,
    silently,
    stored,
    tensorrt,
)

__all__ = ["bundle", "cache", "fake_gpu", "stored", "tensorrt"]


def test_a_plan_is_built_once_and_read_by_the_next_process(
    stored: Bundle, tensorrt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(tensorrt.builds) == 1
    fresh = restarted(monkeypatch, tensorrt.cuda)
    plan, profile = silently(stored)
    assert profile == 0
    assert [tuple(shape) for shape in plan.get_tensor_profile_shape("x_t", 0)] == [SHAPES["x_t"]] * 3
    assert fresh.builds == []


def test_the_user_is_told_that_a_plan_takes_minutes_and_how_to_build_it_beforehand(
    bundle: Bundle, tensorrt: FakeTensorRt
) -> None:
    with pytest.warns(
        CmrsrWarning,
        match=r"step\.onnx for x_t 2x1x16x24 is built now, which takes minutes.*`cmrsr export tiny --tensorrt`",
    ) as caught:
        opened(bundle)
    assert len(caught) == 1


@pytest.mark.parametrize("change", ["gpu", "capability", "version", "weights", "sizes"])
def test_a_plan_for_something_else_is_not_taken(
    stored: Bundle, tensorrt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    shapes = {}
    if change == "gpu":
        tensorrt.cuda.gpu_name = "Another GPU"
    elif change == "capability":
        tensorrt.cuda.capability = (12, 0)
    elif change == "version":
        tensorrt = restarted(monkeypatch, tensorrt.cuda, version="11.5.0.1")
    elif change == "weights":
        stored = load(str(with_weights_beside(tmp_path / "other")))
    else:
        shapes = OTHER_BATCH
    before = len(tensorrt.builds)
    newly_opened(stored, **shapes)
    assert len(tensorrt.builds) == before + 1


def with_weights_beside(folder: Path, scale: float = 1.0, **changes: Any) -> Path:
    """The tiny engine whose convolution lies in a file of its own, as shipped engines have it."""
    write_engine(folder)
    model = onnx.load(folder / "step.onnx")
    tensor = next(one for one in model.graph.initializer if one.name == "weights")
    weights = (scale * onnx.numpy_helper.to_array(tensor)).astype(np.float32).tobytes()
    (folder / "weights.safetensors").write_bytes(weights)
    tensor.raw_data = weights
    external_data_helper.set_external_data(tensor, "weights.safetensors", offset=0, length=len(weights))
    tensor.ClearField("raw_data")
    (folder / "step.onnx").write_bytes(model.SerializeToString())
    (folder / "unused.safetensors").write_bytes(json.dumps(scale).encode())
    manifest = manifest_of(folder) | changes
    for name in ("weights.safetensors", "unused.safetensors"):
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def test_the_source_is_the_graph_with_its_weights_and_nothing_else(tmp_path: Path) -> None:
    def digest(name: str, scale: float = 1.0, **changes: Any) -> str:
        bundle = load(str(with_weights_beside(tmp_path / name, scale, **changes)))
        return plan_source(bundle, bundle.manifest.step, "f32").digest

    assert digest("a") == digest("b")
    assert digest("c", version="2") == digest("a")  # another text in the manifest is no other plan
    assert digest("d", scale=2.0) != digest("a")  # the graph is the same to the byte
    assert (tmp_path / "d" / "step.onnx").read_bytes() == (tmp_path / "a" / "step.onnx").read_bytes()


def test_files_that_a_graph_does_not_name_are_not_part_of_it(tmp_path: Path) -> None:
    folder = with_weights_beside(tmp_path / "engine")
    before = load(str(folder))
    (folder / "unused.safetensors").write_bytes(b"trained on")
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["sha256"]["unused.safetensors"] = hashlib.sha256(b"trained on").hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
    after = load(str(folder))
    assert after.digest != before.digest
    step = after.manifest.step
    assert plan_source(after, step, "f32").digest == plan_source(before, step, "f32").digest


def test_weights_beside_the_graph_reach_the_plan(tmp_path: Path, tensorrt: FakeTensorRt) -> None:
    plan, _ = newly_opened(load(str(with_weights_beside(tmp_path / "engine"))))
    assert plan.num_io_tensors == 6


def test_the_variant_of_the_precision_is_taken_where_there_is_one(tmp_path: Path) -> None:
    folder = with_weights_beside(tmp_path / "engine")
    (folder / "step_f16.onnx").write_bytes((folder / "step.onnx").read_bytes())
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["graphs"]["step"]["variants"] = {"f16": {"file": "step_f16.onnx", "parity": 1e-3}}
    manifest["sha256"]["step_f16.onnx"] = manifest["sha256"]["step.onnx"]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    bundle = load(str(folder))
    found = {wanted: plan_source(bundle, bundle.manifest.step, wanted) for wanted in ("auto", "f16", "bf16", "f32")}
    assert {wanted: source.precision for wanted, source in found.items()} == {
        "auto": "f16", "f16": "f16", "bf16": "f32", "f32": "f32",
    }  # fmt: skip
    assert found["f16"].path.name == "step_f16.onnx"
    assert found["f32"].path.name == "step.onnx"
    assert found["f16"].digest != found["f32"].digest


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "index", "foreign"])
def test_a_plan_that_is_not_what_was_stored_is_built_anew(
    stored: Bundle, tensorrt: FakeTensorRt, cache: Path, damage: str
) -> None:
    (plan,), (index,) = cache.glob("*.plan"), cache.glob("*.json")
    data = plan.read_bytes()
    if damage == "index":
        index.write_text("{")
    elif damage == "foreign":  # whole, but of another TensorRT: only TensorRT finds out
        other = data.replace(b"11.4.0.106", b"10.9.0.034")
        plan.write_bytes(other)
        index.write_text(index.read_text().replace(*(hashlib.sha256(d).hexdigest() for d in (data, other))))
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        plan.write_bytes({"flip": flipped, "truncate": data[:-7], "empty": b""}[damage])
    with pytest.warns(CmrsrWarning) as caught:
        opened(stored)
    said = [str(one.message) for one in caught]
    assert len(said) == 2
    assert ("refused by TensorRT" if damage == "foreign" else "damaged") in said[0]
    assert "is built now" in said[1]
    assert plan.read_bytes() == data
    silently(stored)
    assert len(tensorrt.builds) == 2


def test_a_good_plan_stays_where_memory_does_not_hold_it(stored: Bundle, tensorrt: FakeTensorRt, cache: Path) -> None:
    tensorrt.load_failure = "Error Code 2: OutOfMemory (Requested size was 268435456 bytes.)"
    with pytest.raises(OutOfMemoryError, match="not enough free memory to load a plan: use a smaller --batch-size"):
        opened(stored)
    tensorrt.load_failure = None
    silently(stored)


def test_without_a_folder_the_plan_is_used_from_memory(
    bundle: Bundle, tensorrt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMRSR_CACHE", "")
    for _ in range(2):
        newly_opened(bundle)
    assert len(tensorrt.builds) == 2
    with pytest.raises(OutputError, match="no folder to keep plans in: let CMRSR_CACHE name one"):
        build_plans(bundle, kind_of(bundle.manifest.task), gpu=gpus()[0])
