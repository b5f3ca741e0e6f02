"""The graphs that read a heart: features of each time step, what they tell about the beat, masks of an image."""

from cmrsr.heart.window import ENCODED, WINDOW
from cmrsr.runtime.kind import COLUMNS, ROWS, GraphKind

MANY = 8  # slices at a time: the default --batch-size
READER = {
    "encoder": GraphKind(
        inputs=("lr",),
        outputs=("features",),
        plans=(
            {"batch": MANY, ROWS: ENCODED, COLUMNS: ENCODED},
            {"batch": (1, MANY, MANY), ROWS: ENCODED, COLUMNS: ENCODED},
        ),
        usual={"batch": MANY, ROWS: WINDOW, COLUMNS: WINDOW},
    ),
    "graph": GraphKind(
        inputs=("nodes", "position"),
        outputs=("alpha", "context", "whole"),
        plans=({"frames": (1, 25, 128)},),
        usual={"frames": 25},
        signed=("nodes",),
        precise=True,
    ),
    "decoder": GraphKind(
        inputs=("image", "context"),
        outputs=("probabilities", "areas"),
        plans=(
            {"batch": MANY, ROWS: WINDOW, COLUMNS: WINDOW},
            {"batch": (1, MANY, MANY), ROWS: WINDOW, COLUMNS: WINDOW},
        ),
        usual={"batch": MANY, ROWS: WINDOW, COLUMNS: WINDOW},
        signed=("context",),
    ),
}
