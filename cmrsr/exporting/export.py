"""From trained weights to an engine bundle: ONNX graph, parity against torch, manifest with digests."""

import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cmrsr.errors import EngineError, UsageError
from cmrsr.exporting.graph import INPUTS, N_COEFFICIENTS, OUTPUTS, Step
from cmrsr.exporting.recipe import ExportRecipe
from cmrsr.io.outputs import sha256_file, write_json_atomic
from cmrsr.models import build_model
from cmrsr.runtime.bundle import MANIFEST, Diffusion, Graph, Manifest, Port
from cmrsr.training.recipe import Recipe, first_problem, parse_recipe

SMALL = 1024  # tensors with fewer entries stay float32
PARITY_SHAPES = ((1, 32, 48), (3, 96, 96), (2, 64, 40))


def export(recipe: ExportRecipe, out: Path) -> Manifest:
    """Write the bundle into folder ``out`` and return its manifest.

    UsageError: the checkpoint is not a folder of ``cmrsr train``.
    EngineError: the ONNX graph, run by ONNX Runtime in float32, leaves the tolerance against torch.
    """
    summary, trained, weights = _read_checkpoint(recipe.checkpoint)
    if recipe.half_weights:
        weights = {k: v.half() if v.numel() >= SMALL else v for k, v in weights.items()}
    denoiser = build_model(trained.model.model_dump())
    try:
        denoiser.load_state_dict({k: v.float() for k, v in weights.items()})
    except RuntimeError as error:
        raise UsageError(
            f"{recipe.checkpoint}: weights.safetensors does not fit the model of its training.json: train again"
        ) from error
    residual_std: float | None = summary["residual_std"]
    step = Step(denoiser, residual=residual_std is not None).eval()
    stride = denoiser.config.stride
    with tempfile.TemporaryDirectory(dir=_parent(out), prefix=".export-") as folder:
        path = Path(folder) / "step.onnx"
        _to_onnx(step, path, stride, recipe)
        parity = measure_parity(step, path, stride)
        if parity > recipe.tolerance:
            raise EngineError(f"the exported graph differs from torch by {parity:.2g} (tolerance {recipe.tolerance:g})")
        save_file({k: v.contiguous() for k, v in weights.items()}, Path(folder) / "weights.safetensors")
        (Path(folder) / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
        manifest = Manifest(
            format=1,
            name=recipe.name,
            version=recipe.version,
            task=recipe.task,
            step=_graph(step, path, stride, parity, recipe),
            normalisation="lr and result are divided by the 0.995 quantile of the positive values of the whole series",
            diffusion=Diffusion(
                schedule=trained.diffusion.schedule, prediction=trained.diffusion.prediction,
                n_train=trained.diffusion.n_train, residual_std=residual_std,
            ),
            defaults=recipe.defaults,
            trained=recipe.trained,
            spread=recipe.spread,
            training=summary,
            metrics=recipe.metrics,
            licence=recipe.licence,
            intended_use=recipe.intended_use,
            sha256={p.name: sha256_file(p) for p in sorted(Path(folder).iterdir())},
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path(folder).iterdir()):
            shutil.move(file, out / file.name)
    write_json_atomic(out / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def measure_parity(step: Step, path: Path, stride: int) -> float:
    """Largest error of the ONNX graph against torch float32, relative to the largest output, over shapes and times."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for i, (batch, height, width) in enumerate(PARITY_SHAPES):
        height, width = (-(-n // stride) * stride for n in (height, width))
        inputs = example_inputs(batch, height, width, seed=i)
        with torch.inference_mode():
            wanted = step(*inputs)
        got = session.run(list(OUTPUTS), {k: v.numpy() for k, v in zip(INPUTS, inputs, strict=True)})
        for a, b in zip(wanted, got, strict=True):
            worst = max(worst, float(np.abs(a.numpy() - b).max() / np.abs(a.numpy()).max()))
    return worst


def example_inputs(batch: int, height: int, width: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Inputs of the step graph at a random time, with a projection of half weight."""
    generator = torch.Generator().manual_seed(seed)
    t = float(torch.rand((), generator=generator)) * 0.8 + 0.1
    alpha, sigma = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
    coefficients = torch.tensor([t, alpha, -sigma, 0.5, 0.4], dtype=torch.float32)
    assert coefficients.numel() == N_COEFFICIENTS
    image = (batch, 1, height, width)
    return (
        torch.randn(image, generator=generator),
        torch.rand(image, generator=generator),
        coefficients,
        0.5 * torch.eye(height),
    )


def _to_onnx(step: Step, path: Path, stride: int, recipe: ExportRecipe) -> None:
    dim = torch.export.Dim
    batch = dim("batch", min=1, max=256)
    rows, columns = (stride * dim(name, min=2, max=256) for name in ("rows", "columns"))
    image = {0: batch, 2: rows, 3: columns}
    with warnings.catch_warnings():
        # of the exporter's own making: a deprecation, and the names of axes that two inputs share
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)
        program = torch.onnx.export(
            step,
            example_inputs(2, 8 * stride, 6 * stride, seed=0),
            dynamo=True,
            opset_version=recipe.opset,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=(image, image, None, {0: rows, 1: rows}),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces with the paths of the exporting machine
        node.doc_string = ""
    if recipe.half_weights:
        _halve(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _halve(model: onnx.ModelProto) -> None:
    """Store large float32 initialisers as float16 behind a Cast, which engines fold when they load the graph."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALL:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _graph(step: Step, path: Path, stride: int, parity: float, recipe: ExportRecipe) -> Graph:
    image: tuple[int | str, ...] = ("batch", 1, "rows", "columns")
    shapes: dict[str, tuple[int | str, ...]] = {
        "x_t": image, "lr": image, "coefficients": (N_COEFFICIENTS,), "low_pass": ("rows", "rows"),
        "x_next": image, "x0": image,
    }  # fmt: skip

    def ports(names: tuple[str, ...]) -> tuple[Port, ...]:
        return tuple(Port(name=name, dtype="float32", shape=shapes[name]) for name in names)

    return Graph(
        file=path.name,
        inputs=ports(INPUTS),
        outputs=ports(OUTPUTS),
        stride=stride,
        opset=recipe.opset,
        parameters=sum(p.numel() for p in step.parameters()),
        gflop_96=count_flops(step, -(-96 // stride) * stride) / 1e9,
        parity=parity,
        tolerance=recipe.tolerance,
        tolerance_low_precision=recipe.tolerance_low_precision,
    )


def count_flops(step: nn.Module, size: int) -> float:
    """Operations of one evaluation at batch 1, two a multiply-add, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        step(*example_inputs(1, size, size, seed=0))
    return float(counter.get_total_flops())


def _read_checkpoint(folder: Path) -> tuple[dict[str, Any], Recipe, dict[str, torch.Tensor]]:
    """What ``cmrsr train`` wrote: the summary, the recipe in it, the weights."""
    try:
        summary: dict[str, Any] = json.loads((folder / "training.json").read_text())
        return summary, parse_recipe(summary["recipe"]), load_file(folder / "weights.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise UsageError(
            f"{folder}: {reason}; expected training.json and weights.safetensors as `cmrsr train` writes them"
        ) from error


def _parent(out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.parent
