"""How the myocardium moves over a beat, from images alone: displacement since end diastole, and its components."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from cmrsr.physics.optical_flow import dense_flow
from cmrsr.physics.strain import deformation_gradient, displacement_components, green_lagrange, polar_components

Array = NDArray[np.float32]
SMOOTHING_MM = 3.0  # sd, of a displacement before it is derived: the flow is no finer than its patches of 8 pixels
WHITE_QUANTILE = 0.99  # of the images: what is shown white to the search for motion


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinematics:
    """Each (t, y, x), about a centre, at the points where the material rests at frame 0.

    u_r, u_c: components of the displacement in mm (CPKDM, equation 2). e_rr, e_cc: of the Green-Lagrange strain (CPKDM,
    equation 1, with the 1/2 that is missing in print). At the centre, where no radius is defined, all are zero.
    """

    u_r: Array
    u_c: Array
    e_rr: Array
    e_cc: Array


def beat_displacement(frames: NDArray[Any], finer: int = 1) -> Array:
    """Displacement (t, y, x, 2) in pixels, x before y, of the material of frame 0 at every frame (t, y, x) of a beat.

    Flow from frame to frame is followed along its path. The last frame leads back to the first: what the sum round the
    beat misses by is taken off in equal parts, so that every point comes home.
    finer: how many times finer the images are sampled for the search, whose patches have 8 pixels: with 2 it finds more
    of a ventricle's shortening (virtual patients at 1.5 mm, end systole: 1.7 points too little instead of 2.9).
    """
    n_t, n_y, n_x = frames.shape
    if finer > 1:
        size = (n_x * finer, n_y * finer)
        fine = [cv2.resize(np.asarray(f, np.float32), size, interpolation=cv2.INTER_CUBIC) for f in frames]
        found = beat_displacement(np.maximum(fine, 0))
        coarse = [cv2.resize(u, (n_x, n_y), interpolation=cv2.INTER_AREA) for u in found]
        return np.asarray(np.stack(coarse) / finer, np.float32)
    scale = float(np.quantile(frames, WHITE_QUANTILE)) or 1.0
    y, x = np.mgrid[:n_y, :n_x].astype(np.float32)
    moved = np.zeros((n_t + 1, n_y, n_x, 2), np.float32)
    for t in range(n_t):
        flow = dense_flow(frames[t], frames[(t + 1) % n_t], scale)
        at_x, at_y = x + moved[t, ..., 0], y + moved[t, ..., 1]
        moved[t + 1] = moved[t] + cv2.remap(flow, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    drift = moved[-1]
    return np.asarray(moved[:-1] - drift * (np.arange(n_t, dtype=np.float32) / n_t)[:, None, None, None])


def kinematics(displacement: Array, centre: ArrayLike, pixel_mm: float) -> Kinematics:
    """Components about a centre (y, x), in pixels, of displacements (t, y, x, 2) in pixels, x before y."""
    n_t, n_y, n_x, _ = displacement.shape
    points = np.moveaxis(np.indices((n_y, n_x)), 0, -1) * pixel_mm
    middle = np.asarray(centre, np.float64) * pixel_mm
    out = np.zeros((4, n_t, n_y, n_x), np.float32)
    sd = SMOOTHING_MM / pixel_mm
    for t in range(n_t):
        u = gaussian_filter(displacement[t, ..., ::-1], (sd, sd, 0)).astype(np.float64) * pixel_mm
        strain = polar_components(green_lagrange(deformation_gradient(u, (pixel_mm, pixel_mm))), middle, points)
        out[:, t] = np.nan_to_num([*displacement_components(u, middle, points), strain.e_rr, strain.e_cc])
    return Kinematics(u_r=out[0], u_c=out[1], e_rr=out[2], e_cc=out[3])
