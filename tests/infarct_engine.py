"""A tiny engine of ``mie`` that tells tissue and scar by T1 alone, in the slices of ``tests.recovering_heart``."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cmrsr.heart.window import WINDOW
from cmrsr.tasks.mie.features.signs import CELL, N_CLUSTERS, N_INVERSIONS, N_PHASES
from tests.cine import graph_record, onnx_model

Shape = list[int | str]
STRIDE = 16
# T1 of background, RV, wall and LV in s. Neighbours in the heart are neighbours here, but for RV and wall: what lies
# between wall and background would else be taken for RV.
T1_S = (0.7, 0.3, 1.15, 2.0)
SCAR_T1_S = 1.5  # of the wall where it is scarred
HEALTHY, SCAR, BLOOD = 0.1, 1.0, 0.7  # what the image shows of them; all else is as dark as the healthy wall
LATENT = 4
MOTION_SHARE = 0.01  # of the mean motion, what the latent is
IMAGE_SHARE = 0.05  # of the latent, what it adds to the image
LOGIT_SHARE = 0.3  # likewise to the logit of scar, which is SURE where there is one, and -SURE elsewhere
SURE = 4.0
N_CELLS = WINDOW // CELL
SHARPNESS = 200.0  # of the choice between tissues
FEATURES = 2 * CELL**2  # T1 and the logit of scar, pixels folded into channels
FULL: Shape = ["batch", 1, WINDOW, WINDOW]
FOLDED: Shape = ["batch", FEATURES, N_CELLS, N_CELLS]
MOTION: Shape = ["batch", LATENT, N_CELLS, N_CELLS]
PORTS: dict[str, tuple[dict[str, Shape], dict[str, Shape]]] = {
    "step": (
        {"x_t": MOTION, "morphology": FOLDED, "motion": MOTION, "coefficients": [5]},
        {"x_next": MOTION, "x0": MOTION},
    ),
    "kinematics": (
        {"cine": ["batch", N_PHASES, WINDOW, WINDOW], "motion": ["batch", N_PHASES, 4, N_CELLS, N_CELLS]},
        {"features": MOTION},
    ),
    "morphology": (
        {
            "inversions": ["batch", N_INVERSIONS, WINDOW, WINDOW], "timing": ["batch", N_INVERSIONS], "t1": FULL,
            "clusters": ["batch", N_CLUSTERS, N_CELLS, N_CELLS],
        },
        {"features": FOLDED, "tissues": ["batch", len(T1_S), WINDOW, WINDOW]},
    ),
    "decoder": ({"latent": MOTION, "morphology": FOLDED}, {"image": FULL, "probability": FULL}),
}  # fmt: skip


def write_infarct_engine(folder: Path, **changes: Any) -> Path:
    """A valid bundle; ``changes`` replaces keys of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {"step": _step, "kinematics": _kinematics, "morphology": _morphology, "decoder": _decoder}
    for name, make in makers.items():
        nodes, constants = make()
        inputs, outputs = PORTS[name]
        model = onnx_model(
            nodes,
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in outputs.items()],
            {k: np.asarray(v, np.float32) for k, v in constants.items()},
        )
        onnx.save(model, str(folder / f"{name}.onnx"))
    manifest = {
        "format": 2, "name": "tiny", "version": "1", "task": "mie",
        "graphs": {name: graph_record(f"{name}.onnx", STRIDE, *PORTS[name]) for name in makers},
        "normalisation": "the 0.98 quantile of the window around the heart",
        "diffusion": {"schedule": "cosine", "prediction": "v", "n_train": 1000},
        "defaults": {"steps": 5, "samples": 4},
        "trained": {"matrix": [16, 512], "spacing_mm": [1.0, 2.5]},
        "spread": {"5": 1.5}, "training": {}, "metrics": {}, "licence": "Apache-2.0", "intended_use": "tests",
        "sha256": {f"{n}.onnx": hashlib.sha256((folder / f"{n}.onnx").read_bytes()).hexdigest() for n in makers},
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(manifest | changes))
    return folder


Made = tuple[list[onnx.NodeProto], dict[str, Any]]
node = helper.make_node


def _step() -> Made:
    """x0 is a share of the mean motion; before t = 1 a part of x_t is seen, so that samples differ."""
    return [
        node("Split", ["coefficients"], ["condition", "read_x", "read_f", "next_x0", "next_x"], axis=0, num_outputs=5),
        node("Sub", ["one", "condition"], ["certainty"]),
        node("Mul", ["x_t", "certainty"], ["seen"]),
        node("Mul", ["motion", "share"], ["wanted"]),
        node("Sub", ["seen", "wanted"], ["g"]),  # at t = 1 x0 is -f
        *_unused("morphology"),
        node("Add", ["g", "zero"], ["f"]),
        node("Mul", ["f", "read_f"], ["a"]),
        node("Mul", ["x_t", "read_x"], ["b"]),
        node("Add", ["a", "b"], ["x0"]),
        node("Mul", ["x0", "next_x0"], ["c"]),
        node("Mul", ["x_t", "next_x"], ["d"]),
        node("Add", ["c", "d"], ["x_next"]),
    ], {"one": [1], "share": [MOTION_SHARE], "nothing": [0]}  # fmt: skip


def _kinematics() -> Made:
    """The mean of each component over the beat."""
    return [
        node("Constant", [], ["beat"], value_ints=[1]),
        node("ReduceMean", ["motion", "beat"], ["mean"], keepdims=0),
        *_unused("cine"),
        node("Add", ["mean", "zero"], ["features"]),
    ], {"nothing": [0]}  # fmt: skip


def _morphology() -> Made:
    """Each pixel by its T1 alone, background where that is unknown. Scar is wall of long T1, three pixels wide or more:
    what lies between wall and LV has such T1 as well.
    """
    middle = np.array([*T1_S[:2], (T1_S[2] + SCAR_T1_S) / 2, T1_S[3]])
    half = np.array([0, 0, (SCAR_T1_S - T1_S[2]) / 2, 0])
    return [
        node("Less", ["t1", "least"], ["is_unknown"]),
        node("Cast", ["is_unknown"], ["unknown"], to=TensorProto.FLOAT),
        node("Mul", ["unknown", "background"], ["instead"]),
        node("Add", ["t1", "instead"], ["known"]),
        node("Sub", ["known", "middle"], ["away"]),
        node("Abs", ["away"], ["far"]),
        node("Sub", ["far", "half"], ["beyond"]),
        node("Relu", ["beyond"], ["outside"]),
        node("Mul", ["outside", "outside"], ["squares"]),
        node("Mul", ["squares", "sharpness"], ["score"]),
        *_unused("inversions", "timing", "clusters"),
        node("Add", ["score", "zero"], ["logits"]),
        node("Softmax", ["logits"], ["tissues"], axis=1),
        node("Constant", [], ["wall"], value_ints=[2]),
        node("Gather", ["tissues", "wall"], ["in_wall"], axis=1),
        node("Sub", ["known", "long"], ["longer"]),
        node("Mul", ["longer", "steepness"], ["sign"]),
        node("Sigmoid", ["sign"], ["is_long"]),
        node("Mul", ["in_wall", "is_long"], ["sought"]),
        node("Neg", ["sought"], ["not_sought"]),
        node("MaxPool", ["not_sought"], ["not_core"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Neg", ["not_core"], ["core"]),
        node("MaxPool", ["core"], ["scar"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Sub", ["scar", "even"], ["leaning"]),
        node("Mul", ["leaning", "sure"], ["logit"]),
        node("Concat", ["known", "logit"], ["both"], axis=1),
        node("SpaceToDepth", ["both"], ["features"], blocksize=CELL),
    ], {
        "least": [0.05], "background": [T1_S[0]], "middle": middle[:, None, None], "half": half[:, None, None],
        "sharpness": [-SHARPNESS], "long": [(T1_S[2] + SCAR_T1_S) / 2], "steepness": [50], "even": [0.5],
        "sure": [2 * SURE], "nothing": [0],
    }  # fmt: skip


def _decoder() -> Made:
    """Bright scar, blood less so, by T1 and the logit of scar; the latent adds a little to either."""
    return [
        node("DepthToSpace", ["morphology"], ["both"], blocksize=CELL, mode="DCR"),
        node("Split", ["both"], ["t1", "logit"], axis=1, num_outputs=2),
        node("Constant", [], ["channels"], value_ints=[1]),
        node("ReduceMean", ["latent", "channels"], ["coarse"], keepdims=1),
        node("Resize", ["coarse", "", "scales"], ["fine"], mode="nearest"),
        node("Mul", ["fine", "logit_share"], ["leaning"]),
        node("Add", ["logit", "leaning"], ["told"]),
        node("Sigmoid", ["told"], ["probability"]),
        node("Sub", ["t1", "between"], ["longer"]),
        node("Mul", ["longer", "steepness"], ["sign"]),
        node("Sigmoid", ["sign"], ["is_blood"]),
        node("Mul", ["is_blood", "blood"], ["bright"]),
        node("Mul", ["probability", "scar"], ["enhanced"]),
        node("Mul", ["fine", "image_share"], ["texture"]),
        node("Sum", ["bright", "enhanced", "texture", "healthy"], ["image"]),
    ], {
        "scales": [1, 1, CELL, CELL], "logit_share": [LOGIT_SHARE], "image_share": [IMAGE_SHARE],
        "between": [(SCAR_T1_S + T1_S[3]) / 2], "steepness": [20], "blood": [BLOOD - HEALTHY],
        "scar": [SCAR - HEALTHY], "healthy": [HEALTHY],
    }  # fmt: skip


def _unused(*inputs: str) -> list[onnx.NodeProto]:
    """Nodes after which ``zero`` is 0 whatever the inputs are: a part in the graph, but none in its result."""
    sums = [node("ReduceSum", [name], [f"sum_{name}"], keepdims=0) for name in inputs]
    return [
        *sums,
        node("Sum", [f"sum_{name}" for name in inputs], ["total"]),
        node("Mul", ["total", "nothing"], ["zero"]),
    ]  # fmt: skip


@pytest.fixture(scope="session")
def infarct_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny engine; nobody writes into it."""
    return write_infarct_engine(tmp_path_factory.mktemp("engines") / "tiny-mie")
