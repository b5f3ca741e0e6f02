"""One border of the LV cavity for all readers, and doubt about the RV at the base."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cmrsr.physics.volumes import LV, MYOCARDIUM, RV
from cmrsr.tasks.function.training.convention import drawn_to_blood, unsure_rv

SIZE, BLOOD, CAVITY, OUTER = 64, 12, 15, 20  # pixels: matrix, radii of visible blood, of the contour drawn, of the wall


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image, labels, distance from the axis): a cavity drawn three pixels outside the blood."""
    y, x = np.indices((SIZE, SIZE)) - SIZE / 2
    away = np.hypot(y, x)
    image = 0.2 + 0.8 / (1 + np.exp((away - BLOOD) / 0.5))
    labels = np.select([away < CAVITY, away < OUTER], [LV, MYOCARDIUM]).astype(np.uint8)
    return image, labels, away


def test_the_cavity_ends_where_the_blood_does() -> None:
    image, labels, away = drawn()
    new = drawn_to_blood(image, labels, 0.5)
    assert np.sqrt(np.count_nonzero(new == LV) / np.pi) == pytest.approx(BLOOD, abs=0.6)
    assert_array_equal(new == MYOCARDIUM, (away < OUTER) & (new != LV))  # what it lost is wall
    generous = drawn_to_blood(image, labels, 0.1)
    assert np.count_nonzero(new == LV) < np.count_nonzero(generous == LV) < np.count_nonzero(labels == LV)


def test_papillary_muscles_stay_cavity() -> None:
    image, labels, _ = drawn()
    image[SIZE // 2 + 4 : SIZE // 2 + 9, SIZE // 2 - 2 : SIZE // 2 + 3] = 0.2
    assert_array_equal(drawn_to_blood(image, labels, 0.5), drawn_to_blood(drawn()[0], labels, 0.5))


def test_what_cannot_be_judged_is_left() -> None:
    image, labels, _ = drawn()
    only_cavity = np.where(labels == LV, LV, 0).astype(np.uint8)
    assert_array_equal(drawn_to_blood(image, only_cavity, 0.5), only_cavity)
    assert_array_equal(drawn_to_blood(1 - image, labels, 0.5), labels)  # blood darker than muscle


def test_the_most_basal_rv_is_in_doubt_from_either_end() -> None:
    labels = np.zeros((2, 5, 8, 8), np.uint8)
    for z, size in enumerate((0, 2, 3, 5, 6)):
        labels[0, z, :size, :size] = RV
        labels[1, z, : max(size - 2, 0), : max(size - 2, 0)] = RV
    labels[1, 4] = 0  # at end systole the base has moved away
    expected = np.array([[False] * 4 + [True], [False] * 3 + [True, False]])
    assert_array_equal(unsure_rv(labels), expected)
    assert_array_equal(unsure_rv(labels[:, ::-1]), expected[:, ::-1])
    assert not unsure_rv(np.zeros_like(labels)).any()
