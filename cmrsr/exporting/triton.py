"""A bundle as a model repository of Triton Inference Server: one model a graph, and how the DDIM loop calls them.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.io.outputs import output_errors, replacing, write_text_atomic
from cmrsr.runtime.bundle import Bundle, Graph, Manifest, Port
from cmrsr.runtime.kind import EngineKind

ON_GPU = "instance_group [ { kind: KIND_GPU count: 1 } ]\n"


def write_repository(
    bundle: Bundle, kind: EngineKind, out: Path, plans: Mapping[str, Path] | None = None
) -> list[Path]:
    """Write ``<bundle>_<graph>`` for every graph below ``out``, other models there stay; returns the models' folders.

    A graph that has an f16 variant is there twice: in float32 for any processor, and ``.._f16`` for a GPU alone.
    plans: TensorRT plans by the name of the graph, which take the place of its ONNX models.
    """
    manifest, models = bundle.manifest, []
    for name, graph in manifest.graphs.items():
        folder = out / f"{manifest.name}_{name}"
        if plans:
            models.append(_write_plan(folder, graph, plans[name]))
            continue
        models.append(_write_onnx(folder, graph, bundle.graph_path(graph), gpu=False))
        if "f16" in graph.variants:
            half = folder.with_name(f"{folder.name}_f16")
            models.append(_write_onnx(half, graph, bundle.graph_path(graph, "f16"), gpu=True))
    write_text_atomic(out / f"README-{manifest.name}.md", readme(manifest, kind, [model.name for model in models]))
    return models


def _write_onnx(folder: Path, graph: Graph, source: Path, *, gpu: bool) -> Path:
    """The graph with its weights in one file, as version 1."""
    target = folder / "1" / "model.onnx"
    with replacing(target) as partial, output_errors(target):
        onnx.save(onnx.load(source), partial)
    write_text_atomic(folder / "config.pbtxt", config(folder.name, "onnxruntime_onnx", graph, gpu=gpu))
    return folder


def _write_plan(folder: Path, graph: Graph, source: Path) -> Path:
    target = folder / "1" / "model.plan"
    with replacing(target) as partial, output_errors(target):
        shutil.copyfile(source, partial)
    write_text_atomic(folder / "config.pbtxt", config(folder.name, "tensorrt_plan", graph, gpu=True))
    return folder


def config(name: str, platform: str, graph: Graph, *, gpu: bool) -> str:
    """The model's configuration. A batch is a dimension like the others (max_batch_size 0): not every input has it."""
    head = f'name: "{name}"\nplatform: "{platform}"\nmax_batch_size: 0\n'
    return head + _ports("input", graph.inputs) + _ports("output", graph.outputs) + (ON_GPU if gpu else "")


def _ports(kind: str, ports: Sequence[Port]) -> str:
    lines = []
    for port in ports:
        dims = ", ".join(str(d if isinstance(d, int) else -1) for d in port.shape)
        lines.append(f'  {{ name: "{port.name}" data_type: TYPE_FP32 dims: [ {dims} ] }}')
    return f"{kind} [\n" + ",\n".join(lines) + "\n]\n"


def readme(manifest: Manifest, kind: EngineKind, models: Sequence[str]) -> str:
    """How a client calls the models."""
    n = manifest.defaults.steps
    rows = [
        f"| {i + 1} | " + " | ".join(f"{value:.9g}" for value in step.array()) + " |"
        for i, step in enumerate(ddim_coefficients(manifest.diffusion.build(), n))
    ]
    return f"""# {manifest.name} on Triton Inference Server

Models: {", ".join(f"`{model}`" for model in models)}. {manifest.intended_use}

- Normalisation: {manifest.normalisation}.{_padding(manifest)}
- Order: {kind.calls}
- The loop: x_t starts as Gaussian noise of variance 1; call `{manifest.name}_step` once for every row of coefficients
  and hand its x_next back as x_t; the other inputs stay. x0 is what the step believes the end to be.
- {kind.result(manifest.diffusion)}
- coefficients: x0 = read_x x_t + read_f f, x_next = next_x0 x0 + next_x x_t with the network's output f at `condition`.
  `cmrsr.diffusion.ddim.ddim_coefficients` gives them for any number of steps; for {n}:

| step | condition | read_x | read_f | next_x0 | next_x |
|---|---|---|---|---|---|
{chr(10).join(rows)}

A model `_f16` computes in half precision and loads on a GPU only. A `model.plan` belongs to the GPU and the TensorRT
version that it was built with.
"""


def _padding(manifest: Manifest) -> str:
    if not any("rows" in port.shape for port in manifest.step.inputs):
        return ""
    return f" Rows and columns are multiples of {manifest.step.stride} (pad by reflection)."
