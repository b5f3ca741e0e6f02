"""The two graphs of ``interp4d``: a DDIM step of all unknown frames of a clip, and the network on volumes."""

from pathlib import Path

import torch
from torch import Tensor, nn

from cmrsr.errors import UsageError
from cmrsr.exporting.checkpoint import Checkpoint, Reader
from cmrsr.exporting.spec import N_COEFFICIENTS, GraphSpec, Sizes, example_coefficients
from cmrsr.tasks.interp4d.training.mamba_volume import MambaVolume
from cmrsr.tasks.interp4d.training.recipe import VolumeRecipe
from cmrsr.tasks.interp4d.training.vdt import Vdt
from cmrsr.training.start import SUMMARY, VOLUME_SUMMARY, VOLUME_WEIGHTS, WEIGHTS


class ClipStep(nn.Module):
    """(x_t, known, base, bend, tau, coefficients) -> (x_next, x0), in the units of what is diffused.

    x_t, base, bend: (batch, frames, y, x); known: (batch, 2, y, x); tau: (batch, frames), see ``training.vdt.Vdt``.
    coefficients: (5,) = condition, read_x, read_f, next_x0, next_x of ``cmrsr.diffusion.ddim.StepCoefficients``.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self, x_t: Tensor, known: Tensor, base: Tensor, bend: Tensor, tau: Tensor, coefficients: Tensor
    ) -> tuple[Tensor, Tensor]:
        condition, read_x, read_f, next_x0, next_x = coefficients.unbind(0)
        level = condition.expand(x_t.shape[0])
        x0 = read_x * x_t + read_f * self.denoiser(x_t, known, base, bend, tau, level)
        return next_x0 * x0 + next_x * x_t, x0


def clip_step(denoiser: Vdt) -> GraphSpec:
    """Stage 1."""
    frames, known = ("batch", "frames", "rows", "columns"), ("batch", 2, "rows", "columns")
    return GraphSpec(
        file="step.onnx",
        module=ClipStep(denoiser).eval(),
        stride=denoiser.config.stride,
        inputs={
            "x_t": frames, "known": known, "base": frames, "bend": frames, "tau": ("batch", "frames"),
            "coefficients": (N_COEFFICIENTS,),
        },
        outputs={"x_next": frames, "x0": frames},
        example=_clip,
        parity=(_clip_sizes(1, 3, 48, 64), _clip_sizes(2, 1, 96, 96), _clip_sizes(3, 5, 64, 40)),
        flops=_clip_sizes(1, 1, 96, 96),
    )  # fmt: skip


def volume(network: MambaVolume) -> GraphSpec:
    """Stage 2."""
    z_y_x = ("slices", "rows", "columns")
    return GraphSpec(
        file="volume.onnx",
        module=network.eval(),
        stride=network.config.stride,
        inputs={"volume": ("batch", network.config.channels, *z_y_x)},
        outputs={"corrected": ("batch", 1, *z_y_x)},
        example=lambda sizes, seed: (
            torch.rand(
                sizes["batch"], network.config.channels, *(sizes[name] for name in z_y_x),
                generator=torch.Generator().manual_seed(seed),
            ),
        ),
        parity=(_volume_sizes(1, 8, 64, 64), _volume_sizes(2, 3, 40, 32), _volume_sizes(1, 13, 48, 96)),
        flops=_volume_sizes(1, 8, 96, 96),
    )  # fmt: skip


def _clip(sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    batch, n, y, x = (sizes[name] for name in ("batch", "frames", "rows", "columns"))
    tau = (torch.arange(n) + 1.0).expand(batch, n) / (n + 1)
    known = torch.rand(batch, 2, y, x, generator=generator)
    base = known[:, :1] + tau[..., None, None] * (known[:, 1:] - known[:, :1])
    bend = 0.02 * torch.randn(base.shape, generator=generator)
    return (
        torch.randn(base.shape, generator=generator), known, base + bend / 2, bend, tau.contiguous(),
        example_coefficients(generator),
    )  # fmt: skip


def _clip_sizes(batch: int, frames: int, rows: int, columns: int) -> Sizes:
    return {"batch": batch, "frames": frames, "rows": rows, "columns": columns}


def _volume_sizes(batch: int, slices: int, rows: int, columns: int) -> Sizes:
    return {"batch": batch, "slices": slices, "rows": rows, "columns": columns}


def interp4d_graphs(stage_one: Vdt, stage_two: MambaVolume) -> dict[str, GraphSpec]:
    """The graphs of an ``interp4d`` bundle."""
    return {"step": clip_step(stage_one), "volume": volume(stage_two)}


def read_second(reader: Reader) -> Checkpoint:
    """Stage 2 of interp4d, from the folder that it was trained in or from a bundle."""
    folder = reader.volume_folder
    if folder is None:
        raise UsageError(
            f"{reader.folder} is stage 1 of interp4d, whose engine needs stage 2 as well: write an export recipe "
            "(TOML) with checkpoint and volume_checkpoint"
        )
    in_bundle = (folder / VOLUME_SUMMARY).is_file()
    second = reader.read(folder, *((VOLUME_SUMMARY, VOLUME_WEIGHTS) if in_bundle else (SUMMARY, WEIGHTS)))
    if not isinstance(second.recipe, VolumeRecipe):
        raise UsageError(f"volume_checkpoint {folder} is of {second.recipe.system}, expected interp4d-volume")
    # the folder of stage 1 is the trainer's own affair
    second.summary["recipe"]["stage_one"] = Path(second.summary["recipe"]["stage_one"]).name
    return second
