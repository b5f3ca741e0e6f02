"""Which frames at which times: counts, positions, intervals and notes, decided before anything is computed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cmrsr.errors import UnusableError, UsageError
from cmrsr.io.series import Series, Source
from cmrsr.io.survey import survey
from cmrsr.runtime.bundle import Bundle, load
from cmrsr.tasks.interp4d.plan import InterpOptions, InterpPlan, plan_interp
from tests.cine import STRIDE, beating_frames, interp_engine, write_interp_engine
from tests.conftest import oblique_affine

__all__ = ["interp_engine"]

Times = NDArray[np.float64]


@pytest.fixture(scope="module")
def bundle(interp_engine: Path) -> Bundle:
    return load(str(interp_engine), "interp4d")


def series_of(n_t: int = 6, times: Any = "even", n_z: int = 3, side: int = 16, beats: float = 1.0) -> Series:
    """A beat of 900 ms."""
    even = np.arange(n_t) * (900 / n_t)
    return Series.from_array(
        beating_frames(n_t, n_z, side, side, beats=beats), affine=oblique_affine(),
        times_ms=even if isinstance(times, str) else times, kind="cine", source=Source(name="beat"),
    )  # fmt: skip


def plan_of(series: Series, bundle: Bundle, **options: Any) -> InterpPlan:
    return plan_interp(series, survey(series), bundle, InterpOptions(**options))


def tau_of(plan: InterpPlan) -> list[tuple[float, ...]]:
    return [tuple(round(t, 9) for t in interval.tau) for interval in plan.intervals]


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--factor K .* or --frames M .*, one of them"),
        ({"factor": 2, "frames": 10}, "one of them"),
        ({"factor": 1}, "--factor 1: expected 2 to 60"),
        ({"factor": 61}, "--factor 61: expected 2 to 60"),
        ({"frames": 1}, "--frames 1: expected 2 to 1000"),
        ({"frames": 1001}, "--frames 1001: expected 2 to 1000"),
        ({"factor": 2, "steps": 0}, "--steps 0: expected 1 to 1000"),
        ({"factor": 2, "samples": 257}, "--samples 257: expected 1 to 256"),
        ({"factor": 2, "batch_size": 0}, "--batch-size 0: expected 1 to 1024"),
    ],
)
def test_options_out_of_range(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InterpOptions(**options)


# ---- which frames ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cyclic", [True, False])
def test_a_factor_divides_every_interval(bundle: Bundle, cyclic: bool) -> None:
    plan = plan_of(series_of(6), bundle, factor=3, cyclic=cyclic)
    n = 18 if cyclic else 16
    assert plan.n_frames == n
    np.testing.assert_allclose(plan.position, np.arange(n) / 3)
    np.testing.assert_allclose(plan.times_ms, np.arange(n) * 50)
    between = (round(1 / 3, 9), round(2 / 3, 9))
    assert tau_of(plan) == [between] * 6 if cyclic else [between] * 5 + [()]
    assert [(i.first, i.shown) for i in plan.intervals] == [(i, True) for i in range(6)]
    assert plan.n_new == n - 6


@pytest.mark.parametrize("cyclic", [True, False])
def test_frames_are_even_in_time(bundle: Bundle, cyclic: bool) -> None:
    """Of a beat whose phases lie unevenly: 0, 100, 400, 500 ms; the usual step, 100 ms, leads back to the first."""
    series = series_of(4, np.array([20.0, 120.0, 420.0, 520.0]))
    plan = plan_of(series, bundle, frames=6, cyclic=cyclic)
    np.testing.assert_allclose(plan.times_ms, 20 + np.arange(6) * 100)
    np.testing.assert_allclose(plan.position, [0, 1, 4 / 3, 5 / 3, 2, 3])
    assert [i.shown for i in plan.intervals] == [True] * 4
    assert plan.n_new == 2
    longer = plan_of(series, bundle, frames=12, cyclic=cyclic)
    np.testing.assert_allclose(np.diff(longer.times_ms), 600 / 12 if cyclic else 500 / 11)
    assert longer.times_ms[-1] == pytest.approx(570 if cyclic else 520)


def test_fewer_frames_than_acquired_leave_some_out(bundle: Bundle) -> None:
    plan = plan_of(series_of(6), bundle, frames=4)
    np.testing.assert_allclose(plan.position, [0, 1.5, 3, 4.5])
    assert [(i.first, i.shown, i.tau) for i in plan.intervals] == [
        (0, True, ()), (1, False, (0.5,)), (3, True, ()), (4, False, (0.5,)),
    ]  # fmt: skip
    assert plan.n_new == 2


def test_a_factor_follows_uneven_times(bundle: Bundle) -> None:
    plan = plan_of(series_of(3, np.array([0.0, 100.0, 400.0])), bundle, factor=2)
    np.testing.assert_allclose(plan.position, np.arange(6) / 2)
    np.testing.assert_allclose(plan.times_ms, [0, 50, 100, 250, 400, 500])  # the median step, 200 ms, ends the beat
    np.testing.assert_allclose(plan.clock, [0, 100, 400, 600])


def test_every_slice_keeps_its_own_times(bundle: Bundle) -> None:
    """Slices that were acquired one after the other: the clock is their mean."""
    times = np.arange(4)[:, None] * 200.0 + [0, 30, 60]
    plan = plan_of(series_of(4, times), bundle, factor=2)
    assert plan.times_ms is not None
    assert plan.times_ms.shape == (8, 3)
    np.testing.assert_allclose(plan.times_ms, np.arange(8)[:, None] * 100.0 + [0, 30, 60])
    np.testing.assert_allclose(plan.clock, np.arange(5) * 200)


def test_slices_of_different_heart_rates_end_when_their_own_beat_ends(bundle: Bundle) -> None:
    """Of a slice whose beat is longer than the mean of all, time would run backwards at the end."""
    times = np.outer(np.arange(10), [80.0, 90.0, 130.0])
    plan = plan_of(series_of(10, times), bundle, factor=2)
    assert plan.times_ms is not None
    np.testing.assert_allclose(plan.times_ms, np.outer(np.arange(20), [40, 45, 65]))
    np.testing.assert_allclose(plan.clock, np.arange(11) * 100)


def test_without_times_a_frame_is_a_frame(bundle: Bundle) -> None:
    plan = plan_of(series_of(5, None), bundle, frames=10)
    assert plan.times_ms is None
    np.testing.assert_allclose(plan.position, np.arange(10) / 2)
    np.testing.assert_allclose(plan.clock, np.arange(6))
    assert plan.notes == ()


def test_a_frame_asked_for_at_an_acquired_one_is_that_one(bundle: Bundle) -> None:
    """For all that times are rounded numbers."""
    times = np.cumsum([0.0, 37.1, 37.1, 37.1, 37.1, 37.1, 37.1]) + 1e-7 * np.array([0, 1, -1, 1, 0, -1, 1])
    plan = plan_of(series_of(7, times), bundle, frames=21)
    assert plan.n_new == 14
    assert all(interval.shown for interval in plan.intervals)


STEPS = st.lists(st.floats(1, 300), min_size=1, max_size=8)


@given(STEPS, st.booleans(), st.booleans(), st.integers(2, 40))
def test_the_plan_of_any_series(bundle: Bundle, steps: list[float], cyclic: bool, by_factor: bool, wanted: int) -> None:
    times = np.concatenate([[0], np.cumsum(steps)])
    n = len(times)
    series = series_of(n, times, n_z=1, side=8)
    plan = plan_of(series, bundle, cyclic=cyclic, **{"factor" if by_factor else "frames": wanted})
    whole = n * wanted if cyclic else (n - 1) * wanted + 1
    assert plan.n_frames == (whole if by_factor else wanted)
    assert plan.position[0] == 0
    assert (np.diff(plan.position) > 0).all()
    assert plan.position[-1] < n if cyclic else plan.position[-1] == n - 1
    assert plan.times_ms is not None
    assert (np.diff(plan.times_ms) > 0).all()
    found = []
    for interval in plan.intervals:
        assert interval.shown or interval.tau
        assert all(0 < t < 1 for t in interval.tau)
        found += ([float(interval.first)] if interval.shown else []) + [interval.first + t for t in interval.tau]
        before, first, second, after = plan.neighbours(interval)
        assert first == interval.first
        if interval.tau:
            assert second == (first + 1) % n
            assert cyclic or second > first
        gaps = plan.gaps(interval)
        assert min(gaps) > 0
        for neighbour, gap, own in ((before, gaps[0], first), (after, gaps[2], second)):
            if neighbour is not None and interval.tau and abs(neighbour - own) == 1:
                assert gap == pytest.approx(abs(times[neighbour] - times[own]))
    np.testing.assert_allclose(found, plan.position)
    assert plan.n_new == plan.n_frames - sum(i.shown for i in plan.intervals)
    at_frames = np.isclose(plan.position % 1, 0)
    assert at_frames.sum() == sum(i.shown for i in plan.intervals)
    np.testing.assert_allclose(plan.times_ms[at_frames], times[plan.position[at_frames].astype(int)])


# ---- what lies around an interval ------------------------------------------------------------------------------------


def test_neighbours_of_a_beat_go_round(bundle: Bundle) -> None:
    plan = plan_of(series_of(5), bundle, factor=2)
    assert [plan.neighbours(i) for i in plan.intervals] == [
        (4, 0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 0), (3, 4, 0, 1),
    ]  # fmt: skip


def test_an_open_series_has_ends(bundle: Bundle) -> None:
    plan = plan_of(series_of(4), bundle, factor=2, cyclic=False)
    assert [plan.neighbours(i) for i in plan.intervals[:3]] == [(None, 0, 1, 2), (0, 1, 2, 3), (1, 2, 3, None)]
    assert plan.neighbours(plan.intervals[3])[1:] == (3, 3, None)


def test_two_frames_have_no_neighbours(bundle: Bundle) -> None:
    for cyclic in (True, False):
        plan = plan_of(series_of(2, None), bundle, factor=2, cyclic=cyclic)
        around = [plan.neighbours(i) for i in plan.intervals if i.tau]
        assert around == [(None, 0, 1, None), (None, 1, 0, None)][: 2 if cyclic else 1]


def test_gaps_are_those_of_the_clock(bundle: Bundle) -> None:
    plan = plan_of(series_of(4, np.array([0.0, 100, 250, 450])), bundle, factor=2)
    assert [plan.gaps(i) for i in plan.intervals] == [
        (150, 100, 150), (100, 150, 200), (150, 200, 150), (200, 150, 100),
    ]  # fmt: skip


# ---- what else is decided --------------------------------------------------------------------------------------------


def test_matrix_scale_and_digest_are_those_of_the_series(bundle: Bundle) -> None:
    frames = beating_frames(4, 2, 17, 24)
    series = Series.from_array(frames)
    found = survey(series)
    plan = plan_interp(series, found, bundle, InterpOptions(factor=2))
    assert (plan.matrix, plan.padded) == ((17, 24), (3 * STRIDE, 24))
    assert (plan.scale, plan.digest, plan.minimum) == (found.scale, found.digest, 0.0)
    signed = Series.from_array(frames - 500)
    assert plan_of(signed, bundle, factor=2).minimum == (frames - 500).min()


def test_a_good_series_has_no_notes(bundle: Bundle) -> None:
    assert plan_of(series_of(), bundle, factor=2).notes == ()
    assert plan_of(series_of(beats=0.5), bundle, factor=2, cyclic=False).notes == ()


def notes(series: Series, bundle: Bundle, **options: Any) -> str:
    found = plan_of(series, bundle, **{"factor": 2} | options).notes
    assert len(found) == 1, found
    return found[0]


def test_series_to_be_looked_at_with_care(bundle: Bundle) -> None:
    half = series_of(8, beats=0.45)  # from end-diastole to end-systole
    assert "if the series is not a whole beat, use --open" in notes(half, bundle)
    missing = series_of(6, np.array([0.0, 100, 200, 400, 500, 600]))
    assert "between frames 3 and 4 more time passes than elsewhere" in notes(missing, bundle)
    slow = series_of(6, np.arange(6) * 700.0)
    assert "up to 700 ms between frames, the engine was trained on up to 600 ms" in notes(slow, bundle)
    coarse = Series.from_array(beating_frames(6, 3, 16, 16), affine=oblique_affine((4.0, 4.5, 10.0)))
    assert "pixels of 4 x 4.5 mm, the engine was trained on 1 to 3 mm" in notes(coarse, bundle)
    fine = Series.from_array(beating_frames(6, 3, 16, 16), affine=oblique_affine((0.6, 0.6, 10.0)))
    assert "pixels of 0.6 x 0.6 mm" in notes(fine, bundle)


def test_two_frames_and_the_way_back(bundle: Bundle) -> None:
    for times in ("even", None):
        two = series_of(2, times)
        assert "the way back from the second to the first is taken to last as long" in notes(two, bundle)
        assert plan_of(two, bundle, factor=2, cyclic=False).notes == ()


@pytest.mark.parametrize("n_z", [1, 2])
def test_few_slices_are_not_made_consistent(bundle: Bundle, n_z: int) -> None:
    series = series_of(n_z=n_z)
    assert notes(series, bundle) == f"{n_z} slice(s): consistency across slices needs 3 and was left out"
    assert not plan_of(series, bundle, factor=2).consistent
    assert plan_of(series, bundle, factor=2, consistency=False).notes == ()
    assert plan_of(series_of(n_z=3), bundle, factor=2).consistent
    assert not plan_of(series_of(n_z=3), bundle, factor=2, consistency=False).consistent


def test_slices_with_gaps_of_all_sizes_are_not_made_consistent(bundle: Bundle) -> None:
    series = replace(series_of(n_z=3), origins_mm=np.array([[0, 0, 0], [0, 0, 8], [0, 0, 20.0]]))
    expected = "slices are not equally spaced: consistency across slices needs equal gaps and was left out"
    assert notes(series, bundle) == expected
    assert not plan_interp(series, survey(series), bundle, InterpOptions(factor=2)).consistent


def test_an_engine_that_does_not_say_its_gap_asks_for_none(tmp_path: Path) -> None:
    silent = load(str(write_interp_engine(tmp_path / "x", trained={"matrix": [16, 512], "spacing_mm": [1, 3]})))
    assert plan_of(series_of(6, np.arange(6) * 700.0), silent, factor=2).notes == ()


# ---- what cannot be ------------------------------------------------------------------------------------------------


def test_one_volume_is_no_series(bundle: Bundle) -> None:
    with pytest.raises(UnusableError, match=r"beat: one volume without a time axis, .* name it with --time-axis"):
        plan_of(series_of(1), bundle, factor=2)


@pytest.mark.parametrize("times", [[0.0, 100, 100], [0.0, 100, 50], [0.0, np.nan, 200], [0.0, 100, np.inf]])
def test_times_have_to_increase(bundle: Bundle, times: list[float]) -> None:
    with pytest.raises(UnusableError, match="beat: the times of its frames do not increase"):
        plan_of(series_of(3, np.array(times)), bundle, factor=2)


def test_more_frames_than_make_sense_are_refused(bundle: Bundle) -> None:
    series = series_of(18, n_z=1, side=8)
    with pytest.raises(UsageError, match=r"--factor 56 of beat \(18 frames\): expected at most 1000 frames"):
        plan_of(series, bundle, factor=56)
    assert plan_of(series, bundle, factor=55).n_frames == 990
