"""What an engine of ``cmrsr sr`` is: one graph, a step on images whose phase encoding runs along the rows."""

from cmrsr.runtime.bundle import Bundle
from cmrsr.runtime.choice import DeviceChoice, Engine
from cmrsr.runtime.engine import load_graph
from cmrsr.runtime.kind import COLUMNS, ROWS, EngineKind, GraphKind

ENGINE = EngineKind(
    task="sr",
    default="perfgen-s",
    graphs={
        "step": GraphKind(
            inputs=("x_t", "lr", "coefficients", "low_pass"),
            outputs=("x_next", "x0"),
            plans=(
                {"batch": 8, ROWS: 96, COLUMNS: 96},  # `--roi heart`
                {"batch": 1, ROWS: 96, COLUMNS: 96},  # frame by frame as they arrive
                {"batch": (1, 8, 8)},
            ),
            usual={"batch": 8, ROWS: 96, COLUMNS: 96},
            signed=("x_t",),
        )
    },
    normalisation="lr and result are divided by the 0.995 quantile of the positive values of the whole series",
    calls="Phase encoding runs along the rows of the image (axis y). low_pass of zeros switches the projection on the "
    "acquired k-space off.",
)


def load_step(bundle: Bundle, shape: tuple[int, int, int], choice: DeviceChoice) -> Engine:
    """The step graph for images (batch, y, x), see ``load_graph``."""
    batch, height, width = shape
    image = (batch, 1, height, width)
    return load_graph(bundle, bundle.manifest.step, {"x_t": image, "lr": image, "low_pass": (height, height)}, choice)
