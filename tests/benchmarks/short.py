"""Truly short acquisitions beside images shortened afterwards: ``python -m tests.benchmarks.short [ENGINE|RUN ...]``.

The same virtual chests and leaves, which no training has seen, are acquired with 35 % of the lines from the start
(complex image with phase and noise, with a raw filter over those lines or without), and in full with the magnitude
image cut afterwards, which is how `cmrsr evaluate sr` and the paper degrade. One step of the network, PSNR gain over
zero-filling against the full acquisition. Nothing here is asserted. Needs the extra ``train``.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cmrsr.physics.kspace import n_lines
from cmrsr.tasks.registry import build_model
from cmrsr.tasks.sr.training.acquisition import Exposure, draw_acquisition, expose
from cmrsr.tasks.sr.training.pairs import acquired_short, shortened_afterwards
from cmrsr.tasks.sr.training.virtual import LeavesSet, VirtualSet
from cmrsr.training.start import begin, start_summary

FRACTION, CROP = 0.35, 96
CHESTS, LEAVES, SEED = 24, 60, 20_000
Trio = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
WAYS: dict[str, Callable[[Exposure, int], Trio]] = {
    "cut afterwards": shortened_afterwards,
    "acquired short": lambda exposure, lines: acquired_short(exposure, lines, 0.0),
    "acquired short, raw filter 0.5": lambda exposure, lines: acquired_short(exposure, lines, 0.5),
}


def main() -> None:
    chests, leaves = VirtualSet(n_chests=CHESTS, seed=SEED, n_scans=1), LeavesSet(n_scenes=LEAVES, seed=SEED)
    scenes = {
        "chests": np.concatenate([chests.render(i) for i in range(CHESTS)]),
        "leaves": np.concatenate([leaves.render(i) for i in range(LEAVES)]),
    }
    engines = sys.argv[1:] or ["perfgen-s"]
    print(f"| scenes | acquisition | {' | '.join(f'{engine} (dB)' for engine in engines)} |")
    print("|---|---|" + "---|" * len(engines))
    networks = [_restorer(engine) for engine in engines]
    for kind, images in scenes.items():
        rng = np.random.default_rng(SEED)
        exposures = [expose(image.astype(np.float32), draw_acquisition(rng, image.shape[0]), rng) for image in images]
        for name, way in WAYS.items():
            gains = []
            for exposure in exposures:
                lr, hr, _ = way(exposure, n_lines(FRACTION, exposure.noisy.shape[0]))
                scale = float(np.quantile(lr, 0.995))
                at = (slice((len(lr) - CROP) // 2, (len(lr) + CROP) // 2),) * 2
                shown, truth = lr[at] / scale, hr[at] / scale
                before = np.square(shown - truth).mean()
                gains.append([10 * np.log10(before / np.square(f(shown) - truth).mean()) for f in networks])
            print(f"| {kind} | {name} | {' | '.join(f'{gain:+.2f}' for gain in np.mean(gains, 0))} |", flush=True)


def _restorer(engine: str) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The posterior mean of one image (y, x) by one step."""
    summary = start_summary(engine)
    model = build_model(summary["recipe"]["model"]).eval()
    begin(model, engine)

    @torch.inference_mode()
    def restored(lr: NDArray[np.float32]) -> NDArray[np.float32]:
        shown = torch.from_numpy(np.ascontiguousarray(lr))[None, None]
        v = model(torch.zeros_like(shown), shown, torch.ones(1))
        return np.asarray((shown - summary["residual_std"] * v)[0, 0].numpy())

    return restored


if __name__ == "__main__":
    main()
