"""What an engine of ``cmrsr interp4d`` is: a step on the frames of a gap, and a network that corrects new volumes."""

from cmrsr.diffusion.residual import Residual
from cmrsr.runtime.bundle import Diffusion
from cmrsr.runtime.kind import COLUMNS, ROWS, EngineKind, GraphKind, restored_image


def _new_frame(diffusion: Diffusion) -> str:
    """What the last x_next is, in words."""
    std, weight = diffusion.residual_std, diffusion.residual_weight
    if std is None:
        return restored_image(diffusion)
    gain = Residual(std, 1.0 if weight is None else weight).gain(0.5)
    return f"A new frame is base + {4 * gain:.6g} tau (1 - tau) x_next."


ENGINE = EngineKind(
    task="interp4d",
    default="tssc-s",
    graphs={
        "step": GraphKind(
            inputs=("x_t", "known", "base", "bend", "tau", "coefficients"),
            outputs=("x_next", "x0"),
            plans=({"batch": (1, 2, 2), "frames": (1, 1, 12)},),
            usual={"batch": 2, "frames": 3, ROWS: 192, COLUMNS: 192},
            signed=("x_t", "bend"),
        ),
        "volume": GraphKind(
            inputs=("volume",),
            outputs=("corrected",),
            plans=({"batch": 1, "slices": (1, 10, 24), ROWS: (32, 128, 128), COLUMNS: (32, 128, 128)},),
            usual={"batch": 1, "slices": 10, ROWS: 192, COLUMNS: 192},
        ),
    },
    normalisation="all frames are divided by the 0.995 quantile of the positive values of the whole series",
    calls="known: the two frames around a gap, base: the guess of each frame between them, bend: its curvature part, "
    "tau: their times from 0 to 1 (cmrsr.tasks.interp4d makes them); volume corrects a new volume: channels are "
    "the new one and both known ones.",
    result=_new_frame,
)
