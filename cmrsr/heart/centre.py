"""Where the heart is in an image series."""

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.series import Series
from cmrsr.physics.passage import blood_pools

FIRST_PASS = 96  # frames within which the contrast arrives: what is read of a long series


def heart_centre(series: Series, variance: NDArray[np.float64]) -> tuple[tuple[float, float], str]:
    """((y, x) in voxels, how it was found): between the blood pools of both ventricles at the middle slice.

    Without a passage of contrast, as in a cine: where the signal varies most over time, ``variance`` (z, y, x).
    """
    import scipy.ndimage

    plane = series.shape[1] // 2
    if series.n_frames > 1 and series.kind != "cine":
        frames = np.stack([series.frame(t)[plane].copy() for t in range(min(series.n_frames, FIRST_PASS))])
        pools = blood_pools(frames)
        if pools:
            centres = [scipy.ndimage.center_of_mass(pool) for pool in pools.values()]
            y, x = np.mean(centres, axis=0)
            return (float(y), float(x)), "passage of contrast"
    spread = scipy.ndimage.gaussian_filter(np.sqrt(variance.mean(0)), 0.02 * variance.shape[-1])
    hot = np.where(spread > 0.5 * np.quantile(spread, 0.995), spread, 0.0)
    labels, n = scipy.ndimage.label(hot > 0)
    if n == 0:
        return (variance.shape[1] / 2, variance.shape[2] / 2), "middle of the image"
    largest = 1 + int(np.argmax(scipy.ndimage.sum(hot, labels, range(1, n + 1))))
    y, x = scipy.ndimage.center_of_mass(np.where(labels == largest, hot, 0.0))
    return (float(y), float(x)), "temporal variance"
