"""What a training run of ``sr`` is."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_serializer, model_validator

from cmrsr.training.recipe import Diffusion, Run, Split, Strict


class SmallModel(Strict):
    """perfgen-s: see ``cmrsr.networks.perfgen``."""

    name: Literal["perfgen-s"]
    widths: tuple[int, int] = (96, 192)
    blocks: tuple[int, int, int] = (2, 4, 2)
    embedding: int = 256


class PaperModel(Strict):
    """perfgen-paper: the SR3 U-Net of the publication, see ``cmrsr.networks.sr3``."""

    name: Literal["perfgen-paper"]
    base: int = Field(default=64, multiple_of=32, gt=0, description="channels; the norms have 32 groups")
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    n_blocks: int = 2
    dropout: float = 0.2


class PairData(Split):
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


class SrRecipe(Run):
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
