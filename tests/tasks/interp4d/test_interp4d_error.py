import numpy as np
import pytest

from cmrsr.runtime.bundle import ExpectedError
from cmrsr.tasks.interp4d.expected_error import change_energy, expected_error

CALIBRATION = ExpectedError(floor=0.01, share=0.5)


def _known(change: float = 0.2) -> np.ndarray:  # type: ignore[type-arg]
    known = np.full((3, 2, 24, 20), 0.5, np.float32)
    known[:, 1, 8:16, 6:14] += change
    return known


def test_still_images_leave_the_floor() -> None:
    found = expected_error(_known(0.0), (0.2, 0.7), CALIBRATION)
    assert found.shape == (2, 3, 24, 20)
    assert np.allclose(found, CALIBRATION.floor)


def test_it_is_largest_half_way_and_where_the_frames_differ() -> None:
    found = expected_error(_known(), (0.1, 0.5, 0.9), CALIBRATION)
    assert np.allclose(found[0], found[2])
    assert (found[1] >= found[0]).all()
    assert found[1, 0, 12, 10] > 3 * found[1, 0, 2, 2]
    assert found[1, 0, 12, 10] < 0.5 * 0.2 + CALIBRATION.floor


def test_the_sign_and_the_order_of_the_change_do_not_matter() -> None:
    assert np.allclose(change_energy(_known(0.2), (0.3,)), change_energy(_known(0.2)[:, ::-1], (0.7,)), rtol=1e-4)
    assert change_energy(_known(0.2), (0.5,)).max() == pytest.approx(0.04, rel=0.2)


def test_it_grows_in_proportion_to_the_change() -> None:
    pure = ExpectedError(floor=0.0, share=0.3)
    small, large = (expected_error(_known(change), (0.4,), pure) for change in (0.1, 0.3))
    assert np.allclose(large, 3 * small, rtol=1e-3, atol=1e-7)
