import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cmrsr.tasks.function.training.virtual import FunctionSet
from cmrsr.training.cache import FULL_SCALE

SMALL = FunctionSet(n_patients=1, n_slices=3, n_phases=3, crop=96, random_contrast=0.0, seed=5)


@pytest.fixture(scope="module")
def item() -> NDArray[np.uint16]:
    return SMALL.render(0)


def test_an_item_is_images_and_labels_of_a_stack(item: NDArray[np.uint16]) -> None:
    assert item.shape == SMALL.item_shape
    images, labels = item[0]
    assert images.max() == FULL_SCALE
    assert set(np.unique(labels)) <= {0, 1, 2, 3}
    assert_array_equal(SMALL.render(0), item)


def test_labels_lie_on_the_images(item: NDArray[np.uint16]) -> None:
    """Blood is brighter than muscle in a cine, wherever the labels say what is what."""
    images, labels = item[0]
    grey = {c: float(np.median(images[labels == c])) for c in (1, 2, 3)}
    assert grey[3] > 1.3 * grey[2]
    assert grey[1] > 1.3 * grey[2]


def test_the_beat_begins_at_end_diastole(item: NDArray[np.uint16]) -> None:
    volume = (item[0, 1] == 3).sum((1, 2, 3))
    assert volume.argmax() == 0
    assert volume[1] < 0.9 * volume[0]  # a third of the beat on: end systole


def test_contrast_can_be_any(item: NDArray[np.uint16]) -> None:
    other = FunctionSet(n_patients=1, n_slices=3, n_phases=3, crop=96, random_contrast=1.0, seed=5).render(0)
    assert not np.array_equal(other[0, 0], item[0, 0])
