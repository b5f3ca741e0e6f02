"""What a training run of ``mie`` is."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cmrsr.training.recipe import Diffusion, Run, Split, Strict


class CpkdmModel(Strict):
    """cpkdm-s: see ``training.cpkdm``. cine, t1, strain, atlas: False leaves an input or its knowledge out."""

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


class MieData(Split):
    """Slices of virtual patients with cine, T1 images and enhancement; 5-fold cross-validation is over patients."""

    n_validation: int = Field(default=40, ge=1, description="virtual patients that are held out, with one fold")
    n_patients: int = Field(default=480, ge=2)
    crop: int = Field(default=96, ge=32)


class MieLoss(Strict):
    """Weights of the terms beside the noise loss; adversarial = 0 leaves both critics out."""

    image: float = Field(default=1.0, ge=0)
    scar: float = Field(default=1.0, ge=0)
    masks: float = Field(default=0.3, ge=0)
    adversarial: float = Field(default=0.01, ge=0)


class MieRecipe(Run):
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
