"""How near restored cine frames are to those of full resolution: in every image, and from frame to frame."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series
from cmrsr.metrics.agreement import temporal_consistency
from cmrsr.metrics.images import psnr, ssim

Array = NDArray[np.float32]
Scores = dict[str, NDArray[np.float64]]
PSNR, SSIM, HEART_PSNR, HEART_SSIM = "PSNR (dB)", "SSIM", "PSNR heart (dB)", "SSIM heart"
CLEAN_PSNR = "PSNR to noise-free (dB)"
TCI, HEART_TCI, GRADIENT_ERROR = "TCI", "TCI heart", "gradient error (%)"
LOWER_IS_BETTER = (GRADIENT_ERROR,)
PER_CASE = (TCI, HEART_TCI, GRADIENT_ERROR)  # the others have a value an image
BRIGHT = 0.995  # quantile of the signal that gradient errors are a share of


@dataclass(slots=True)
class ImageScoring:
    """Scores frames against a series in memory. window: rows and columns of the heart. clean: the same without noise.

    Images whose reference is constant, in the whole or in the window, are left out. UnusableError where all are.
    """

    series: Series
    window: tuple[slice, slice] | None = None
    clean: Series | None = None
    _usable: list[NDArray[np.bool_]] = field(init=False)
    _bright: float = field(init=False)

    def __post_init__(self) -> None:
        self._usable = []
        for t in range(self.series.n_frames):
            volumes = [self.series.frame(t)] + ([] if self.clean is None else [self.clean.frame(t)])
            volumes += [self._heart(volume) for volume in volumes if self.window]
            self._usable.append(np.all([np.ptp(volume, axis=(1, 2)) > 0 for volume in volumes], axis=0))
        if not any(usable.any() for usable in self._usable):
            raise UnusableError(f"{self.series.source.name}: every image is constant; expected a heart to compare")
        self._bright = float(np.quantile(self.series.array(), BRIGHT)) or 1.0

    def __call__(self, frames: Array) -> Scores:
        """Every metric of frames (t, z, y, x) on the matrix of the series."""
        found: dict[str, list[NDArray[np.float64]]] = {}

        def add(name: str, values: NDArray[np.float64]) -> None:
            found.setdefault(name, []).append(values)

        for t, usable in enumerate(self._usable):
            ours, truth = frames[t][usable], self.series.frame(t)[usable]
            if not usable.any():
                continue
            add(PSNR, psnr(ours, truth))
            add(SSIM, ssim(ours, truth))
            if self.window:
                add(HEART_PSNR, psnr(self._heart(ours), self._heart(truth)))
                add(HEART_SSIM, ssim(self._heart(ours), self._heart(truth)))
            if self.clean is not None:
                add(CLEAN_PSNR, psnr(ours, self.clean.frame(t)[usable]))
        return {name: np.concatenate(values) for name, values in found.items()} | self._temporal(frames)

    def _temporal(self, frames: Array) -> Scores:
        whole = temporal_consistency(frames, self.series)
        if whole is None:
            return {}
        scores = {TCI: whole.index, GRADIENT_ERROR: 100 * whole.gradient_error / self._bright}
        if self.window:
            heart = temporal_consistency(map(self._heart, frames), map(self._heart, self.series))
            assert heart is not None
            scores[HEART_TCI] = heart.index
        return {name: np.array([scores[name]]) for name in PER_CASE if np.isfinite(scores.get(name, np.nan))}

    def _heart(self, volume: Array) -> Array:
        return volume[:, *self.window] if self.window else volume


def only_finite(images: dict[str, Scores]) -> dict[str, Scores]:
    """Without the images that some method meets exactly: they have no PSNR to average. UnusableError for all."""
    if not images:
        return {}
    per_image = [k for k in next(iter(images.values())) if k not in PER_CASE]
    table = np.array([[scores[k] for k in per_image] for scores in images.values()])  # method, metric, image
    usable = np.isfinite(table).all(axis=(0, 1))
    if not usable.any():
        raise UnusableError("every image is met exactly by some method: there is nothing that was lost and restored")
    return {
        method: {k: v[usable] if k in per_image else v for k, v in scores.items()}
        for method, scores in images.items()
    }  # fmt: skip
