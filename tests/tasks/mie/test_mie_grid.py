"""T1 images, cine and results in and out of the window about the heart."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cmrsr.heart.window import READING_MM, WINDOW
from cmrsr.tasks.mie.grid import SliceGrid


def affine(
    pixel: tuple[float, float], origin: tuple[float, float, float], turn_deg: float = 0.0
) -> NDArray[np.float64]:
    """Slices with the same normal, turned in plane about it."""
    body = Rotation.from_euler("xyz", [20, 30, 10], degrees=True).as_matrix()
    plane = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
    out = np.eye(4)
    out[:3, :3] = body @ plane @ np.diag([*pixel, 8.0])
    out[:3, 3] = body @ np.array(origin)
    return out


def seen(affine: NDArray[np.float64], shape: tuple[int, int], z: int) -> NDArray[np.float64]:
    """A smooth body in space, as a slice shows it: independent of depth along the stack's normal."""
    body = Rotation.from_euler("xyz", [20, 30, 10], degrees=True).as_matrix()
    y, x = np.indices(shape)
    points = np.einsum("ij,jyx->iyx", affine, np.stack([x, y, np.full(shape, z), np.ones(shape)]))[:3]
    a, b, _ = np.einsum("ij,jyx->iyx", body.T, points)
    return 2 + np.sin(a / 9) + np.cos(b / 7)


T1 = affine((1.8, 1.8), (-10, -20, 5))
CINE = affine((1.3, 1.3), (-109, 201, 0), turn_deg=-70)  # its middle on that of the window


def grid() -> SliceGrid:
    return SliceGrid(centre=(70.0, 64.0), t1=T1, z=1, cine=CINE, cine_z=2)


def inside(window: NDArray[np.float32], margin: int = 20) -> NDArray[np.float32]:
    return window[margin:-margin, margin:-margin]


def test_cine_and_t1_images_of_one_body_give_the_same_window() -> None:
    from_t1 = grid().from_t1(seen(T1, (140, 130), 1)[None])[0]
    from_cine = grid().from_cine(seen(CINE, (260, 250), 2)[None])[0]
    assert from_t1.shape == (WINDOW, WINDOW)
    assert float(np.ptp(inside(from_t1))) > 2
    assert np.abs(inside(from_t1) - inside(from_cine)).max() < 0.06


def test_a_shift_looks_further_along_in_the_cine() -> None:
    image = seen(CINE, (260, 250), 2)[None]
    still, moved = grid().from_cine(image)[0], grid().from_cine(image, (3.0, -2.0))[0]
    assert moved[40:80, 40:80] == pytest.approx(still[43:83, 38:78], abs=1e-3)


def test_maps_come_back_to_where_they_were() -> None:
    image = seen(T1, (140, 130), 1)
    back = grid().to_t1(grid().from_t1(image[None]), (140, 130))[0]
    reach = int(WINDOW / 2 * READING_MM / 1.8) - 6
    y, x = 70, 64
    cut = np.s_[y - reach : y + reach, x - reach : x + reach]
    assert np.abs(back[cut] - image[cut]).max() < 0.03
    assert back[0, 0] == 0


def test_masks_come_back_as_masks() -> None:
    mask = np.zeros((WINDOW, WINDOW))
    mask[60:70, 60:70] = 1
    back = grid().to_t1(mask[None], (140, 130), nearest=True)[0]
    assert set(np.unique(back)) == {0.0, 1.0}
    assert back.sum() * 1.8**2 == pytest.approx(100 * READING_MM**2, rel=0.1)
