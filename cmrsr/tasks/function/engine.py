"""What an engine of ``cmrsr function`` is: graphs that read a heart, a step on images, a verdict on the beat."""

from cmrsr.heart.graphs import READER
from cmrsr.runtime.kind import COLUMNS, ROWS, EngineKind, GraphKind

ENGINE = EngineKind(
    task="function",
    default="causal-s",
    graphs={
        "step": GraphKind(
            inputs=("x_t", "lr", "context", "coefficients"),
            outputs=("x_next", "x0"),
            plans=({"batch": (1, 8, 8)},),
            usual={"batch": 1, ROWS: 256, COLUMNS: 256},
            signed=("x_t", "context"),
        ),
        **READER,
        "verdict": GraphKind(
            inputs=("whole", "ef"),
            outputs=("probability",),
            plans=({},),
            usual={},
            signed=("whole",),
            precise=True,
        ),
    },
    normalisation="lr and result are divided by the 0.995 quantile of the positive values of the whole series",
    calls="encoder on every frame, graph on the features of the beat, step with each frame's row of its context, "
    "decoder on the restored image with the same row, verdict on graph's `whole` and the ejection fraction (0 to 1).",
)
