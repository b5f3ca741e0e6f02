"""From trained weights to an engine bundle: ONNX graphs, parity against torch, manifest with digests."""

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

from cmrsr.errors import EngineError
from cmrsr.exporting.checkpoint import SMALL, SUMMARY, VOLUME_SUMMARY, VOLUME_WEIGHTS, WEIGHTS, read_source
from cmrsr.exporting.recipe import ExportRecipe
from cmrsr.exporting.shared_weights import places, point_into
from cmrsr.exporting.spec import LARGEST, GraphSpec
from cmrsr.io.outputs import sha256_file, write_json_atomic
from cmrsr.runtime.bundle import MANIFEST, Diffusion, Graph, Manifest, Port, Task
from cmrsr.training.recipe import ClipRecipe, VolumeRecipe

NORMALISATION: dict[Task, str] = {
    "sr": "lr and result are divided by the 0.995 quantile of the positive values of the whole series",
    "function": "lr and result are divided by the 0.995 quantile of the positive values of the whole series",
    "interp4d": "all frames are divided by the 0.995 quantile of the positive values of the whole series",
    "mie": "cine and T1 images are divided by the 0.98 quantiles of their windows about the heart; T1 is in s",
}


def export(recipe: ExportRecipe, out: Path) -> Manifest:
    """Write the bundle into folder ``out`` and return its manifest.

    UsageError: a checkpoint is not a folder of ``cmrsr train``, or not of the right stage.
    EngineError: an ONNX graph, run by ONNX Runtime in float32, leaves the tolerance against torch.
    """
    source = read_source(recipe.checkpoint, recipe.volume_checkpoint, half=recipe.half_weights)
    first, second, trained = source.first, source.second, source.first.recipe
    assert not isinstance(trained, VolumeRecipe)
    with tempfile.TemporaryDirectory(dir=_parent(out), prefix=".export-") as temporary:
        folder = Path(temporary)
        first.save(folder, SUMMARY, WEIGHTS)
        graphs = {name: _export_graph(spec, folder, recipe) for name, spec in source.specs.items()}
        if second:
            second.save(folder, VOLUME_SUMMARY, VOLUME_WEIGHTS)
        manifest = Manifest(
            format=1,
            name=recipe.name,
            version=recipe.version,
            task=trained.system,
            **graphs,
            normalisation=NORMALISATION[trained.system],
            diffusion=Diffusion(
                schedule=trained.diffusion.schedule, prediction=trained.diffusion.prediction,
                n_train=trained.diffusion.n_train, residual_std=source.residual_std,
                residual_weight=trained.residual_weight if isinstance(trained, ClipRecipe) else None,
            ),
            defaults=recipe.defaults,
            trained=recipe.trained,
            spread=recipe.spread,
            expected_error=recipe.expected_error,
            training=source.training,
            metrics=recipe.metrics,
            licence=recipe.licence,
            intended_use=recipe.intended_use,
            sha256={p.name: sha256_file(p) for p in sorted(folder.iterdir())},
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.iterdir()):
            shutil.move(file, out / file.name)
    write_json_atomic(out / MANIFEST, manifest.model_dump(mode="json", exclude_none=True))
    return manifest


def _export_graph(spec: GraphSpec, folder: Path, recipe: ExportRecipe) -> Graph:
    path = folder / spec.file
    _to_onnx(spec, path, recipe)
    parity = measure_parity(spec, path)
    if parity > recipe.tolerance:
        raise EngineError(
            f"the exported graph {spec.file} differs from torch by {parity:.2g} (tolerance {recipe.tolerance:g})"
        )

    def ports(shapes: Any) -> tuple[Port, ...]:
        return tuple(Port(name=name, dtype="float32", shape=shape) for name, shape in shapes.items())

    return Graph(
        file=path.name,
        inputs=ports(spec.inputs),
        outputs=ports(spec.outputs),
        stride=spec.stride,
        opset=recipe.opset,
        parameters=sum(p.numel() for p in spec.module.parameters()),
        gflop_96=count_flops(spec) / 1e9,
        parity=parity,
        tolerance=recipe.tolerance,
        tolerance_low_precision=recipe.tolerance_low_precision,
    )


def measure_parity(spec: GraphSpec, path: Path) -> float:
    """Largest error of the ONNX graph against torch float32, relative to the largest output, over sizes and times."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for i, sizes in enumerate(spec.parity):
        inputs = spec.example(spec.fitting(sizes), i)
        with torch.inference_mode():
            wanted = spec.module(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        got = session.run(list(spec.outputs), {k: v.numpy() for k, v in zip(spec.inputs, inputs, strict=True)})
        for a, b in zip(wanted, got, strict=True):
            worst = max(worst, float(np.abs(a.numpy() - b).max() / np.abs(a.numpy()).max()))
    return worst


def _to_onnx(spec: GraphSpec, path: Path, recipe: ExportRecipe) -> None:
    names = dict.fromkeys(d for shape in spec.inputs.values() for d in shape if isinstance(d, str))
    dims: dict[str, Any] = {}
    for name in names:
        whole = name in ("rows", "columns")
        dim = torch.export.Dim(name, min=2 if whole else 1, max=LARGEST)
        dims[name] = spec.stride * dim if whole else dim
    dynamic = tuple(
        {axis: dims[d] for axis, d in enumerate(shape) if isinstance(d, str)} or None for shape in spec.inputs.values()
    )
    usual = {"batch": 2, "frames": 3, "slices": 6, "rows": 8 * spec.stride, "columns": 6 * spec.stride}
    with warnings.catch_warnings():
        # of the exporter's own making: a deprecation, and the names of axes that two inputs share
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)
        program = torch.onnx.export(
            spec.module,
            spec.example(usual, 0),
            dynamo=True,
            opset_version=recipe.opset,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_shapes=dynamic,
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
    if recipe.shared_weights:
        point_into(model, path.with_name(WEIGHTS), places(path.with_name(WEIGHTS)))
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


def count_flops(spec: GraphSpec) -> float:
    """Operations of one evaluation at the spec's size, two a multiply-add, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        spec.module(*spec.example(spec.fitting(spec.flops), 0))
    return float(counter.get_total_flops())


def _parent(out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.parent
