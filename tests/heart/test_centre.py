"""Where the heart is: between the blood pools that contrast passes through, or where a cine moves."""

from dataclasses import replace

import numpy as np
import pytest

from cmrsr.heart.centre import heart_centre
from cmrsr.io.series import Kind, Series
from cmrsr.io.survey import survey


def two_passages(kind: Kind) -> Series:
    """Two discs that turn bright and stay so, at x = 14 and 34, and a brighter one that beats to and fro at x = 52."""
    y, x = np.mgrid[:48, :64]
    frames = np.tile(100.0 + y, (24, 1, 1, 1))
    for at, arrival in ((14, 9), (34, 14)):
        frames[arrival:, 0] += 80 * (np.hypot(y - 24, x - at) < 6)
    frames[::2, 0] += 400 * (np.hypot(y - 24, x - 52) < 6)
    return Series.from_array(frames, kind=kind)


@pytest.mark.parametrize(
    ("kind", "way", "expected"),
    [
        ("perfusion", "passage of contrast", 24),
        ("unknown", "passage of contrast", 24),
        ("cine", "temporal variance", 52),
    ],
)
def test_only_what_may_have_contrast_is_searched_for_it(kind: Kind, way: str, expected: float) -> None:
    series = two_passages(kind)
    (y, x), found = heart_centre(series, survey(series).variance)
    assert found == way
    assert (y, x) == pytest.approx((24, expected), abs=1.5)


def test_no_frame_of_a_cine_is_read() -> None:
    series = two_passages("cine")
    variance = survey(series).variance

    def read(t: int) -> np.ndarray:  # type: ignore[type-arg]
        raise AssertionError(t)

    heart_centre(replace(series, reader=read), variance)
