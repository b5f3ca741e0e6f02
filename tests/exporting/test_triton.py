"""A model repository of Triton Inference Server: what it reads, and what a client finds in the README."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.exporting.triton import config, readme, write_repository
from cmrsr.io.outputs import sha256_file
from cmrsr.runtime.bundle import Bundle, load, shipped
from cmrsr.tasks.rooms import kind_of
from cmrsr.tasks.sr.engine import ENGINE
from tests.engines import manifest_of, write_engine

BUNDLES = [load(str(folder)) for folder in shipped()]
each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.manifest.name)


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    """An engine whose graph keeps its weights in a second file, with an f16 variant."""
    folder = write_engine(tmp_path / "tiny")
    model = onnx.load(folder / "step.onnx")
    onnx.save(
        model, folder / "step.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0,
    )  # fmt: skip
    onnx.save(onnx.load(folder / "step.onnx"), folder / "step.f16.onnx")
    manifest = manifest_of(folder)
    manifest["graphs"]["step"]["variants"] = {"f16": {"file": "step.f16.onnx", "parity": 1e-3}}
    manifest["sha256"] = {p.name: sha256_file(p) for p in folder.iterdir() if p.name != "bundle.json"}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return load(str(folder))


def parsed(text: str) -> Any:
    """The configuration as Triton's own protobuf schema reads it."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def test_every_graph_becomes_a_model_that_needs_no_other_file(tiny: Bundle, tmp_path: Path) -> None:
    models = write_repository(tiny, ENGINE, tmp_path / "models")
    assert [m.name for m in models] == ["tiny_step", "tiny_step_f16"]
    found = {str(p.relative_to(tmp_path / "models")) for p in (tmp_path / "models").rglob("*") if p.is_file()}
    files = {f"{m.name}/{name}" for m in models for name in ("config.pbtxt", "1/model.onnx")}
    assert found == files | {"README-tiny.md"}
    moved = (models[0] / "1" / "model.onnx").rename(tmp_path / "alone.onnx")
    rng = np.random.default_rng(0)
    values = {
        name: rng.random(shape, np.float32)
        for name, shape in (
            ("x_t", (2, 1, 8, 12)), ("lr", (2, 1, 8, 12)), ("coefficients", (5,)), ("low_pass", (8, 8)),
        )
    }  # fmt: skip
    there, here = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, values)
        for path in (tiny.step_path, moved)
    )
    np.testing.assert_array_equal(there[0], here[0])


def test_the_f16_variant_is_for_a_gpu(tiny: Bundle, tmp_path: Path) -> None:
    portable, half = ((m / "config.pbtxt").read_text() for m in write_repository(tiny, ENGINE, tmp_path / "models"))
    assert "instance_group" not in portable
    assert "kind: KIND_GPU" in half


def test_plans_take_the_place_of_the_graphs(tiny: Bundle, tmp_path: Path) -> None:
    plan = tmp_path / "some.plan"
    plan.write_bytes(b"a plan")
    (model,) = write_repository(tiny, ENGINE, tmp_path / "models", {"step": plan})
    assert (model / "1" / "model.plan").read_bytes() == b"a plan"
    assert [p.name for p in (model / "1").iterdir()] == ["model.plan"]
    text = (model / "config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"' in text
    assert "kind: KIND_GPU" in text


def test_other_models_of_the_repository_stay(tiny: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "models" / "other_step" / "config.pbtxt"
    other.parent.mkdir(parents=True)
    other.write_text("as it was")
    for _ in range(2):
        write_repository(tiny, ENGINE, tmp_path / "models")
    assert other.read_text() == "as it was"


@each_bundle
def test_triton_reads_the_ports_of_the_manifest(bundle: Bundle) -> None:
    for name, graph in bundle.manifest.graphs.items():
        read = parsed(config(name, "onnxruntime_onnx", graph, gpu=True))
        kinds = read.DESCRIPTOR.file.enum_types_by_name["DataType"]
        assert (read.name, read.platform, read.max_batch_size) == (name, "onnxruntime_onnx", 0)
        assert [g.Kind.Name(g.kind) for g in read.instance_group] == ["KIND_GPU"]
        for found, ports in ((read.input, graph.inputs), (read.output, graph.outputs)):
            assert [p.name for p in found] == [p.name for p in ports]
            for one, port in zip(found, ports, strict=True):
                assert kinds.values_by_number[one.data_type].name == "TYPE_FP32"
                assert list(one.dims) == [d if isinstance(d, int) else -1 for d in port.shape]


@each_bundle
def test_the_readme_names_the_models_and_gives_the_coefficients(bundle: Bundle) -> None:
    manifest = bundle.manifest
    text = readme(manifest, kind_of(manifest.task), [f"{manifest.name}_{name}" for name in manifest.graphs])
    assert all(f"`{manifest.name}_{name}`" in text for name in manifest.graphs)
    assert manifest.normalisation in text
    rows = [
        [float(v) for v in line.strip("| ").split(" | ")[1:]]
        for line in text.splitlines()
        if re.match(r"\| [0-9]", line)
    ]
    wanted = [s.array() for s in ddim_coefficients(manifest.diffusion.build(), manifest.defaults.steps)]
    np.testing.assert_array_equal(np.array(rows, np.float32), np.stack(wanted))
