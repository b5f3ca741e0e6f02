"""``cmrsr export``: a recipe or trained folder becomes a bundle; a bundle gets plans, a check, a model repository."""

import importlib.util
import logging
import re
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from cmrsr.cli.console import messages
from cmrsr.cli.extras import need
from cmrsr.cli.tables import tables
from cmrsr.errors import EngineError, OutputError, UsageError

if TYPE_CHECKING:
    from cmrsr.exporting.recipe import ExportRecipe
    from cmrsr.runtime.bundle import Bundle
    from cmrsr.runtime.choice import Precision
    from cmrsr.runtime.gpu.plan import PlanRecord

REPOSITORY = Path("triton")
WIDE = 120  # columns: plans say their sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What was asked for. precision: None leaves it to the recipe, and to what is fastest on a GPU."""

    source: str
    out: Path | None
    precision: Literal["f32", "f16", "bf16"] | None
    tensorrt: bool
    portable: bool
    device: str
    triton: bool
    verify: bool

    def __post_init__(self) -> None:
        if not re.fullmatch("cuda(:[0-9]+)?", self.device):
            raise UsageError(f"--device {self.device}: TensorRT plans are for a GPU, expected cuda or cuda:N")
        if self.portable and not self.tensorrt:
            raise UsageError("--portable is of TensorRT plans: add --tensorrt")

    @property
    def gpu(self) -> int:
        return int(self.device.partition(":")[2] or 0)

    @property
    def plan_precision(self) -> "Precision":
        """Precision of the TensorRT plans."""
        return "auto" if self.precision is None else self.precision


def run_export_command(request: ExportRequest) -> None:
    """Do all that was asked for, cheap checks first."""
    _check(request)
    with ExitStack() as stack:
        bundle = _existing(request)
        if bundle is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if request.triton else None
            bundle = _exported(request, folder)
        plans = _plans(bundle, request) if request.tensorrt else []
        if request.verify:
            _verify(bundle, request)
        if request.triton:
            _repository(bundle, plans, request.out or REPOSITORY)


def _check(request: ExportRequest) -> None:
    """DeviceError, UsageError: something is missing that would be noticed minutes later."""
    if request.tensorrt:
        from cmrsr.runtime.gpu.cuda import find_gpu

        find_gpu(request.gpu)
        need("tensorrt", "tensorrt")
    if request.verify:
        need("onnxruntime", "onnxruntime")
    if request.triton and not request.tensorrt:
        need("train", "onnx")


def _existing(request: ExportRequest) -> "Bundle | None":
    """The bundle that is named; None where the source is a recipe or a trained folder."""
    from cmrsr.runtime.bundle import MANIFEST, shipped
    from cmrsr.tasks.rooms import load_engine

    path = Path(request.source)
    if path.is_file() or (path.is_dir() and not (path / MANIFEST).is_file()):
        return None
    names = [folder.name for folder in shipped()]
    if not path.exists() and request.source not in names:
        raise UsageError(f"no such recipe or folder: {path}, nor an engine of that name ({', '.join(names)})")
    bundle = load_engine(request.source)
    name = bundle.manifest.name
    if not (request.tensorrt or request.verify or request.triton):
        raise UsageError(
            f"{name} is an engine already: add --tensorrt, --verify or --layout triton; its recipe exports it anew"
        )
    if request.precision and not request.tensorrt:
        raise UsageError(f"--precision {request.precision}: engine {name} is what it is; export its recipe with that")
    if request.out and not request.triton:
        raise UsageError(f"-o {request.out}: nothing is written there, TensorRT plans go to the cache folder")
    return bundle


def _exported(request: ExportRequest, folder: Path | None) -> "Bundle":
    """The bundle of a recipe or trained folder, in ``folder``, else where -o says."""
    need("train", "torch", "onnx", "onnxscript", "safetensors")
    need("onnxruntime", "onnxruntime")
    from cmrsr.exporting.recipe import load_export_recipe
    from cmrsr.tasks.registry import export
    from cmrsr.tasks.rooms import load_engine

    recipe = _in_precision(load_export_recipe(Path(request.source)), request)
    folder = folder or request.out or Path("engines") / recipe.name
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports every absent optional package
    manifest = export(recipe, folder)
    console = Console(highlight=False, soft_wrap=True)
    for graph in manifest.graphs.values():
        for file, parity, limit in (
            (graph.file, graph.parity, graph.tolerance),
            *((v.file, v.parity, graph.tolerance_low_precision) for v in graph.variants.values()),
        ):
            console.print(
                f"{folder / file}: {graph.parameters / 1e6:.2f} M parameters, "
                f"parity with torch float32 {parity:.1e} (tolerance {limit:g})"
            )
    console.print(f"{folder}: {_megabytes(*(folder / file for file in manifest.sha256))}")
    return load_engine(str(folder))


def _in_precision(recipe: "ExportRecipe", request: ExportRequest) -> "ExportRecipe":
    """f16 and bf16 come beside float32, which the other devices need."""
    match request.precision:
        case None:
            return recipe
        case "f32":
            return recipe.model_copy(update={"variants": ()})
        case typed:
            return recipe.model_copy(update={"variants": tuple(dict.fromkeys((*recipe.variants, typed)))})


def _plans(bundle: "Bundle", request: ExportRequest) -> "list[PlanRecord]":
    """Build what TensorRT plans are not there yet, and print all."""
    from cmrsr.runtime.gpu.cuda import find_gpu
    from cmrsr.runtime.gpu.plan import build_plans
    from cmrsr.tasks.rooms import kind_of

    gpu = find_gpu(request.gpu)
    log = messages()
    plans = build_plans(
        bundle,
        kind_of(bundle.manifest.task),
        gpu=gpu,
        precision=request.plan_precision,
        portable=request.portable,
        say=lambda text: log.print(text, markup=False),
    )
    table = Table("graph", "precision", "sizes", "size", "seconds", "", title=f"{bundle.manifest.name} on {gpu.name}")
    for plan in plans:
        size = _megabytes(plan.path) if plan.path else "not stored"
        how = "built" if plan.built else "from cache"
        table.add_row(plan.graph, plan.precision, str(plan.profile), size, f"{plan.seconds:.1f}", how)
    tables(WIDE).print(table)
    return plans


def _verify(bundle: "Bundle", request: ExportRequest) -> None:
    """Print the errors of all backends. EngineError: one is larger than allowed."""
    from cmrsr.diagnostics.contenders import Contender
    from cmrsr.diagnostics.verify import verify
    from cmrsr.runtime.choice import DeviceChoice

    others = []
    if (bundle.path / "training.json").is_file() and all(map(importlib.util.find_spec, ("torch", "safetensors"))):
        from cmrsr.tasks.registry import load_torch

        others.append(Contender("torch f32", load_torch, DeviceChoice(device="cpu", precision="f32")))
    results = verify(bundle, request.device, request.plan_precision, others)
    table = Table("graph", "on", "error", "allowed", "", title=f"{bundle.manifest.name} against onnxruntime f32")
    for one in results:
        table.add_row(one.graph, one.backend, f"{one.error:.1e}", f"{one.allowed:g}", "" if one.passed else "too large")
    tables(WIDE).print(table)
    wrong = [f"{one.graph} on {one.backend}" for one in results if not one.passed]
    if wrong:
        raise EngineError(
            f"engine {bundle.manifest.name} out of tolerance: {', '.join(wrong)}; use another --backend, and report it"
        )


def _repository(bundle: "Bundle", plans: "list[PlanRecord]", out: Path) -> None:
    """Models for Triton; of several plans of a graph, the one for the widest range of sizes."""
    from cmrsr.exporting.triton import write_repository
    from cmrsr.tasks.rooms import kind_of

    widest: dict[str, Path] = {}
    for plan in sorted(plans, key=lambda plan: plan.profile.width):
        if plan.path is None:
            raise OutputError(f"the plan of {plan.graph} could not be stored: free the cache folder, see CMRSR_CACHE")
        widest[plan.graph] = plan.path
    console = Console(highlight=False, soft_wrap=True)
    for model in write_repository(bundle, kind_of(bundle.manifest.task), out, widest):
        console.print(f"{model}: {_megabytes(next((model / '1').iterdir()))}")


def _megabytes(*paths: Path) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"
