"""What a training run is: one TOML file, checked strictly (an unknown key is an error)."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cmrsr.errors import UsageError

RECIPES = Path(__file__).with_name("recipes")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SmallModel(_Strict):
    """perfgen-s: see ``cmrsr.models.perfgen``."""

    name: Literal["perfgen-s"]
    widths: tuple[int, int] = (96, 192)
    blocks: tuple[int, int, int] = (2, 4, 2)
    embedding: int = 256


class PaperModel(_Strict):
    """perfgen-paper: the SR3 U-Net of the publication, see ``cmrsr.models.sr3``."""

    name: Literal["perfgen-paper"]
    base: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    n_blocks: int = 2
    dropout: float = 0.2


class Diffusion(_Strict):
    """Schedule and target. ``residual``: diffuse (HR - LR) / residual_std instead of HR scaled to [-1, 1]."""

    schedule: Literal["cosine", "linear"] = "cosine"
    prediction: Literal["v", "x0", "eps"] = "v"
    n_train: int = 1000
    loss: Literal["l1", "l2"] = "l2"
    residual: bool = True
    share_at_noise: float = Field(0.25, ge=0, le=1, description="share of the samples trained at t = T")


class Data(_Strict):
    """Pairs are made by the degradation; ``phantom`` renders virtual patients, a folder is searched for series."""

    source: str = "phantom"
    n_chests: int = Field(1500, ge=2)
    n_validation: int = Field(24, ge=1, description="virtual chests, or share of the patients x 100 for a folder")
    crop: int = Field(64, ge=16)
    fraction: tuple[float, float] = (0.3, 0.5)
    phase_share: float = Field(0.15, ge=0, le=1, description="share of pairs with image phase before truncation")
    folds: int = Field(1, ge=1)
    fold: int = Field(0, ge=0)


class Optimiser(_Strict):
    """``muon`` orthogonalises the momentum of the matrix-shaped convolutions (Jordan 2024); AdamW does the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    steps: int = Field(20000, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(6e-4, gt=0)
    weight_decay: float = 0.0
    warmup: int = 200
    decay: Literal["cosine", "none"] = "cosine"
    clip: float = 1.0
    ema: float = 0.995
    ema_every: int = 4
    bf16: bool = True


class Recipe(_Strict):
    """One training run."""

    system: Literal["sr"]
    seed: int = 0
    model: Annotated[SmallModel | PaperModel, Field(discriminator="name")]
    diffusion: Diffusion = Diffusion()
    data: Data = Data()
    optimiser: Optimiser = Optimiser()
    checkpoint_every: int = Field(500, ge=1)
    validate_every: int = Field(500, ge=1)


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by the name of a shipped one or the path of a TOML file, with ``key.sub=value`` overrides (TOML values)."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise UsageError(f"no recipe {name_or_path!r}: give the path of a TOML file or one of: {known}")
    try:
        tree: dict[str, Any] = tomllib.loads(path.read_text())
        for override in overrides:
            _override(tree, override)
        return Recipe.model_validate(tree)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"recipe {path}: {where}: {first['msg']} (got {first['input']!r})") from error


def _override(tree: dict[str, Any], override: str) -> None:
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
    tree[leaf] = value
