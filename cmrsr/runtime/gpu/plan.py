"""TensorRT plans of a bundle's graphs: built on the machine that runs them, once, and kept in the user's cache."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cmrsr.errors import DeviceError, OutputError
from cmrsr.runtime.bundle import Bundle, Graph
from cmrsr.runtime.choice import Precision
from cmrsr.runtime.gpu.cache_folder import cache_folder
from cmrsr.runtime.gpu.cuda import Gpu, free_memory, use
from cmrsr.runtime.gpu.plan_build import PlanPrecision, Say, build_plan, engine_from, library
from cmrsr.runtime.gpu.plan_cache import FOLDER, PlanFor, PlanKey, cached_plan, find_key, plan_paths
from cmrsr.runtime.gpu.profiles import Profile, Shapes, default_profiles, exact_profile
from cmrsr.runtime.gpu.timing_cache import timing_path
from cmrsr.runtime.kind import EngineKind
from cmrsr.user_warnings import warn_user

if TYPE_CHECKING:
    import tensorrt

WORKSPACE_SHARE = 0.5  # of the free memory: the rest is for weights, activations and what else runs there


@dataclass(frozen=True, slots=True)
class PlanSource:
    """What a plan is built from. digest: of the ONNX file and of the files with its weights."""

    path: Path
    digest: str
    precision: PlanPrecision


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan that is ready. path: None where it could not be stored."""

    graph: str
    profile: Profile
    precision: PlanPrecision
    path: Path | None
    built: bool  # now; else it was there
    seconds: float


def plan_source(bundle: Bundle, graph: Graph, precision: Precision) -> PlanSource:
    """The file of a graph in a precision, f32 where the graph has no such variant; auto: f16."""
    wanted = "f16" if precision == "auto" else precision
    chosen: PlanPrecision = wanted if wanted in graph.variants else "f32"
    path = bundle.graph_path(graph, chosen)
    # A graph names the files that hold its weights in plain text; one name too many does no harm here.
    text = path.read_bytes()
    parts = {name: sha for name, sha in bundle.manifest.sha256.items() if name == path.name or name.encode() in text}
    return PlanSource(path, hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest(), chosen)


def open_plan(
    source: PlanSource, graph: Graph, shapes: Shapes, *, gpu: Gpu, say: Say | None = None
) -> "tuple[tensorrt.ICudaEngine, int]":
    """An engine for inputs of ``shapes`` (of the dynamic ones), and the number of its profile.

    From the stored plan for the narrowest range of sizes that holds them, else built for exactly these with a
    warning. DeviceError: TensorRT is missing, or cannot build. The profile is always 0: a plan has one, so that
    one for a range of sizes neither delays the usual ones nor can make their building fail.
    """
    use(gpu.number)
    folder, with_library = cache_folder(FOLDER), library()
    kinds = [
        _plan_for(source, gpu, portable=portable) for portable in ((False, True) if with_library.can_build else (True,))
    ]
    found = (find_key(folder, kind, shapes) for kind in kinds)
    key = next((key for key in found if key), None)
    if key is None:
        key = PlanKey(**kinds[0].model_dump(), profile=exact_profile(graph, shapes))

    def build() -> bytes:
        if not with_library.can_build:
            raise DeviceError(
                f"no plan of {source.path} is stored for {key.profile}, and tensorrt_lean builds none: install "
                "tensorrt, or build it where that is (cmrsr export --tensorrt --portable)"
            )
        warn_user(
            f"the TensorRT plan of {source.path} for {key.profile} is built now, which takes minutes, and kept for the "
            f"next time; `cmrsr export {source.path.parent.name} --tensorrt` does that beforehand for the usual sizes",
            stacklevel=5,
        )
        return _build(source, key, gpu, folder, say or (lambda text: None))

    load = partial(engine_from, portable=key.portable)
    engine, _ = cached_plan(folder, key, load=load, build=build, say=say or _warn)
    return engine, 0


def build_plans(
    bundle: Bundle, kind: EngineKind, *, gpu: Gpu, precision: Precision = "auto",
    profiles: Mapping[str, Sequence[Profile]] | None = None, portable: bool = False, say: Say = lambda text: None,
) -> list[PlanRecord]:  # fmt: skip
    """Build what is not stored yet of every graph of a bundle, for ``profiles`` by graph, else the default ones.

    portable: plans that ``tensorrt_lean`` of the same version runs too. say: told line by line of what is going on.
    """
    use(gpu.number)
    folder = cache_folder(FOLDER)
    if folder is None:
        raise OutputError("no folder to keep plans in: let CMRSR_CACHE name one that can be written")
    if not library().can_build:
        raise DeviceError("tensorrt_lean builds no plans: pip install 'cmrsr[tensorrt]'")
    records = []
    for name, graph in bundle.manifest.graphs.items():
        source = plan_source(bundle, graph, "f32" if kind.graphs[name].precise else precision)
        for profile in profiles[name] if profiles else default_profiles(bundle, kind, name):
            key = PlanKey(**_plan_for(source, gpu, portable=portable).model_dump(), profile=profile)
            title = f"{source.path.name} {source.precision} for {profile}"
            begun = time.monotonic()

            def build(source: PlanSource = source, key: PlanKey = key, title: str = title) -> bytes:
                say(f"{title}: building, which takes minutes")
                return _build(source, key, gpu, folder, lambda text: say(f"{title}: {text}"))

            load = partial(engine_from, portable=portable)
            _, built = cached_plan(folder, key, load=load, build=build, say=say)
            seconds = time.monotonic() - begun
            say(f"{title}: {f'built in {seconds:.0f} s' if built else 'was there'}")
            path = plan_paths(folder, key)[0]
            records.append(PlanRecord(name, profile, source.precision, path if path.exists() else None, built, seconds))
    return records


def _plan_for(source: PlanSource, gpu: Gpu, *, portable: bool) -> PlanFor:
    return PlanFor(
        gpu=gpu.name, capability=gpu.capability, tensorrt=library().version, source=source.digest,
        precision=source.precision, portable=portable,
    )  # fmt: skip


def _build(source: PlanSource, key: PlanKey, gpu: Gpu, folder: Path | None, say: Say) -> bytes:
    timings = timing_path(folder, key.gpu, key.capability, key.tensorrt) if folder else None
    workspace = int(WORKSPACE_SHARE * free_memory(gpu.number))
    return build_plan(source.path, key.profile, portable=key.portable, workspace=workspace, timings=timings, say=say)


def _warn(message: str) -> None:
    warn_user(message, stacklevel=4)
