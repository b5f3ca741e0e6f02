"""The graphs of ``function``: frame encoder, causal graph, DDIM step, joint decoder, verdict on the beat."""

import torch
from torch import Tensor, nn

from cmrsr.exporting.spec import N_COEFFICIENTS, GraphSpec, Sizes, example_coefficients
from cmrsr.tasks.function.training.causal import N_CLASSES, Causal, abnormality, causal_graph


class _Frame(nn.Module):
    """lr (batch, 1, y, x) -> features (batch, f)."""

    def __init__(self, model: Causal) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, lr: Tensor) -> Tensor:
        return self.encoder.frame(lr)


class _Graph(nn.Module):
    """nodes (frames, f), position (frames,) -> alpha (frames, frames), context (frames, c), whole (1, m)."""

    def __init__(self, model: Causal) -> None:
        super().__init__()
        self.message, self.score, self.causal = model.encoder.message, model.encoder.score, model.config.causal

    def forward(self, nodes: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        graph = causal_graph(self.message, self.score, nodes[None], position[None], causal=self.causal)
        return graph.alpha[0], graph.context[0], graph.whole


class _Step(nn.Module):
    """(x_t, lr, context, coefficients) -> (x_next, x0), in the units of what is diffused; see ``exporting.graph``."""

    def __init__(self, model: Causal, residual: bool) -> None:
        super().__init__()
        self.denoiser, self.residual = model.denoiser, residual

    def forward(self, x_t: Tensor, lr: Tensor, context: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        condition, read_x, read_f, next_x0, next_x = coefficients.unbind(0)
        level = condition.expand(x_t.shape[0])
        shown = lr if self.residual else lr * 2 - 1
        x0 = read_x * x_t + read_f * self.denoiser(x_t, shown, context, level)
        return next_x0 * x0 + next_x * x_t, x0


class _Decoder(nn.Module):
    """(image (batch, slices, y, x), context (batch, c)) -> (probabilities (batch, 4, y, x), areas (batch, 3), px)."""

    def __init__(self, model: Causal) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, image: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        reading = self.decoder(image, context)
        return reading.logits.softmax(1), reading.areas


class _Verdict(nn.Module):
    """(whole (1, m), ef (1,)) -> probability (1,) that the function is abnormal."""

    def __init__(self, model: Causal) -> None:
        super().__init__()
        self.layer = model.decoder.abnormal

    def forward(self, whole: Tensor, ef: Tensor) -> Tensor:
        return abnormality(self.layer, whole, ef).sigmoid()


def function_graphs(model: Causal, residual: bool) -> dict[str, GraphSpec]:
    """All graphs of a ``function`` bundle by name."""
    config = model.config
    image, told = ("batch", 1, "rows", "columns"), ("batch", config.context)
    n_slices = 1 + 2 * config.neighbours
    square = tuple(_sizes(*shape) for shape in ((1, 64, 96), (3, 128, 128), (2, 96, 48)))
    beats: tuple[Sizes, ...] = tuple({"frames": n} for n in (2, 25, 7))
    return {
        "step": GraphSpec(
            file="step.onnx", module=_Step(model, residual).eval(), stride=model.denoiser.unet.config.stride,
            inputs={"x_t": image, "lr": image, "context": told, "coefficients": (N_COEFFICIENTS,)},
            outputs={"x_next": image, "x0": image},
            example=lambda sizes, seed: (
                _images(sizes, seed, noise=True), _images(sizes, seed + 1), _told(sizes, config.context, seed),
                example_coefficients(torch.Generator().manual_seed(seed)),
            ),
            parity=square, flops=_sizes(1, 96, 96),
        ),
        "encoder": GraphSpec(
            file="encoder.onnx", module=_Frame(model).eval(), stride=config.stride,
            inputs={"lr": image}, outputs={"features": ("batch", config.features)},
            example=lambda sizes, seed: (_images(sizes, seed),), parity=square, flops=_sizes(1, 96, 96),
        ),
        "graph": GraphSpec(
            file="graph.onnx", module=_Graph(model).eval(), stride=1,
            inputs={"nodes": ("frames", config.features), "position": ("frames",)},
            outputs={
                "alpha": ("frames", "frames"), "context": ("frames", config.context), "whole": (1, config.messages),
            },
            example=lambda sizes, seed: (
                torch.randn(sizes["frames"], config.features, generator=torch.Generator().manual_seed(seed)),
                torch.arange(sizes["frames"]) / sizes["frames"],
            ),
            parity=beats, flops={"frames": 25}, precise=True,
        ),
        "decoder": GraphSpec(
            file="decoder.onnx", module=_Decoder(model).eval(), stride=config.stride,
            inputs={"image": ("batch", n_slices, "rows", "columns"), "context": told},
            outputs={"probabilities": ("batch", N_CLASSES, "rows", "columns"), "areas": ("batch", N_CLASSES - 1)},
            example=lambda sizes, seed: (_images(sizes, seed, n_slices), _told(sizes, config.context, seed)),
            parity=square, flops=_sizes(1, 96, 96), sample={"rows": 128, "columns": 128},
        ),
        "verdict": GraphSpec(
            file="verdict.onnx", module=_Verdict(model).eval(), stride=1,
            inputs={"whole": (1, config.messages), "ef": (1,)}, outputs={"probability": (1,)},
            example=lambda sizes, seed: (
                torch.randn(1, config.messages, generator=torch.Generator().manual_seed(seed)), torch.tensor([0.45]),
            ),
            parity=({},), flops={}, precise=True,
        ),
    }  # fmt: skip


def _sizes(batch: int, rows: int, columns: int) -> Sizes:
    return {"batch": batch, "rows": rows, "columns": columns}


def _images(sizes: Sizes, seed: int, channels: int = 1, *, noise: bool = False) -> Tensor:
    shape = (sizes["batch"], channels, sizes["rows"], sizes["columns"])
    return (torch.randn if noise else torch.rand)(shape, generator=torch.Generator().manual_seed(seed))


def _told(sizes: Sizes, width: int, seed: int) -> Tensor:
    return torch.randn(sizes["batch"], width, generator=torch.Generator().manual_seed(seed + 2))
