"""The engine bundle: a folder with ONNX graphs, ``bundle.json`` and a model card, checked against its digests."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cmrsr.diffusion.schedule import Schedule
from cmrsr.errors import EngineError
from cmrsr.io.outputs import sha256_file

FORMAT = 1
MANIFEST = "bundle.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Port(_Strict):
    """One input or output of a graph; a dimension is a size or the name of a dynamic one."""

    name: str
    dtype: Literal["float32"]
    shape: tuple[int | str, ...]


class Graph(_Strict):
    """One ONNX file; ``stride``: height and width must be multiples of it."""

    file: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    stride: int
    opset: int
    parameters: int
    gflop_96: float = Field(description="arithmetic of one evaluation at 96x96, batch 1, two operations a multiply-add")
    parity: float = Field(description="max relative error against torch float32, measured at export (ONNX Runtime)")
    tolerance: float = Field(description="max relative error that a full-precision backend may have")
    tolerance_low_precision: float


class Diffusion(_Strict):
    schedule: Literal["cosine", "linear"]
    prediction: Literal["v", "x0", "eps"]
    n_train: int
    residual_std: float | None

    def build(self) -> Schedule:
        return Schedule(name=self.schedule, prediction=self.prediction, n_train=self.n_train)


class Defaults(_Strict):
    steps: int
    samples: int
    consistency: float = Field(description="weight of the projection on the acquired band that won on validation data")
    taper: float = 0.2


class Trained(_Strict):
    """What the network has seen: an input outside is processed with a warning."""

    fraction: tuple[float, float]
    matrix: tuple[int, int]
    spacing_mm: tuple[float, float]


class Manifest(_Strict):
    """``bundle.json``."""

    format: Literal[1]
    name: str
    version: str
    task: Literal["sr"]
    step: Graph
    normalisation: str
    diffusion: Diffusion
    defaults: Defaults
    trained: Trained
    spread: dict[str, float] = Field(
        description="by number of steps: factor that turns the spread of samples into the error, found on virtual patients"
    )
    training: dict[str, Any]
    metrics: dict[str, Any]
    licence: str
    intended_use: str
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest that was read and checked, with its folder. ``digest`` is the sha256 of ``bundle.json``."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def step_path(self) -> Path:
        return self.path / self.manifest.step.file

    def spread_factor(self, n_steps: int) -> float | None:
        """The calibration of the samples' spread for the nearest number of steps that was calibrated; None without any."""
        known = {int(k): v for k, v in self.manifest.spread.items()}
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


def load(name_or_path: str, task: str) -> Bundle:
    """Read a bundle and check every file against its sha256."""
    folder = find(name_or_path)
    text = (folder / MANIFEST).read_bytes()
    try:
        record = json.loads(text)
        if record.get("format") != FORMAT:
            raise EngineError(
                f"{folder / MANIFEST} has format {record.get('format')!r}, this version of cmrsr reads format {FORMAT}: "
                "export the engine again with this version"
            )
        manifest = Manifest.model_validate(record)
    except (ValueError, AttributeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise EngineError(f"{folder / MANIFEST} is not a valid engine manifest: {reason}") from error
    if manifest.task != task:
        raise EngineError(f"engine {manifest.name} is for `cmrsr {manifest.task}`, not for `cmrsr {task}`")
    for file, expected in manifest.sha256.items():
        path = folder / file
        if not path.is_file():
            raise EngineError(f"engine {manifest.name} is incomplete: {path} is missing; install it again")
        found = sha256_file(path)
        if found != expected:
            raise EngineError(
                f"engine {manifest.name} is damaged: {path} has sha256 {found[:12]}..., the manifest says "
                f"{expected[:12]}...; install it again"
            )
    return Bundle(folder, manifest, hashlib.sha256(text).hexdigest())
