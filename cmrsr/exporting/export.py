"""From trained weights to an engine bundle: ONNX graphs, parity against torch, manifest with digests."""

import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

from cmrsr.errors import EngineError
from cmrsr.exporting.checkpoint import Source
from cmrsr.exporting.measured import count_flops, measure_parity
from cmrsr.exporting.recipe import ExportRecipe, Precision
from cmrsr.exporting.sample import write_sample
from cmrsr.exporting.shared_weights import Places, gather, places
from cmrsr.exporting.spec import GraphSpec
from cmrsr.exporting.to_onnx import store, to_onnx
from cmrsr.exporting.typed import OPSET, typed
from cmrsr.io.outputs import sha256_file, write_json_atomic
from cmrsr.runtime.bundle import MANIFEST, Diffusion, Graph, Manifest, Port, Variant
from cmrsr.runtime.sample import SAMPLE
from cmrsr.training.start import SUMMARY, VOLUME_SUMMARY, VOLUME_WEIGHTS, WEIGHTS


def export(recipe: ExportRecipe, source: Source, out: Path) -> Manifest:
    """Write the bundle into folder ``out`` and return its manifest.

    EngineError: an ONNX graph, run by ONNX Runtime, leaves the tolerance of its precision against torch float32.
    """
    first, second, specs = source.first, source.parts.second, source.parts.specs
    with tempfile.TemporaryDirectory(dir=_parent(out), prefix=".export-") as temporary:
        folder = Path(temporary)
        first.save(folder, SUMMARY, WEIGHTS)
        if second:
            second.save(folder, VOLUME_SUMMARY, VOLUME_WEIGHTS)
        where = places(*sorted(folder.glob("*.safetensors"))) if recipe.shared_weights else {}
        graphs = {name: _export_graph(spec, folder, recipe, where) for name, spec in specs.items()}
        if recipe.shared_weights:
            gather(folder)
        write_sample(specs, folder / SAMPLE)
        manifest = Manifest(
            format=2,
            name=recipe.name,
            version=recipe.version,
            task=source.task,
            graphs=graphs,
            normalisation=source.normalisation,
            diffusion=Diffusion(
                schedule=source.diffusion.schedule, prediction=source.diffusion.prediction,
                n_train=source.diffusion.n_train, residual_std=first.residual_std,
                residual_weight=source.parts.residual_weight,
            ),
            defaults=recipe.defaults,
            trained=recipe.trained,
            spread=recipe.spread,
            uncertainty=recipe.uncertainty or first.summary.get("uncertainty"),
            expected_error=recipe.expected_error,
            confidence=recipe.confidence or first.summary.get("confidence"),
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


def _export_graph(spec: GraphSpec, folder: Path, recipe: ExportRecipe, where: Places) -> Graph:
    """Of the recipe's precision, with its variants; a graph that is always precise stays in float32."""
    precision: Precision = "f32" if spec.precise else recipe.precision
    variants = recipe.variants if precision == "f32" and not spec.precise else ()
    exported = cache(partial(to_onnx, spec))

    def write(file: str, precision: Precision) -> Variant:
        """One file: exported, put into its precision, checked and compared with torch."""
        model, path = exported(_opset(recipe, precision)), folder / file
        if precision != "f32":
            model = typed(model, precision)
        store(model, path, half=recipe.half_weights, where=where)
        parity = measure_parity(spec, path, precision)
        limit = _tolerance(recipe, precision)
        if not parity <= limit:  # nor a NaN
            raise EngineError(f"the exported graph {file} differs from torch by {parity:.2g} (tolerance {limit:g})")
        return Variant(file=file, parity=parity)

    main = write(spec.file, precision)
    found: dict[str, Variant] = {p: write(f"{Path(spec.file).stem}.{p}.onnx", p) for p in variants}

    def ports(shapes: Any) -> tuple[Port, ...]:
        return tuple(Port(name=name, dtype="float32", shape=shape) for name, shape in shapes.items())

    return Graph(
        file=main.file,
        inputs=ports(spec.inputs),
        outputs=ports(spec.outputs),
        precision=precision,
        stride=spec.stride,
        opset=_opset(recipe, precision),
        parameters=sum(p.numel() for p in spec.module.parameters()),
        gflop_96=count_flops(spec) / 1e9,
        parity=main.parity,
        tolerance=_tolerance(recipe, precision),
        tolerance_low_precision=max(recipe.tolerance_low_precision, _tolerance(recipe, precision)),
        variants=found,
    )


def _opset(recipe: ExportRecipe, precision: Precision) -> int:
    return max(recipe.opset, OPSET[precision]) if precision in OPSET else recipe.opset


def _tolerance(recipe: ExportRecipe, precision: Precision) -> float:
    return recipe.tolerance if precision == "f32" else recipe.tolerance_low_precision


def _parent(out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.parent
