"""What a training run is: one TOML file, checked strictly (an unknown key is an error)."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_serializer, model_validator

from cmrsr.diffusion.schedule import Schedule
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
    base: int = Field(default=64, multiple_of=32, gt=0, description="channels; the norms have 32 groups")
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    n_blocks: int = 2
    dropout: float = 0.2


class ClipModel(_Strict):
    """tssc-s, stage 1: see ``cmrsr.models.vdt``."""

    name: Literal["tssc-s"]
    depth: int = 4
    width: int = 128
    heads: int = 4
    window: int = 8
    detail: tuple[int, int] = (32, 64)
    embedding: int = 128

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width}: expected a multiple of heads = {self.heads}")
        return self


class LatentClipModel(_Strict):
    """tssc-paper, stage 1 of the publication: see ``cmrsr.models.vdt.VdtPaper``. n_frames counts both known ones."""

    name: Literal["tssc-paper"]
    depth: int = 28
    width: int = 1152
    heads: int = 16
    patch: int = 2
    channels: int = 4
    n_frames: int = 12


class VolumeModel(_Strict):
    """tssc-s-volume, stage 2: see ``cmrsr.models.mamba_volume``."""

    name: Literal["tssc-s-volume"]
    mixer: Literal["mamba", "conv"] = "mamba"
    detail: int = 48
    width: int = Field(
        default=64, multiple_of=32, gt=0, description="the heads of the scans have 64 of 2 width channels"
    )
    n_blocks: int = 3
    stride: Literal[2, 4, 8] = 4


class CausalModel(_Strict):
    """causal-s: see ``cmrsr.models.causal``. causal: False leaves the causal encoder out."""

    name: Literal["causal-s"]
    features: int = 64
    messages: int = 64
    widths: tuple[int, int] = (96, 192)
    blocks: tuple[int, int, int] = (2, 4, 2)
    embedding: int = 256
    reader: tuple[int, int, int, int] = (48, 96, 160, 192)
    causal: bool = True
    counted: int = Field(default=96, multiple_of=16, gt=0)


class CausalPaperModel(_Strict):
    """causal-paper: noise prediction by the U-Net of SR3; the paper gives no sizes, these are ours."""

    name: Literal["causal-paper"]
    features: int = 256
    messages: int = 256
    base: int = Field(default=64, multiple_of=32, gt=0)
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    reader: tuple[int, int, int, int] = (64, 128, 256, 512)
    causal: bool = True
    counted: int = Field(default=128, multiple_of=16, gt=0)


class CpkdmModel(_Strict):
    """cpkdm-s: see ``cmrsr.models.cpkdm``. cine, t1, strain, atlas: False leaves an input or its knowledge out."""

    name: Literal["cpkdm-s"]
    n_phases: Literal[12] = 12
    latent: int = 12
    motion: int = 48
    gate: int = 64
    morphology: int = 128
    widths: tuple[int, int, int] = (96, 160, 192)
    blocks: tuple[int, int, int] = (2, 2, 1)
    embedding: int = 192
    heads: int = 4
    critic: int = 48
    fade: bool = True
    cine: bool = True
    t1: bool = True
    strain: bool = True
    atlas: bool = True

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.heads < 1 or any(width % self.heads for width in self.widths[1:]):
            raise ValueError(f"widths {self.widths}: expected multiples of heads = {self.heads} below the first")
        return self


class CpkdmPaperModel(CpkdmModel):
    """cpkdm-paper: noise prediction, at the width of latent diffusion models: the paper gives no sizes."""

    name: Literal["cpkdm-paper"]  # type: ignore[assignment]
    motion: int = 128
    gate: int = 256
    morphology: int = 256
    widths: tuple[int, int, int] = (256, 512, 1024)
    embedding: int = 1024
    heads: int = 8
    critic: int = 64
    fade: bool = False


class Diffusion(_Strict):
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


class _Split(_Strict):
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


class PairData(_Split):
    """Pairs are made by the degradation, from single frames of a folder, or of scenes that are scanned first.

    Scenes are virtual chests, dead leaves, and what is in the folder ``also``: real images, of which the central
    ``also_band`` of k-space along either axis counts as sharp; patients of the first of ``also_folds`` are held out.
    """

    n_chests: int = Field(default=1500, ge=2)
    n_leaves: int = Field(default=6000, ge=0)
    leaves_share: float = Field(default=0.5, ge=0, lt=1, description="of the pairs")
    also: Path | None = None
    also_share: float = Field(default=0.2, gt=0, lt=1, description="of the pairs, where a folder is given")
    also_band: float = Field(default=1.0, gt=0.2, le=1)
    also_folds: int = Field(default=4, ge=2)
    fraction: tuple[float, float] = (0.3, 0.5)
    phase_share: float = Field(
        default=0.15, ge=0, le=1, description="share of a folder's images that get a phase before truncation"
    )
    short_share: float = Field(
        default=0.25, ge=0, le=1, description="share of scenes of which fewer lines are acquired to begin with"
    )

    @field_serializer("also", when_used="json")
    def _also_by_name(self, also: Path | None) -> str | None:
        return None if also is None else also.name

    @property
    def chests_share(self) -> float:
        """What the others leave."""
        return 1 - self.leaves_share - (self.also_share if self.also else 0.0)

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        low, high = self.fraction
        if not 0 < low <= high <= 1:
            raise ValueError(f"fraction {low:g} to {high:g}: expected two shares of the lines, 0 < low <= high <= 1")
        if self.leaves_share + (self.also_share if self.also else 0.0) >= 1:
            raise ValueError(
                f"leaves_share {self.leaves_share:g} and also_share {self.also_share:g}: expected less than 1 "
                "together, the rest are virtual chests"
            )
        return self


class ClipData(_Split):
    """Clips of whole beats: two known frames ``gap`` phases apart and ``n_frames`` between them."""

    n_patients: int = Field(default=160, ge=2)
    gap: tuple[int, int] = (2, 8)
    n_frames: int = Field(default=3, ge=1)
    n_slices: int = Field(default=8, ge=1, description="of a volume in stage 2")

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        low, high = self.gap
        if not 2 <= low <= high:
            raise ValueError(f"gap {low} to {high}: expected two numbers of phases, 2 <= low <= high")
        return self


class BeatData(_Split):
    """Labelled beats: of each drawn so many phases, evenly over the beat, and slices.

    fraction: of k-space along either axis that the low resolution keeps; full: share of beats at full resolution.
    """

    n_patients: int = Field(default=320, ge=2)
    crop: int = Field(default=96, ge=32)
    n_phases: int = Field(default=3, ge=2)
    n_slices: int = Field(default=2, ge=1)
    fraction: tuple[float, float] = (0.45, 0.6)
    full: float = Field(default=0.25, ge=0, lt=1)
    also: Path | None = Field(default=None, description="a folder of labelled series to train on beside the source")
    also_share: float = Field(default=0.5, gt=0, lt=1, description="of the patients of a batch")
    also_folds: int = Field(default=2, ge=1, description="of the patients of that folder; fold 0 is left out")

    @field_serializer("also", when_used="json")
    def _also_by_name(self, also: Path | None) -> str | None:
        return None if also is None else also.name


class MieData(_Split):
    """Slices of virtual patients with cine, T1 images and enhancement; 5-fold cross-validation is over patients."""

    n_validation: int = Field(default=40, ge=1, description="virtual patients that are held out, with one fold")
    n_patients: int = Field(default=480, ge=2)
    crop: int = Field(default=96, ge=32)


class MieLoss(_Strict):
    """Weights of the terms beside the noise loss; adversarial = 0 leaves both critics out."""

    image: float = Field(default=1.0, ge=0)
    scar: float = Field(default=1.0, ge=0)
    masks: float = Field(default=0.3, ge=0)
    adversarial: float = Field(default=0.01, ge=0)


class FunctionLoss(_Strict):
    """Weights of the terms beside the noise loss; causal = 0 leaves the consistency of the causal graphs out.

    perceptual_network: a program of torch.export whose features are compared, none where it is not given.
    """

    image: float = Field(default=0.2, ge=0)
    segmentation: float = Field(default=1.0, ge=0)
    function: float = Field(default=0.5, ge=0, description="lambda of eq. 2")
    causal: float = Field(default=0.02, ge=0)
    perceptual_network: Path | None = None


class Optimiser(_Strict):
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


class _Run(_Strict):
    """What every run has. start: an engine's name, or the folder of an earlier run, whose weights it begins from.

    patience: after how many validations without a gain the run ends, None never.
    """

    seed: int = 0
    start: str | None = None
    optimiser: Optimiser = Optimiser()
    checkpoint_every: int = Field(default=500, ge=1)
    validate_every: int = Field(default=500, ge=1)
    patience: int | None = Field(default=None, ge=1)

    @field_serializer("start", when_used="json")
    def _start_by_name(self, start: str | None) -> str | None:
        return None if start is None else Path(start).name


class SrRecipe(_Run):
    """A training run of ``sr``."""

    system: Literal["sr"]
    model: Annotated[SmallModel | PaperModel, Field(discriminator="name")]
    diffusion: Diffusion = Diffusion()
    data: PairData = PairData()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        # perfgen-s fades its noisy input out by cos(pi t / 2), so its conditioning has to be the time
        if self.model.name == "perfgen-s" and self.diffusion.schedule != "cosine":
            raise ValueError("perfgen-s needs the cosine schedule")
        return self


class ClipRecipe(_Run):
    """A training run of stage 1 of ``interp4d``.

    residual_weight: see ``cmrsr.diffusion.residual``; autoencoder: of the publication's model, a program of
    torch.export.
    """

    system: Literal["interp4d"]
    model: Annotated[ClipModel | LatentClipModel, Field(discriminator="name")]
    diffusion: Diffusion = Diffusion()
    data: ClipData = ClipData()
    residual_weight: float = Field(default=1.0, ge=0, le=1)
    autoencoder: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.model.name == "tssc-s" and (self.diffusion.schedule != "cosine" or not self.diffusion.residual):
            raise ValueError("tssc-s needs the cosine schedule and the residual")
        if self.model.name == "tssc-s" and self.diffusion.prediction != "v":
            raise ValueError("tssc-s needs v-prediction: its posterior mean is read as minus v at full noise")
        if self.model.name == "tssc-paper" and (
            self.diffusion.residual or self.data.n_frames != self.model.n_frames - 2
        ):
            raise ValueError("tssc-paper needs diffusion.residual = false and data.n_frames two below model.n_frames")
        return self


class VolumeLoss(_Strict):
    """Weights of the terms; the total variation is that of the correction, not of the image."""

    mse: float = Field(default=1.0, ge=0)
    wavelet: float = Field(default=1.0, ge=0)
    total_variation: float = Field(default=0.01, ge=0)


class VolumeRecipe(_Run):
    """A training run of stage 2 of ``interp4d``. stage_one: folder of the trained stage 1, which stays as it is."""

    system: Literal["interp4d-volume"]
    model: VolumeModel
    stage_one: Path
    data: ClipData = ClipData(n_frames=1)
    loss: VolumeLoss = VolumeLoss()


class FunctionRecipe(_Run):
    """A training run of ``function``, in three stages: restore, read what was restored, both.

    stages: their shares of the steps after the warm-up. tasks: "sr" trains restoration alone, "function" reads the low
    resolution itself. start: of an engine of ``sr``, the denoiser alone begins from it.
    """

    system: Literal["function"]
    model: Annotated[CausalModel | CausalPaperModel, Field(discriminator="name")]
    diffusion: Diffusion = Diffusion()
    data: BeatData = BeatData()
    loss: FunctionLoss = FunctionLoss()
    stages: tuple[float, float, float] = (0.2, 0.6, 0.2)
    warm_up: float = Field(default=0.0, ge=0, lt=1, description="share of the steps, before, for the encoder alone")
    tasks: Literal["both", "sr", "function"] = "both"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if min(self.stages) < 0 or abs(sum(self.stages) - 1) > 1e-6:
            raise ValueError(f"stages {self.stages}: expected three shares of the steps that add up to 1")
        if self.model.name == "causal-s" and self.diffusion.schedule != "cosine":
            raise ValueError("causal-s needs the cosine schedule")
        return self


class MieRecipe(_Run):
    """A training run of ``mie``. latent_share: of the steps, after which the encoder of the latent rests."""

    system: Literal["mie"]
    model: Annotated[CpkdmModel | CpkdmPaperModel, Field(discriminator="name")]
    diffusion: Diffusion = Diffusion(residual=False)
    data: MieData = MieData()
    loss: MieLoss = MieLoss()
    latent_share: float = Field(default=0.4, gt=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.diffusion.residual:
            raise ValueError("mie diffuses the latent itself: diffusion.residual = false")
        if self.model.fade and self.diffusion.schedule != "cosine":
            raise ValueError("model.fade needs the cosine schedule")
        return self


Recipe = SrRecipe | ClipRecipe | VolumeRecipe | FunctionRecipe | MieRecipe
_RECIPE: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="system")])
# the values that tell systems and models apart: pydantic counts them as a part of the path to a key, users do not
_TAGS = frozenset(
    tag
    for key, kinds in (
        ("system", get_args(Recipe)),
        (
            "name",
            (
                SmallModel,
                PaperModel,
                ClipModel,
                LatentClipModel,
                CausalModel,
                CausalPaperModel,
                CpkdmModel,
                CpkdmPaperModel,
            ),
        ),
    )
    for kind in kinds
    for tag in get_args(kind.model_fields[key].annotation)
)


def parse_recipe(tree: Any) -> Recipe:
    """A recipe of what its TOML file or ``training.json`` holds. pydantic.ValidationError: it is not one."""
    return _RECIPE.validate_python(tree)


def load_recipe(name_or_path: str, overrides: Sequence[str] = (), start: str | None = None) -> Recipe:
    """A recipe by the name of a shipped one or by the path of a TOML file.

    overrides: ``key.sub=value``, the value as in TOML. start: weights to begin from; what the recipe's table
    ``fine_tuning`` says then stands in for the rest of it. UsageError: no such recipe, an unknown key, a bad value.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise UsageError(f"no recipe {name_or_path!r}: give the path of a TOML file or one of: {known}")
    try:
        tree: dict[str, Any] = tomllib.loads(path.read_text())
        fine_tuning = tree.pop("fine_tuning", {})
        if not isinstance(fine_tuning, dict):
            raise UsageError(f"recipe {path}: fine_tuning {fine_tuning!r}: expected a table of the recipe's own keys")
        tuned = {**_merged(tree, fine_tuning), **({} if start is None else {"start": start})}
        for override in overrides:
            _override(tree, override)
            _override(tuned, override)
        parsed = parse_recipe(tuned)  # read even where it is not used: a mistake in it must not wait for that day
        return parse_recipe(tree) if start is None else parsed
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {first_problem(error)}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def first_problem(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, in one line: where, what, and the value."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in _TAGS)
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}"
    got = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
    return ": ".join(filter(None, (where, first["msg"].removeprefix("Value error, ")))) + got


def _merged(tree: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The tree with the values of the other in place of its own, table by table."""
    both = {k: _merged(tree[k], v) for k, v in other.items() if isinstance(v, dict) and isinstance(tree.get(k), dict)}
    return {**tree, **other, **both}


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
        if not isinstance(tree, dict):
            raise UsageError(f"--set {override!r}: {parent} is a value, not a table of the recipe")
    tree[leaf] = value
