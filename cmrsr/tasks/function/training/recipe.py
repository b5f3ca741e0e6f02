"""What a training run of ``function`` is."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_serializer, model_validator

from cmrsr.training.recipe import Diffusion, Run, Split, Strict


class CausalModel(Strict):
    """causal-s: see ``cmrsr.tasks.function.training.causal``. causal: False leaves the causal encoder out."""

    name: Literal["causal-s"]
    features: int = 64
    messages: int = 64
    widths: tuple[int, int] = (96, 192)
    blocks: tuple[int, int, int] = (2, 4, 2)
    embedding: int = 256
    reader: tuple[int, int, int, int] = (48, 96, 160, 192)
    causal: bool = True
    counted: int = Field(default=96, multiple_of=16, gt=0)
    neighbours: int = Field(default=0, ge=0, description="slices on either side that the joint decoder sees beside one")


class CausalPaperModel(Strict):
    """causal-paper: noise prediction by the U-Net of SR3; the paper gives no sizes, these are ours."""

    name: Literal["causal-paper"]
    features: int = 256
    messages: int = 256
    base: int = Field(default=64, multiple_of=32, gt=0)
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    reader: tuple[int, int, int, int] = (64, 128, 256, 512)
    causal: bool = True
    counted: int = Field(default=128, multiple_of=16, gt=0)


class BeatData(Split):
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
    also_folds: int = Field(default=5, ge=1, description="of the patients of that folder; one fold is validated on")
    also_held_out: tuple[str, ...] = Field(default=(), description="patients to validate on instead of a fold")
    cavity: float | None = Field(
        default=0.2, gt=0, lt=1, description="the LV cavity of that folder's labels ends there between wall and blood"
    )

    @field_serializer("also", when_used="json")
    def _also_by_name(self, also: Path | None) -> str | None:
        return None if also is None else also.name


class FunctionLoss(Strict):
    """Weights of the terms beside the noise loss; causal = 0 leaves the consistency of the causal graphs out.

    perceptual_network: a program of torch.export whose features are compared, none where it is not given.
    """

    image: float = Field(default=0.2, ge=0)
    segmentation: float = Field(default=1.0, ge=0)
    function: float = Field(default=0.5, ge=0, description="lambda of eq. 2")
    causal: float = Field(default=0.02, ge=0)
    perceptual_network: Path | None = None


class FunctionRecipe(Run):
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
