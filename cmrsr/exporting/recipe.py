"""What an export is: one TOML file a bundle, or the defaults for a trained folder."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cmrsr.errors import UsageError
from cmrsr.runtime.bundle import Confidence, Defaults, ExpectedError, Trained, Uncertainty
from cmrsr.training.recipe import first_problem

Precision = Literal["f32", "f16", "bf16"]


class ExportRecipe(BaseModel):
    """``export/<name>.toml``. ``checkpoint``: a folder with weights.safetensors and training.json.

    Paths are relative to the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str = "1"
    checkpoint: Path
    volume_checkpoint: Path | None = None  # stage 2, of an engine that has two
    opset: int = Field(default=20, ge=18)
    half_weights: bool = True  # weights are stored as float16: half the size, an error far below bf16 arithmetic
    shared_weights: bool = False  # the graphs point into weights.safetensors instead of holding their own copies
    precision: Precision = "f32"  # of the graphs; anything but f32 costs quality
    variants: tuple[Literal["f16", "bf16"], ...] = ()  # beside graphs in f32: the same, typed for GPUs
    tolerance: float = 1e-4  # float32 backends; relative to the largest output
    tolerance_low_precision: float = 5e-2  # f16 graphs, bf16 graphs and backends
    defaults: Defaults = Defaults(steps=1, samples=1, consistency=0.0)
    trained: Trained = Trained(fraction=(0.3, 0.5), matrix=(64, 256), spacing_mm=(1.2, 3.0))
    spread: dict[str, float] = {}
    uncertainty: dict[str, Uncertainty] = {}  # none: what training found
    expected_error: ExpectedError | None = None
    confidence: dict[str, Confidence] = {}  # none: what training found
    metrics: dict[str, Any] = {}
    licence: str = "Apache-2.0"
    intended_use: str = "Research on first-pass myocardial perfusion MR. Not a medical device; not for diagnosis."


def load_export_recipe(path: Path) -> ExportRecipe:
    """A recipe file, or a folder written by ``cmrsr train`` (its name becomes the engine's)."""
    if path.is_dir():
        if not (path / "training.json").is_file():
            raise UsageError(
                f"{path} holds no training.json: expected a folder written by `cmrsr train`, or a recipe (TOML)"
            )
        return ExportRecipe(name=path.resolve().name, checkpoint=path.resolve())
    if not path.is_file():
        raise UsageError(f"no such recipe or folder: {path}")
    try:
        recipe = ExportRecipe.model_validate(tomllib.loads(path.read_text()))
    except ValueError as error:  # not TOML, not UTF-8, or not a recipe
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"export recipe {path}: {reason}") from error
    folders = {"checkpoint": recipe.checkpoint, "volume_checkpoint": recipe.volume_checkpoint}
    return recipe.model_copy(update={k: v and (path.parent / v).resolve() for k, v in folders.items()})
