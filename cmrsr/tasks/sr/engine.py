"""What an engine of ``cmrsr sr`` is: one graph, a step on images whose phase encoding runs along the rows."""

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
