"""Results of an evaluation of temporal super-resolution, made up: methods a known number of decibels apart."""

import numpy as np
from numpy.typing import NDArray

from cmrsr.tasks.interp4d.evaluation.methods import ESTIMATE, LINEAR, NEAREST, WARP
from cmrsr.tasks.interp4d.evaluation.protocol import SeriesResult
from cmrsr.tasks.interp4d.evaluation.score import GRADIENT, PSNR, SSIM
from cmrsr.tasks.interp4d.evaluation.split import every

OURS = "ours, 1 step"
GAINS = {NEAREST: -3.0, LINEAR: 0.0, WARP: 0.5, ESTIMATE: 1.0, "without stage 2, 1 step": 1.5, OURS: 2.0}


def result(patient: int, *, first: str = PSNR, through_plane: bool = True, keep: int = 4) -> SeriesResult:
    """A series of 8 frames; ``first``: the primary metric's name."""
    split = every(8, keep, cyclic=True)
    n = len(split.frames)
    base = 35 + 0.3 * patient + np.linspace(-1, 1, n)
    rng = np.random.default_rng(patient)

    def jitter() -> NDArray[np.float64]:
        """Without ties, which are slow to test, and of mean zero."""
        values = rng.normal(0, 0.01, n)
        return np.asarray(values - values.mean())

    names = {method: base + gain + 0.01 * patient * gain + jitter() for method, gain in GAINS.items()}

    def metrics(psnr: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        found = {first: psnr, SSIM: psnr / 50}
        return found | {GRADIENT: 60 - psnr} if through_plane else found

    images = rng.uniform(0, 100, (len(GAINS) + 1, 24, 20))
    return SeriesResult(
        name=f"p{patient}/sa", patient=f"p{patient}", split=split, notes=("end-systole as asked for",),
        frames=split.frames, tau=np.array([t for gap in split.tau(np.arange(9.0)) for t in gap]),
        metrics={method: metrics(psnr) for method, psnr in names.items()},
        sureness={f"spread of the samples of {OURS}": (0.5 + 0.1 * patient, 1.0)},
        shown=dict(zip(("truth", *GAINS), images, strict=True)), shown_frame=split.frames[1], shown_plane=1, aspect=1.5,
    )  # fmt: skip
