"""Backends against the oracle: what agrees passes, what does not is named."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.diagnostics.contenders import Contender
from cmrsr.diagnostics.verify import example, verify
from cmrsr.runtime.bundle import Bundle, Graph, load, shipped
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.gpu.profiles import default_profiles
from cmrsr.tasks.rooms import kind_of
from tests.engines import engine, manifest_of, write_engine

Array = NDArray[np.float32]
__all__ = ["engine"]


class Wrong:
    """The oracle's outputs with one number changed in the last of them."""

    backend, device, precision = "wrong", "cpu", "f32"

    def __init__(self, bundle: Bundle, graph: Graph, change: float) -> None:
        from cmrsr.runtime.onnx_runtime import OnnxRuntimeGraph

        self._engine = OnnxRuntimeGraph(bundle.path / graph.file, graph, threads=1, cuda_device=None)
        self._change = change

    def __call__(self, *inputs: Array) -> tuple[Array, ...]:
        *first, last = self._engine(*inputs)
        last = last.copy()
        last.flat[-1] += self._change * np.abs(last).max()
        return *first, last

    def close(self) -> None:
        self._engine.close()


def wrong(change: float) -> Contender:
    def factory(bundle: Bundle, graph: Graph, shapes: Mapping[str, tuple[int, ...]], choice: DeviceChoice) -> Wrong:
        return Wrong(bundle, graph, change)

    return Contender("wrong", factory, DeviceChoice())  # type: ignore[arg-type]


def test_the_backends_of_this_machine_agree(engine: Path) -> None:
    told: list[object] = []
    results = verify(load(str(engine)), on_result=told.append)
    assert told == results
    assert "openvino f32" in [one.backend for one in results]
    assert all(one.passed and one.graph == "step" for one in results)


@pytest.mark.parametrize(("change", "passed"), [(1e-6, True), (1e-3, False), (float("nan"), False)])
def test_the_last_number_of_the_last_output_counts(engine: Path, change: float, passed: bool) -> None:
    found = verify(load(str(engine)), others=[wrong(change)])[0]
    assert found.backend == "wrong"
    assert found.passed is passed
    if np.isfinite(change):
        assert found.error == pytest.approx(change, rel=0.2)


def test_variants_are_looked_at_too(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "tiny")
    manifest = manifest_of(folder)
    manifest["graphs"]["step"]["variants"] = {"f16": {"file": "step.onnx", "parity": 0.0}}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert "onnxruntime f16" in [one.backend for one in verify(load(str(folder)))]


@pytest.mark.parametrize("folder", shipped(), ids=lambda folder: folder.name)
def test_examples_fit_the_ports_and_a_plan(folder: Path) -> None:
    bundle = load(str(folder))
    for name, graph in bundle.manifest.graphs.items():
        given = example(bundle, name)
        sizes: dict[str, int] = {}
        assert list(given) == [port.name for port in graph.inputs]
        for port in graph.inputs:
            value = given[port.name]
            assert value.dtype == np.float32
            for stated, size in zip(port.shape, value.shape, strict=True):
                assert sizes.setdefault(stated, size) == size if isinstance(stated, str) else stated == size
        assert all(sizes[side] % graph.stride == 0 for side in ("rows", "columns") if side in sizes)
        shapes = {port: value.shape for port, value in given.items()}
        assert any(profile.covers(shapes) for profile in default_profiles(bundle, kind_of(bundle.manifest.task), name))
        tau = given.get("tau", np.array(0.5))
        assert ((tau > 0) & (tau < 1)).all()
