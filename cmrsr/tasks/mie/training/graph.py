"""The graphs of ``mie``: kinematics of the cine, morphology of the T1 images, DDIM step on latents, decoder."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmrsr.exporting.spec import N_COEFFICIENTS, GraphSpec, Shape, Sizes, example_coefficients
from cmrsr.tasks.mie.training.cpkdm import CELL, N_CLUSTERS, N_INVERSIONS, N_MOTION, N_TISSUES, Cpkdm

WINDOW = 128  # pixels a side: fixed, so that the attention's distances between cells are constants of the graph
CELLS = WINDOW // CELL


class _Morphology(nn.Module):
    """(inversions, timing, t1, clusters) -> (features, tissues): see ``Morphology``; tissues are probabilities."""

    def __init__(self, model: Cpkdm) -> None:
        super().__init__()
        self.morphology = model.morphology

    def forward(self, inversions: Tensor, timing: Tensor, t1: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
        features, _, tissues = self.morphology(inversions, timing, t1, clusters)
        return features, tissues.softmax(1)


class _Step(nn.Module):
    """(x_t, morphology, motion, coefficients) -> (x_next, x0), on the latent's cells; see ``exporting.graph``."""

    def __init__(self, model: Cpkdm) -> None:
        super().__init__()
        self.denoiser = model.denoiser

    def forward(self, x_t: Tensor, morphology: Tensor, motion: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        condition, read_x, read_f, next_x0, next_x = coefficients.unbind(0)
        level = condition.expand(x_t.shape[0])
        x0 = read_x * x_t + read_f * self.denoiser(x_t, morphology, motion, level)
        return next_x0 * x0 + next_x * x_t, x0


class _Decoder(nn.Module):
    """(latent, morphology) -> (image, probability of scar), (batch, 1, y, x) each."""

    def __init__(self, model: Cpkdm) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, latent: Tensor, morphology: Tensor) -> tuple[Tensor, Tensor]:
        image, scar = self.decoder(latent, morphology)
        return image, scar.sigmoid()


def mie_graphs(model: Cpkdm) -> dict[str, GraphSpec]:
    """All graphs of a ``mie`` bundle by name. What is used in training alone is in none of them."""
    config = model.config
    image: Shape = ("batch", 1, WINDOW, WINDOW)
    latent, morphology, motion = (_folded(n) for n in (config.latent, config.morphology, config.gate))
    beat = config.n_phases
    return {
        "step": _spec(
            "step", _Step(model), config.stride,
            {"x_t": latent, "morphology": morphology, "motion": motion, "coefficients": (N_COEFFICIENTS,)},
            {"x_next": latent, "x0": latent},
        ),
        "kinematics": _spec(
            "kinematics", model.kinematics, config.stride,
            {"cine": ("batch", beat, WINDOW, WINDOW), "motion": ("batch", beat, N_MOTION, CELLS, CELLS)},
            {"features": motion},
        ),
        "morphology": _spec(
            "morphology", _Morphology(model), config.stride,
            {
                "inversions": ("batch", N_INVERSIONS, WINDOW, WINDOW), "timing": ("batch", N_INVERSIONS), "t1": image,
                "clusters": _folded(N_CLUSTERS),
            },
            {"features": morphology, "tissues": ("batch", N_TISSUES, WINDOW, WINDOW)},
        ),
        "decoder": _spec(
            "decoder", _Decoder(model), config.stride, {"latent": latent, "morphology": morphology},
            {"image": image, "probability": image},
        ),
    }  # fmt: skip


def _folded(channels: int) -> Shape:
    return ("batch", channels, CELLS, CELLS)


def _spec(
    name: str, module: nn.Module, stride: int, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> GraphSpec:
    return GraphSpec(
        file=f"{name}.onnx", module=module.eval(), stride=stride, inputs=inputs, outputs=outputs,
        example=lambda sizes, seed: _example(inputs, sizes, seed),
        parity=tuple({"batch": n} for n in (1, 3, 2)), flops={"batch": 1},
    )  # fmt: skip


def _example(inputs: Mapping[str, Shape], sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
    """Images in 0..1; noise, features and motion of either sign; a step at a random time."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name, shape in inputs.items():
        if name == "coefficients":
            found.append(example_coefficients(generator))
            continue
        draw = torch.randn if name in ("x_t", "latent", "morphology", "motion") else torch.rand
        found.append(draw([d if isinstance(d, int) else sizes[d] for d in shape], generator=generator))
    return tuple(found)
