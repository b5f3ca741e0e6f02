"""What the training runs of ``interp4d`` are: stage 1 and stage 2."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cmrsr.training.recipe import Diffusion, Run, Split, Strict


class ClipModel(Strict):
    """tssc-s, stage 1: see ``cmrsr.tasks.interp4d.training.vdt``."""

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


class LatentClipModel(Strict):
    """tssc-paper, stage 1 of the publication: see ``training.vdt.VdtPaper``. n_frames counts both known ones."""

    name: Literal["tssc-paper"]
    depth: int = 28
    width: int = 1152
    heads: int = 16
    patch: int = 2
    channels: int = 4
    n_frames: int = 12


class VolumeModel(Strict):
    """tssc-s-volume, stage 2: see ``cmrsr.tasks.interp4d.training.mamba_volume``."""

    name: Literal["tssc-s-volume"]
    mixer: Literal["mamba", "conv"] = "mamba"
    detail: int = 48
    width: int = Field(
        default=64, multiple_of=32, gt=0, description="the heads of the scans have 64 of 2 width channels"
    )
    n_blocks: int = 3
    stride: Literal[2, 4, 8] = 4


class ClipData(Split):
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


class ClipRecipe(Run):
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


class VolumeLoss(Strict):
    """Weights of the terms; the total variation is that of the correction, not of the image."""

    mse: float = Field(default=1.0, ge=0)
    wavelet: float = Field(default=1.0, ge=0)
    total_variation: float = Field(default=0.01, ge=0)


class VolumeRecipe(Run):
    """A training run of stage 2 of ``interp4d``. stage_one: folder of the trained stage 1, which stays as it is."""

    second_stage: ClassVar[bool] = True
    system: Literal["interp4d-volume"]
    model: VolumeModel
    stage_one: Path
    data: ClipData = ClipData(n_frames=1)
    loss: VolumeLoss = VolumeLoss()
