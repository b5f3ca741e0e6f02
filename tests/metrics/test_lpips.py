from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.metrics.lpips import Lpips
from tests.cine import onnx_model


def distance(folder: Path, *, n_inputs: int = 2, of_images: bool = True) -> Path:
    """The mean absolute difference of two images as an ONNX file."""
    names = ["a", "b", "c"][:n_inputs]
    image = ["n", 3, "y", "x"]
    nodes = [
        helper.make_node("Sub" if n_inputs > 1 else "Identity", names[:2], ["d"]),
        helper.make_node("Abs", ["d"], ["e"]),
        helper.make_node("Constant", [], ["axes"], value_ints=[1, 2, 3] if of_images else [1]),
        helper.make_node("ReduceMean", ["e", "axes"], ["out"], keepdims=0),
    ]
    model = onnx_model(
        nodes,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, image) for name in names],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", *["y", "x"] * (not of_images)])],
        {},
    )
    path = folder / "lpips.onnx"
    onnx.save(model, str(path))
    return path


def test_images_are_shown_as_grey_between_minus_one_and_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ours, truth = rng.random((2, 32, 24))
    measured = Lpips(distance(tmp_path))
    assert measured(ours, truth) == pytest.approx(2 * np.abs(ours - truth).mean(), rel=1e-3)
    assert measured(truth, truth) == 0


def test_files_that_are_no_distance(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no such file"):
        Lpips(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(UnreadableError, match="not an ONNX file"):
        Lpips(tmp_path / "text.onnx")
    with pytest.raises(UnusableError, match="1 inputs, expected two images"):
        Lpips(distance(tmp_path, n_inputs=1))
    with pytest.raises(UnusableError, match="expected one distance"):
        Lpips(distance(tmp_path, of_images=False))(np.ones((32, 32)), np.zeros((32, 32)))
