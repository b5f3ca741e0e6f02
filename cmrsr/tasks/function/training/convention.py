"""What readers' contours are brought to before they are learnt: one border of the cavity, doubt where they differ."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmrsr.physics.volumes import LV, MYOCARDIUM, RV

Labels = NDArray[np.uint8]
BLOOD_QUANTILE = 0.75  # of the signal within the cavity: blood between the muscles
SMALLEST = 15  # pixels of cavity and of wall: less says nothing about their signals
SPECK = 0.05  # of the visible blood: smaller pieces are noise


def drawn_to_blood(image: NDArray[np.floating], labels: Labels, level: float) -> Labels:
    """Labels (y, x) whose LV cavity ends where visible blood does, at the convex hull of what is brighter than
    ``level`` of the way from wall to blood. Papillary muscles and trabeculae within stay cavity, the rest is wall.

    Some readers draw the cavity two or three pixels outside the visible blood; a network that learns from several
    readers needs one border.
    """
    cavity, wall = labels == LV, labels == MYOCARDIUM
    if min(np.count_nonzero(cavity), np.count_nonzero(wall)) < SMALLEST:
        return labels
    core = ndimage.binary_erosion(cavity, iterations=2)
    blood = float(np.quantile(image[core if np.count_nonzero(core) >= SMALLEST else cavity], BLOOD_QUANTILE))
    dark = float(np.median(image[wall]))
    if blood <= dark:
        return labels
    bright = ndimage.binary_opening((image > dark + level * (blood - dark)) & cavity, np.ones((2, 2)))
    pieces, n = ndimage.label(bright)
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)
    bright = np.isin(pieces, 1 + np.flatnonzero(sizes[1:] >= max(4, SPECK * sizes[1:].sum())))
    if np.count_nonzero(bright) < SMALLEST // 2:
        return labels
    outlines, _ = cv2.findContours(bright.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(hull, [cv2.convexHull(np.concatenate(outlines))], [1])
    return np.where(cavity & (hull == 0), MYOCARDIUM, labels).astype(np.uint8)


def unsure_rv(labels: Labels) -> NDArray[np.bool_]:
    """(t, z): where readers would not agree on the RV of labels (t, z, y, x), the most basal slice that has any. The
    base is where the RV is larger. Beyond it there is none: what is seen there is atrium.
    """
    area = (labels == RV).sum((2, 3))
    out = np.zeros(area.shape, bool)
    if not area.any():
        return out
    total = area.sum(0)
    upwards = (total * (np.arange(len(total)) - (total > 0).nonzero()[0].mean())).sum() > 0  # the base comes last
    for t, sizes in enumerate(area):
        has = np.flatnonzero(sizes)
        if has.size:
            out[t, has[-1] if upwards else has[0]] = True
    return out
