"""The phase of the cine that T1 images belong to, and where its heart lies on them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cmrsr.heart.window import WINDOW
from cmrsr.physics.volumes import LV, MYOCARDIUM
from cmrsr.tasks.mie.anatomy import FARTHEST, Match, likeness, match


def ventricle(radius: float, y: float = 64, x: float = 64, wall: float = 6) -> NDArray[np.uint8]:
    rows, columns = np.indices((WINDOW, WINDOW))
    far = np.hypot(rows - y, columns - x)
    return np.select([far < radius, far < radius + wall], [LV, MYOCARDIUM], 0).astype(np.uint8)


BEAT = np.stack([ventricle(r) for r in (18, 16, 13, 11, 14, 17)])
NOTHING = np.zeros((WINDOW, WINDOW), np.uint8)


def shown(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images (t, y, x) of labels, as bright as a cine."""
    return np.asarray(np.select([labels == LV, labels == MYOCARDIUM], [1.0, 0.3], 0.6), np.float32)


def matched(beat: NDArray[np.uint8], t1: NDArray[np.uint8], *, read: bool = True) -> Match:
    """T1 images have the contrast turned over; where they are not read, edges alone are left."""
    return match(beat, shown(beat), t1 if read else NOTHING, 1.2 - shown(t1[None]))


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-4, 1)])
def test_phase_and_shift_are_found(shift: tuple[int, int]) -> None:
    dy, dx = shift
    found = matched(BEAT, ventricle(13, 64 - dy, 64 - dx))
    assert found.phase == 2
    assert found.shift == shift
    assert found.agreement == pytest.approx(1.0)


def test_edges_decide_where_the_t1_images_are_not_read() -> None:
    found = matched(BEAT, ventricle(13, 62, 67), read=False)
    assert (found.phase, found.shift, found.agreement) == (2, (2.0, -3.0), 0.0)
    assert found.edges > 0.9


def test_the_nearest_of_equally_good_places_is_taken() -> None:
    found = matched(BEAT[:1], ventricle(18))
    assert found.shift == (0.0, 0.0)


def test_another_heart_agrees_less() -> None:
    other = ventricle(30, 90, 30)
    assert matched(BEAT, other).agreement < 0.5


def test_hearts_farther_apart_than_a_breath_are_not_joined() -> None:
    found = matched(BEAT, ventricle(18, 64 + 3 * FARTHEST, 64))
    assert np.hypot(*found.shift) <= FARTHEST


def test_without_a_ventricle_nothing_agrees() -> None:
    assert matched(np.zeros_like(BEAT), ventricle(18)).agreement == 0
    assert matched(BEAT, NOTHING).agreement == 0


def body(seed: int, contrast: float) -> NDArray[np.float32]:
    """Regions with sharp edges; contrast turns what is bright."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((WINDOW, WINDOW))
    image = np.ones((WINDOW, WINDOW))
    for _ in range(25):
        cy, cx, r = rng.uniform(0, WINDOW), rng.uniform(0, WINDOW), rng.uniform(5, 20)
        image[np.hypot(y - cy, x - cx) < r] = rng.uniform(0.2, 1) ** contrast
    return image[None].astype(np.float32)


def test_edges_of_one_body_are_alike_whatever_the_contrast() -> None:
    assert likeness(body(1, 1.0), body(1, -1.0)) > 0.6


def test_edges_of_two_bodies_are_not() -> None:
    assert abs(likeness(body(1, 1.0), body(2, 1.0))) < 0.25


def test_without_edges_nothing_is_alike() -> None:
    assert likeness(np.ones((2, WINDOW, WINDOW), np.float32), body(1, 1.0)) == 0
