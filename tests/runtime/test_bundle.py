"""Engine bundles: found by name or path, and refused when anything about them is not as their manifest says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmrsr.errors import EngineError
from cmrsr.io.outputs import sha256_file
from cmrsr.runtime import bundle
from cmrsr.runtime.bundle import find, load, shipped
from tests.cine import interp_engine, write_interp_engine
from tests.engines import write_engine
from tests.heart_engine import write_heart_engine
from tests.infarct_engine import write_infarct_engine

__all__ = ["interp_engine"]


def test_a_valid_bundle_loads(engine: Path) -> None:
    loaded = load(str(engine), "sr")
    assert loaded.manifest.name == "tiny"
    assert loaded.step_path.is_file()
    assert len(loaded.digest) == 64


def test_the_digest_follows_the_manifest(engine: Path, tmp_path: Path) -> None:
    assert load(str(write_engine(tmp_path / "same")), "sr").digest == load(str(engine), "sr").digest
    assert load(str(write_engine(tmp_path / "other", version="2")), "sr").digest != load(str(engine), "sr").digest


def test_every_shipped_engine_loads() -> None:
    for folder in shipped():
        loaded = load(folder.name)
        assert loaded.path == folder
        assert load(folder.name, loaded.manifest.task).digest == loaded.digest


def as_format_1(folder: Path) -> Path:
    """The same bundle as earlier versions wrote it: every graph a key of the manifest itself."""
    path = folder / "bundle.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | record.pop("graphs") | {"format": 1}))
    return folder


def test_graphs_are_read_in_their_order(engine: Path, interp_engine: Path) -> None:
    assert list(load(str(engine)).manifest.graphs) == ["step"]
    manifest = load(str(interp_engine)).manifest
    assert {name: graph.file for name, graph in manifest.graphs.items()} == {
        "step": "step.onnx",
        "volume": "volume.onnx",
    }
    assert list(manifest.graphs) == ["step", "volume"]
    assert manifest.step == manifest.graphs["step"]


@pytest.mark.parametrize(
    "write", [write_engine, write_interp_engine, write_heart_engine, write_infarct_engine], ids=lambda w: w.__name__
)
def test_format_1_is_read_as_the_same_engine(write: Callable[[Path], Path], tmp_path: Path) -> None:
    new, old = load(str(write(tmp_path / "new"))), load(str(as_format_1(write(tmp_path / "old"))))
    assert old.manifest == new.manifest
    assert list(old.manifest.graphs) == list(new.manifest.graphs)
    assert old.manifest.format == 2
    assert old.digest == sha256_file(tmp_path / "old" / "bundle.json")  # of what lies there


@pytest.mark.parametrize("folder", shipped(), ids=lambda folder: folder.name)
def test_shipped_engines_are_in_the_newest_format_and_would_be_read_in_the_first(folder: Path, tmp_path: Path) -> None:
    assert json.loads((folder / "bundle.json").read_text())["format"] == 2
    old = shutil.copytree(folder, tmp_path / folder.name)
    assert load(str(as_format_1(old))).manifest == load(folder.name).manifest


def test_a_shipped_engine_is_found_by_its_name(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "engines_folder", lambda: engine.parent)
    assert find("tiny") == engine
    with pytest.raises(EngineError, match=r"no engine 'huge'.*\(tiny\)"):
        find("huge")


@pytest.mark.parametrize("name", ["", ".", "nowhere", "/dev/null"])
def test_what_is_no_engine_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match=r"not a folder with a bundle\.json"):
        load(name, "sr")


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_changed_byte_is_refused(tmp_path: Path, position: int) -> None:
    folder = write_engine(tmp_path / "engine")
    graph = folder / "step.onnx"
    data = bytearray(graph.read_bytes())
    data[position] ^= 1
    graph.write_bytes(data)
    with pytest.raises(EngineError, match=r"damaged: .*step\.onnx has sha256"):
        load(str(folder), "sr")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "engine")
    (folder / "step.onnx").unlink()
    with pytest.raises(EngineError, match=r"incomplete: .*step\.onnx cannot be read"):
        load(str(folder), "sr")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 3}, r"format 3, this version of cmrsr reads formats 1 and 2"),
        ({"format": "2"}, r"format '2', this version of cmrsr reads formats 1 and 2"),
        ({"format": None}, r"format None, this version"),
        ({"format": 1}, r"graphs: Input should be a valid dictionary|no graph step"),
        ({"graphs": {}}, r"no graph step, which every engine needs"),
        ({"graphs": {"step": {"file": "step.onnx"}}}, r"graphs\.step\.inputs: Field required"),
        ({"name": None}, r"name: Input should be a valid string"),
        ({"surprise": 1}, r"surprise: Extra inputs are not permitted"),
        ({"sha256": {}}, r"no sha256 for step\.onnx"),
        ({"spread": {"five": 1.0}}, r"spread"),
        ({"defaults": {"steps": 0, "samples": 1, "consistency": 0}}, r"defaults\.steps"),
        ({"defaults": {"steps": 1, "samples": 1, "consistency": 2}}, r"defaults\.consistency"),
        (
            {"diffusion": {"schedule": "cosine", "prediction": "eps", "n_train": 10, "residual_std": None}},
            r"eps-prediction is undefined",
        ),
    ],
)
def test_an_invalid_manifest_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError, match=rf"bundle\.json is not a valid engine manifest: .*{reason}"):
        load(str(write_engine(tmp_path / "engine", **changes)), "sr")


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff\xfe", "null"])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_engine(tmp_path / "engine")
    (folder / "bundle.json").write_text(text, encoding="latin-1")
    with pytest.raises(EngineError, match="not a valid engine manifest"):
        load(str(folder), "sr")


def test_the_files_of_every_graph_are_checked(tmp_path: Path) -> None:
    folder = write_interp_engine(tmp_path / "two")
    digests = json.loads((folder / "bundle.json").read_text())["sha256"]
    with pytest.raises(EngineError, match=r"no sha256 for volume\.onnx"):
        load(str(write_interp_engine(tmp_path / "three", sha256={"step.onnx": digests["step.onnx"]})))
    data = bytearray((folder / "volume.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "volume.onnx").write_bytes(data)
    with pytest.raises(EngineError, match=r"damaged: .*volume\.onnx has sha256"):
        load(str(folder), "interp4d")


def test_an_engine_for_another_task_is_refused(engine: Path, interp_engine: Path) -> None:
    with pytest.raises(EngineError, match="engine tiny is for `cmrsr sr`, not for `cmrsr interp4d`"):
        load(str(engine), "interp4d")
    with pytest.raises(EngineError, match="engine tiny is for `cmrsr interp4d`, not for `cmrsr sr`"):
        load(str(interp_engine), "sr")


def test_the_spread_factor_is_that_of_the_nearest_number_of_steps(tmp_path: Path) -> None:
    loaded = load(str(write_engine(tmp_path / "engine", spread={"5": 1.5, "50": 1.1})), "sr")
    assert [loaded.spread_factor(n) for n in (1, 5, 20, 40, 500)] == [1.5, 1.5, 1.5, 1.1, 1.1]
    assert load(str(write_engine(tmp_path / "none", spread={})), "sr").spread_factor(5) is None


def test_the_uncertainty_is_that_of_the_nearest_number_of_steps(tmp_path: Path) -> None:
    models = {"5": {"scale": 2.0, "detail": 0.5, "edge": 0.1}, "50": {"scale": 1.0, "detail": 0.2, "edge": 0.0}}
    loaded = load(str(write_engine(tmp_path / "engine", uncertainty=models)), "sr")
    found = [loaded.uncertainty(n) for n in (2, 27, 28, 1000)]
    assert [model.scale for model in found if model is not None] == [2.0, 2.0, 1.0, 1.0]
    assert load(str(write_engine(tmp_path / "none")), "sr").uncertainty(5) is None
