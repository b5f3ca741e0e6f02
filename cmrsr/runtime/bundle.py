"""The engine bundle: a folder with ONNX graphs, ``bundle.json`` and a model card, checked against its digests."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cmrsr.diffusion.schedule import Schedule
from cmrsr.errors import EngineError
from cmrsr.io.outputs import sha256_file

FORMAT = 2
MANIFEST = "bundle.json"
STEP = "step"  # the graph of one DDIM step, which every engine has
Task = str  # its name is that of its command; see cmrsr.runtime.kind for what it expects of an engine
T = TypeVar("T")
Steps = Annotated[str, Field(pattern="^[1-9][0-9]*$")]  # a number of them, as a key of JSON


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Port(_Strict):
    """One input or output of a graph; a dimension is a size or the name of a dynamic one."""

    name: str
    dtype: Literal["float32"]
    shape: tuple[int | str, ...]


class Variant(_Strict):
    """The same graph in another arithmetic: typed inside, float32 in and out."""

    file: str
    parity: float = Field(description="max relative error against torch float32, with all roundings of the type")


class Graph(_Strict):
    """One ONNX file; ``stride``: height and width must be multiples of it."""

    file: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    precision: Literal["f32", "f16", "bf16"] = Field(default="f32", description="of the file's arithmetic")
    stride: int = Field(ge=1)
    opset: int
    parameters: int
    gflop_96: float = Field(
        description="arithmetic of one evaluation at 96x96, batch 1, 1 frame, 8 slices (a graph of one size at that), "
        "two a multiply-add"
    )
    parity: float = Field(description="max relative error against torch float32, measured at export (ONNX Runtime)")
    tolerance: float = Field(description="max relative error that a full-precision backend may have")
    tolerance_low_precision: float
    variants: dict[str, Variant] = Field(default={}, description="by precision, f16 or bf16")


class Diffusion(_Strict):
    """How the network was trained to predict, see ``cmrsr.diffusion``."""

    schedule: Literal["cosine", "linear"]
    prediction: Literal["v", "x0", "eps"]
    n_train: int
    residual_std: float | None = None
    residual_weight: float | None = Field(default=None, description="see cmrsr.diffusion.residual")

    def build(self) -> Schedule:
        return Schedule(name=self.schedule, prediction=self.prediction, n_train=self.n_train)


class Defaults(_Strict):
    """How the engine is meant to be run."""

    steps: int = Field(ge=1)
    samples: int = Field(ge=1)
    consistency: float = Field(
        default=0.0, ge=0, le=1,
        description="what won on validation data: weight of the projection on the acquired band; 1 if a second stage "
        "corrects new volumes",
    )  # fmt: skip
    taper: float = 0.2


class Trained(_Strict):
    """What the network has seen: an input outside is processed with a warning.

    fraction: of the acquired phase lines. gap_ms: between two known frames. None where a task has no such thing.
    """

    fraction: tuple[float, float] | None = None
    gap_ms: tuple[float, float] | None = None
    matrix: tuple[int, int]
    spacing_mm: tuple[float, float]


class ExpectedError(_Strict):
    """Of an interpolated frame, in units of the series' scale: floor, and share of the change between the known frames.

    Fitted on virtual patients.
    """

    floor: float = Field(ge=0)
    share: float = Field(ge=0)


class Uncertainty(_Strict):
    """From the spread of samples of a super-resolved image to the error to expect."""

    scale: float = Field(gt=0)
    detail: float = Field(ge=0, le=1)
    edge: float = Field(ge=0, le=1)


class Confidence(_Strict):
    """From what speaks against a measured number to the standard deviation of its error: floor and weights of signs."""

    floor: float = Field(gt=0)
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}


class Manifest(_Strict):
    """``bundle.json``."""

    format: Literal[2]
    name: str
    version: str
    task: Task
    graphs: dict[str, Graph] = Field(description="by name, in the order that the task lists them")
    normalisation: str
    diffusion: Diffusion
    defaults: Defaults
    trained: Trained
    spread: dict[Steps, float] = Field(
        description="by number of steps: factor from the spread of samples to the error, found on virtual patients"
    )
    uncertainty: dict[Steps, Uncertainty] | None = Field(
        default=None, description="by number of steps; takes the place of a spread factor"
    )
    expected_error: ExpectedError | None = None
    confidence: dict[str, Confidence] | None = Field(default=None, description="by measured quantity")
    training: dict[str, Any]
    metrics: dict[str, Any]
    licence: str
    intended_use: str
    sha256: dict[str, str]

    @property
    def step(self) -> Graph:
        return self.graphs[STEP]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest that was read and checked, with its folder. ``digest`` is the sha256 of ``bundle.json``."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def step_path(self) -> Path:
        return self.path / self.manifest.step.file

    def graph_path(self, graph: Graph, precision: str = "f32") -> Path:
        """The ONNX file of a graph, or of its variant where it has one in that precision."""
        variant = graph.variants.get(precision)
        return self.path / (variant.file if variant else graph.file)

    def spread_factor(self, n_steps: int) -> float | None:
        """The calibration of the samples' spread for the nearest number of steps that has one; None without any."""
        return _nearest(self.manifest.spread, n_steps)

    def uncertainty(self, n_steps: int) -> Uncertainty | None:
        """How samples become an expected error, for the nearest number of steps that has it."""
        return _nearest(self.manifest.uncertainty or {}, n_steps)


def _nearest(by_steps: dict[str, T], n_steps: int) -> T | None:
    known = {int(k): v for k, v in by_steps.items()}
    return known[min(known, key=lambda k: abs(k - n_steps))] if known else None


def engines_folder() -> Path:
    """Where the shipped bundles lie: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "engines"
    return installed if installed.is_dir() else package.parent / "engines"


def shipped() -> list[Path]:
    """Folders of the shipped bundles, sorted by name."""
    return sorted(p.parent for p in engines_folder().glob(f"*/{MANIFEST}"))


def find(name_or_path: str) -> Path:
    """The folder of a bundle given by the name of a shipped one or by a path."""
    for folder in (engines_folder() / name_or_path, Path(name_or_path)):
        if (folder / MANIFEST).is_file():
            return folder
    known = ", ".join(p.name for p in shipped()) or "none"
    raise EngineError(f"no engine {name_or_path!r}: not a folder with a {MANIFEST}, nor a shipped engine ({known})")


def load(name_or_path: str, task: Task | None = None) -> Bundle:
    """Read a bundle and check every file against its sha256; EngineError where anything is not as it should be.

    task: what it has to be for; None takes any. ``EngineKind.load`` checks the graphs as well.
    """
    folder = find(name_or_path)
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
        manifest = _parse(json.loads(text))
        manifest.diffusion.build()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{path} is not a valid engine manifest: {_reason(error)}; export or install it anew"
        ) from error
    if task is not None and manifest.task != task:
        raise EngineError(f"engine {manifest.name} is for `cmrsr {manifest.task}`, not for `cmrsr {task}`")
    for file, expected in manifest.sha256.items():
        _check_file(manifest.name, folder / file, expected)
    return Bundle(folder, manifest, hashlib.sha256(text).hexdigest())


def _parse(record: Any) -> Manifest:
    if not isinstance(record, dict) or record.get("format") not in (1, FORMAT):
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"format {found!r}, this version of cmrsr reads formats 1 and {FORMAT}")
    manifest = Manifest.model_validate(_from_format_1(record) if record["format"] == 1 else record)
    if STEP not in manifest.graphs:
        raise ValueError(f"no graph {STEP}, which every engine needs")
    for graph in manifest.graphs.values():
        for file in (graph.file, *(variant.file for variant in graph.variants.values())):
            if file not in manifest.sha256:
                raise ValueError(f"no sha256 for {file}")
    return manifest


def _from_format_1(record: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had every graph as a key of the manifest itself; they are what has inputs and outputs."""
    graphs = {k: v for k, v in record.items() if isinstance(v, dict) and {"inputs", "outputs"} <= v.keys()}
    return {k: v for k, v in record.items() if k not in graphs} | {"format": FORMAT, "graphs": graphs}


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _check_file(engine: str, path: Path, expected: str) -> None:
    try:
        found = sha256_file(path)
    except OSError as error:
        raise EngineError(
            f"engine {engine} is incomplete: {path} cannot be read ({error.strerror}); install it again"
        ) from error
    if found != expected:
        raise EngineError(
            f"engine {engine} is damaged: {path} has sha256 {found[:12]}..., its manifest says {expected[:12]}...; "
            "install it again"
        )
