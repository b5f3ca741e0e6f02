"""What a training run is: one TOML file, checked strictly (an unknown key is an error)."""

import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from cmrsr.diffusion.schedule import Schedule
from cmrsr.errors import UsageError

RECIPES = Path(__file__).with_name("recipes")


class Strict(BaseModel):
    """A part of a recipe: fixed, and without keys that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Diffusion(Strict):
    """Schedule and target. ``residual``: diffuse (HR - LR) / residual_std instead of HR scaled to [-1, 1]."""

    schedule: Literal["cosine", "linear"] = "cosine"
    prediction: Literal["v", "x0", "eps"] = "v"
    n_train: int = 1000
    loss: Literal["l1", "l2"] = "l2"
    residual: bool = True
    share_at_noise: float = Field(default=0.25, ge=0, le=1, description="share of the samples trained at t = T")

    @model_validator(mode="after")
    def _defined(self) -> Self:
        if self.schedule == "cosine" and self.prediction == "eps":
            raise ValueError("eps-prediction is undefined at the zero SNR of the cosine schedule: use v or x0")
        return self

    def build(self) -> Schedule:
        return Schedule(name=self.schedule, prediction=self.prediction, n_train=self.n_train)


class Split(Strict):
    """``phantom`` renders virtual patients, a folder is searched for series and split by patient."""

    source: str = "phantom"
    n_validation: int = Field(default=24, ge=1, description="virtual patients that are held out")
    crop: int = Field(default=64, ge=16)
    folds: int = Field(default=1, ge=1, description="of a folder's patients; with 1, every fifth patient is held out")
    fold: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fold_of_folds(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold}: expected 0 to {self.folds - 1} of {self.folds} folds")
        return self


class Optimiser(Strict):
    """``muon`` orthogonalises the momentum of the matrix-shaped convolutions (Jordan 2024); AdamW does the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    steps: int = Field(default=20000, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=6e-4, gt=0)
    weight_decay: float = 0.0
    warmup: int = 200
    decay: Literal["cosine", "none"] = "cosine"
    clip: float = 1.0
    ema: float = 0.995
    ema_every: int = Field(default=4, ge=1)
    bf16: bool = True


class Run(Strict):
    """What every run has. start: an engine's name, or the folder of an earlier run, whose weights it begins from.

    patience: after how many validations without a gain the run ends, None never. second_stage: whether an engine holds
    its weights beside those of another network.
    """

    second_stage: ClassVar[bool] = False
    system: str
    model: Any
    seed: int = 0
    start: str | None = None
    optimiser: Optimiser = Optimiser()
    checkpoint_every: int = Field(default=500, ge=1)
    validate_every: int = Field(default=500, ge=1)
    patience: int | None = Field(default=None, ge=1)

    @field_serializer("start", when_used="json")
    def _start_by_name(self, start: str | None) -> str | None:
        return None if start is None else Path(start).name


def first_problem(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, in one line: where, what, and the value."""
    first, tags = error.errors()[0], _tags(Strict)
    where = ".".join(str(part) for part in first["loc"] if part not in tags)
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}"
    got = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
    return ": ".join(filter(None, (where, first["msg"].removeprefix("Value error, ")))) + got


def merged(tree: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The tree with the values of the other in place of its own, table by table."""
    both = {k: merged(tree[k], v) for k, v in other.items() if isinstance(v, dict) and isinstance(tree.get(k), dict)}
    return {**tree, **other, **both}


def override_key(tree: dict[str, Any], override: str) -> None:
    """Put ``key.sub=value`` into a tree; the value is read as TOML, or as a word. UsageError: no such form."""
    key, separator, text = override.partition("=")
    if not separator:
        raise UsageError(f"--set {override!r}: expected key=value, for instance --set optimiser.steps=1000")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text  # an unquoted word is a string
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UsageError(f"--set {override!r}: {parent} is a value, not a table of the recipe")
    tree[leaf] = value


def _tags(model: type[BaseModel]) -> set[Any]:
    """The values that tell recipes and networks apart: pydantic counts them as a part of a key's path, users do not."""
    fields = [field for name, field in model.model_fields.items() if name in ("system", "name")]
    own = {tag for field in fields for tag in get_args(field.annotation)}
    return own.union(*(_tags(kind) for kind in model.__subclasses__()))
