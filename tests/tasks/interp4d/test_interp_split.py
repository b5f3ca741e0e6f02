"""What is hidden, and when: gaps of a beat and of an open series, end-diastole to end-systole, uneven times."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cmrsr.errors import UnusableError
from cmrsr.tasks.interp4d.evaluation.split import between, every, most_different


def test_every_kth_frame_of_a_beat() -> None:
    split = every(8, 4, cyclic=True)
    assert (split.known, split.hidden, split.cyclic) == ((0, 4), ((1, 2, 3), (5, 6, 7)), True)
    assert split.frames == [1, 2, 3, 5, 6, 7]
    assert split.tau(np.arange(9.0)) == [(0.25, 0.5, 0.75)] * 2
    assert_allclose(split.clock(np.arange(9.0)), [0, 4, 8])
    assert split.notes == ()


def test_a_last_gap_of_another_length_is_placed_exactly() -> None:
    split = every(7, 4, cyclic=True)
    assert split.hidden == ((1, 2, 3), (5, 6))
    assert_allclose(split.tau(np.arange(8.0))[1], [1 / 3, 2 / 3])
    assert_allclose(split.clock(np.arange(8.0)), [0, 4, 7])
    assert "no multiple of 4" in split.notes[0]
    assert every(9, 4, cyclic=True).hidden[-1] == ()


@pytest.mark.parametrize(("n", "beyond"), [(9, 0), (8, 3), (7, 2)])
def test_an_open_series_has_frames_beyond_the_last_known_one(n: int, beyond: int) -> None:
    split = every(n, 4, cyclic=False)
    assert split.hidden[-1] == ()
    assert len(split.known) + len(split.frames) + beyond == n
    assert [f"the last {beyond} frames" in note for note in split.notes] == [True] * bool(beyond)


def test_times_say_where_a_frame_lies() -> None:
    clock = np.array([0.0, 10, 20, 60, 100, 130])  # the last one: end of the beat
    split = every(5, 2, cyclic=True)
    assert_allclose(split.clock(clock), [0, 20, 100, 130])
    assert_allclose([t for gap in split.tau(clock) for t in gap], [0.5, 0.5])
    assert_allclose(between(5, 1, 3, cyclic=True).tau(clock)[0], [0.2])


def test_from_end_diastole_to_end_systole() -> None:
    split = between(10, 0, 4, cyclic=True)
    assert (split.known, split.hidden, split.cyclic) == ((0, 4), ((1, 2, 3), ()), False)
    assert split.tau(np.arange(11.0))[0] == (0.25, 0.5, 0.75)


def test_over_the_end_of_the_beat() -> None:
    split = between(10, 8, 2, cyclic=True)
    assert (split.known, split.hidden[0]) == ((8, 2), (9, 0, 1))
    assert_allclose(split.tau(np.arange(11.0))[0], [0.25, 0.5, 0.75])
    assert between(10, 8, 2, cyclic=False).hidden[0] == (3, 4, 5, 6, 7)


@pytest.mark.parametrize(("last", "n_hidden"), [(6, 5), (11, 10), (20, 10)])
def test_at_most_twelve_frames_all_of_them_acquired(last: int, n_hidden: int) -> None:
    split = between(30, 0, last, cyclic=True, at_most=12)
    assert split.known == (0, last)
    assert len(set(split.frames)) == n_hidden
    even = np.arange(1, n_hidden + 1) * last / (n_hidden + 1)
    assert np.abs(np.array(split.frames) - even).max() <= 0.5


def test_nothing_to_hide_is_refused() -> None:
    with pytest.raises(UnusableError, match="--keep"):
        every(4, 4, cyclic=True)
    with pytest.raises(UnusableError, match="no frame between 3 and 4"):
        between(9, 2, 3, cyclic=True)
    with pytest.raises(UnusableError, match=r"end-systole 12.* 9"):
        between(9, 2, 11, cyclic=True)


def test_the_frame_that_differs_most() -> None:
    frames = np.zeros((5, 1, 2, 2), np.float32)
    frames[:, 0, 0, 0] = [9, 8, 3, 1, 7]
    assert most_different(frames, 0) == 3
    assert most_different(frames, 3) == 0
